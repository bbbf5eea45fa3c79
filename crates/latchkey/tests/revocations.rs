//! Both services in one process: a logout reaches the user service without HTTP between the two.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use test_kit::{Client, process::Process, send};

fn lines(process: &Process) -> Vec<Value> {
    // The banner is not JSON.
    process.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

async fn client(process: &Process, service: &str) -> Client {
    let begin = Instant::now();
    loop {
        let found = lines(process)
            .into_iter()
            .find(|line| line["message"] == "listening" && line["service"] == service);
        if let Some(line) = found {
            return Client::new(line["http"].as_str().unwrap().parse().unwrap());
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{}", process.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_logout_reaches_the_user_service_without_http() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("AUTH_HTTP_ADDR", "127.0.0.1:0"),
        ("AUTH_GRPC_ADDR", "127.0.0.1:0"),
        ("AUTH_ADMIN_ADDR", ""),
        ("USER_HTTP_ADDR", "127.0.0.1:0"),
        ("USER_GRPC_ADDR", "127.0.0.1:0"),
        ("USER_ADMIN_ADDR", ""),
        ("BCRYPT_COST", "10"),
    ];
    let process = Process::start(env!("CARGO_BIN_EXE_latchkey"), folder.path(), &settings);
    let auth = client(&process, "auth-service").await;
    let users = client(&process, "user-service").await;
    let person = json!({"email": "a@b.com", "password": "S3cureP@ss", "offline_access": true});
    let registered = json!({"email": person["email"], "password": person["password"]});
    let id = auth.post("/auth/register", &registered).await.json["id"].clone();
    assert!(id.is_string());
    let tokens = auth.post("/auth/login", &person).await.json;
    let profile = async || {
        let token = tokens["access_token"].as_str().unwrap();
        send(users.request(Method::GET, "/users/me").bearer_auth(token)).await
    };
    let begin = Instant::now();
    while profile().await.status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the keys have not arrived");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let token = json!({"refresh_token": tokens["refresh_token"]});
    assert_eq!(auth.post("/auth/logout", &token).await.status, 204);
    let ended = Instant::now();
    while profile().await.status == 200 {
        assert!(ended.elapsed() < Duration::from_secs(5), "{}", process.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(profile().await.code(), "token_revoked");
    // The access lines of both services name the account, which is known.
    let path = "/auth/sessions";
    let token = tokens["access_token"].as_str().unwrap();
    let own = send(auth.request(Method::GET, path).bearer_auth(token)).await;
    assert_eq!(own.code(), "token_revoked");
    for service in ["auth-service", "user-service"] {
        // A line may be written a moment after its response.
        let begin = Instant::now();
        let line = loop {
            let found = lines(&process)
                .into_iter()
                .find(|line| line["code"] == "token_revoked" && line["service"] == service);
            if let Some(line) = found {
                break line;
            }
            assert!(begin.elapsed() < Duration::from_secs(5), "{}", process.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(line["account"], id, "{service}");
    }
    let requests =
        |endpoint: &str| lines(&process).iter().filter(|line| line["endpoint"] == endpoint).count();
    assert_ne!(requests("/.well-known/jwks.json"), 0, "{}", process.output());
    assert_eq!(requests("/.well-known/revocations"), 0, "{}", process.output());
}
