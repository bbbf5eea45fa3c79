//! `accounts list` and `show`. They need the database and no other setting; if the service's keys are
//! set, `show` also prints the failed attempts that count against an account.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use service_kit::{print_line, settings::Source};

use super::acts::{account_argument, account_json, failure, json_switch, key, text, time};
use crate::{
    commands::Failure,
    config::Settings,
    operator,
    service::{
        Service,
        admin::{AccountDetails, AccountFilter, PAGE_DEFAULT, PAGE_MAX, page_size},
    },
    store::AccountRecord,
};

/// The two subcommands.
pub(super) fn commands() -> [Command; 2] {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let list = Command::new("list")
        .about("List accounts, a page at a time, in the order of their creation")
        .arg(
            option("page-size", "NUMBER", "")
                .help(format!(
                    "How many accounts a page has, {PAGE_MAX} at most [default: {PAGE_DEFAULT}]"
                ))
                .value_parser(clap::value_parser!(u32)),
        )
        .arg(option(
            "page-token",
            "TOKEN",
            "Where to go on, as the page before has told: --page-token=TOKEN",
        ))
        .arg(
            option("email-prefix", "TEXT", "Only those whose email begins so, in its order")
                .conflicts_with("disabled"),
        )
        .arg(switch("disabled", "Only those that are disabled"))
        .arg(switch("all", "All pages; with --json one account a line"))
        .arg(json_switch());
    let show = Command::new("show")
        .about("Show an account, its sessions, and why its owner cannot log in")
        .arg(account_argument())
        .arg(json_switch());
    [list, show]
}

/// Runs one of these subcommands.
///
/// # Errors
///
/// If the database is unavailable or does not exist, or if there is no such account.
pub(super) async fn run(
    source: &mut Source,
    name: &str,
    flags: &ArgMatches,
) -> Result<(), Failure> {
    let service = operator::service(Settings::read_without_keys(source)?).await?;
    match name {
        "list" => list(&service, flags).await,
        _ => {
            let details = service.account_details(&key(flags)?).await.map_err(failure)?;
            show(&details, flags.get_flag("json"));
            Ok(())
        }
    }
}

async fn list(service: &Service, flags: &ArgMatches) -> Result<(), Failure> {
    let (all, json) = (flags.get_flag("all"), flags.get_flag("json"));
    let asked = flags.get_one::<u32>("page-size").copied();
    let size = page_size(asked.unwrap_or(if all { PAGE_MAX } else { 0 }).into());
    let size = size.map_err(failure)?;
    let filter = AccountFilter::parse(text(flags, "email-prefix"), flags.get_flag("disabled"))
        .map_err(failure)?;
    let mut token = text(flags, "page-token").to_owned();
    loop {
        let page = service.list_accounts(&filter, size, &token).await.map_err(failure)?;
        token = page.next_page_token;
        if json && !all {
            let accounts: Vec<_> = page.accounts.iter().map(account_json).collect();
            print_line!("{}", json!({"accounts": accounts, "next_page_token": token}));
            return Ok(());
        }
        for account in &page.accounts {
            match json {
                true => print_line!("{}", account_json(account)),
                false => print_line!("{}", line(account)),
            }
        }
        if token.is_empty() {
            return Ok(());
        }
        if !all {
            print_line!("there are more: --page-token={token}");
            return Ok(());
        }
    }
}

fn line(account: &AccountRecord) -> String {
    let states = states(account).join(", ");
    let line = format!(
        "{}  {}  {}  {states}",
        account.id,
        account.created_at.format("%Y-%m-%dT%H:%M:%SZ"),
        account.email.as_str()
    );
    line.trim_end().to_owned()
}

/// The states of an account that `list` and `show` point out.
fn states(account: &AccountRecord) -> Vec<&'static str> {
    [
        (account.disabled, "disabled"),
        (account.email_verified, "verified"),
        (account.password_hash.scheme().is_none(), "no password"),
    ]
    .into_iter()
    .filter_map(|(is_so, state)| is_so.then_some(state))
    .collect()
}

fn show(details: &AccountDetails, json: bool) {
    if json {
        print_line!("{}", details_json(details));
        return;
    }
    let AccountDetails { account, sessions, networks, failures } = details;
    let yes = |is_so| if is_so { "yes" } else { "no" };
    let password = account.password_hash.scheme_name();
    for (name, value) in [
        ("id", account.id.to_string()),
        ("email", account.email.as_str().to_owned()),
        ("created", time(account.created_at)),
        ("verified", yes(account.email_verified).to_owned()),
        ("disabled", yes(account.disabled).to_owned()),
        ("password", password),
    ] {
        print_line!("{name:<9} {value}");
    }
    for session in sessions {
        let (id, used) = (session.id, time(session.last_used_at));
        let (network, agent) = (&session.network, &session.user_agent);
        print_line!("session   {id}  last used {used}  from {network}  {agent}");
    }
    for network in networks {
        print_line!(
            "network   {}  a login has succeeded {}",
            network.network,
            time(network.seen_at)
        );
    }
    let Some(failures) = failures else {
        print_line!("failures  not known without KEY_ENCRYPTION_KEY");
        return;
    };
    for failed in failures {
        let from = failed.network.as_deref().unwrap_or("all networks together");
        let until = time(failed.until);
        let locked = if failed.are_too_many() { ", logins are refused" } else { "" };
        let count = failed.failures;
        print_line!("failures  {count} from {from} until {until}{locked}");
    }
}

fn details_json(details: &AccountDetails) -> Value {
    let mut members = account_json(&details.account);
    let sessions: Vec<_> = details
        .sessions
        .iter()
        .map(|session| {
            json!({
                "id": session.id.to_string(),
                "created_at": time(session.created_at),
                "last_used_at": time(session.last_used_at),
                "expires_at": time(session.expires_at),
                "network": session.network,
                "user_agent": session.user_agent,
            })
        })
        .collect();
    let networks: Vec<_> = details
        .networks
        .iter()
        .map(|network| json!({"network": network.network, "seen_at": time(network.seen_at)}))
        .collect();
    let failures = details.failures.as_ref().map(|failures| {
        let failures = failures.iter().map(|failed| {
            json!({
                "network": failed.network,
                "failures": failed.failures,
                "until": time(failed.until),
                "locked": failed.are_too_many(),
            })
        });
        failures.collect::<Vec<_>>()
    });
    members["sessions"] = json!(sessions);
    members["networks"] = json!(networks);
    members["failed_logins"] = json!(failures);
    members
}
