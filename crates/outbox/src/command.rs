//! The subcommands `outbox list | retry | discard`, with which operators manage the entries.

use chrono::SecondsFormat;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use service_kit::print_line;
use sql_kit::StoreError;
use uuid::Uuid;

use crate::{Entry, Outbox};

/// How many entries are listed by default.
const LISTED: &str = "1000";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The database failed.
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
    /// These ids are not in the outbox. The command was carried out for the others.
    #[error("not in the outbox: {0}")]
    Unknown(String),
}

/// The subcommand `name` with its own subcommands.
#[must_use]
pub fn command(name: &'static str, about: &'static str) -> Command {
    let ids = || {
        Arg::new("id")
            .num_args(1..)
            .value_name("ID")
            .value_parser(|text: &str| Uuid::try_parse(text).map_err(|_| "is not a UUID"))
            .help("The entries' ids, as list shows them")
    };
    let list = Command::new("list")
        .about("List the entries, the oldest first")
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("NUMBER")
                .default_value(LISTED)
                .value_parser(clap::value_parser!(u32))
                .help("How many entries to list at most"),
        )
        .arg(
            Arg::new("json").long("json").action(ArgAction::SetTrue).help("One JSON object a line"),
        );
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .subcommand(list)
        .subcommand(
            Command::new("retry")
                .about("Make entries due now; without an id, all of them")
                .arg(ids()),
        )
        .subcommand(
            Command::new("discard")
                .about("Remove entries for good, undelivered")
                .arg(ids().required_unless_present("all"))
                .arg(
                    Arg::new("all")
                        .long("all")
                        .action(ArgAction::SetTrue)
                        .conflicts_with("id")
                        .help("Remove all entries"),
                ),
        )
}

/// Runs one of these subcommands. The database must have been checked to be migrated.
///
/// # Errors
///
/// If the database is unavailable, or an id is not in the outbox.
pub async fn run(outbox: &Outbox, matches: &ArgMatches) -> Result<(), CommandError> {
    // The ping sets the clock, by which entries are due.
    match outbox.sql.ping().await {
        Ok(()) | Err(StoreError::ReadOnly) => {}
        Err(error) => return Err(error.into()),
    }
    match matches.subcommand() {
        Some(("retry", flags)) => match ids(flags) {
            ids if ids.is_empty() => {
                outbox.retry_all().await?;
                print_line!("{} entries are due now", outbox.backlog().await?.0);
            }
            ids => {
                let mut unknown = Vec::new();
                for id in &ids {
                    if !outbox.retry(*id).await? {
                        unknown.push(*id);
                    }
                }
                print_line!("{} entries are due now", ids.len() - unknown.len());
                refuse(&unknown)?;
            }
        },
        Some(("discard", flags)) => {
            let (mut removed, mut unknown) = (0, Vec::new());
            if flags.get_flag("all") {
                removed = outbox.discard_all().await?;
                tracing::warn!(event = outbox.table.names.discarded, removed, "outbox emptied");
            }
            for id in ids(flags) {
                if outbox.discard(id).await? {
                    removed += 1;
                    tracing::warn!(event = outbox.table.names.discarded, entry = %id, "discarded");
                } else {
                    unknown.push(id);
                }
            }
            print_line!("{removed} entries are discarded");
            refuse(&unknown)?;
        }
        Some((_, flags)) => {
            let limit = flags.get_one::<u32>("limit").copied().unwrap_or(u32::MAX);
            let is_json = flags.get_flag("json");
            if !is_json {
                print_line!(
                    "{:<36}  {:<27}  {:>8}  {:<27}  {:<36}  last failure",
                    "id",
                    "added",
                    "attempts",
                    "due",
                    "request id"
                );
            }
            let entries = outbox.list(limit).await?;
            for entry in &entries {
                print_line!("{}", if is_json { json_line(entry) } else { text_line(entry) });
            }
            let (depth, _) = outbox.backlog().await?;
            let more = usize::try_from(depth).unwrap_or(0).saturating_sub(entries.len());
            if more > 0 && !is_json {
                print_line!("and {more} more");
            }
        }
        None => {}
    }
    Ok(())
}

fn ids(flags: &ArgMatches) -> Vec<Uuid> {
    flags.get_many::<Uuid>("id").into_iter().flatten().copied().collect()
}

fn refuse(unknown: &[Uuid]) -> Result<(), CommandError> {
    if unknown.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    Err(CommandError::Unknown(list.join(", ")))
}

fn time(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn text_line(entry: &Entry) -> String {
    let line = format!(
        "{}  {:<27}  {:>8}  {:<27}  {:<36}  {}",
        entry.id,
        time(entry.created_at),
        entry.attempts,
        time(entry.due_at),
        entry.origin.request_id,
        entry.last_error.as_deref().unwrap_or_default(),
    );
    line.trim_end().to_owned()
}

fn json_line(entry: &Entry) -> String {
    json!({
        "id": entry.id.to_string(),
        "added_at": time(entry.created_at),
        "attempts": entry.attempts,
        "due_at": time(entry.due_at),
        "leased_until": entry.leased_until.map(time),
        "expires_at": entry.expires_at.map(time),
        "request_id": entry.origin.request_id,
        "last_failure": entry.last_error,
    })
    .to_string()
}
