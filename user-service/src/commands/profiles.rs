//! `user-service profiles`: lets an operator show or delete one profile, for a support ticket or a
//! request for data.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use service_kit::{print_line, runtime::Missing};
use sql_kit::DatabaseSettings;
use uuid::Uuid;

use super::Failure;
use crate::{
    Error,
    domain::{Audience, Profile, UserId, Visibility},
    existing_store,
    service::{Service, StoredData},
    store::{Origin, StoreError},
};

/// The subcommand with its own subcommands.
pub(super) fn command() -> Command {
    let id = || {
        Arg::new("id")
            .required(true)
            .value_name("ID")
            .value_parser(|text: &str| {
                UserId::parse(text).map_err(|_| "must be a UUID in lower case with hyphens")
            })
            .help("The id of the account, as in its tokens")
    };
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON");
    Command::new("profiles")
        .about("Look at a profile, export or delete it")
        .subcommand_required(true)
        .subcommand(Command::new("show").about("Show a profile").arg(id()).arg(json))
        .subcommand(
            Command::new("export")
                .about("Write all that is known of an account here, as JSON")
                .arg(id()),
        )
        .subcommand(
            Command::new("delete")
                .about("Delete a profile for good, and its account with it")
                .arg(id()),
        )
}

/// Runs the subcommand of `profiles` that `flags` name.
///
/// # Errors
///
/// If the database is unavailable or not migrated, or if nothing is stored about the account.
pub(super) async fn run(settings: &DatabaseSettings, flags: &ArgMatches) -> Result<(), Failure> {
    let store = existing_store(settings).await?;
    // The ping sets the clock. A database that only accepts reads is enough for `show`.
    match store.ping().await {
        Ok(()) | Err(StoreError::ReadOnly) => {}
        Err(error) => return Err(error.into()),
    }
    // An operator sees everything.
    let visibility = Visibility { profiles: Audience::Members, emails: Audience::Members };
    let service = Service::new(store.clone(), visibility);
    let Some((name, flags)) = flags.subcommand() else {
        return Ok(());
    };
    let Some(id) = flags.get_one::<UserId>("id").copied() else {
        return Ok(());
    };
    match name {
        "delete" => {
            let request_id = format!("command-{}", Uuid::new_v4());
            let origin = Origin { request_id, traceparent: String::new() };
            service.remove(id, &origin).await.map_err(failure)?;
            print_line!("the profile of {id} is deleted; its account follows");
        }
        "export" => print_line!("{:#}", export(&service.held(id).await.map_err(failure)?)),
        _ => {
            let held = service.held(id).await.map_err(failure)?;
            let profile = held.profile.ok_or(Error::UserNotFound).map_err(failure)?;
            if flags.get_flag("json") {
                print_line!("{}", as_json(&profile));
            } else {
                for (name, value) in [
                    ("id", profile.id.to_string()),
                    ("email", profile.email.unwrap_or_default()),
                    ("name", profile.name),
                    ("bio", profile.bio),
                    ("created", time(profile.created_at)),
                    ("changed", time(profile.updated_at)),
                ] {
                    print_line!("{}", format!("{name:<8} {value}").trim_end());
                }
            }
        }
    }
    store.close().await;
    Ok(())
}

/// A profile that does not exist has an exit status of its own.
fn failure(error: Error) -> Failure {
    match error {
        Error::UserNotFound => Missing(error.to_string()).into(),
        error => error.into(),
    }
}

fn export(held: &StoredData) -> Value {
    json!({
        "id": held.id.to_string(),
        "profile": held.profile.as_ref().map(as_json),
        "deleted_at": held.deleted_at.map(time),
    })
}

fn as_json(profile: &Profile) -> Value {
    json!({
        "id": profile.id.to_string(),
        "email": profile.email,
        "name": profile.name,
        "bio": profile.bio,
        "created_at": time(profile.created_at),
        "updated_at": time(profile.updated_at),
    })
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
