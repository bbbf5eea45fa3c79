//! The `migrate` subcommand of both services.

use clap::{ArgMatches, Command};
use service_kit::print_line;

use crate::{Database, MigrationState, Migrations, PoolOptions, Sql, StoreError};

/// The name of the subcommand that only reads.
const STATUS: &str = "status";

/// The subcommand.
#[must_use]
pub fn migrate_command() -> Command {
    Command::new("migrate")
        .about("Migrate the database and exit; needs no setting but the database")
        .subcommand(Command::new(STATUS).about("List the migrations and their states"))
}

/// Why a command failed. The text is printed on the terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DATABASE_URL: {0}")]
pub struct CommandError(String);

/// Runs the missing migrations, or only lists them if `flags` say so, and reports the result on stdout.
///
/// # Errors
///
/// If the database cannot be reached or migrated. The text contains the database, its message and a
/// remedy.
pub async fn migrate(
    application: &'static str,
    database: &Database,
    migrations: &Migrations,
    flags: &ArgMatches,
) -> Result<(), CommandError> {
    let place = database.describe();
    let named = |error: StoreError| CommandError(format!("{place}: {error}"));
    let sql = Sql::open(database, PoolOptions::for_command(application))
        .map_err(|error| CommandError(error.to_string()))?;
    sql.reach().await.map_err(CommandError)?;
    print_line!("{place}");
    if flags.subcommand_matches(STATUS).is_some() {
        for MigrationState { version, name, is_applied, is_known } in
            sql.migration_states(migrations).await.map_err(named)?
        {
            let state = match (is_applied, is_known) {
                (true, true) => "applied",
                (true, false) => "applied by a newer version",
                (false, _) => "pending",
            };
            print_line!("{version:>4} {name:<24} {state}");
        }
    } else {
        let migrated = sql.run_migrations(migrations).await.map_err(named)?;
        for one in &migrated {
            print_line!("applied {} {} in {:.1} s", one.version, one.name, one.took.as_secs_f64());
        }
        match migrated.len() {
            0 => print_line!("nothing to do: no migration is missing"),
            1 => print_line!("1 migration applied"),
            number => print_line!("{number} migrations applied"),
        }
    }
    sql.close().await;
    Ok(())
}
