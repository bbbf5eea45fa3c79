//! What is logged, and what never is.

use serde_json::json;
use test_kit::{ENGINES, Engine, TestDatabase};

use crate::{
    process::start,
    support::{ENCRYPTION_KEY, SERVICE_TOKEN},
};

#[tokio::test]
async fn nothing_secret_is_logged() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let service = start(&database, "trace");
        let rest = service.client().await;
        let credentials =
            json!({"email": "sentinel.person@example.com", "password": "SentinelPass1"});
        let register = rest.request(http::Method::POST, "/auth/register").json(&credentials);
        let registered = test_kit::send(register.bearer_auth("sentinel-bearer")).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        let issued = rest.post("/auth/login", &credentials).await;
        let token = issued.json["access_token"].as_str().unwrap().to_owned();
        let wrong = json!({"email": "sentinel.person@example.com", "password": "SentinelWrong"});
        assert_eq!(rest.post("/auth/login", &wrong).await.status, 401);
        service.find(|line| line["status"] == 401).await;

        let logged = service.output();
        let signature = token.rsplit('.').next().unwrap();
        for secret in [
            "sentinel.person",
            "SentinelPass1",
            "SentinelWrong",
            "sentinel-bearer",
            signature,
            ENCRYPTION_KEY,
            SERVICE_TOKEN,
            "$2b$",
        ] {
            assert!(!logged.contains(secret), "{engine:?}: {secret} was logged");
        }
    }
}

#[tokio::test]
async fn the_access_line_has_the_documented_members() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let service = start(&database, "info");
    let rest = service.client().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = rest
        .request(http::Method::GET, "/.well-known/jwks.json")
        .header("x-request-id", "mine")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    test_kit::send(request).await;
    let line = service.find(|line| line["request_id"] == "mine").await;
    assert_eq!(line["endpoint"], "/.well-known/jwks.json");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["status"], 200);
    assert_eq!(line["service"], "auth-service");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["trace_id"], trace);
    assert!(line["latency_ms"].is_number() && line["timestamp"].is_string(), "{line}");
}
