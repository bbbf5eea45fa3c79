//! `auth-service keys`: a look at the signing keys, and a hand on them.

use clap::ArgMatches;

use crate::{BuildError, config::Settings, managed_keys};

/// Runs `keys list` or `keys rotate`.
///
/// # Errors
///
/// Where the keys are not managed here, or the database is away.
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub async fn run(settings: Settings, flags: &ArgMatches) -> Result<(), BuildError> {
    let Some(keys) = managed_keys(settings).await? else {
        return Err(BuildError::System(
            "the signing keys are given in the settings".to_owned(),
        ));
    };
    let now = sql_kit::now();
    match flags.subcommand() {
        Some(("rotate", flags)) => {
            let immediately = flags.get_flag("now");
            println!("{}", keys.rotate(immediately, now).await?);
        }
        _ => {
            println!(
                "{:<43}  {:<9}  {:<7}  activates",
                "kid", "algorithm", "state"
            );
            for (record, state) in keys.list(now).await? {
                let activates = record.activates_at.to_rfc3339();
                println!(
                    "{:<43}  {:<9}  {state:<7}  {activates}",
                    record.kid, record.algorithm
                );
            }
        }
    }
    Ok(())
}
