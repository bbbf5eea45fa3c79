//! What is logged, and what never is.

use reqwest::Method;
use serde_json::json;
use test_kit::{ENGINES, Engine, TestDatabase, process::Process, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Person, SECRET, SERVICE_TOKEN};

#[tokio::test]
async fn nothing_secret_is_logged() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let settings = [
            ("DATABASE_URL", database.url.as_str()),
            ("JWT_SECRET", SECRET),
            ("SERVICE_TOKEN", SERVICE_TOKEN),
            // Discard: nobody listens there, so that the deletion fails as well.
            ("AUTH_GRPC_URL", "http://127.0.0.1:9"),
            ("LOG_LEVEL", "trace"),
        ];
        let binary = env!("CARGO_BIN_EXE_user-service");
        let service = Process::start(binary, database.folder(), &settings);
        let rest = service.client().await;
        let id = uuid::Uuid::now_v7();
        let person = Person::with(id, Some("sentinel.person@example.com"), 0);
        let own = |method| rest.request(method, &person.path()).bearer_auth(&person.token);
        let profile = json!({"name": "Sentinel Name", "bio": "sentinel bio"});
        let changed = send(own(Method::PUT).json(&profile)).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let access =
            |line: &serde_json::Value| line["endpoint"] == "/users/{id}" && line["status"] == 200;
        let line = service.find(access).await;
        assert_eq!(
            (&line["account"], &line["network"]),
            (&json!(id), &json!("127.0.0.1")),
            "{line}"
        );
        let forged = format!("{}x", person.token);
        let refused = send(rest.request(Method::GET, "/users").bearer_auth(&forged)).await;
        assert_eq!(refused.status, 401);
        let line = service.find(|line| line["endpoint"] == "/users" && line["status"] == 401).await;
        assert_eq!(line["code"], "invalid_token", "{line}");
        assert_eq!(send(own(Method::DELETE)).await.status, 204);
        let failed = service.find(|line| line["event"] == "account_deletion.failed").await;
        assert!(failed["trace_id"].is_string() && failed["reason"].is_string(), "{failed}");

        let logged = service.output();
        let signature = person.token.rsplit('.').next().unwrap();
        for secret in
            ["sentinel.person", "Sentinel Name", "sentinel bio", signature, SECRET, SERVICE_TOKEN]
        {
            assert!(!logged.contains(secret), "{engine:?}: {secret} was logged");
        }
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_parsed_has_its_line() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("JWT_SECRET", SECRET),
        ("SERVICE_TOKEN", SERVICE_TOKEN),
    ];
    let binary = env!("CARGO_BIN_EXE_user-service");
    let service = Process::start(binary, database.folder(), &settings);
    let listening = service.find(|line| line["message"] == "listening").await;
    let address = listening["http"].as_str().unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GARBAGE\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    let line = service.find(|line| line["request_id"] == problem["request_id"]).await;
    assert_eq!(
        (&line["target"], &line["service"], &line["status"], &line["code"], &line["network"]),
        (
            &json!("access"),
            &json!("user-service"),
            &json!(400),
            &json!("malformed_request"),
            &json!("127.0.0.1")
        ),
        "{line}"
    );
    assert!(line["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0), "{line}");
}
