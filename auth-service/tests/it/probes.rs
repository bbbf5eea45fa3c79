//! What orchestrators and operators ask: the listener of `ADMIN_ADDR`, and `healthcheck`.

use std::{
    path::Path,
    process::{Command, Output},
};

use test_kit::{Client, Engine, TestDatabase, process::Process};

use crate::{
    process::start,
    support::{ENCRYPTION_KEY, Running},
};

#[tokio::test]
async fn the_listener_for_operators_has_metrics_and_probes_and_nothing_else() {
    let service = Running::start(Engine::Sqlite).await;
    let admin = Client::new(service.admin.unwrap());
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.headers.contains_key("x-request-id"), "{path}");
    }
    for path in ["/auth/login", "/docs", "/errors", "/.well-known/jwks.json"] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json["code"], "not_found", "{path}");
    }
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(service.rest.get(path).await.status, 200, "{path} of the REST edge");
    }
}

/// Runs `healthcheck`, which reads the settings that the service itself has.
fn healthcheck(folder: &Path, settings: &[(&str, &str)], flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(folder)
        .env_clear()
        .envs(settings.iter().copied())
        .arg("healthcheck")
        .args(flags)
        .output()
        .unwrap()
}

#[tokio::test]
async fn healthcheck_asks_at_the_listener_for_operators_or_else_at_the_rest_edge() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let service = start(&database, "info");
    let client = service.client().await;
    while client.get("/readyz").await.status != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let listening = service.find(|line| line["message"] == "listening").await;
    assert_eq!(listening["admin"], "off");
    let http = listening["http"].as_str().unwrap();
    for admin in ["off", "", "127.0.0.1:0"] {
        for flags in [&[][..], &["--live"]] {
            let settings = [("ADMIN_ADDR", admin), ("HTTP_ADDR", http)];
            let ran = healthcheck(database.folder(), &settings, flags);
            assert!(ran.status.success(), "{admin:?} {flags:?}: {ran:?}");
        }
    }
    let nowhere = [("ADMIN_ADDR", "off"), ("HTTP_ADDR", "127.0.0.1:0")];
    let ran = healthcheck(database.folder(), &nowhere, &[]);
    assert!(!ran.status.success());
    assert!(String::from_utf8_lossy(&ran.stderr).contains("do not tell the port"), "{ran:?}");
}

#[tokio::test]
async fn healthcheck_names_the_check_that_fails_and_live_asks_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere"),
        ("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("ADMIN_ADDR", "127.0.0.1:0"),
    ];
    let service = Process::start(env!("CARGO_BIN_EXE_auth-service"), folder.path(), &settings);
    let listening = service.find(|line| line["message"] == "listening").await;
    // The REST edge is somewhere else: it cannot be what was asked.
    let asked =
        [("ADMIN_ADDR", listening["admin"].as_str().unwrap()), ("HTTP_ADDR", "127.0.0.1:1")];

    let ready = healthcheck(folder.path(), &asked, &[]);
    assert!(!ready.status.success());
    let reason = String::from_utf8_lossy(&ready.stderr).into_owned();
    assert!(reason.contains("is not ready: the checks database, schema fail"), "{reason}");
    let live = healthcheck(folder.path(), &asked, &["--live"]);
    assert!(live.status.success(), "{live:?}");
}
