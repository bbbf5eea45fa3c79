//! The boot story of the auth service: settings, telemetry, build, run.

use std::process::ExitCode;

use auth_service::{App, NAME, VERSION, config};
use clap::{Arg, ArgAction, ArgMatches, Command};
use service_kit::{probe, runtime, settings, shutdown, telemetry};

fn command() -> Command {
    let settings = [config::SETTINGS, runtime::SETTINGS].concat();
    let command = Command::new(NAME)
        .version(VERSION)
        .about("Registers people, checks passwords and issues access tokens.")
        .after_help("A secret can also be given in a file, as <NAME>_FILE. A .env file is read.")
        .subcommand(Command::new("serve").about("Serve until SIGTERM (the default)"))
        .subcommand(Command::new("migrate").about("Migrate the database and exit"))
        .subcommand(
            Command::new("healthcheck").about("Exit with status 0 if the running service is ready"),
        )
        .subcommand(
            Command::new("keys")
                .about("Manage the signing keys in the database")
                .subcommand_required(true)
                .subcommand(Command::new("list").about("List the keys and their states"))
                .subcommand(
                    Command::new("rotate").about("Add the next key").arg(
                        Arg::new("now").long("now").action(ArgAction::SetTrue).help(
                            "Sign with it at once, not after verifiers have had time to see it",
                        ),
                    ),
                ),
        );
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
        let address = source.value(&config::HTTP_ADDR, settings::address);
        source.finish()?;
        return Ok(probe::ready(address).await?);
    }
    let settings = config::Settings::read(&mut source)?;
    telemetry::init(settings.runtime.log_format, &settings.runtime.log_level)?;
    match name {
        "migrate" => auth_service::migrate(&settings).await?,
        "keys" => auth_service::keys_command::run(settings, flags).await?,
        _ => {
            App::build(settings, shutdown::on_signal()?)
                .await?
                .run()
                .await?
        }
    }
    Ok(())
}
