//! The entry point of the auth service: settings, telemetry, build, run.

use std::process::ExitCode;

use auth_service::{
    NAME, VERSION,
    commands::{self, Failure},
    config::GROUPS,
};
use clap::{ArgMatches, Command};
use service_kit::{
    runtime::{self, LogSettings},
    settings::{self, Source},
    telemetry,
};

fn command() -> Command {
    let command = Command::new(NAME)
        .version(VERSION)
        .about("Registers people, checks passwords and issues access tokens.")
        .after_help(settings::HELP)
        .subcommands(commands::all());
    settings::with_flags(command, GROUPS)
}

#[tokio::main]
async fn main() -> ExitCode {
    runtime::exit(run(&command().get_matches()).await)
}

async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (name, flags) = matches.subcommand().unwrap_or(("serve", matches));
    let mut source = Source::from_process(GROUPS, flags);
    if let Some(output) = commands::log_output(name) {
        telemetry::init(&LogSettings::read(&mut source), output)?;
        settings::note_unknown(&settings::variables(GROUPS), &Default::default());
    }
    commands::run(name, flags, &mut source).await
}
