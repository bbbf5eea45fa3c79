//! The boot story of the auth service: settings, telemetry, build, run.

use std::{process::ExitCode, time::Duration};

use auth_service::{App, NAME, VERSION, calibrate, config};
use clap::{Arg, ArgAction, ArgMatches, Command};
use service_kit::{
    probe, runtime, settings, shutdown,
    telemetry::{self, LogOutput},
};

fn command() -> Command {
    let settings = [config::SETTINGS, runtime::SETTINGS].concat();
    let command = Command::new(NAME)
        .version(VERSION)
        .about("Registers people, checks passwords and issues access tokens.")
        .after_help(runtime::HELP)
        .subcommand(Command::new("serve").about("Serve until SIGTERM (the default)"))
        .subcommand(Command::new("migrate").about("Migrate the database and exit"))
        .subcommand(probe::command())
        .subcommand(
            Command::new("calibrate")
                .about("Measure what hashing costs on this machine, and recommend settings")
                .arg(
                    Arg::new("target-ms")
                        .long("target-ms")
                        .value_parser(clap::value_parser!(u64).range(1..=60_000))
                        .default_value("250")
                        .help("How long one hash may take, in milliseconds"),
                ),
        )
        .subcommand(keys_command());
    settings::with_flags(command, &settings)
}

fn keys_command() -> Command {
    let now = || {
        Arg::new("now")
            .long("now")
            .action(ArgAction::SetTrue)
            .help("Sign with it in ten seconds, not after verifiers have had time to see it")
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
            Command::new("rewrap")
                .about("Encrypt all keys under another KEY_ENCRYPTION_KEY")
                .arg(file("new-key-file").help("The new key: 32 bytes in base64")),
        )
}

#[tokio::main]
async fn main() -> ExitCode {
    runtime::exit(run(&command().get_matches()).await)
}

async fn run(matches: &ArgMatches) -> Result<(), Box<dyn std::error::Error>> {
    let (name, flags) = matches.subcommand().unwrap_or(("serve", matches));
    if name == "calibrate" {
        let target = flags.get_one::<u64>("target-ms").copied().unwrap_or(250);
        return Ok(calibrate::run(Duration::from_millis(target))?);
    }
    let all = [config::SETTINGS, runtime::SETTINGS].concat();
    let mut source = settings::Source::from_process(&all, flags);
    if name == "healthcheck" {
        let addresses =
            probe::AddressSettings { admin: &config::ADMIN_ADDR, http: &config::HTTP_ADDR };
        return Ok(probe::healthcheck(&addresses, &mut source, flags).await?);
    }
    let settings = config::Settings::read(&mut source)?;
    let output = match name {
        "migrate" | "keys" => LogOutput::Stderr,
        _ => LogOutput::Stdout,
    };
    telemetry::init(settings.runtime.log_format, &settings.runtime.log_level, output)?;
    match name {
        "migrate" => auth_service::migrate(&settings).await?,
        "keys" => auth_service::keys_command::run(settings, flags).await?,
        _ => App::build(settings, shutdown::on_signal()?).await?.run().await?,
    }
    Ok(())
}
