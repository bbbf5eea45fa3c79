//! What is logged, and what never is.

use serde_json::{Value, json};
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

#[tokio::test]
async fn one_line_of_a_request_says_who_from_where_and_why() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let service = start(&database, "debug");
    let rest = service.client().await;
    let credentials = json!({"email": "a@b.com", "password": "Correct-Horse-77"});
    let registered = rest.post("/auth/register", &credentials).await;
    let account = registered.json["id"].as_str().unwrap().to_owned();
    assert_eq!(rest.post("/auth/login", &credentials).await.status, 200);
    let wrong = json!({"email": "a@b.com", "password": "Wrong-Horse-77"});
    assert_eq!(rest.post("/auth/login", &wrong).await.status, 401);
    let stranger = json!({"email": "c@d.com", "password": "Wrong-Horse-77"});
    assert_eq!(rest.post("/auth/login", &stranger).await.status, 401);

    let access = |status: u16, account: Value| {
        move |line: &Value| {
            line["endpoint"] == "/auth/login"
                && line["status"] == status
                && line["account"] == account
        }
    };
    let known = service.find(access(200, json!(account))).await;
    assert_eq!((&known["network"], &known["code"]), (&json!("127.0.0.1"), &Value::Null));
    for account in [json!(account), Value::Null] {
        let refused = service.find(access(401, account)).await;
        assert_eq!(refused["code"], "invalid_credentials", "{refused}");
        assert_eq!(refused["network"], "127.0.0.1");
    }
    for (event, code) in [("login.ok", Value::Null), ("login.failed", json!("invalid_credentials"))]
    {
        let line = service.find(|line| line["event"] == event).await;
        assert_eq!((&line["account"], &line["code"]), (&json!(account), &code), "{line}");
        assert_eq!(line["network"], "127.0.0.1");
    }
    let database = service.find(|line| line["message"] == "database").await;
    assert_eq!(database["engine"], "sqlite");
    assert!(database["name"].as_str().unwrap().ends_with(".db"), "{database}");
}

#[tokio::test]
async fn the_log_of_a_call_says_the_same_and_probes_are_logged_at_debug() {
    use latchkey_contracts::auth::v1::{LoginRequest, auth_service_client::AuthServiceClient};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let database = TestDatabase::create(Engine::Sqlite).await;
    let service = start(&database, "debug");
    let rest = service.client().await;
    let listening = service.find(|line| line["message"] == "listening").await;
    let grpc = listening["grpc"].as_str().unwrap().parse().unwrap();
    let request = LoginRequest {
        email: "a@b.com".to_owned(),
        password: "x".to_owned(),
        ..Default::default()
    };
    AuthServiceClient::new(test_kit::channel(grpc).await).login(request).await.unwrap_err();
    let line = service.find(|line| line["endpoint"] == "/auth.v1.AuthService/Login").await;
    assert_eq!(line["code"], "invalid_credentials", "{line}");
    assert_eq!((&line["network"], &line["status"]), (&json!("127.0.0.1"), &json!(16)));

    rest.get("/livez").await;
    let check = HealthCheckRequest { service: String::new() };
    HealthClient::new(test_kit::channel(grpc).await).check(check).await.unwrap();
    for endpoint in ["/livez", "/grpc.health.v1.Health/Check"] {
        let line = service.find(|line| line["endpoint"] == endpoint).await;
        assert_eq!(line["level"], "DEBUG", "{line}");
    }
}
