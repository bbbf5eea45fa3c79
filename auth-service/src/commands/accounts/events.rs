//! `accounts events`: prints the events of accounts, for audits. It needs the database and no other
//! setting.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use service_kit::settings::Source;

use super::acts::{account_argument, failure, json_switch, text};
use crate::{
    Error,
    commands::Failure,
    config::Settings,
    domain::{AccountKey, timestamp},
    operator,
    service::Service,
    store::EventRecord,
};

/// How many events one query reads.
const PAGE: u32 = 1000;
/// The polling interval of `--follow`.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// The subcommand.
pub(super) fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("events")
        .about("List what happened, the oldest first")
        .after_help(
            "Lists what happened to an account or, without one, all that happened. Every event has a \
             cursor: --after=CURSOR goes on from there, and passes over none. With --json each event is an \
             object on a line of its own, which makes an export.",
        )
        .arg(account_argument().required(false).help("Its id or its email; all where none is given"))
        .arg(
            Arg::new("after")
                .long("after")
                .value_name("CURSOR")
                .default_value("")
                .hide_default_value(true)
                .help("Only what comes after this place, as --after=CURSOR: it may begin with a hyphen"),
        )
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("NUMBER")
                .value_parser(clap::value_parser!(u64).range(1..))
                .help("So many events at most"),
        )
        .arg(switch("follow", "Wait for more, until the command is ended"))
        .arg(json_switch().help("One JSON object a line"))
}

/// Runs the subcommand.
///
/// # Errors
///
/// If the database is unavailable or does not exist, or if there is no such account or cursor.
pub(super) async fn run(source: &mut Source, flags: &ArgMatches) -> Result<(), Failure> {
    let service = operator::service(Settings::read_without_keys(source)?).await?;
    let listed = list(&service, flags.get_one::<AccountKey>("account"), flags).await;
    // The reader of a pipe may close it early, as `head` does. That is not an error.
    let has_left = |error: &Failure| {
        let error = error.downcast_ref::<io::Error>().map(io::Error::kind);
        error == Some(io::ErrorKind::BrokenPipe)
    };
    if listed.as_ref().is_err_and(has_left) { Ok(()) } else { listed }
}

async fn list(
    service: &Service,
    account: Option<&AccountKey>,
    flags: &ArgMatches,
) -> Result<(), Failure> {
    let (json, follow) = (flags.get_flag("json"), flags.get_flag("follow"));
    let mut left = flags.get_one::<u64>("limit").copied().unwrap_or(u64::MAX);
    let mut cursor = text(flags, "after").to_owned();
    loop {
        let size = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
        let page = service.events(account, &cursor, size).await.map_err(|error| match error {
            Error::InvalidPageToken => {
                "--after: this database does not know the cursor; begin without one".into()
            }
            error => failure(error),
        })?;
        if page.is_behind {
            tracing::warn!("events after the cursor have been removed, by age or by number");
        }
        let mut out = io::stdout().lock();
        for (event, cursor) in &page.events {
            match json {
                true => writeln!(out, "{}", as_json(event, cursor))?,
                false => writeln!(out, "{}", as_text(event))?,
            }
        }
        out.flush()?;
        drop(out);
        left = left.saturating_sub(u64::try_from(page.events.len()).unwrap_or(u64::MAX));
        cursor = page.next_cursor;
        if left == 0 || !page.more && !follow {
            break;
        }
        if !page.more {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }
    if !json {
        tracing::info!(cursor, "the next events are those after this cursor (--after=CURSOR)");
    }
    Ok(())
}

/// An event in the format of exports and webhooks.
fn as_json(event: &EventRecord, cursor: &str) -> Value {
    json!({
        "id": event.id.to_string(),
        "type": event.name,
        "timestamp": timestamp(event.occurred_at),
        "account": event.account.map(|account| account.to_string()),
        "actor": event.actor,
        "network": event.network,
        "request_id": event.request_id,
        "data": event.data,
        "cursor": cursor,
    })
}

fn as_text(event: &EventRecord) -> String {
    let account = event.account.map(|account| account.to_string());
    let data: Vec<_> = event.data.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let line = format!(
        "{}  {:<24}  {:<36}  {:<9}  {:<15}  {}",
        timestamp(event.occurred_at),
        event.name,
        account.as_deref().unwrap_or("-"),
        event.actor,
        event.network.as_deref().unwrap_or("-"),
        data.join(" ")
    );
    line.trim_end().to_owned()
}
