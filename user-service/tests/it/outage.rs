//! What happens while the database or the keys are away.

use std::time::{Duration, Instant};

use latchkey_contracts::user::v1::ListUsersRequest;
use test_kit::{Engine, TestDatabase};
use tokio::net::TcpListener;
use tonic::Code;
use user_service::{App, config};

use crate::support::{Person, Running, execute, open_store, outcome, proxy::Proxy, settings};

/// The address in a Postgres URL.
pub(crate) fn host_and_port(url: &str) -> &str {
    url.split(['@', '/']).find(|part| part.contains(':') && !part.contains("postgres")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_is_given_up_and_taken_up_again() {
    let mut database = TestDatabase::create(Engine::Postgres).await;
    let target = host_and_port(&database.url).to_owned();
    let proxy = Proxy::to(target.clone()).await;
    database.url = database.url.replace(&target, &proxy.address.to_string());
    let service = Running::start_on(&database, &[]).await;
    let person = Person::new();
    assert_eq!(outcome(&service.get(&person, person.id).await), "200");

    proxy.pause(true);
    let started = Instant::now();
    let answers = (0..20).map(|_| service.get(&person, person.id));
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!(outcome(&answer), "503 database_unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let not_ready = async {
        loop {
            let health = service.rest.get("/readyz").await;
            if health.status == 503 {
                break health;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let left = Duration::from_secs(10).saturating_sub(started.elapsed());
    let health = tokio::time::timeout(left, not_ready).await.expect("not ready within 10 s");
    assert_eq!(health.json["checks"]["database"]["status"], "unavailable");
    assert_eq!(health.json["checks"]["signing_keys"]["status"], "ok");
    assert_eq!(service.rest.get("/livez").await.status, 200);
    let mut users = service.users().await;
    let refused = users.list_users(person.ask(ListUsersRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    proxy.pause(false);
    service.ready(Duration::from_secs(10)).await;
    for _ in 0..20 {
        assert_eq!(outcome(&service.get(&person, person.id).await), "200");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_without_its_database_and_waits_for_it() {
    let database = TestDatabase::create(Engine::Postgres).await;
    let target = host_and_port(&database.url).to_owned();
    // Nothing listens there until later.
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let url = database.url.replace(&target, &address.to_string());
    let service = Running::start_unready(settings(&url, &[])).await;
    assert_eq!(service.rest.get("/livez").await.status, 200);
    assert_eq!(service.rest.get("/readyz").await.status, 503);
    let person = Person::new();
    assert_eq!(outcome(&service.get(&person, person.id).await), "503 database_unavailable");
    // A wrong token is told without the database.
    let request = service.rest.request(reqwest::Method::GET, "/users").bearer_auth("x");
    assert_eq!(outcome(&test_kit::send(request).await), "401 invalid_token");

    let listener = TcpListener::bind(address).await.unwrap();
    let _proxy = Proxy::on(listener, target);
    service.ready(Duration::from_secs(15)).await;
    assert_eq!(outcome(&service.get(&person, person.id).await), "200");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_signing_keys_the_service_is_live_and_not_ready() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let mut source = service_kit::settings::Source::default();
    source.set(&config::HTTP_ADDR, "127.0.0.1:0");
    source.set(&config::GRPC_ADDR, "127.0.0.1:0");
    source.set(&config::ADMIN_ADDR, "off");
    source.set(&config::DATABASE_URL, database.url.clone());
    // Discard: nobody listens there.
    source.set(&config::JWKS_URL, "http://127.0.0.1:9/jwks.json");
    let settings = config::Settings::read(&mut source).unwrap();
    let service = Running::start_unready(settings).await;
    let person = Person::new();
    let answer = service.get(&person, person.id).await;
    assert_eq!(outcome(&answer), "503 signing_keys_unavailable");
    assert_eq!(service.rest.get("/livez").await.status, 200);
    let health = service.rest.get("/health").await;
    assert_eq!(health.status, 503);
    assert_eq!(health.json["checks"]["signing_keys"]["status"], "unavailable");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_ends_the_start() {
    for engine in test_kit::ENGINES {
        let database = TestDatabase::create(engine).await;
        open_store(&database).migrate().await.unwrap();
        let copy = "INSERT INTO _sqlx_migrations
                    SELECT 99, description, installed_on, success, checksum, execution_time
                    FROM _sqlx_migrations WHERE version = 1";
        execute(&database, copy).await;
        let shutdown = tokio_util::sync::CancellationToken::new();
        let refused = App::build(settings(&database.url, &[]), shutdown).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("migration 99") && text.contains("newer"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_migrating_at_start_an_empty_database_ends_it() {
    for engine in test_kit::ENGINES {
        let database = TestDatabase::create(engine).await;
        let given = [(sql_kit::settings::MIGRATE_ON_START, "false")];
        let shutdown = tokio_util::sync::CancellationToken::new();
        let refused = App::build(settings(&database.url, &given), shutdown).await.unwrap_err();
        assert!(refused.to_string().contains("migrate subcommand"), "{refused}");
        open_store(&database).migrate().await.unwrap();
        let service = Running::start_on(&database, &given).await;
        service.stop().await;
    }
}
