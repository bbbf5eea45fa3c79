//! What ends a start, and what does not.

use std::time::Duration;

use auth_service::{App, config, config::Settings, keys::SigningKey};
use service_kit::{
    clock::machine_time,
    settings::{Setting, Source},
};
use test_kit::{Client, Engine, TestDatabase};
use token_verifier::{Algorithm, KeySet, Rules};
use tokio_util::sync::CancellationToken;

use crate::support::{PASSWORD, Running, settings};

fn faults(overrides: &[(Setting, &str)]) -> String {
    let mut source = settings("sqlite::memory:", overrides);
    Settings::read(&mut source).unwrap_err().to_string()
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let cases: [(&[(Setting, &str)], &str); 15] = [
        (&[(config::JWT_ALGORITHM, "none")], "JWT_ALGORITHM"),
        (&[(config::JWT_ALGORITHM, "RS512")], "JWT_ALGORITHM"),
        (&[(config::JWT_ALGORITHM, "HS256")], "JWT_SECRET: is required"),
        (
            &[
                (config::JWT_ALGORITHM, "HS256"),
                (config::JWT_SECRET, "hidden-31-bytes-long-xxxxxxxxxx"),
            ],
            "JWT_SECRET: is under 32 bytes",
        ),
        (
            &[
                (config::JWT_ALGORITHM, "HS256"),
                (config::JWT_SECRET, "-----BEGIN PRIVATE KEY-----\nhidden"),
            ],
            "JWT_SECRET: is a PEM file",
        ),
        (&[(config::JWT_SECRET, "hidden")], "JWT_SECRET: is only for"),
        (
            &[(config::PASSWORD_HASH, "argon2id"), (config::ARGON2_MEMORY_KIB, "4194304")],
            "ARGON2_MEMORY_KIB",
        ),
        (&[(config::KEY_ENCRYPTION_KEY, "hidden")], "KEY_ENCRYPTION_KEY"),
        (&[(config::JWT_SIGNING_KEY_FILE, "/nonexistent")], "JWT_SIGNING_KEY_FILE: cannot read"),
        (&[(config::DATABASE_URL, "mysql://u:hidden@h/d")], "DATABASE_URL"),
        (&[(config::BCRYPT_COST, "9")], "BCRYPT_COST"),
        (&[(config::ACCESS_TOKEN_TTL, "3601")], "ACCESS_TOKEN_TTL"),
        (&[(config::PASSWORD_HASH, "md5")], "PASSWORD_HASH"),
        (&[(config::SERVICE_TOKEN, "hidden")], "SERVICE_TOKEN"),
        (&[(config::HTTP_ADDR, "nonsense")], "HTTP_ADDR"),
    ];
    for (overrides, expected) in cases {
        let told = faults(overrides);
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(!told.contains("hidden"), "{told}");
    }
    let told = faults(&[(config::BCRYPT_COST, "x"), (config::HTTP_ADDR, "y")]);
    assert!(told.contains("BCRYPT_COST") && told.contains("HTTP_ADDR"), "{told}");
    assert!(
        Settings::read(&mut Source::default())
            .unwrap_err()
            .to_string()
            .contains("KEY_ENCRYPTION_KEY")
    );
}

#[tokio::test]
async fn a_key_file_of_each_type_signs_and_another_algorithm_is_refused() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let database = TestDatabase::create(Engine::Sqlite).await;
        let path = database.folder().join("key.pem");
        let key = SigningKey::generate(algorithm).unwrap();
        std::fs::write(&path, pem(key.pkcs8().unwrap())).unwrap();
        let file = path.to_str().unwrap().to_owned();
        let other = if algorithm == Algorithm::Rs256 { "ES256" } else { "RS256" };
        let mismatch =
            [(config::JWT_SIGNING_KEY_FILE, file.as_str()), (config::JWT_ALGORITHM, other)];
        assert!(faults(&mismatch).contains("JWT_ALGORITHM: is "), "{algorithm:?}");

        let name = algorithm.as_str();
        let matching =
            [(config::JWT_SIGNING_KEY_FILE, file.as_str()), (config::JWT_ALGORITHM, name)];
        let service = Running::start_on(database, &matching).await;
        let jwks = service.rest.get("/.well-known/jwks.json").await;
        assert_eq!(jwks.json["keys"][0]["kid"], key.kid().unwrap());
        service.register("a@b.com").await;
        let token = service.login("a@b.com").await;
        let keys = KeySet::from_jwks(jwks.text.as_bytes()).unwrap();
        let now = machine_time().timestamp();
        let claims = token_verifier::verify(&token, &keys, &Rules::default(), now);
        assert!(claims.is_ok(), "{algorithm:?}: {claims:?}");
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(header.kid.as_deref(), key.kid());
    }
}

