//! `auth-service keys`: a look at the signing keys, and a hand on them.

use clap::ArgMatches;
use zeroize::Zeroizing;

use crate::{
    BuildError,
    config::Settings,
    keys::{KeysError, Sealer, SigningKey},
    managed_keys,
};

/// Runs `keys list`, `rotate`, `import` or `rewrap`.
///
/// # Errors
///
/// Where the keys are not managed here, or the database is away.
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub async fn run(settings: Settings, flags: &ArgMatches) -> Result<(), BuildError> {
    let Some(keys) = managed_keys(settings).await? else {
        return Err(BuildError::System("the signing keys are given in the settings".to_owned()));
    };
    let now = keys.now();
    match flags.subcommand() {
        Some(("rotate", flags)) => {
            let immediately = flags.get_flag("now");
            println!("{}", keys.rotate(immediately, now).await?);
        }
        Some(("import", flags)) => {
            let pem = read(path(flags, "file"))?;
            let key = SigningKey::from_pem(pem.as_bytes()).map_err(KeysError::Key)?;
            println!("{}", keys.import(key, flags.get_flag("now"), now).await?);
        }
        Some(("rewrap", flags)) => {
            let text = read(path(flags, "new-key-file"))?;
            let sealer = Sealer::from_base64(&text)
                .map_err(|error| BuildError::System(format!("--new-key-file {error}")))?;
            println!("{} keys rewrapped", keys.rewrap(&sealer).await?);
        }
        _ => {
            println!("{:<43}  {:<9}  {:<7}  activates", "kid", "algorithm", "state");
            for (record, state) in keys.list(now).await? {
                let activates = record.activates_at.to_rfc3339();
                println!("{:<43}  {:<9}  {state:<7}  {activates}", record.kid, record.algorithm);
            }
        }
    }
    Ok(())
}

fn path<'a>(flags: &'a ArgMatches, name: &str) -> &'a str {
    flags.get_one::<String>(name).map_or("", String::as_str)
}

fn read(path: &str) -> Result<Zeroizing<String>, BuildError> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| BuildError::System(format!("cannot read {path}: {error}")))
}
