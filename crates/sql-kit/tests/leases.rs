//! Connections of Postgres that are borrowed one after the other.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use sql_kit::{Connections, Database, OPERATION_TIMEOUT, Sql, StoreError, read, values};
use sqlx::{Connection as _, PgConnection};
use test_kit::{Engine, TestDatabase};

const A_WHILE: Duration = Duration::from_millis(500);

async fn open(max_connections: u32) -> (Sql, TestDatabase) {
    let database = TestDatabase::create(Engine::Postgres).await;
    let options = sql_kit::PoolOptions { max_connections, ..test_kit::pool_options() };
    let sql = Sql::open(&database.url.parse::<Database>().unwrap(), options).unwrap();
    (sql, database)
}

/// Which process of the server works for us.
async fn backend(sql: &Sql) -> Result<i64, StoreError> {
    read!(sql, |unit| {
        unit.fetch_one("SELECT pg_backend_pid() AS id", values![]).await?.get::<i64>("id")
    })
    .await
}

#[tokio::test]
async fn operations_that_follow_each_other_share_a_connection() {
    let (sql, _database) = open(8).await;
    let first = backend(&sql).await.unwrap();
    for _ in 0..20 {
        assert_eq!(backend(&sql).await, Ok(first));
        assert_eq!(sql.connections(), Connections { idle: 1, used: 0 });
    }
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sql.connections(), Connections { idle: 1, used: 0 });
    assert_eq!(backend(&sql).await, Ok(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_connection_gets_it_from_those_who_never_rest() {
    let (sql, _database) = open(1).await;
    backend(&sql).await.unwrap();
    let restless = tokio::spawn({
        let sql = sql.clone();
        async move {
            loop {
                backend(&sql).await.unwrap();
            }
        }
    });
    let others = (0..20).map(|_| backend(&sql));
    let others = tokio::time::timeout(A_WHILE, futures_util::future::join_all(others)).await;
    assert!(others.unwrap().iter().all(Result::is_ok));
    assert!(!restless.is_finished());
    restless.abort();
}

#[tokio::test]
async fn an_operation_given_up_half_way_spoils_no_later_one() {
    let (sql, _database) = open(1).await;
    backend(&sql).await.unwrap();
    let sleep = read!(sql, |unit| unit.fetch_all("SELECT 42, pg_sleep(0.3)", values![]).await);
    assert!(tokio::time::timeout(Duration::from_millis(50), sleep).await.is_err());
    for _ in 0..3 {
        assert!(backend(&sql).await.unwrap() > 42);
    }
}

#[tokio::test]
async fn a_session_that_the_server_has_ended_costs_no_answer() {
    let (sql, database) = open(1).await;
    let id = backend(&sql).await.unwrap();
    let mut other = PgConnection::connect(&database.url).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend($1::int)").bind(id).execute(&mut other).await.unwrap();
    assert_ne!(backend(&sql).await.unwrap(), id);
}

#[tokio::test]
async fn closing_ends_the_connections_that_are_kept_too() {
    let (sql, _database) = open(2).await;
    backend(&sql).await.unwrap();
    tokio::time::timeout(OPERATION_TIMEOUT, sql.close()).await.unwrap();
    assert_eq!(sql.connections(), Connections { idle: 0, used: 0 });
    assert!(backend(&sql).await.is_err());
}