#[tokio::test]
async fn a_file_that_holds_no_key_to_sign_with_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let file = path.to_str().unwrap();
    let damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned();
    let small = include_str!("../keys/rsa-1024.pem").to_owned();
    for text in [damaged, small, String::new(), "hidden".to_owned()] {
        std::fs::write(&path, text).unwrap();
        let told = faults(&[(config::JWT_SIGNING_KEY_FILE, file)]);
        assert!(told.contains("JWT_SIGNING_KEY_FILE: is not"), "{told}");
        assert!(!told.contains("hidden"), "{told}");
    }
}

/// The keys of a file do not need the database, so whoever verifies tokens can have them.
#[tokio::test]
async fn the_keys_of_a_file_are_published_while_the_database_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    std::fs::write(&path, pem(key.pkcs8().unwrap())).unwrap();
    let overrides =
        [(config::JWT_SIGNING_KEY_FILE, path.to_str().unwrap()), (config::JWT_ALGORITHM, "ES256")];
    let url = "postgres://nobody@127.0.0.1:1/nothing";
    let settings = Settings::read(&mut settings(url, &overrides)).unwrap();
    let shutdown = CancellationToken::new();
    let app = App::build(settings, shutdown.clone()).await.unwrap();
    let rest = Client::new(app.server().http_address());
    let task = tokio::spawn(app.run());
    let jwks = rest.get("/.well-known/jwks.json").await;
    assert_eq!(jwks.status, 200, "{}", jwks.text);
    assert_eq!(jwks.json["keys"][0]["kid"], key.kid().unwrap());
    assert_eq!(rest.get("/readyz").await.status, 503);
    let body = serde_json::json!({"email": "a@b.com", "password": PASSWORD});
    assert_eq!(rest.post("/auth/login", &body).await.status, 503);
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn the_wrong_encryption_key_ends_the_start() {
    let service = Running::start(Engine::Sqlite).await;
    let database = service.stop().await;
    let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let mut source = settings(&database.url, &[(config::KEY_ENCRYPTION_KEY, other)]);
    let settings = Settings::read(&mut source).unwrap();
    let error = App::build(settings, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.starts_with("KEY_ENCRYPTION_KEY: "), "{error}");
}

#[tokio::test]
async fn without_a_database_the_service_is_live_not_ready_and_answers_503() {
    // Nothing listens on this port.
    let url = "postgres://nobody@127.0.0.1:1/nothing";
    let settings = Settings::read(&mut settings(url, &[])).unwrap();
    let shutdown = CancellationToken::new();
    let app = App::build(settings, shutdown.clone()).await.unwrap();
    let rest = Client::new(app.server().http_address());
    let task = tokio::spawn(app.run());
    assert_eq!(rest.get("/livez").await.status, 200);
    for path in ["/readyz", "/health"] {
        let answer = rest.get(path).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json["status"], "unavailable");
        assert_eq!(answer.json["checks"]["database"]["status"], "unavailable");
        assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
    let body = serde_json::json!({"email": "a@b.com", "password": PASSWORD});
    for path in ["/auth/register", "/auth/login"] {
        let answer = tokio::time::timeout(Duration::from_secs(6), rest.post(path, &body)).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.code(), "database_unavailable");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

#[test]
fn the_example_file_has_every_setting() {
    let example = include_str!("../../.env.example");
    for setting in config::GROUPS.iter().flat_map(|group| group.settings) {
        let line = format!("\n#{}=", setting.var);
        assert!(example.contains(&line), "{} is not in .env.example", setting.var);
    }
}
