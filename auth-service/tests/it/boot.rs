//! What ends a start, and what does not.

use std::time::Duration;

use auth_service::{App, config, config::Settings};
use service_kit::settings::{Setting, Source};
use test_kit::{Client, Engine, TestDatabase};
use tokio_util::sync::CancellationToken;

use crate::support::{PASSWORD, Running, settings};

fn faults(overrides: &[(Setting, &str)]) -> String {
    let mut source = settings("sqlite::memory:", overrides);
    Settings::read(&mut source).unwrap_err().to_string()
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let cases: [(&[(Setting, &str)], &str); 13] = [
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
        (&[(config::JWT_SECRET, "hidden")], "JWT_SECRET: is only for"),
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
async fn a_key_file_of_each_type_signs_and_a_small_rsa_key_is_refused() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let path = database.folder().join("key.pem");
    let key = auth_service::keys::SigningKey::generate(token_verifier::Algorithm::EdDsa).unwrap();
    let pem = pem(key.pkcs8().unwrap());
    std::fs::write(&path, pem).unwrap();
    let file = path.to_str().unwrap().to_owned();
    let mismatch =
        [(config::JWT_SIGNING_KEY_FILE, file.as_str()), (config::JWT_ALGORITHM, "RS256")];
    assert!(faults(&mismatch).contains("JWT_ALGORITHM"));

    let matching =
        [(config::JWT_SIGNING_KEY_FILE, file.as_str()), (config::JWT_ALGORITHM, "EdDSA")];
    let service = Running::start_on(database, &matching).await;
    let jwks = service.rest.get("/.well-known/jwks.json").await;
    assert_eq!(jwks.json["keys"][0]["kid"], key.kid().unwrap());

    std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .unwrap();
    assert!(faults(&[(config::JWT_SIGNING_KEY_FILE, &file)]).contains("JWT_SIGNING_KEY_FILE"));
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
