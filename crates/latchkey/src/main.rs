//! The `latchkey` command: both services in one process, for development and single nodes. It runs the
//! same code as the two binaries, with defaults that work without configuration: loopback addresses,
//! SQLite files and generated keys in one directory.

mod data;
mod move_command;
mod names;
#[cfg(test)]
mod reference;
mod revocations;
mod stack;

use std::{path::PathBuf, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use service_kit::{
    runtime::{self, LogSettings},
    settings::{self, Flag, Group, Source, parsed},
    shutdown,
    telemetry::{self, LogOutput},
};
use tokio_util::sync::CancellationToken;

use crate::{
    data::DataDir,
    names::{AUTH, Service, USER},
    stack::{Failure, Stack},
};

// A request of the user service allocates some eighty times, and often another thread frees the memory. For that
// glibc's allocator takes a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

service_kit::settings! {
    "Both services"
    /// What is decided here, and not by the services.
    pub(crate) struct OwnSettings {
        /// The folder of the databases and generated keys.
        data_dir: PathBuf = value DATA_DIR("data", parsed("a path"));
    }
}

const OWN_GROUPS: &[Group] = &[OwnSettings::GROUP];

/// The flags of the command: its own, and those of both services.
fn flags() -> impl Iterator<Item = Flag> {
    Flag::of(OWN_GROUPS).chain(names::flags())
}

/// A subcommand that both services have exists here too, and runs for both.
const OF_BOTH: [&str; 2] = ["migrate", "healthcheck"];

fn command() -> Command {
    let of_both =
        auth_service::commands::all().into_iter().filter(|one| OF_BOTH.contains(&one.get_name()));
    let command = Command::new("latchkey")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Both services of Latchkey in one process, for development and single nodes.")
        .after_help(format!("{}\n\n{}", names::HELP, settings::HELP))
        .arg(
            Arg::new("ephemeral")
                .long("ephemeral")
                .action(ArgAction::SetTrue)
                .conflicts_with(DATA_DIR.var)
                .help("Keep everything in a temporary folder that is deleted at the end"),
        )
        .subcommand(Command::new("serve").about("Serve both until SIGTERM (the default)"))
        .subcommands(of_both.map(|one| {
            let about = one.get_about().map(|about| format!("{about}, for both services"));
            one.about(about.unwrap_or_default())
        }))
        .subcommand(move_command::command())
        .subcommand(
            Command::new("auth")
                .about("The auth service alone, or a subcommand of it, such as: auth keys list")
                .subcommands(auth_service::commands::all()),
        )
        .subcommand(
            Command::new("user")
                .about("The user service alone, or a subcommand of it, such as: user outbox list")
                .subcommands(user_service::commands::all()),
        );
    settings::with_named_flags(command, flags())
}

#[tokio::main]
async fn main() -> ExitCode {
    runtime::exit(run(&command().get_matches()).await)
}

/// The futures are boxed: debug builds copy awaited futures from frame to frame, and the stack of the
/// main thread is small.
async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let mut source = Source::from_process(OWN_GROUPS, matches);
    let folder = OwnSettings::read(&mut source).data_dir;
    source.finish()?;
    match matches.subcommand() {
        None | Some(("serve", _)) => {
            let data = if matches.get_flag("ephemeral") {
                DataDir::ephemeral()?
            } else {
                DataDir::open(folder)?
            };
            start_log(matches, LogOutput::Stdout)?;
            Box::pin(serve(&Stack::new(matches, &data))).await
        }
        Some((move_command::NAME, matches)) => Box::pin(move_command::run(matches)).await,
        Some(("auth", matches)) => Box::pin(one(AUTH, subcommand(matches), folder)).await,
        Some(("user", matches)) => Box::pin(one(USER, subcommand(matches), folder)).await,
        // The second service runs even if the first one fails.
        Some(both) => {
            let auth = Box::pin(one(AUTH, both, folder.clone())).await;
            let user = Box::pin(one(USER, both, folder)).await;
            match (auth, user) {
                (Ok(()), Ok(())) => Ok(()),
                (Err(error), Ok(())) => Err(format!("auth service: {error}").into()),
                (Ok(()), Err(error)) => Err(format!("user service: {error}").into()),
                (Err(auth), Err(user)) => {
                    Err(format!("auth service: {auth}\nuser service: {user}").into())
                }
            }
        }
    }
}

fn start_log(flags: &ArgMatches, output: LogOutput) -> Result<(), Failure> {
    let mut source = Source::from_process(&[LogSettings::GROUP], flags);
    telemetry::init(&LogSettings::read(&mut source), output)?;
    let known = self::flags().flat_map(|flag| flag.variables()).collect();
    settings::note_unknown(&known, &names::elsewhere());
    Ok(())
}

/// The subcommand of a service. Without one, it serves.
fn subcommand(matches: &ArgMatches) -> (&str, &ArgMatches) {
    matches.subcommand().unwrap_or(("serve", matches))
}

