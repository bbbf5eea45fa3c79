//! What a Postgres database is assumed to be, and what becomes of connections when it changes.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::{Duration, Instant};

use sql_kit::{
    Database, Migrations, Sql, StoreError, migrator, read, transaction, values, write_one,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use test_kit::{Engine, TestDatabase};

/// A database, an administrator's connection to its server, and its name.
async fn create() -> (TestDatabase, PgConnection, String) {
    let database = TestDatabase::create(Engine::Postgres).await;
    let admin = PgConnection::connect(&database.url).await.unwrap();
    let name = database.url.rsplit('/').next().unwrap().to_owned();
    (database, admin, name)
}

async fn execute(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap();
}

fn open(url: &str) -> Sql {
    let options = test_kit::pool_options();
    let options = sql_kit::PoolOptions { acquire_timeout: Duration::from_secs(1), ..options };
    Sql::open(&url.parse::<Database>().unwrap(), options).unwrap()
}

async fn insert(sql: &Sql, number: i64) -> Result<u64, StoreError> {
    write_one!(sql, |unit| unit.execute("INSERT INTO t VALUES ($1)", values![number]).await).await
}

async fn count(sql: &Sql) -> Result<i64, StoreError> {
    read!(sql, |unit| unit.fetch_one("SELECT count(*) AS n FROM t", values![]).await?.get("n"))
        .await
}

async fn setting(sql: &Sql, name: &str) -> String {
    read!(sql, |unit| {
        unit.fetch_one("SELECT current_setting($1) AS value", values![name]).await?.get("value")
    })
    .await
    .unwrap()
}

/// Ends the sessions of everybody else.
async fn cut(admin: &mut PgConnection, name: &str) {
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    );
    execute(admin, &cut).await;
}

