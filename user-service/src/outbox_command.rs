//! `user-service outbox`: a look at the deletions that wait, and a hand on them.

use clap::ArgMatches;

use service_kit::metrics::Metrics;
use sql_kit::DatabaseSettings;

use crate::{BuildError, open_store};

/// How many entries are listed.
const LISTED: u32 = 1000;

/// Runs `outbox list` or `outbox retry`.
///
/// # Errors
///
/// Where the database is away or not migrated.
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub async fn run(settings: &DatabaseSettings, flags: &ArgMatches) -> Result<(), BuildError> {
    let store = open_store(settings, &Metrics::default())?;
    store.check_migrated().await?;
    if flags.subcommand_matches("retry").is_some() {
        println!("{} entries are due now", store.retry_all(sql_kit::now()).await?);
        return Ok(());
    }
    println!("{:<36}  {:<27}  {:>8}  request id", "account", "deleted", "attempts");
    for entry in store.outbox(LISTED).await? {
        let deleted = entry.created_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        println!(
            "{:<36}  {deleted:<27}  {:>8}  {}",
            entry.account_id.to_string(),
            entry.attempts,
            entry.origin.request_id
        );
    }
    let (depth, _) = store.backlog().await?;
    if depth > i64::from(LISTED) {
        println!("and {} more", depth - i64::from(LISTED));
    }
    Ok(())
}
