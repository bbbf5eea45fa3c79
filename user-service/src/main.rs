//! The boot story of the user service: settings, telemetry, build, run.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use service_kit::{
    probe, runtime, settings, shutdown,
    telemetry::{self, LogOutput},
};
use user_service::{App, NAME, VERSION, config};

fn command() -> Command {
    let settings = [config::SETTINGS, runtime::SETTINGS].concat();
    let command = Command::new(NAME)
        .version(VERSION)
        .about("Owns profiles and validates access tokens locally.")
        .after_help(runtime::HELP)
        .subcommand(Command::new("serve").about("Serve until SIGTERM (the default)"))
        .subcommand(Command::new("migrate").about("Migrate the database and exit"))
        .subcommand(
            Command::new("outbox")
                .about("Manage the deletions that the auth service has not been told of")
                .subcommand_required(true)
                .subcommand(Command::new("list").about("List them, the oldest first"))
                .subcommand(Command::new("retry").about("Make all of them due now")),
        )
        .subcommand(probe::command());
    settings::with_flags(command, &settings)
}

#[tokio::main]
async fn main() -> ExitCode {
    runtime::exit(run(&command().get_matches()).await)
}

async fn run(matches: &ArgMatches) -> Result<(), Box<dyn std::error::Error>> {
    let (name, flags) = matches.subcommand().unwrap_or(("serve", matches));
    let all = [config::SETTINGS, runtime::SETTINGS].concat();
    let mut source = settings::Source::from_process(&all, flags);
    if name == "healthcheck" {
        let addresses =
            probe::AddressSettings { admin: &config::ADMIN_ADDR, http: &config::HTTP_ADDR };
        return Ok(probe::healthcheck(&addresses, &mut source, flags).await?);
    }
    let settings = config::Settings::read(&mut source)?;
    let output = match name {
        "migrate" | "outbox" => LogOutput::Stderr,
        _ => LogOutput::Stdout,
    };
    telemetry::init(settings.runtime.log_format, &settings.runtime.log_level, output)?;
    match name {
        "outbox" => user_service::outbox_command::run(&settings, flags).await?,
        "migrate" => user_service::migrate(&settings).await?,
        _ => App::build(settings, shutdown::on_signal()?).await?.run().await?,
    }
    Ok(())
}
