//! The service as a process of its own, for what belongs to a process: its end.

use std::{process::Command, time::Duration};

use serde_json::json;
use test_kit::{ENGINES, Engine, TestDatabase, process::Process};

use crate::support::{ENCRYPTION_KEY, SERVICE_TOKEN};

pub(crate) fn start(database: &TestDatabase, level: &str) -> Process {
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("SERVICE_TOKEN", SERVICE_TOKEN),
        ("BCRYPT_COST", "10"),
        ("LOG_LEVEL", level),
    ];
    Process::start(env!("CARGO_BIN_EXE_auth-service"), database.folder(), &settings)
}

#[tokio::test]
async fn the_stop_signal_lets_a_login_finish() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let mut service = start(&database, "info");
    let rest = service.client().await;
    let credentials = json!({"email": "a@b.com", "password": "S3cureP@ss"});
    assert_eq!(rest.post("/auth/register", &credentials).await.status, 201);
    let login = tokio::spawn({
        let rest = rest.clone();
        async move { rest.post("/auth/login", &credentials).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let process = service.child.id().to_string();
    Command::new("kill").args(["-TERM", &process]).status().unwrap();
    assert_eq!(login.await.unwrap().status, 200);
    let ended = tokio::task::spawn_blocking(move || service.child.wait().unwrap().code());
    assert_eq!(ended.await.unwrap(), Some(0));
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let credentials =
            |round: u32| json!({"email": format!("p{round}@b.com"), "password": "S3cureP@ss"});
        for round in 0..5 {
            let mut service = start(&database, "info");
            let rest = service.client().await;
            if round > 0 {
                let before = rest.post("/auth/login", &credentials(round - 1)).await;
                assert_eq!(before.status, 200, "{engine:?}, round {round}: {}", before.text);
            }
            let registered = rest.post("/auth/register", &credentials(round)).await;
            service.child.kill().unwrap();
            assert_eq!(registered.status, 201, "{}", registered.text);
        }
    }
}
