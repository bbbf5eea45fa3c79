//! `auth-service keys`: lists, rotates, imports, re-encrypts and revokes managed signing keys.

use std::time::Duration;

use clap::ArgMatches;
use service_kit::{print_line, settings::Source};
use sql_kit::DatabaseSettings;
use zeroize::Zeroizing;

use crate::{
    BuildError,
    commands::Failure,
    config::{self, Settings},
    existing_store,
    keys::{self, KeysError, Sealer, SigningKey},
    managed_keys,
};

/// How long a running service may take to load the keys.
const RELOAD_TIME: Duration = Duration::from_secs(1);

/// Runs `keys list`, `rotate`, `import`, `rewrap` or `revoke`.
///
/// # Errors
///
/// If the keys are given in the settings, or if the database is unavailable or does not exist.
pub async fn run(source: &mut Source, flags: &ArgMatches) -> Result<(), Failure> {
    match flags.subcommand() {
        Some(("list", _)) | None => {
            // The list contains no secrets, so `KEY_ENCRYPTION_KEY` is optional. If it is set it
            // must be the right one, so that operators can check it.
            let database = DatabaseSettings::read(&config::DATABASE_URL, source);
            let sealer = config::KeySettings::read(source).sealer;
            source.finish()?;
            list(&database, sealer.as_deref()).await?;
        }
        Some((name, flags)) => change(Settings::read(source)?, name, flags).await?,
    }
    Ok(())
}

async fn list(database: &DatabaseSettings, sealer: Option<&Sealer>) -> Result<(), BuildError> {
    let store = existing_store(database).await?;
    let keys = keys::list(&store, store.now()).await?;
    if let Some(sealer) = sealer {
        for (record, _) in &keys {
            sealer.open(&record.kid, &record.sealed_key).map_err(KeysError::Seal)?;
        }
    }
    print_line!("{:<43}  {:<9}  {:<7}  activates", "kid", "algorithm", "state");
    for (record, state) in keys {
        let activates = record.activates_at.to_rfc3339();
        print_line!("{:<43}  {:<9}  {state:<7}  {activates}", record.kid, record.algorithm);
    }
    Ok(())
}

async fn change(settings: Settings, name: &str, flags: &ArgMatches) -> Result<(), BuildError> {
    let Some(keys) = managed_keys(settings).await? else {
        return Err(BuildError::System("the signing keys are given in the settings".to_owned()));
    };
    let now = keys.now().await?;
    match name {
        "rotate" => print_line!("{}", keys.rotate(flags.get_flag("now"), now).await?),
        "import" => {
            let file = path(flags, "file");
            let key = SigningKey::from_pem(read(file)?.as_bytes())
                .map_err(|error| BuildError::System(format!("{file} {error}")))?;
            print_line!("{}", keys.import(key, flags.get_flag("now"), now).await?);
        }
        "rewrap" => {
            let sealer = Sealer::from_base64(&read(path(flags, "new-key-file"))?)
                .map_err(|error| BuildError::System(format!("--new-key-file {error}")))?;
            print_line!("{} keys rewrapped", keys.rewrap(&sealer).await?);
        }
        _ => {
            let kid = path(flags, "kid");
            let successor = keys.revoke(kid, now).await?;
            print_line!("{kid} revoked");
            if let Some(successor) = successor {
                print_line!("{successor} signs from now on");
            }
            // When the command has ended, the key must be gone wherever it was.
            print_line!("waiting until every running service has noticed");
            tokio::time::sleep(keys::RELOAD_INTERVAL + RELOAD_TIME).await;
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
