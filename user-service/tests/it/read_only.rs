//! A database that takes no writes still serves reads.

use latchkey_contracts::user::v1::GetUserRequest;
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use test_kit::{Engine, TestDatabase, send};
use user_service::config;
use uuid::Uuid;

use crate::support::{Person, Running, on_both_engines, open_store, outcome};

on_both_engines!(a_put_that_waits_for_its_body_does_not_bring_an_old_email_back);

/// As it is after a failover behind one name, until somebody promotes the server.
async fn set_read_only(database: &TestDatabase, value: &str) {
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let own = "SET default_transaction_read_only = off";
    sqlx::query(own).execute(&mut connection).await.unwrap();
    let (_, name) = database.url.rsplit_once('/').unwrap();
    let statement = format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_and_only_what_has_to_write_is_refused() {
    let database = TestDatabase::create(Engine::Postgres).await;
    let service = Running::start_on(&database, &[]).await;
    let id = Uuid::now_v7();
    let (person, other, gone) =
        (Person::with(id, Some("old@example.com"), 100), Person::new(), Person::new());
    for each in [&person, &other, &gone] {
        assert_eq!(outcome(&service.get(each, each.id).await), "200");
    }
    assert_eq!(outcome(&service.delete(&gone).await), "204");
    service.stop().await;
    set_read_only(&database, "on").await;

    let unmigrated = [(sql_kit::settings::MIGRATE_ON_START, "false")];
    let service = Running::start_on(&database, &unmigrated).await;
    // Newer tokens, with the same email and with another one.
    for newer in [
        Person::with(id, Some("old@example.com"), 50),
        Person::with(id, Some("new@example.com"), 10),
    ] {
        let own = service.get(&newer, id).await;
        assert_eq!(
            (outcome(&own).as_str(), &own.json["email"]),
            ("200", &json!("old@example.com"))
        );
        assert_eq!(outcome(&service.get(&newer, other.id).await), "200");
        assert_eq!(outcome(&send(service.by(&newer, Method::GET, "/users")).await), "200");
        let missing = send(service.by(&newer, Method::GET, "/users/x")).await;
        assert_eq!(outcome(&missing), "400 validation_failed");
    }
    let mut users = service.users().await;
    let newest = Person::with(id, Some("new@example.com"), 5);
    users.get_user(newest.ask(GetUserRequest { id: "me".to_owned() })).await.unwrap();
    // Somebody's first request: others' profiles can be read, their own cannot be made.
    let fresh = Person::new();
    assert_eq!(outcome(&service.get(&fresh, other.id).await), "200");
    assert_eq!(outcome(&send(service.by(&fresh, Method::GET, "/users")).await), "200");
    assert_eq!(outcome(&service.get(&fresh, fresh.id).await), "503 database_unavailable");
    // Whoever was deleted stays so.
    assert_eq!(outcome(&service.get(&gone, other.id).await), "401 account_deleted");
    let put = service.put(&person, &json!({ "name": "a" })).await;
    assert_eq!(outcome(&put), "503 database_unavailable");
    assert_eq!(outcome(&service.delete(&person).await), "503 database_unavailable");

    // It takes writes again. Whoever comes often does not put off the next try for ever.
    set_read_only(&database, "off").await;
    let made = async {
        while outcome(&service.get(&fresh, fresh.id).await) != "200" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(15), made).await.unwrap();
}

async fn a_put_that_waits_for_its_body_does_not_bring_an_old_email_back(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let told = [(config::PROFILE_EMAIL_VISIBILITY, "owner")];
    let service = Running::start_on(&database, &told).await;
    let id = Uuid::now_v7();
    let first = Person::with(id, Some("a@example.com"), 300);
    let stale = Person::with(id, Some("stale@example.com"), 200);
    let newest = Person::with(id, Some("a@example.com"), 100);
    service.get(&first, id).await;
    // The body comes in two parts; in between a newer token confirms the email.
    let (parts, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = futures_util::stream::unfold(body, async |mut body| {
        body.recv().await.map(|part| (part, body))
    });
    let put = service
        .by(&first, Method::PUT, &first.path())
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(body));
    let put = tokio::spawn(send(put));
    parts.send(Ok(br#"{"name":"#.to_vec())).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(outcome(&service.get(&newest, id).await), "200");
    parts.send(Ok(br#""a"}"#.to_vec())).await.unwrap();
    drop(parts);
    assert_eq!(outcome(&put.await.unwrap()), "200");
    let after = service.get(&stale, id).await;
    assert_eq!((&after.json["email"], &after.json["name"]), (&json!("a@example.com"), &json!("a")));
    let stored = open_store(&database)
        .profiles(&[user_service::domain::UserId(id)])
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(stored.email.as_deref(), Some("a@example.com"));
}
