//! An upgrade replaces one replica after the other: an older one goes on beside a newer one, on the database
//! of the newer one.

use auth_service::store::{MIGRATIONS, Store, StoreError};
use serde_json::json;
use sql_kit::{Sql, transaction, values};
use test_kit::{ENGINES, migrations::assert_additive};

use crate::support::{PASSWORD, Running};

#[test]
fn migrations_only_add() {
    assert_additive(&MIGRATIONS);
}

/// What a version of the future may have done to the database.
const NEWER: [&str; 6] = [
    "ALTER TABLE accounts ADD COLUMN of_the_future text",
    "ALTER TABLE sessions ADD COLUMN of_the_future integer NOT NULL DEFAULT 0",
    "ALTER TABLE revocations ADD COLUMN of_the_future text",
    "ALTER TABLE login_failures ADD COLUMN of_the_future text",
    "CREATE TABLE of_the_future (id bigint PRIMARY KEY)",
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
     VALUES (9999, 'of the future', true, 'x', 0)",
];

#[tokio::test]
async fn a_running_replica_goes_on_with_a_newer_database() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        service.register("before@b.com").await;
        let body = json!({"email": "before@b.com", "password": PASSWORD, "offline_access": true});
        let session = service.rest.post("/auth/login", &body).await.json;

        let store =
            Store::open(&service.database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
        let sql = Sql::clone(&store);
        for statement in NEWER {
            transaction!(sql, |unit| unit.execute(statement, values![]).await).await.unwrap();
        }
        assert_eq!(store.check_migrated().await, Err(StoreError::Newer(9999)), "{engine:?}");
        store.close().await;

        // What is written and what is read, by a token from before and by one from after.
        let token = json!({"refresh_token": session["refresh_token"]});
        let refreshed = service.rest.post("/auth/refresh", &token).await;
        assert_eq!(refreshed.status, 200, "{engine:?}: {}", refreshed.text);
        service.register("after@b.com").await;
        service.login("after@b.com").await;
        let wrong = json!({"email": "after@b.com", "password": "wrong"});
        assert_eq!(service.rest.post("/auth/login", &wrong).await.status, 401);
        let token = json!({"refresh_token": refreshed.json["refresh_token"]});
        assert_eq!(service.rest.post("/auth/logout", &token).await.status, 204, "{engine:?}");
        let feed = service.rest.get("/.well-known/revocations").await;
        assert_eq!(feed.json["entries"].as_array().unwrap().len(), 1, "{engine:?}");
        // The checks look each second, and believe three failures.
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        assert_eq!(service.rest.get("/readyz").await.status, 200, "{engine:?}");
    }
}
