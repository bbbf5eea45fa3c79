//! What the integration tests of both services share: a fresh database on each engine, a REST client
//! whose answers are easy to look at, and the checks of an OpenAPI document
//! and of migrations.
#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

pub mod migrations;
pub mod openapi;
pub mod pki;
pub mod process;

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// A database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file in a temporary folder.
    Sqlite,
    /// A new database on the server that `TEST_POSTGRES_URL` names.
    Postgres,
}

/// Both engines, for tests that run on each.
pub const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

/// An empty database of its own.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its `DATABASE_URL`.
    pub url: String,
    /// Removed with the last that shares it.
    folder: Arc<TempDir>,
}

impl TestDatabase {
    /// Makes one. A Postgres database stays behind: the server is as short-lived as the tests.
    ///
    /// # Panics
    ///
    /// Where there is no Postgres server: a test that is skipped in silence proves nothing.
    pub async fn create(engine: Engine) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = match engine {
            Engine::Sqlite => format!("sqlite://{}", folder.path().join("test.db").display()),
            Engine::Postgres => create_postgres().await,
        };
        Self { url, folder: Arc::new(folder) }
    }

    /// The same database once more, for a second service on it.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { url: self.url.clone(), folder: Arc::clone(&self.folder) }
    }

    /// A folder that lives as long as the database.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

async fn create_postgres() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests have no settings")]
    let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
        panic!("TEST_POSTGRES_URL is not set: run scripts/test, which starts a Postgres server");
    };
    let name = format!("test_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server)
        .await
        .expect("a connection to the server of TEST_POSTGRES_URL");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .expect("a new database");
    let (address, parameters) = server.split_once('?').unwrap_or((&server, ""));
    // postgres://user@host:port/database: what follows the third slash is replaced.
    let end = address.match_indices('/').nth(2).map_or(address.len(), |(at, _)| at);
    let separator = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{name}{separator}{parameters}", &address[..end])
}

/// The options of a store of tests.
#[must_use]
pub fn pool_options() -> sql_kit::PoolOptions {
    let mut source = service_kit::settings::Source::default();
    let settings = sql_kit::settings::PoolSettings::read(&mut source);
    sql_kit::PoolOptions::new("test", &settings, &service_kit::metrics::Metrics::default())
}

/// An answer over REST.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body; null where it is not JSON.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The stable code of an error.
    #[must_use]
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// A header field, or an empty text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A REST client of one service.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of the service at `address`.
    #[must_use]
    pub fn new(address: std::net::SocketAddr) -> Self {
        Self { base: format!("http://{address}"), http: reqwest::Client::new() }
    }

    /// Starts a request, to add to and then [`send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Posts a JSON value.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }
}

/// Sends a request.
///
/// # Panics
///
/// Where no answer comes.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    Answer { status, headers, json: serde_json::from_str(&text).unwrap_or(Value::Null), text }
}

/// A gRPC channel to the service at `address`.
///
/// # Panics
///
/// Where nothing listens there.
pub async fn channel(address: std::net::SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .expect("a URL")
        .connect()
        .await
        .expect("a connection")
}

/// Calls a gRPC method by hand and returns the header fields of the answer. For what a generated
/// client hides: its own deadline, or a message that is not one.
///
/// # Panics
///
/// Where no answer comes.
pub async fn raw_grpc(
    address: std::net::SocketAddr,
    path: &str,
    message: &[u8],
    headers: &[(&str, &str)],
) -> HeaderMap {
    let http = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    // Length-Prefixed-Message: not compressed, then the length.
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    let mut request = http
        .post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body([&[0], length.as_slice(), message].concat());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer").headers().clone()
}