/// Runs a subcommand of one service.
async fn one(
    service: Service,
    (name, flags): (&str, &ArgMatches),
    folder: PathBuf,
) -> Result<(), Failure> {
    let is_auth = service.prefix == AUTH.prefix;
    let output = if is_auth {
        auth_service::commands::log_output(name)
    } else {
        user_service::commands::log_output(name)
    };
    if let Some(output) = output {
        start_log(flags, output)?;
    }
    let data = match name {
        "serve" | "migrate" => DataDir::open(folder)?,
        _ => DataDir::existing(folder),
    };
    let stack = Stack::new(flags, &data);
    let result = if is_auth {
        Box::pin(auth_service::commands::run(name, flags, &mut stack.auth()?)).await
    } else {
        let mut source = stack.user_beside_auth()?;
        Box::pin(user_service::commands::run(name, flags, &mut source)).await
    };
    result.map_err(|error| runtime::reworded(&*error, stack.explain(service, &error.to_string())))
}

async fn serve(stack: &Stack<'_>) -> Result<(), Failure> {
    let (auth, grace) = stack.read()?;
    let temporary = stack.temporary_folder();
    // A process that ends at once drops nothing, so it deletes the folder itself.
    let shutdown = shutdown::on_signal_with(grace, || {
        temporary.map(std::fs::remove_dir_all);
    })?;
    let scheme = |runtime: &runtime::RuntimeSettings| match runtime.tls {
        Some(_) => "https",
        None => "http",
    };
    let auth_scheme = scheme(&auth.runtime);
    let auth = Box::pin(auth_service::App::build(auth, shutdown.clone()))
        .await
        .map_err(|error| stack.explain(AUTH, &error.to_string()))?;
    let (http, grpc) = (auth.server().http_address(), auth.server().grpc_address());
    let mut user = user_service::config::Settings::read(&mut stack.user(http, grpc)?)?;
    if stack.follows_own_revocations()
        && let Some(revocations) = &mut user.revocations
    {
        revocations.feed = revocations::feed(&auth);
    }
    if !stack.has_issuer() {
        // The default issuer is the default address, which may not be the present one.
        user.token_page_url = Some(format!("{auth_scheme}://{http}"));
    }
    let user_scheme = scheme(&user.runtime);
    let user = Box::pin(user_service::App::build(user, shutdown.clone()))
        .await
        .map_err(|error| stack.explain(USER, &error.to_string()))?;
    let banner = banner((auth_scheme, &auth), (user_scheme, &user), stack.mail_folder()?);
    let (auth_health, user_health) =
        (auth.server().health().clone(), user.server().health().clone());
    let announce = async {
        tokio::join!(auth_health.ready(), user_health.ready());
        telemetry::print(&banner);
        std::future::pending::<()>().await;
    };
    // If one service fails, the other one stops too.
    let auth = async { stop_after(Box::pin(auth.run()).await, &shutdown) };
    let user = async { stop_after(Box::pin(user.run()).await, &shutdown) };
    let both = async { tokio::join!(auth, user) };
    let (auth, user) = tokio::select! {
        results = both => results,
        () = announce => return Ok(()),
    };
    auth.map_err(|error| stack.explain(AUTH, &error.to_string()))?;
    user.map_err(|error| stack.explain(USER, &error.to_string()))?;
    Ok(())
}

fn stop_after<E>(result: Result<(), E>, shutdown: &CancellationToken) -> Result<(), E> {
    shutdown.cancel();
    result
}

fn banner(
    (auth_scheme, auth): (&str, &auth_service::App),
    (user_scheme, user): (&str, &user_service::App),
    mail: Option<PathBuf>,
) -> String {
    let (auth_http, auth_grpc) = (auth.server().http_address(), auth.server().grpc_address());
    let (user_http, user_grpc) = (user.server().http_address(), user.server().grpc_address());
    let json = "-H 'Content-Type: application/json'";
    let person = r#"'{"email":"a@b.com","password":"S3cureP@ss"}'"#;
    let mail =
        mail.map(|folder| format!("  mail           {}\n", folder.display())).unwrap_or_default();
    format!(
        "
Latchkey is ready.

  auth service   {auth_scheme}://{auth_http}   gRPC {auth_grpc}   docs {auth_scheme}://{auth_http}/docs
  user service   {user_scheme}://{user_http}   gRPC {user_grpc}   docs {user_scheme}://{user_http}/docs
{mail}
Register, log in, and read the profile:

  curl -X POST {json} -d {person} {auth_scheme}://{auth_http}/auth/register
  curl -X POST {json} -d {person} {auth_scheme}://{auth_http}/auth/login
  curl -H 'Authorization: Bearer <access_token>' {user_scheme}://{user_http}/users/me
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long form of the help would spread every setting over several lines.
    #[test]
    fn the_help_of_every_command_has_one_form() {
        fn check(command: &Command) {
            assert!(command.get_long_about().is_none(), "{}", command.get_name());
            assert!(command.get_after_long_help().is_none(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_long_help().is_none(), "{argument}");
                assert!(!argument.is_hide_short_help_set(), "{argument}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }
}
