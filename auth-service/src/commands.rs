//! The subcommands: thin adapters over the same service layer as the edges.

mod accounts;

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use service_kit::{probe, settings::Source, shutdown, telemetry::LogOutput};
use sql_kit::{
    backup,
    command::{migrate, migrate_command},
};

use crate::{App, NAME, calibrate, config, keys_command, store};

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
        Command::new("calibrate")
            .about("Measure what hashing costs on this machine, and recommend settings")
            .arg(
                Arg::new("target-ms")
                    .long("target-ms")
                    .value_parser(clap::value_parser!(u64).range(1..=60_000))
                    .default_value("250")
                    .help("How long one hash may take, in milliseconds"),
            ),
        keys(),
        accounts::command(),
        outbox::command::command("outbox", "Manage the mails that wait to be sent"),
        outbox::command::command("webhooks", "Manage the webhooks that wait to be sent"),
    ]
}

fn keys() -> Command {
    let now = || {
        Arg::new("now")
            .long("now")
            .action(ArgAction::SetTrue)
            .help("Sign with it in 13 seconds, not after verifiers have had time to see it")
    };
    let file = |name: &'static str| Arg::new(name).long(name).value_name("FILE").required(true);
    Command::new("keys")
        .about("Manage the signing keys in the database")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("List the keys and their states"))
        .subcommand(Command::new("rotate").about("Add a new key as the next one").arg(now()))
        .subcommand(
            Command::new("import")
                .about("Add a key that was made elsewhere as the next one")
                .arg(file("file").help("The private key, in PEM"))
                .arg(now()),
        )
        .subcommand(
            Command::new("revoke")
                .about("Remove a key at once, as one that was stolen: its tokens end")
                .arg(
                    Arg::new("kid")
                        .value_name("KID")
                        .required(true)
                        .help("Its id; after -- if it begins with a hyphen"),
                ),
        )
        .subcommand(
            Command::new("rewrap")
                .about("Encrypt all keys under another KEY_ENCRYPTION_KEY")
                .arg(file("new-key-file").help("The new key: 32 bytes in base64")),
        )
}

/// Where a subcommand writes its log. `None` if it writes none.
#[must_use]
pub fn log_output(name: &str) -> Option<LogOutput> {
    match name {
        "serve" => Some(LogOutput::Stdout),
        "healthcheck" | "calibrate" => None,
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
        "calibrate" => {
            let target = flags.get_one::<u64>("target-ms").copied().unwrap_or(250);
            calibrate::run(Duration::from_millis(target))?;
        }
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
        "accounts" => Box::pin(accounts::run(source, flags)).await?,
        "keys" => Box::pin(keys_command::run(source, flags)).await?,
        "outbox" | "webhooks" => {
            let settings = sql_kit::DatabaseSettings::read(&config::DATABASE_URL, source);
            source.finish()?;
            let table = match name {
                "outbox" => &crate::mail::outbox::MAILS,
                _ => &crate::webhooks::WEBHOOKS,
            };
            Box::pin(crate::outbox_command(&settings, table, flags)).await?;
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
