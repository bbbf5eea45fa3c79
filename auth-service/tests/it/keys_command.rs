//! `auth-service keys` as an operator runs it.

use std::{path::Path, process::Command};

use test_kit::{Engine, TestDatabase};

use crate::support::{ENCRYPTION_KEY, Running};

fn keys(folder: &Path, url: &str, key: Option<&str>, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(folder)
        .arg("keys")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", url)
        .envs(key.map(|key| ("KEY_ENCRYPTION_KEY", key)))
        .env("JWT_ALGORITHM", "ES256")
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

#[tokio::test]
async fn a_list_needs_the_right_encryption_key_or_none() {
    let database = Running::start(Engine::Sqlite).await.stop().await;
    let list = |key| keys(database.folder(), &database.url, key, &["list"]);
    for key in [None, Some(ENCRYPTION_KEY)] {
        let (done, told) = list(key);
        assert!(done && told.contains("active") && told.contains("ES256"), "{told}");
    }
    let (done, told) = list(Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="));
    assert!(!done && told.contains("KEY_ENCRYPTION_KEY"), "{told}");
    let (done, told) = list(Some("nonsense"));
    assert!(!done && told.contains("KEY_ENCRYPTION_KEY"), "{told}");
}

#[test]
fn no_command_makes_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/data/none.db", folder.path().display());
    for arguments in [&["list"][..], &["rotate"], &["revoke", "kid"]] {
        let (done, told) = keys(folder.path(), &url, Some(ENCRYPTION_KEY), arguments);
        assert!(!done && told.contains("there is no database at"), "{told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// When the command has ended, no replica publishes the key or signs with it.
#[tokio::test]
async fn a_stolen_key_is_revoked_under_a_running_service() {
    for engine in test_kit::ENGINES {
        let service = Running::start_on(TestDatabase::create(engine).await, &[]).await;
        let jwks = async || service.rest.get("/.well-known/jwks.json").await;
        let before = jwks().await;
        let kid = before.json["keys"][0]["kid"].as_str().unwrap().to_owned();
        let (folder, url) = (service.database.folder(), &service.database.url);
        let (done, told) = keys(folder, url, Some(ENCRYPTION_KEY), &["revoke", "--", &kid]);
        assert!(done && told.contains(&format!("{kid} revoked")), "{told}");
        assert!(!jwks().await.text.contains(&kid), "{engine:?}");
        service.register("a@b.com").await;
        let token = service.login("a@b.com").await;
        let signed_by = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        assert!(jwks().await.text.contains(&signed_by) && signed_by != kid, "{engine:?}");
        for unknown in [&kid, "-kid"] {
            let (done, told) = keys(folder, url, Some(ENCRYPTION_KEY), &["revoke", "--", unknown]);
            assert!(!done && told.contains("there is no key"), "{told}");
        }
    }
}
