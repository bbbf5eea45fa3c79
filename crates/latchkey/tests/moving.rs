//! The databases of both services move from one engine to the other and back, and whoever uses the services
//! notices nothing.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod services;

use std::process::Command;

use http::Method;
use serde_json::json;
use services::{Databases, PASSWORD, Services};
use sql_kit::{Database, Migrations, transfer::Transfer};
use test_kit::{ENGINES, Engine, TestDatabase, send};

fn move_databases(from: &Databases, to: &Databases) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .current_dir(from.auth.folder())
        .env_clear()
        // Secrets of the databases are in variables as well as in flags.
        .envs([("AUTH_FROM", &from.auth.url), ("AUTH_TO", &to.auth.url)])
        .args(["move", "--user-from", from.user.url.as_str(), "--user-to", to.user.url.as_str()])
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!text.contains("postgres://") && !text.contains("sqlite://"), "{text}");
    (output.status.code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_uses_the_services_does_not_notice_that_they_have_moved() {
    for (one, other) in [(Engine::Sqlite, Engine::Postgres), (Engine::Postgres, Engine::Sqlite)] {
        let (from, to) = (Databases::create(one).await, Databases::create(other).await);
        let services = Services::start(&from).await;
        let mut ids = Vec::new();
        let mut tokens = Vec::new();
        for number in 0..5 {
            let email = format!("person{number}@example.com");
            ids.push(services.register(&email).await);
            let session = services.login(&email).await.json;
            let name = json!({"name": format!("N\u{e4}me {number} \u{1f511}"), "bio": "a\n\tb"});
            let access = &session["access_token"];
            let answer = services.users(Method::PUT, "/users/me", access, Some(name)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            tokens.push(session);
        }
        // One who has left, one who has logged out everywhere, and one whose refresh token was used.
        let gone =
            services.users(Method::DELETE, "/users/me", &tokens[3]["access_token"], None).await;
        assert_eq!(gone.status, 204);
        let ended = services.auth.request(Method::DELETE, "/auth/sessions");
        let ended = ended.bearer_auth(tokens[4]["access_token"].as_str().unwrap());
        assert_eq!(send(ended).await.status, 204);
        let refreshed = services.refresh(&tokens[1]["refresh_token"]).await.json;
        let reader = &tokens[0]["access_token"];
        let page = services.users(Method::GET, "/users?page_size=2", reader, None).await.json;
        let keys = services.auth.get("/.well-known/jwks.json").await.json;
        let feed = services.auth.get("/.well-known/revocations").await.json;
        let profile = services.users(Method::GET, "/users/me", reader, None).await;
        let left = async {
            while services.login("person3@example.com").await.status != 401 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), left).await.unwrap();

        let (status, told) = move_databases(&from, &to);
        assert_eq!(status, Some(1), "{told}");
        assert!(told.contains("it is in use"), "{told}");
        services.stop().await;

        let (status, told) = move_databases(&from, &to);
        assert_eq!(status, Some(0), "{one:?} to {other:?}: {told}");
        assert!(told.contains("accounts") && told.contains("profiles"), "{told}");
        assert!(told.contains("each row was compared"), "{told}");
        let (status, told) = move_databases(&from, &to);
        assert_eq!(status, Some(0), "{told}");
        assert!(
            !told
                .lines()
                .any(|line| line.ends_with(" copied now") && !line.ends_with("; 0 copied now")),
            "{told}"
        );

        let services = Services::start(&to).await;
        assert_eq!(services.auth.get("/.well-known/jwks.json").await.json, keys);
        // Who follows the list of revocations goes on where they were.
        let cursor = feed["cursor"].as_str().unwrap();
        let more =
            services.auth.get(&format!("/.well-known/revocations?after={cursor}")).await.json;
        assert_eq!(more["reset"], false, "{more}");
        // Access tokens, entity tags and page tokens of before.
        let same = services.users(Method::GET, "/users/me", reader, None).await;
        assert_eq!((same.status.as_u16(), &same.json), (200, &profile.json));
        assert_eq!(same.header("etag"), profile.header("etag"));
        let next = page["next_page_token"].as_str().unwrap();
        let path = format!("/users?page_size=2&page_token={next}");
        let rest = services.users(Method::GET, &path, reader, None).await;
        assert_eq!(rest.status, 200, "{}", rest.text);
        assert_eq!(rest.json["users"][0]["id"], *ids[2], "{}", rest.text);
        // Refresh tokens of before: a good one, one that was used, and one whose session has ended.
        assert_eq!(services.refresh(&tokens[0]["refresh_token"]).await.status, 200);
        assert_eq!(services.refresh(&refreshed["refresh_token"]).await.status, 200);
        assert_eq!(services.refresh(&tokens[4]["refresh_token"]).await.status, 401);
        // Logins, and whoever has left.
        assert_eq!(services.login("person2@example.com").await.status, 200);
        assert_eq!(services.login("person3@example.com").await.status, 401);
        let gone = services.users(Method::GET, "/users/me", &tokens[3]["access_token"], None).await;
        assert_eq!((gone.status.as_u16(), gone.code()), (401, "account_deleted"));
        // A deletion at the auth service still reaches the user service by its cursor.
        let delete = services.auth.request(Method::POST, "/auth/account/delete");
        let delete = delete.bearer_auth(tokens[2]["access_token"].as_str().unwrap());
        let deleted = send(delete.json(&json!({"current_password": PASSWORD}))).await;
        assert_eq!(deleted.status, 204, "{}", deleted.text);
        let path = format!("/users/{}", ids[2]);
        let followed = async {
            while services.users(Method::GET, &path, reader, None).await.status != 404 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), followed).await.unwrap();
        services.stop().await;

        // The destination has been used: the source is not written over it.
        let (status, told) = move_databases(&from, &to);
        assert_eq!(status, Some(1), "{told}");
        assert!(told.contains("holds other data"), "{told}");
    }
}

/// What migrations add must be movable: this fails where a table or a column is not the same on both
/// engines, or is of a type that `sql_kit::transfer` does not know.
#[tokio::test]
async fn every_table_and_column_that_a_migration_makes_is_moved() {
    let services: [(&str, &Migrations, &[&str]); 2] = [
        (auth_service::NAME, &auth_service::store::MIGRATIONS, &["accounts", "sessions", "mails"]),
        (
            user_service::NAME,
            &user_service::store::MIGRATIONS,
            &["profiles", "tombstones", "outbox"],
        ),
    ];
    for (name, migrations, tables) in services {
        for (one, other) in ENGINES.iter().flat_map(|one| ENGINES.map(|other| (*one, other))) {
            let (from, to) = (TestDatabase::create(one).await, TestDatabase::create(other).await);
            let (source, destination): (Database, Database) =
                (from.url.parse().unwrap(), to.url.parse().unwrap());
            let sql = sql_kit::Sql::open(&source, test_kit::pool_options()).unwrap();
            sql.migrate(migrations).await.unwrap();
            sql.close().await;
            let prepared = Transfer::prepare(name, &source, &destination, migrations).await;
            let moved = prepared.unwrap().run(&mut |_| {}).await.unwrap();
            for table in tables {
                assert!(moved.iter().any(|moved| moved.name == *table), "{table} of {name}");
            }
        }
    }
}
