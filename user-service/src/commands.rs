//! The subcommands: thin adapters over the same service layer as the edges.

mod profiles;

use clap::{ArgMatches, Command};
use service_kit::{probe, settings::Source, shutdown, telemetry::LogOutput};
use sql_kit::{
    DatabaseSettings, backup,
    command::{migrate, migrate_command},
};

use crate::{App, NAME, config, store};

/// The error of a subcommand. Its text is printed on the terminal.
pub type Failure = Box<dyn std::error::Error>;

/// The subcommands, in the order of the help.
#[must_use]
pub fn all() -> Vec<Command> {
    vec![
        Command::new("serve").about("Serve until SIGTERM (the default)"),
        migrate_command(),
        backup::backup_command(),
        backup::restore_command(),
        probe::command(),
        outbox::command::command(
            "outbox",
            "Manage the deletions that the auth service has not been told of",
        ),
        profiles::command(),
    ]
}

/// Where a subcommand writes its log. `None` if it writes none.
#[must_use]
pub fn log_output(name: &str) -> Option<LogOutput> {
    match name {
        "serve" => Some(LogOutput::Stdout),
        "healthcheck" => None,
        _ => Some(LogOutput::Stderr),
    }
}

/// Runs the subcommand `name`, whose own flags are in `flags`.
///
/// # Errors
///
/// What the subcommand failed with.
pub async fn run(name: &str, flags: &ArgMatches, source: &mut Source) -> Result<(), Failure> {
    match name {
        "healthcheck" => {
            let addresses =
                probe::AddressSettings { admin: &config::ADMIN_ADDR, http: &config::HTTP_ADDR };
            probe::healthcheck(&addresses, source, flags).await?;
        }
        "migrate" | "backup" | "restore" => {
            // They need the database and no other setting.
            let database = sql_kit::settings::database(&config::DATABASE_URL, source);
            source.finish()?;
            match name {
                "backup" => backup::backup(&database, flags).await?,
                "restore" => backup::restore(&database, &store::MIGRATIONS, flags).await?,
                _ => Box::pin(migrate(NAME, &database, &store::MIGRATIONS, flags)).await?,
            }
        }
        "outbox" | "profiles" => {
            // They need the database and no other secret.
            let settings = DatabaseSettings::read(&config::DATABASE_URL, source);
            source.finish()?;
            match name {
                "outbox" => crate::outbox_command(&settings, flags).await?,
                _ => profiles::run(&settings, flags).await?,
            }
        }
        _ => {
            let settings = config::Settings::read(source)?;
            let shutdown = shutdown::on_signal(settings.runtime.edge.shutdown_grace)?;
            let app = Box::pin(App::build(settings, shutdown)).await?;
            Box::pin(app.run()).await?;
        }
    }
    Ok(())
}
