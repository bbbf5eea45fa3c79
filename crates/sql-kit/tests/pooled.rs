//! Behind a proxy that pools by transaction, two transactions in a row may have two servers.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use sql_kit::{Database, Migrations, Sql, migrator, read, transaction, values, write_one};
use sqlx::{Connection as _, PgConnection, Row as _};
use test_kit::{Engine, TestDatabase};

fn open(database: &TestDatabase) -> Sql {
    let options = sql_kit::PoolOptions { transaction_pooling: true, ..test_kit::pool_options() };
    Sql::open(&database.url.parse::<Database>().unwrap(), options).unwrap()
}

/// What each of our sessions has done last.
async fn last_statements(admin: &mut PgConnection) -> Vec<String> {
    let statement = "SELECT query FROM pg_stat_activity
        WHERE application_name = 'test' AND datname = current_database() AND state = 'idle'";
    let rows = sqlx::raw_sql(statement).fetch_all(admin).await.unwrap();
    rows.iter().map(|row| row.get("query")).collect()
}

#[tokio::test]
async fn a_check_is_one_transaction() {
    let database = TestDatabase::create(Engine::Postgres).await;
    let mut admin = PgConnection::connect(&database.url).await.unwrap();
    let list = [(1, "table", "CREATE TABLE t (n bigint)")];
    let ours = Migrations { postgres: migrator(&list), sqlite: migrator(&list) };
    let sql = open(&database);
    for _ in 0..2 {
        sql.ping().await.unwrap();
        assert_eq!(last_statements(&mut admin).await, ["COMMIT"], "a sign of life");
        assert_eq!(sql.migration_states(&ours).await.unwrap().len(), 1);
        assert_eq!(last_statements(&mut admin).await, ["COMMIT"], "the migrations");
    }
}

#[tokio::test]
async fn nothing_is_left_to_the_next_client() {
    let database = TestDatabase::create(Engine::Postgres).await;
    let mut admin = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (n bigint)").execute(&mut admin).await.unwrap();
    let sql = open(&database);
    sql.ping().await.unwrap();
    write_one!(sql, |unit| unit.execute("INSERT INTO t VALUES ($1)", values![1]).await)
        .await
        .unwrap();
    transaction!(sql, |unit| unit.execute("INSERT INTO t VALUES ($1)", values![2]).await)
        .await
        .unwrap();
    let (prepared, timeout): (i64, String) = read!(sql, |unit| {
        let statement =
            "SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name <> '') AS prepared,
            current_setting('statement_timeout') AS timeout";
        let row = unit.fetch_one(statement, values![]).await?;
        Ok((row.get("prepared")?, row.get("timeout")?))
    })
    .await
    .unwrap();
    assert_eq!((prepared, timeout.as_str()), (0, "5s"));
    // What is set ends with its transaction.
    let after = transaction!(sql, |unit| {
        unit.execute("COMMIT", values![]).await?;
        unit.fetch_one("SELECT current_setting('statement_timeout') AS timeout", values![])
            .await?
            .get::<String>("timeout")
    });
    assert_eq!(after.await.unwrap(), "0");
}
