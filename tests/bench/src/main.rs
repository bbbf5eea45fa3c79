//! What the benchmarks need beside the services themselves.
//!
//! `bench static ADDRESS GRPC_ADDRESS` answers `GET /users/{id}` and `GetUser` with one and the same
//! profile: what HTTP and the frameworks cost, without a database.
//!
//! `bench floor ADDRESS` answers `GET /users/{id}` with nothing but axum and one read through an
//! sqlx pool: no token, no log, no rules. It is what the service's own answer is compared to.
//!
//! `bench floor-update ADDRESS` answers `POST /auth/refresh` with nothing but axum and one UPDATE of one
//! row through an sqlx pool. It is what a refresh is compared to.
//!
//! `bench paced ADDRESS PATH RATE SECONDS` asks for a path at a fixed rate, with the bearer token in `TOKEN`.
//!
//! `bench page-token N` prints the page token of the place right after the profile number N.
//!
//! `floor`, `floor-update` and `page-token` take the database from `DATABASE_URL`.

mod fixed;
mod paced;
mod update;

use std::{error::Error, io::Write as _, net::SocketAddr, str::FromStr as _, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
    serve::ListenerExt as _,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{
    Connection as _, PgConnection, PgPool, Row as _, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::net::TcpListener;
use user_service::{
    domain::UserId,
    page_token::{Cursor, PageKey},
};
use uuid::Uuid;

/// The defaults of the service's own pool.
const CONNECTIONS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(3);

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Serialize)]
struct Profile {
    id: Uuid,
    name: String,
    bio: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["static", rest, grpc] => fixed::serve(rest.parse()?, grpc.parse()?).await,
        ["floor", address] => floor(address.parse()?, &database_url()?).await,
        ["floor-update", address] => update::floor(address.parse()?, &database_url()?).await,
        ["paced", address, path, rate, seconds] => {
            let (address, rate, seconds) = (address.parse()?, rate.parse()?, seconds.parse()?);
            // Its threads block; nothing else runs here.
            paced::run(address, path, token().as_deref(), rate, seconds)
        }
        ["page-token", number] => {
            let token = page_token(number.parse()?, &database_url()?).await?;
            Ok(writeln!(std::io::stdout(), "{token}")?)
        }
        _ => Err(
            "usage: bench static ADDRESS GRPC_ADDRESS | floor ADDRESS | floor-update ADDRESS | \
                   paced ADDRESS PATH RATE SECONDS | page-token N"
                .into(),
        ),
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool with few settings")]
fn token() -> Option<String> {
    std::env::var("TOKEN").ok()
}

#[expect(clippy::disallowed_methods, reason = "a tool with few settings")]
fn database_url() -> Result<String, Failure> {
    std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set".into())
}

/// Serves there, with sockets set as the services set theirs.
async fn serve(address: SocketAddr, router: Router) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        // A failure only costs latency.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

async fn floor(address: SocketAddr, url: &str) -> Result<(), Failure> {
    let router = if url.starts_with("sqlite:") {
        let connect = SqliteConnectOptions::from_str(url)?
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(connect)
            .await?;
        Router::new().route("/users/{id}", get(read_sqlite)).with_state(pool)
    } else {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .connect(url)
            .await?;
        Router::new().route("/users/{id}", get(read_postgres)).with_state(pool)
    };
    serve(address, router).await
}

async fn read_postgres(
    State(pool): State<PgPool>,
    Path(id): Path<Uuid>,
) -> Result<Json<Profile>, StatusCode> {
    let read = async {
        let row = sqlx::query(
            "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
             FROM profiles WHERE id = $1",
        )
        .bind(id)
        .fetch_one(&pool)
        .await?;
        Ok(Profile {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            bio: row.try_get("bio")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    };
    answer(read.await)
}

async fn read_sqlite(
    State(pool): State<SqlitePool>,
    Path(id): Path<Uuid>,
) -> Result<Json<Profile>, StatusCode> {
    let read = async {
        let row = sqlx::query(
            "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
             FROM profiles WHERE id = ?",
        )
        .bind(id)
        .fetch_one(&pool)
        .await?;
        let time = |column| {
            DateTime::from_timestamp_micros(row.try_get(column)?)
                .ok_or_else(|| sqlx::Error::Decode("a time is out of range".into()))
        };
        Ok(Profile {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            bio: row.try_get("bio")?,
            created_at: time("created_at")?,
            updated_at: time("updated_at")?,
        })
    };
    answer(read.await)
}

fn answer(read: Result<Profile, sqlx::Error>) -> Result<Json<Profile>, StatusCode> {
    read.map(Json).map_err(|error| match error {
        sqlx::Error::RowNotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

async fn page_token(number: i64, url: &str) -> Result<String, Failure> {
    let mut connection = PgConnection::connect(url).await?;
    let key: Vec<u8> = sqlx::query_scalar("SELECT value FROM secrets WHERE name = 'page-token'")
        .fetch_one(&mut connection)
        .await?;
    let row = sqlx::query(
        "SELECT created_at, id FROM profiles ORDER BY created_at, id OFFSET $1 - 1 LIMIT 1",
    )
    .bind(number)
    .fetch_one(&mut connection)
    .await?;
    let cursor = Cursor { created_at: row.try_get("created_at")?, id: UserId(row.try_get("id")?) };
    Ok(PageKey::new(&key).seal(cursor))
}
