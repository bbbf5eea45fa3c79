//! Connections of Postgres that are borrowed one after the other.
#![expect(clippy::panic, reason = "tests fail by panicking")]

use std::time::Duration;

use sql_kit::{Connections, Database, OPERATION_TIMEOUT, Postgres, StoreError};
use sqlx::{Connection as _, PgConnection};
use test_kit::{Engine, TestDatabase};

/// Longer than a connection stays where the next operation finds it.
const A_WHILE: Duration = Duration::from_millis(500);

async fn open(max_connections: u32) -> (Postgres, TestDatabase) {
    let database = TestDatabase::create(Engine::Postgres).await;
    let Ok(Database::Postgres(hosts)) = database.url.parse() else {
        panic!("the URL of a Postgres database");
    };
    let options = test_kit::pool_options();
    (Postgres::open(hosts, sql_kit::PoolOptions { max_connections, ..options }), database)
}

/// Which process of the server works for us.
async fn backend(postgres: &Postgres) -> Result<i32, StoreError> {
    postgres
        .bounded(async {
            let mut lease = postgres.lease().await?;
            let id =
                postgres.query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *lease).await?;
            lease.done();
            Ok(id)
        })
        .await
}

#[tokio::test]
async fn operations_that_follow_each_other_share_a_connection() {
    let (postgres, _database) = open(8).await;
    let first = backend(&postgres).await.unwrap();
    for _ in 0..20 {
        assert_eq!(backend(&postgres).await, Ok(first));
        assert_eq!(postgres.connections(), Connections { idle: 1, used: 0 });
    }
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(postgres.connections(), Connections { idle: 1, used: 0 });
    assert_eq!(backend(&postgres).await, Ok(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_connection_gets_it_from_those_who_never_rest() {
    let (postgres, _database) = open(1).await;
    backend(&postgres).await.unwrap();
    let restless = tokio::spawn({
        let postgres = postgres.clone();
        async move {
            loop {
                backend(&postgres).await.unwrap();
            }
        }
    });
    let others = (0..20).map(|_| backend(&postgres));
    let others = tokio::time::timeout(A_WHILE, futures_util::future::join_all(others)).await;
    assert!(others.unwrap().iter().all(Result::is_ok));
    assert!(!restless.is_finished());
    restless.abort();
}

#[tokio::test]
async fn an_operation_given_up_half_way_spoils_no_later_one() {
    let (postgres, _database) = open(1).await;
    backend(&postgres).await.unwrap();
    let sleep = postgres.bounded(async {
        let mut lease = postgres.lease().await?;
        let slept = postgres.query("SELECT 42, pg_sleep(0.3)").fetch_all(&mut *lease).await?;
        lease.done();
        Ok(slept.len())
    });
    assert!(tokio::time::timeout(Duration::from_millis(50), sleep).await.is_err());
    for _ in 0..3 {
        assert!(backend(&postgres).await.unwrap() > 42);
    }
}

#[tokio::test]
async fn a_session_that_the_server_has_ended_costs_one_operation_at_most() {
    let (postgres, database) = open(1).await;
    let id = backend(&postgres).await.unwrap();
    let mut other = PgConnection::connect(&database.url).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend($1)").bind(id).execute(&mut other).await.unwrap();
    let _ = backend(&postgres).await;
    assert_ne!(backend(&postgres).await.unwrap(), id);
}

#[tokio::test]
async fn closing_ends_the_connections_that_are_kept_too() {
    let (postgres, _database) = open(2).await;
    backend(&postgres).await.unwrap();
    tokio::time::timeout(OPERATION_TIMEOUT, postgres.close()).await.unwrap();
    assert_eq!(postgres.connections(), Connections { idle: 0, used: 0 });
    assert!(backend(&postgres).await.is_err());
}
