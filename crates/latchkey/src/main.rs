//! `cargo run`: both services in one process, for development and single nodes. The same code as
//! the two binaries, with settings that need no thought: loopback addresses, SQLite files and
//! generated keys in one folder.

mod data;
#[cfg(test)]
mod reference;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use service_kit::{
    admin, runtime,
    settings::{self, Setting, Source, address, parsed},
    shutdown,
    telemetry::{self, LogOutput},
    tls::TLS_CERT_FILE,
};
use tokio_util::sync::CancellationToken;

use crate::data::DataDir;

const AUTH_HTTP_ADDR: Setting =
    Setting::new("AUTH_HTTP_ADDR", "127.0.0.1:3000", "The address of the auth service's REST edge");
const AUTH_GRPC_ADDR: Setting = Setting::new(
    "AUTH_GRPC_ADDR",
    "127.0.0.1:50051",
    "The address of the auth service's gRPC edge",
);
const USER_HTTP_ADDR: Setting =
    Setting::new("USER_HTTP_ADDR", "127.0.0.1:4000", "The address of the user service's REST edge");
const USER_GRPC_ADDR: Setting = Setting::new(
    "USER_GRPC_ADDR",
    "127.0.0.1:50052",
    "The address of the user service's gRPC edge",
);
const AUTH_ADMIN_ADDR: Setting = Setting {
    may_be_empty: true,
    ..Setting::new(
        "AUTH_ADMIN_ADDR",
        "127.0.0.1:9464",
        "The address of the auth service's metrics and probes; empty or off: none",
    )
};
const USER_ADMIN_ADDR: Setting = Setting {
    may_be_empty: true,
    ..Setting::new(
        "USER_ADMIN_ADDR",
        "127.0.0.1:9465",
        "The address of the user service's metrics and probes; empty or off: none",
    )
};
const DATA_DIR: Setting =
    Setting::new("DATA_DIR", "data", "The folder of the databases and generated keys");

const OWN_SETTINGS: &[Setting] = &[
    AUTH_HTTP_ADDR,
    AUTH_GRPC_ADDR,
    AUTH_ADMIN_ADDR,
    USER_HTTP_ADDR,
    USER_GRPC_ADDR,
    USER_ADMIN_ADDR,
    DATA_DIR,
];

/// Settings of the services that the stack decides itself.
const DECIDED: &[Setting] = &[
    auth_service::config::HTTP_ADDR,
    auth_service::config::GRPC_ADDR,
    auth_service::config::ADMIN_ADDR,
    auth_service::config::DATABASE_URL,
    auth_service::config::KEY_ENCRYPTION_KEY,
    auth_service::config::SERVICE_TOKEN,
    user_service::config::HTTP_ADDR,
    user_service::config::GRPC_ADDR,
    user_service::config::ADMIN_ADDR,
    user_service::config::DATABASE_URL,
    user_service::config::JWKS_URL,
    user_service::config::AUTH_GRPC_URL,
    user_service::config::SERVICE_TOKEN,
];

/// What may be set for the services here: everything that the stack does not decide, each once.
fn service_settings() -> Vec<Setting> {
    let mut all: Vec<Setting> = Vec::new();
    let services =
        [auth_service::config::SETTINGS, user_service::config::SETTINGS, runtime::SETTINGS];
    for setting in services.concat() {
        let taken = all.iter().chain(DECIDED).any(|other| other.var == setting.var);
        if !taken {
            all.push(setting);
        }
    }
    all
}

fn command() -> Command {
    let command = Command::new("latchkey")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Both services of Latchkey in one process, for development and single nodes.")
        .after_help(runtime::HELP)
        .arg(
            Arg::new("ephemeral")
                .long("ephemeral")
                .action(ArgAction::SetTrue)
                .conflicts_with(DATA_DIR.var)
                .help("Keep everything in a temporary folder that is deleted at the end"),
        );
    settings::with_flags(command, &[OWN_SETTINGS, &service_settings()].concat())
}

#[tokio::main]
async fn main() -> ExitCode {
    runtime::exit(run(&command().get_matches()).await)
}

async fn run(flags: &ArgMatches) -> Result<(), Box<dyn std::error::Error>> {
    let mut source = Source::from_process(OWN_SETTINGS, flags);
    let addresses = Addresses {
        auth_http: source.value(&AUTH_HTTP_ADDR, address),
        auth_grpc: source.value(&AUTH_GRPC_ADDR, address),
        user_http: source.value(&USER_HTTP_ADDR, address),
        user_grpc: source.value(&USER_GRPC_ADDR, address),
        auth_admin: source.value(&AUTH_ADMIN_ADDR, admin_address),
        user_admin: source.value(&USER_ADMIN_ADDR, admin_address),
    };
    let folder = source.value(&DATA_DIR, parsed::<PathBuf>("a path"));
    source.finish()?;
    let data =
        if flags.get_flag("ephemeral") { DataDir::ephemeral()? } else { DataDir::open(folder)? };

    let auth = auth_settings(flags, &addresses, &data);
    // Read once for its faults alone, before anything listens: the real addresses come later.
    let user = user_settings(flags, &addresses, &data, addresses.auth_http, addresses.auth_grpc);
    let auth = match (auth, user) {
        (Ok(auth), Ok(_)) => auth,
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
        (Err(auth), Err(user)) => return Err(format!("{auth}\n{user}").into()),
    };
    telemetry::init(auth.runtime.log_format, &auth.runtime.log_level, LogOutput::Stdout)?;
    let shutdown = shutdown::on_signal()?;
    serve(flags, auth, &addresses, &data, shutdown).await
}

