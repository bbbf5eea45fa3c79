//! What the integration tests of both services share: a fresh database on each engine, a REST client
//! with convenient responses, and checks of OpenAPI documents and migrations.
#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

pub mod migrations;
pub mod openapi;
pub mod pki;
pub mod process;
pub mod runtime;

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

/// An empty database for one test.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// Its `DATABASE_URL`.
    pub url: String,
    /// What is removed when the last owner is dropped.
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    folder: TempDir,
    /// On Postgres, the server and the name of the database.
    postgres: Option<(String, String)>,
}

impl TestDatabase {
    /// Creates a database.
    ///
    /// # Panics
    ///
    /// If there is no Postgres server, because a silently skipped test would prove nothing.
    pub async fn create(engine: Engine) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (url, postgres) = match engine {
            Engine::Sqlite => {
                (format!("sqlite://{}", folder.path().join("test.db").display()), None)
            }
            Engine::Postgres => {
                let (url, server, name) = create_postgres().await;
                (url, Some((server, name)))
            }
        };
        Self { url, files: Arc::new(Files { folder, postgres }) }
    }

    /// A directory that lives as long as the database.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.files.folder.path()
    }
}

/// Drops the database on Postgres, because the hundreds of a test run take 8 MB each.
impl Drop for Files {
    fn drop(&mut self) {
        let Some((server, name)) = self.postgres.take() else { return };
        // Nobody waits for the thread. Postgres answers only when each connection that is being made is
        // there or has failed, and those of this test need its runtime, which would wait here.
        drop(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // The service of the test may still have connections.
            let statement = format!("DROP DATABASE {name} WITH (FORCE)");
            runtime
                .expect("a runtime")
                .block_on(execute(&server, statement))
                .expect("the database of a test is dropped");
        }));
    }
}

async fn execute(server: &str, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(server).await?;
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// Returns the URL of the new database, that of the server and the name.
async fn create_postgres() -> (String, String, String) {
    #[expect(clippy::disallowed_methods, reason = "tests have no settings")]
    let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
        panic!("TEST_POSTGRES_URL is not set: run scripts/test, which starts a Postgres server");
    };
    let name = format!("test_{}", Uuid::new_v4().simple());
    execute(&server, format!("CREATE DATABASE {name}"))
        .await
        .expect("a new database on the server of TEST_POSTGRES_URL");
    let (address, parameters) = server.split_once('?').unwrap_or((&server, ""));
    // postgres://user@host:port/database: replace the part after the third slash.
    let end = address.match_indices('/').nth(2).map_or(address.len(), |(at, _)| at);
    let separator = if parameters.is_empty() { "" } else { "?" };
    let url = format!("{}/{name}{separator}{parameters}", &address[..end]);
    (url, server, name)
}

/// The connection pool options for tests.
#[must_use]
pub fn pool_options() -> sql_kit::PoolOptions {
    let mut source = service_kit::settings::Source::default();
    let settings = sql_kit::settings::PoolSettings::read(&mut source);
    sql_kit::PoolOptions::new("test", &settings, &service_kit::metrics::Metrics::default())
}

/// A REST response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body; null if it is not JSON.
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

    /// The value of a header, or an empty string.
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

    /// Starts a request, which can be extended and then passed to [`send`].
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
/// If there is no response.
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
/// If nothing listens there.
pub async fn channel(address: std::net::SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .expect("a URL")
        .connect()
        .await
        .expect("a connection")
}

/// Calls a gRPC method without a generated client and returns the headers of the response. It can
/// set what such a client would not send: any deadline, or an invalid message.
///
/// # Panics
///
/// If there is no response.
pub async fn raw_grpc(
    address: std::net::SocketAddr,
    path: &str,
    message: &[u8],
    headers: &[(&str, &str)],
) -> HeaderMap {
    let http = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    // The prefix of a gRPC message: not compressed, then its length.
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
