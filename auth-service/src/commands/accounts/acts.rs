//! The subcommands that act on one account: `accounts create`, `disable`, `enable`, `unlock`,
//! `end-sessions`, `send-reset` and `delete`.

use std::io::Read as _;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Arg, ArgAction, ArgMatches, Command};
use outbox::Origin;
use serde_json::{Value, json};
use service_kit::{
    error::ApiError,
    print_line,
    runtime::{Incomplete, Missing},
    settings::Source,
};
use uuid::Uuid;

use crate::{
    commands::Failure,
    config::Settings,
    domain::{AccountKey, Email},
    error::Error,
    events::{Actor, Cause},
    operator,
    service::{
        Service,
        admin::{Created, NewAccount},
    },
    store::AccountRecord,
};

/// The longest hash that is read from the standard input, in bytes.
const MAX_HASH_BYTES: u64 = 4096;

/// The subcommands.
pub(super) fn commands() -> Vec<Command> {
    let act = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).arg(account_argument()).arg(json_switch())
    };
    let create = Command::new("create")
        .about("Create an account and send its owner a link to choose a password")
        .after_help(
            "Creates an account. Where mail is on, its owner is sent a link to choose a password. \
             Where it is off, the account has no password, and nobody can log in, until mail is on and \
             send-reset has sent a link; or give a hash that was made elsewhere.",
        )
        .arg(
            Arg::new("email").value_name("EMAIL").required(true).value_parser(|text: &str| {
                Email::parse(text).map_err(|(_, rule)| rule)
            }).help("Its email"),
        )
        .arg(
            Arg::new("verified")
                .long("verified")
                .action(ArgAction::SetTrue)
                .help("The email counts as confirmed"),
        )
        .arg(Arg::new("hash").long("hash").value_name("HASH").help(
            "The hash of its password, in a form that import takes; - reads it from the standard \
             input. No link is sent then",
        ))
        .arg(Arg::new("no-link").long("no-link").action(ArgAction::SetTrue).help("Send no link"))
        .arg(json_switch());
    vec![
        create,
        act("disable", "Let nobody use an account, and end its sessions and tokens"),
        act("enable", "Let a disabled account be used again"),
        act("unlock", "Forget the failed logins of an account, so that its owner need not wait"),
        act("end-sessions", "End every session and every access token of an account"),
        act("send-reset", "Send the owner of an account a link to choose a new password"),
        act("delete", "Delete an account for good, and its profile with it"),
    ]
}

/// Runs one of these subcommands.
///
/// # Errors
///
/// If the database is unavailable or does not exist, if there is no such account, or if the action
/// is refused.
pub(super) async fn run(
    source: &mut Source,
    name: &str,
    flags: &ArgMatches,
) -> Result<(), Failure> {
    // These two change the failed attempts of an account. They are stored under a keyed hash, so
    // the service's keys are needed.
    let settings = match name {
        "unlock" | "delete" => Settings::read(source)?,
        _ => Settings::read_without_keys(source)?,
    };
    let service = operator::service(settings).await?;
    let request_id = format!("command-{}", Uuid::new_v4());
    let origin = Origin { request_id, traceparent: String::new() };
    let by = Cause { actor: Actor::Operator, network: None, origin: &origin };
    let json = flags.get_flag("json");
    if name == "create" {
        return create(&service, flags, &by, json).await;
    }
    let key = key(flags)?;
    let (account, done) = match name {
        "disable" => (service.disable_account(&key, &by).await, "is disabled"),
        "enable" => (service.enable_account(&key, &by).await, "is enabled"),
        "unlock" => (service.unlock_account(&key, &by).await, "has no failed logins any more"),
        "end-sessions" => {
            (service.end_account_sessions(&key, &by).await, "is logged out everywhere")
        }
        "send-reset" => {
            has_base(&service)?;
            (
                service.send_password_reset(&key, &by).await,
                "is sent a link to choose a new password",
            )
        }
        _ => (service.remove_account(&key, &by).await, "is deleted"),
    };
    let account = account.map_err(failure)?;
    let mut members = account_json(&account);
    match name {
        "delete" => members = json!({"id": account.id.to_string(), "deleted": true}),
        "send-reset" => members["link_sent"] = json!(true),
        _ => {}
    }
    print(json.then_some(&members), &format!("{} {done}", account.id));
    Ok(())
}