#[tokio::test]
async fn a_session_is_set_to_what_the_statements_are_written_for() {
    let (database, mut admin, name) = create().await;
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "synchronous_commit = off",
        "statement_timeout = 0",
        "standard_conforming_strings = off",
        "timezone = 'Asia/Kathmandu'",
        "client_encoding = 'LATIN1'",
        "search_path = pg_temp, other, public",
    ] {
        execute(&mut admin, &format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    execute(&mut admin, "CREATE SCHEMA other").await;
    let sql = open(&database.url);
    for (name, value) in [
        ("default_transaction_isolation", "read committed"),
        ("synchronous_commit", "on"),
        ("statement_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("standard_conforming_strings", "on"),
        ("timezone", "UTC"),
        ("client_encoding", "UTF8"),
        ("search_path", "other, pg_temp"),
    ] {
        assert_eq!(setting(&sql, name).await, value, "{name}");
    }
    // What is set more strictly than needed stays.
    execute(&mut admin, &format!("ALTER DATABASE {name} SET synchronous_commit = remote_apply"))
        .await;
    assert_eq!(setting(&open(&database.url), "synchronous_commit").await, "remote_apply");
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_writes_of_one_row_all_succeed_whatever_the_default_isolation_is() {
    for isolation in ["repeatable read", "serializable"] {
        let (database, mut admin, name) = create().await;
        let set =
            format!("ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'");
        execute(&mut admin, &set).await;
        execute(&mut admin, "CREATE TABLE t (n bigint); INSERT INTO t VALUES (0)").await;
        let sql = open(&database.url);
        let writers = (0..20).map(|_| async {
            transaction!(sql, |unit| {
                unit.fetch_one("SELECT n FROM t", values![]).await?;
                unit.execute("UPDATE t SET n = n + 1", values![]).await
            })
            .await
        });
        for written in futures_util::future::join_all(writers).await {
            assert_eq!(written, Ok(1), "{isolation}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_server_gives_up_is_done_again() {
    let (database, mut admin, _) = create().await;
    execute(&mut admin, "CREATE TABLE t (n bigint); INSERT INTO t VALUES (0)").await;
    let sql = open(&database.url);
    let writers = (0..8).map(|_| async {
        transaction!(sql, |unit| {
            unit.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", values![]).await?;
            let n: i64 = unit.fetch_one("SELECT n FROM t", values![]).await?.get("n")?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            unit.execute("UPDATE t SET n = $1", values![n + 1]).await
        })
        .await
    });
    for written in futures_util::future::join_all(writers).await {
        assert_eq!(written, Ok(1));
    }
    let n: i64 = sqlx::query_scalar("SELECT n FROM t").fetch_one(&mut admin).await.unwrap();
    assert_eq!(n, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_or_a_transaction_does_not_fail_for_a_connection_that_was_cut() {
    let (database, mut admin, name) = create().await;
    execute(&mut admin, "CREATE TABLE t (n bigint)").await;
    let sql = open(&database.url);
    for _ in 0..3 {
        let eight = (0..8).map(|_| async {
            read!(sql, |unit| unit.execute("SELECT pg_sleep(0.05)", values![]).await).await
        });
        assert!(futures_util::future::join_all(eight).await.iter().all(Result::is_ok));
        assert_eq!(sql.connections().idle, 8);
        cut(&mut admin, &name).await;
        // The one that finds out, and those whose connections died at the same time.
        transaction!(sql, |unit| unit.execute("INSERT INTO t VALUES (1)", values![]).await)
            .await
            .unwrap();
        for number in 0..8 {
            insert(&sql, number).await.unwrap();
        }
        assert!(sql.connections().idle < 8, "the others were used");
    }
    // A single statement that writes may have been carried out: it is not repeated, and the next is fine.
    cut(&mut admin, &name).await;
    let _ = insert(&sql, 1).await;
    insert(&sql, 2).await.unwrap();
}

#[tokio::test]
async fn connections_to_a_server_that_takes_no_writes_are_left_at_once() {
    let (database, mut admin, name) = create().await;
    execute(&mut admin, "CREATE TABLE t (n bigint)").await;
    let sql = open(&database.url);
    insert(&sql, 1).await.unwrap();
    sql.ping().await.unwrap();

    // As after a failover behind one name: new sessions are read-only for a while.
    execute(&mut admin, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await;
    cut(&mut admin, &name).await;
    assert_eq!(count(&sql).await, Ok(1), "reads go on");
    assert_eq!(insert(&sql, 2).await, Err(StoreError::Unavailable));
    assert_eq!(sql.ping().await, Err(StoreError::ReadOnly));
    let started = Instant::now();
    assert_eq!(insert(&sql, 2).await, Err(StoreError::Unavailable));
    assert!(started.elapsed() < Duration::from_millis(500), "no request waits for a failover");

    execute(&mut admin, &format!("ALTER DATABASE {name} RESET default_transaction_read_only"))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    insert(&sql, 2).await.unwrap();
    sql.ping().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..10 {
        assert_eq!(count(&sql).await, Ok(2 + number));
        insert(&sql, number).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_turns_read_only_costs_no_answer() {
    let (database, mut admin, _) = create().await;
    execute(&mut admin, "CREATE TABLE t (n bigint)").await;
    let sql = open(&database.url);
    insert(&sql, 1).await.unwrap();
    read!(sql, |unit| unit.execute("SET default_transaction_read_only = on", values![]).await)
        .await
        .unwrap();
    insert(&sql, 2).await.unwrap();
    assert_eq!(count(&sql).await, Ok(2));
}

#[tokio::test]
async fn whatever_keeps_us_from_connecting_the_database_is_away() {
    let (database, mut admin, name) = create().await;
    let role = format!("r_{name}");
    execute(&mut admin, &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).await;
    execute(&mut admin, &format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")).await;
    let (start, rest) = database.url.split_once("://").unwrap();
    let address = rest.split_once('@').unwrap().1;
    let of_role = |password: &str| format!("{start}://{role}:{password}@{address}");
    let ping = async |url: &str| open(url).ping().await;

    assert_eq!(ping(&of_role("x")).await, Err(StoreError::Unavailable), "42501");
    execute(&mut admin, &format!("GRANT CONNECT ON DATABASE {name} TO {role}")).await;
    assert_eq!(ping(&of_role("x")).await, Ok(()));
    assert_eq!(ping(&of_role("y")).await, Err(StoreError::Unavailable), "28P01");
    assert_eq!(ping(&database.url.replace(&name, "no_such")).await, Err(StoreError::Unavailable));
    let mut other = PgConnection::connect(&database.url.replace(&name, "postgres")).await.unwrap();
    execute(&mut other, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    let sql = open(&of_role("x"));
    assert_eq!(sql.ping().await, Err(StoreError::Unavailable), "55000");
    let answer = read!(sql, |unit| unit.execute("SELECT 1", values![]).await).await;
    assert_eq!(answer, Err(StoreError::Unavailable), "55000");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused_with_the_reason() {
    let (database, mut admin, name) = create().await;
    let latin = format!("{name}_latin");
    let create = format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    execute(&mut admin, &create).await;
    match open(&database.url.replace(&name, &latin)).ping().await {
        Err(StoreError::Unusable(text)) => {
            assert!(text.contains("LATIN1") && text.contains(&latin), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_check_needs_no_connection_of_the_pool() {
    let (database, mut admin, _) = create().await;
    let sql = open(&database.url);
    let eight = (0..8).map(|_| async {
        read!(sql, |unit| unit.execute("SELECT pg_sleep(1)", values![]).await).await
    });
    let check = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let started = Instant::now();
        sql.ping().await.unwrap();
        started.elapsed()
    };
    let (_, took) = tokio::join!(futures_util::future::join_all(eight), check);
    assert!(took < Duration::from_millis(400), "{took:?}");
    // One that the server has ended costs no failed check.
    execute(
        &mut admin,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'
            AND datname = current_database()",
    )
    .await;
    sql.ping().await.unwrap();
    assert!(sql.clock().offset().abs() < chrono::TimeDelta::seconds(2));
}

fn migrations(list: &[sql_kit::MigrationSource]) -> Migrations {
    Migrations { postgres: migrator(list), sqlite: migrator(list) }
}

const TABLE: sql_kit::MigrationSource = (1, "table", "CREATE TABLE t (n bigint)");

#[tokio::test]
async fn a_migration_may_take_longer_than_any_statement_of_a_request() {
    let (database, _admin, _) = create().await;
    let sql = open(&database.url);
    let slow = migrations(&[TABLE, (2, "slow", "SELECT pg_sleep(6)")]);
    let done = sql.run_migrations(&slow).await.unwrap();
    assert_eq!(done.iter().map(|one| one.version).collect::<Vec<_>>(), [1, 2]);
    assert!(done[1].took >= Duration::from_secs(6));
    assert_eq!(sql.run_migrations(&slow).await, Ok(Vec::new()));
}

#[tokio::test]
async fn an_index_is_built_concurrently_while_others_wait_and_after_a_failure() {
    let (database, mut admin, _) = create().await;
    let (one, other) = (open(&database.url), open(&database.url));
    one.run_migrations(&migrations(&[TABLE])).await.unwrap();
    execute(&mut admin, "INSERT INTO t VALUES (1), (1)").await;
    let index = "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n)";
    let both = migrations(&[TABLE, (2, "index", index)]);
    match one.run_migrations(&both).await {
        Err(StoreError::Migration { version: 2, said }) => {
            assert!(said.contains("23505"), "{said}")
        }
        other => panic!("{other:?}"),
    }
    // Now there is an index that does not hold; it is made anew, and by one of two.
    execute(&mut admin, "DELETE FROM t").await;
    let (first, second) = tokio::join!(one.run_migrations(&both), other.run_migrations(&both));
    assert_eq!(first.unwrap().len() + second.unwrap().len(), 1);
    let is_valid: bool =
        sqlx::query_scalar("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_n'::regclass")
            .fetch_one(&mut admin)
            .await
            .unwrap();
    assert!(is_valid);
    let states =
        one.migration_states(&migrations(&[TABLE, (3, "more", "SELECT 1")])).await.unwrap();
    let states: Vec<_> =
        states.iter().map(|state| (state.version, state.is_applied, state.is_known)).collect();
    assert_eq!(states, [(1, true, true), (2, true, false), (3, false, true)]);
}

#[tokio::test]
async fn a_migration_gives_way_to_whoever_has_the_table_and_succeeds_after() {
    let (database, mut admin, _) = create().await;
    let sql = open(&database.url);
    sql.run_migrations(&migrations(&[TABLE])).await.unwrap();
    execute(&mut admin, "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE").await;
    let altered = migrations(&[TABLE, (2, "column", "ALTER TABLE t ADD COLUMN m text")]);
    let release = async {
        tokio::time::sleep(Duration::from_millis(4500)).await;
        execute(&mut admin, "COMMIT").await;
    };
    let (done, ()) = tokio::join!(sql.run_migrations(&altered), release);
    assert_eq!(done.unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_written_where_no_migration_is_missing() {
    let (database, mut admin, name) = create().await;
    let ours = migrations(&[TABLE]);
    open(&database.url).run_migrations(&ours).await.unwrap();
    execute(&mut admin, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await;
    assert_eq!(open(&database.url).run_migrations(&ours).await, Ok(Vec::new()));
    let more = migrations(&[TABLE, (2, "more", "SELECT 1")]);
    assert_eq!(open(&database.url).run_migrations(&more).await, Err(StoreError::ReadOnly));
}
