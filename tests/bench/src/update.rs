//! The floor of a refresh: one UPDATE of one row by its key, made durable, and nothing else.

use std::{net::SocketAddr, str::FromStr as _};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde::{Deserialize, Serialize};
use sqlx::{
    PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{CONNECTIONS, Failure, PATIENCE, serve};

/// How many rows there are. A request names one of them where a refresh has its token.
const ROWS: i64 = 1024;
const TABLE: &str = "CREATE TABLE IF NOT EXISTS bare_rows (id bigint PRIMARY KEY, number bigint)";
const UPDATE: &str = "UPDATE bare_rows SET number = number + 1 WHERE id = $1";

#[derive(Serialize, Deserialize)]
struct Body {
    refresh_token: String,
}

/// Makes the rows and serves `POST /auth/refresh`.
pub(crate) async fn floor(address: SocketAddr, url: &str) -> Result<(), Failure> {
    let router = if url.starts_with("sqlite:") {
        let connect = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        // SQLite has one writer.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(connect)
            .await?;
        sqlx::query(TABLE).execute(&pool).await?;
        for id in 0..ROWS {
            sqlx::query("INSERT INTO bare_rows VALUES ($1, 0)").bind(id).execute(&pool).await?;
        }
        Router::new().route("/auth/refresh", post(update_sqlite)).with_state(pool)
    } else {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .connect(url)
            .await?;
        sqlx::query(TABLE).execute(&pool).await?;
        sqlx::query("INSERT INTO bare_rows SELECT n, 0 FROM generate_series(0, $1 - 1) AS n")
            .bind(ROWS)
            .execute(&pool)
            .await?;
        Router::new().route("/auth/refresh", post(update_postgres)).with_state(pool)
    };
    serve(address, router.route("/readyz", axum::routing::get(async || "ready"))).await
}

async fn update_postgres(
    State(pool): State<PgPool>,
    Json(body): Json<Body>,
) -> Result<Json<Body>, StatusCode> {
    let done = sqlx::query(UPDATE).bind(row(&body)?).execute(&pool).await;
    answer(body, done.map(|done| done.rows_affected()))
}

async fn update_sqlite(
    State(pool): State<SqlitePool>,
    Json(body): Json<Body>,
) -> Result<Json<Body>, StatusCode> {
    let done = sqlx::query(UPDATE).bind(row(&body)?).execute(&pool).await;
    answer(body, done.map(|done| done.rows_affected()))
}

fn row(body: &Body) -> Result<i64, StatusCode> {
    body.refresh_token.parse().map_err(|_| StatusCode::BAD_REQUEST)
}

fn answer(body: Body, changed: Result<u64, sqlx::Error>) -> Result<Json<Body>, StatusCode> {
    match changed {
        Ok(1) => Ok(Json(body)),
        Ok(_) => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