async fn create(
    service: &Service,
    flags: &ArgMatches,
    by: &Cause<'_>,
    json: bool,
) -> Result<(), Failure> {
    let email = flags.get_one::<Email>("email").cloned().ok_or("EMAIL is required")?;
    let password_hash = match flags.get_one::<String>("hash").map(String::as_str) {
        Some("-") => {
            let mut hash = String::new();
            std::io::stdin().take(MAX_HASH_BYTES).read_to_string(&mut hash)?;
            Some(hash.trim().to_owned())
        }
        hash => hash.map(str::to_owned),
    };
    let has_hash = password_hash.is_some();
    let send_link = !has_hash && !flags.get_flag("no-link");
    if send_link {
        has_base(service)?;
    }
    let email_verified = flags.get_flag("verified");
    let new = NewAccount { email, email_verified, password_hash, send_link };
    let Created { account, link_sent } = service.create_account(new, by).await.map_err(failure)?;
    let mut members = account_json(&account);
    members["link_sent"] = json!(link_sent);
    let how = match (link_sent, has_hash, service.mail().is_ok()) {
        (true, _, _) => "its owner is sent a link to choose a password",
        (false, true, _) => "its password is the one of the hash",
        (false, false, true) => "it has no password until send-reset has sent its owner a link",
        (false, false, false) => {
            "it has no password, and mail is off: set SMTP_URL and use send-reset, or create it with \
             --hash"
        }
    };
    print(json.then_some(&members), &format!("{} is created; {how}", account.id));
    Ok(())
}

/// Links need the public URL of the service.
fn has_base(service: &Service) -> Result<(), Failure> {
    match service.mail() {
        Ok(mail) if mail.links.host().is_none() => {
            Err("PUBLIC_URL: is required to send a link, since the service has no fixed port"
                .into())
        }
        _ => Ok(()),
    }
}

/// The account that a command is about.
pub(super) fn account_argument() -> Arg {
    Arg::new("account")
        .value_name("ACCOUNT")
        .required(true)
        .value_parser(|text: &str| AccountKey::parse(text).map_err(|fault| fault.detail))
        .help("Its id or its email")
}

/// The switch for JSON output.
pub(super) fn json_switch() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the answer in JSON")
}

/// The value of [`account_argument`].
pub(super) fn key(flags: &ArgMatches) -> Result<AccountKey, Failure> {
    Ok(flags.get_one::<AccountKey>("account").cloned().ok_or("ACCOUNT is required")?)
}

pub(super) fn text<'a>(flags: &'a ArgMatches, name: &str) -> &'a str {
    flags.get_one::<String>(name).map_or("", String::as_str)
}

pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// An account as JSON, without its password hash.
pub(super) fn account_json(account: &AccountRecord) -> Value {
    json!({
        "id": account.id.to_string(),
        "email": account.email.as_str(),
        "created_at": time(account.created_at),
        "email_verified": account.email_verified,
        "disabled": account.disabled,
        "password_scheme": account.password_hash.scheme().map(|scheme| scheme.to_string()),
    })
}

/// The error of a command: a text that includes the error code, and the exit status.
pub(super) fn failure(error: Error) -> Failure {
    let details = match &error {
        Error::Invalid(faults) => {
            let details: Vec<_> = faults
                .iter()
                .map(|fault| format!("{}: {}", fault.pointer.trim_start_matches('/'), fault.detail))
                .collect();
            Some(details.join("; "))
        }
        _ => None,
    };
    let text = details.unwrap_or_else(|| error.to_string());
    let is_refusal = matches!(
        error,
        Error::EmailAlreadyRegistered
            | Error::AccountDisabled
            | Error::MailDisabled
            | Error::Invalid(_)
    );
    let is_missing = error == Error::AccountNotFound;
    let text = format!("{text} ({})", ApiError::from(error).code().as_str());
    if is_missing {
        Missing(text).into()
    } else if is_refusal {
        Incomplete(format!("error: {text}")).into()
    } else {
        text.into()
    }
}

fn print(members: Option<&Value>, words: &str) {
    match members {
        Some(members) => print_line!("{members}"),
        None => print_line!("{words}"),
    }
}
