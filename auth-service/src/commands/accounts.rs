//! `auth-service accounts`: accounts from the command line.

mod acts;
mod events;
mod show;
mod transfer;

use clap::{ArgMatches, Command};
use service_kit::settings::Source;

use super::Failure;

/// The subcommand `accounts` with its own subcommands.
pub(super) fn command() -> Command {
    Command::new("accounts")
        .about("Accounts from the command line")
        .subcommand_required(true)
        .after_help(
            "ACCOUNT is an id or an email. The exit status is 0 where all was done; 3 where something \
             was refused: lines of an import, an email that has an account, a link to a disabled account \
             or where mail is off; 4 where there is no such account; 1 for every other failure; and 2 for \
             a command line that cannot be read.",
        )
        .subcommands(show::commands())
        .subcommands(acts::commands())
        .subcommands(transfer::commands())
        .subcommand(events::command())
}

/// Runs the subcommand of `accounts` that `flags` name.
///
/// # Errors
///
/// The error of that subcommand.
pub(super) async fn run(source: &mut Source, flags: &ArgMatches) -> Result<(), Failure> {
    match flags.subcommand() {
        Some((name @ ("import" | "export"), flags)) => transfer::run(source, name, flags).await,
        Some((name @ ("list" | "show"), flags)) => show::run(source, name, flags).await,
        Some(("events", flags)) => events::run(source, flags).await,
        Some((name, flags)) => acts::run(source, name, flags).await,
        None => Ok(()),
    }
}
