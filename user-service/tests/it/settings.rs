//! The settings: every fault is told by its variable, and no secret is.

use service_kit::{
    runtime,
    settings::{Setting, Source},
};
use user_service::config::{self, Settings};

use crate::support::{SECRET, SERVICE_TOKEN};

fn read(given: &[(Setting, &str)]) -> Result<Settings, String> {
    let mut source = Source::default();
    for (setting, value) in given {
        source.set(setting, *value);
    }
    Settings::read(&mut source).map_err(|error| error.to_string())
}

#[test]
fn nothing_has_to_be_given() {
    let settings = read(&[]).unwrap();
    assert_eq!(settings.addresses.http, "0.0.0.0:4000".parse().unwrap());
    assert_eq!(settings.addresses.grpc, "0.0.0.0:50052".parse().unwrap());
    assert!(settings.rules.issuer.is_none() && settings.rules.audience.is_none());
    assert!(matches!(settings.keys, config::KeySource::Jwks(_)));
}

#[test]
fn faults_name_their_variable_and_show_no_secret() {
    let cases: &[(Setting, &str)] = &[
        (config::HTTP_ADDR, "somewhere"),
        (config::GRPC_ADDR, "1.2.3.4"),
        (config::DATABASE_URL, "mysql://user:hunter2@host/db"),
        (config::DATABASE_URL, "postgres://user:hunter2@host:port/db"),
        (config::JWKS_URL, "ftp://host/jwks.json"),
        (config::JWKS_URL, "not a url"),
        (config::JWKS_URL, "http://127.0.0.1:99999/x"),
        (config::JWKS_URL, "https://host:port/jwks.json"),
        (config::JWKS_URL, "srv+http://127.0.0.1/jwks.json"),
        (config::JWKS_URL, "srv+https://_jwks._tcp.auth.example:443/jwks.json"),
        (config::REVOCATIONS_URL, "srv+https://user:hunter2@_jwks._tcp.auth.example/r"),
        (config::REVOCATIONS_URL, "on"),
        (config::REVOCATIONS_URL, "http://127.0.0.1:65536/x"),
        (config::REVOCATIONS_URL, "http://user:hunter2@host/x"),
        (config::REVOCATIONS_MAX_AGE, "1m"),
        (config::JWT_PUBLIC_KEY_FILE, "/nowhere/hunter.pem"),
        (config::JWT_SECRET, "hunter2"),
        (config::JWT_EXP_LEEWAY, "-1"),
        (config::JWT_CLOCK_SKEW, "1m"),
        (config::PROFILE_EMAIL_VISIBILITY, "everyone"),
        (config::AUTH_GRPC_URL, "auth:50051"),
        (config::AUTH_GRPC_URL, "ftp://auth:50051"),
        (config::AUTH_GRPC_URL, "http://auth:99999"),
        (config::AUTH_GRPC_URL, "http://user:hunter2@auth:50051"),
        (config::AUTH_GRPC_URL, "http://auth:50051/path"),
        (config::AUTH_GRPC_URL, "srv+http://_grpc._tcp"),
        (config::AUTH_GRPC_URL, "srv+http://_grpc._tcp.auth.example:50051"),
        (config::DNS_SERVERS, "localhost"),
        (config::DNS_SERVERS, "10.0.0.1:99999"),
        (config::DNS_SERVERS, "10.0.0.1,,10.0.0.2"),
        (config::SERVICE_TOKEN, "hunter2"),
        (config::SERVICE_TOKEN, "hunter2 hunter2 hunter2 hunter2 hunter2"),
        (config::TLS_CA_FILE, "/nowhere/hunter.pem"),
        (config::TLS_CLIENT_CERT_FILE, "/nowhere/hunter.pem"),
        (service_kit::tls::TLS_CERT_FILE, "/nowhere/hunter.pem"),
        (service_kit::tls::TLS_CLIENT_CA_FILE, "/nowhere/hunter.pem"),
        (sql_kit::settings::DATABASE_POOL_MODE, "hunter2"),
        (runtime::SHUTDOWN_GRACE, "forever"),
        (sql_kit::settings::DATABASE_MAX_CONNECTIONS, "0"),
    ];
    for (setting, value) in cases {
        let told = read(&[(*setting, value)]).unwrap_err();
        assert!(told.contains(&format!("{}: ", setting.var)), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let all = read(&[(config::HTTP_ADDR, "x"), (config::JWT_SECRET, "y")]).unwrap_err();
    assert!(all.contains("HTTP_ADDR") && all.contains("JWT_SECRET"), "{all}");
}

#[test]
fn keys_come_from_one_place() {
    let both = [(config::JWKS_URL, "http://auth:3000/jwks.json"), (config::JWT_SECRET, SECRET)];
    let told = read(&both).unwrap_err();
    assert!(told.contains("JWT_SECRET: cannot be given together with JWKS_URL"), "{told}");
    assert!(matches!(read(&both[1..]).unwrap().keys, config::KeySource::Given(_)));
    assert!(matches!(read(&both[..1]).unwrap().keys, config::KeySource::Jwks(_)));
}

#[test]
fn revocations_are_beside_the_keys_and_off_where_those_are_given() {
    let followed = |given: &[(Setting, &str)]| {
        read(given).unwrap().revocations.map(|revocations| format!("{:?}", revocations.feed))
    };
    let beside = followed(&[(config::JWKS_URL, "http://auth:3000/keys/jwks.json")]).unwrap();
    assert!(beside.contains("\"http://auth:3000/keys/revocations\""), "{beside}");
    assert!(followed(&[]).unwrap().contains("\"http://127.0.0.1:3000/.well-known/revocations\""));
    assert!(followed(&[(config::REVOCATIONS_URL, "off")]).is_none());
    assert!(followed(&[(config::JWT_SECRET, SECRET)]).is_none());
    let own = [(config::JWT_SECRET, SECRET), (config::REVOCATIONS_URL, "https://a/r")];
    assert!(followed(&own).unwrap().contains("\"https://a/r\""));

    let limited = read(&[(config::REVOCATIONS_MAX_AGE, "30")]).unwrap().revocations.unwrap();
    assert_eq!(limited.max_age, Some(std::time::Duration::from_secs(30)));
    assert_eq!(read(&[]).unwrap().revocations.unwrap().max_age, None);
    let pointless = [(config::REVOCATIONS_URL, "off"), (config::REVOCATIONS_MAX_AGE, "30")];
    let told = read(&pointless).unwrap_err();
    assert!(told.contains("REVOCATIONS_MAX_AGE: "), "{told}");
}

#[test]
fn the_auth_service_may_be_found_by_srv_names() {
    let settings = read(&[
        (config::JWKS_URL, "srv+https://_jwks._tcp.auth.example/.well-known/jwks.json"),
        (config::AUTH_GRPC_URL, "srv+https://_grpc._tcp.auth.example"),
        (config::DNS_SERVERS, "10.0.0.2, 127.0.0.1:8600,::1,[::1]:8600"),
    ]);
    let settings = settings.unwrap();
    let feed = format!("{:?}", settings.revocations.unwrap().feed);
    assert!(feed.contains("srv+https://_jwks._tcp.auth.example/.well-known/revocations"), "{feed}");
    let auth = settings.auth_grpc.unwrap();
    // What DNS answers is not what the certificate has to name.
    assert_eq!(auth.url.uri(), "https://auth.example/");
    assert!(auth.tls.is_some());
    let servers = ["10.0.0.2:53", "127.0.0.1:8600", "[::1]:53", "[::1]:8600"];
    let servers = servers.map(|server| server.parse().unwrap());
    assert_eq!(auth.resolver, endpoints::Resolver::of_servers(servers));
}

#[test]
fn settings_print_without_their_secrets() {
    let settings = read(&[
        (config::DATABASE_URL, "postgres://user:hunter2@host/db"),
        (config::JWT_SECRET, SECRET),
        (config::SERVICE_TOKEN, SERVICE_TOKEN),
    ]);
    let printed = format!("{:?}", settings.unwrap());
    for secret in ["hunter2", SECRET, SERVICE_TOKEN] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn the_example_file_has_every_setting() {
    let example = include_str!("../../.env.example");
    for setting in config::GROUPS.iter().flat_map(|group| group.settings) {
        let line = format!("\n#{}=", setting.var);
        assert!(example.contains(&line), "{} is not in .env.example", setting.var);
    }
}