struct Addresses {
    auth_http: SocketAddr,
    auth_grpc: SocketAddr,
    user_http: SocketAddr,
    user_grpc: SocketAddr,
    auth_admin: String,
    user_admin: String,
}

fn admin_address(address: &str) -> Result<String, String> {
    admin::address(address).map(|_| address.to_owned())
}

fn auth_settings(
    flags: &ArgMatches,
    addresses: &Addresses,
    data: &DataDir,
) -> Result<auth_service::config::Settings, Box<dyn std::error::Error>> {
    use auth_service::config;

    let mut source = Source::from_process(&service_settings(), flags);
    source.set(&config::HTTP_ADDR, addresses.auth_http.to_string());
    source.set(&config::GRPC_ADDR, addresses.auth_grpc.to_string());
    source.set(&config::ADMIN_ADDR, &addresses.auth_admin);
    source.set(&config::DATABASE_URL, data.database_url("auth.db"));
    source.set(&config::KEY_ENCRYPTION_KEY, data.secret("key-encryption-key")?);
    source.set(&config::SERVICE_TOKEN, data.secret("service-token")?);
    Ok(config::Settings::read(&mut source)?)
}

fn user_settings(
    flags: &ArgMatches,
    addresses: &Addresses,
    data: &DataDir,
    auth_http: SocketAddr,
    auth_grpc: SocketAddr,
) -> Result<user_service::config::Settings, Box<dyn std::error::Error>> {
    use user_service::config;

    let mut source = Source::from_process(&service_settings(), flags);
    source.set(&config::HTTP_ADDR, addresses.user_http.to_string());
    source.set(&config::GRPC_ADDR, addresses.user_grpc.to_string());
    source.set(&config::ADMIN_ADDR, &addresses.user_admin);
    source.set(&config::DATABASE_URL, data.database_url("user.db"));
    source.set(&config::SERVICE_TOKEN, data.secret("service-token")?);
    // The auth service has defaults for these, a verifier does not.
    for setting in [auth_service::config::JWT_ISSUER, auth_service::config::JWT_AUDIENCE] {
        if !source.is_set(&setting) {
            source.set(&setting, setting.default.unwrap_or_default());
        }
    }
    // The certificate has to name this address too, then.
    let scheme = if source.is_set(&TLS_CERT_FILE) { "https" } else { "http" };
    source.set(&config::AUTH_GRPC_URL, format!("{scheme}://{auth_grpc}"));
    let jwks = format!("{scheme}://{auth_http}/.well-known/jwks.json");
    if !source.is_set(&config::JWT_SECRET) && !source.is_set(&config::JWT_PUBLIC_KEY_FILE) {
        source.set(&config::JWKS_URL, jwks);
    }
    Ok(config::Settings::read(&mut source)?)
}

async fn serve(
    flags: &ArgMatches,
    auth: auth_service::config::Settings,
    addresses: &Addresses,
    data: &DataDir,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error>> {
    let scheme = if auth.runtime.tls.is_some() { "https" } else { "http" };
    let auth = auth_service::App::build(auth, shutdown.clone()).await?;
    let user = user_settings(
        flags,
        addresses,
        data,
        auth.server().http_address(),
        auth.server().grpc_address(),
    )?;
    let user = user_service::App::build(user, shutdown.clone()).await?;
    let banner = banner(scheme, &auth, &user);
    let (auth_health, user_health) =
        (auth.server().health().clone(), user.server().health().clone());
    let announce = async {
        tokio::join!(auth_health.ready(), user_health.ready());
        print(&banner);
        std::future::pending::<()>().await;
    };
    // If one service fails, the other one stops too.
    let auth = async { stop_after(auth.run().await, &shutdown) };
    let user = async { stop_after(user.run().await, &shutdown) };
    let both = async { tokio::join!(auth, user) };
    let (auth, user) = tokio::select! {
        results = both => results,
        () = announce => return Ok(()),
    };
    auth?;
    user?;
    Ok(())
}

fn stop_after<E>(result: Result<(), E>, shutdown: &CancellationToken) -> Result<(), E> {
    shutdown.cancel();
    result
}

fn banner(scheme: &str, auth: &auth_service::App, user: &user_service::App) -> String {
    let (auth_http, auth_grpc) = (auth.server().http_address(), auth.server().grpc_address());
    let (user_http, user_grpc) = (user.server().http_address(), user.server().grpc_address());
    let json = "-H 'Content-Type: application/json'";
    let person = r#"'{"email":"a@b.com","password":"S3cureP@ss"}'"#;
    format!(
        "
Latchkey is ready.

  auth service   {scheme}://{auth_http}   gRPC {auth_grpc}
  user service   {scheme}://{user_http}   gRPC {user_grpc}

Register, log in, and read the profile:

  curl -X POST {json} -d {person} {scheme}://{auth_http}/auth/register
  curl -X POST {json} -d {person} {scheme}://{auth_http}/auth/login
  curl -H 'Authorization: Bearer <access_token>' {scheme}://{user_http}/users/<id>
"
    )
}

#[expect(clippy::print_stdout, reason = "the banner is for the person at the terminal")]
fn print(text: &str) {
    println!("{text}");
}
