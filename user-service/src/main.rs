//! The entry point of the user service: settings, telemetry, build, run.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use service_kit::{
    runtime::{self, LogSettings},
    settings::{self, Source},
    telemetry,
};
use user_service::{
    NAME, VERSION,
    commands::{self, Failure},
    config::GROUPS,
};

// A request of this service allocates some eighty times, and often another thread frees the memory. For that
// glibc's allocator takes a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn command() -> Command {
    let command = Command::new(NAME)
        .version(VERSION)
        .about("Owns profiles and validates access tokens locally.")
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
