//! A running user service on free ports and a fresh database, and people with tokens for it.

pub(crate) mod accounts;
pub(crate) mod proxy;

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use latchkey_contracts::user::v1::user_service_client::UserServiceClient;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use service_kit::{
    clock::machine_time,
    settings::{Setting, Source},
};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use test_kit::{Answer, Client, Engine, TestDatabase, runtime::ServiceRuntime, send};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use user_service::{
    App, BuildError,
    config::{self, Settings},
    store::Store,
};
use uuid::Uuid;

pub(crate) const SECRET: &str = "a secret for tests of 32 bytes or more";
pub(crate) const SERVICE_TOKEN: &str = "service-token-of-32-bytes-or-more";

/// Makes a test on each engine of each function named.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(test_kit::Engine::Sqlite).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(test_kit::Engine::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;

/// The settings of a test: HS256, free ports.
pub(crate) fn settings(database_url: &str, overrides: &[(Setting, &str)]) -> Settings {
    let mut source = Source::default();
    source.set(&config::HTTP_ADDR, "127.0.0.1:0");
    source.set(&config::GRPC_ADDR, "127.0.0.1:0");
    source.set(&config::ADMIN_ADDR, "off");
    source.set(&config::DATABASE_URL, database_url);
    source.set(&config::JWT_SECRET, SECRET);
    for (setting, value) in overrides {
        source.set(setting, *value);
    }
    Settings::read(&mut source).unwrap()
}

pub(crate) struct Running {
    pub(crate) rest: Client,
    pub(crate) grpc: std::net::SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), BuildError>>,
    _runtime: ServiceRuntime,
}

impl Running {
    /// Starts one on a database of its own.
    pub(crate) async fn start(engine: Engine) -> (Self, TestDatabase) {
        let database = TestDatabase::create(engine).await;
        (Self::start_on(&database, &[]).await, database)
    }

    /// Starts one and waits until it is ready.
    pub(crate) async fn start_on(database: &TestDatabase, overrides: &[(Setting, &str)]) -> Self {
        let running = Self::start_unready(settings(&database.url, overrides)).await;
        running.ready(Duration::from_secs(20)).await;
        running
    }

    /// Starts one that may not become ready.
    pub(crate) async fn start_unready(settings: Settings) -> Self {
        let shutdown = CancellationToken::new();
        let runtime = ServiceRuntime::start();
        let app = runtime.spawn(App::build(settings, shutdown.clone())).await.unwrap().unwrap();
        let (http, grpc) = (app.server().http_address(), app.server().grpc_address());
        let task = runtime.spawn(app.run());
        Self { rest: Client::new(http), grpc, shutdown, task, _runtime: runtime }
    }

    pub(crate) async fn ready(&self, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        while self.rest.get("/readyz").await.status != 200 {
            assert!(tokio::time::Instant::now() < deadline, "not ready in {patience:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(test_kit::channel(self.grpc).await)
    }

    /// A request with the token of `person`.
    pub(crate) fn by(&self, person: &Person, method: Method, path: &str) -> RequestBuilder {
        self.rest.request(method, path).bearer_auth(&person.token)
    }

    pub(crate) async fn get(&self, person: &Person, id: Uuid) -> Answer {
        send(self.by(person, Method::GET, &format!("/users/{id}"))).await
    }

    pub(crate) async fn put(&self, person: &Person, body: &Value) -> Answer {
        send(self.by(person, Method::PUT, &person.path()).json(body)).await
    }

    pub(crate) async fn patch(&self, person: &Person, body: &Value) -> Answer {
        send(self.by(person, Method::PATCH, &person.path()).json(body)).await
    }

    pub(crate) async fn delete(&self, person: &Person) -> Answer {
        send(self.by(person, Method::DELETE, &person.path())).await
    }
}

/// Status and code in one text, such as `404 user_not_found`; `200` for a success.
pub(crate) fn outcome(answer: &Answer) -> String {
    format!("{} {}", answer.status.as_u16(), answer.code()).trim_end().to_owned()
}

/// Pointers and codes of the faults in an answer, such as `/name required`, sorted.
pub(crate) fn faults(answer: &Answer) -> Vec<String> {
    let faults = answer.json["errors"].as_array().cloned().unwrap_or_default();
    let text = |fault: &Value, name: &str| fault[name].as_str().unwrap().to_owned();
    let mut faults: Vec<_> = faults
        .iter()
        .map(|fault| format!("{} {}", text(fault, "pointer"), text(fault, "code")))
        .collect();
    faults.sort();
    faults
}

/// Somebody with a token.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) id: Uuid,
    pub(crate) email: String,
    pub(crate) token: String,
}

impl Person {
    pub(crate) fn new() -> Self {
        let id = Uuid::now_v7();
        Self::with(id, Some(&format!("{}@example.com", id.simple())), 0)
    }

    /// With a token that was issued `age` seconds ago.
    pub(crate) fn with(id: Uuid, email: Option<&str>, age: i64) -> Self {
        let mut claims = json!({ "sub": id, "iat": unix_now() - age, "exp": unix_now() + 3600 });
        if let Some(email) = email {
            claims["email"] = email.into();
        }
        Self::of(&claims)
    }

    /// With a token of these claims.
    pub(crate) fn of(claims: &Value) -> Self {
        let id = claims["sub"].as_str().unwrap().parse().unwrap();
        let email = claims["email"].as_str().unwrap_or_default().to_owned();
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), claims, &key).unwrap();
        Self { id, email, token }
    }

    pub(crate) fn path(&self) -> String {
        format!("/users/{}", self.id)
    }

    /// A gRPC request with this person's token.
    pub(crate) fn ask<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let value = format!("Bearer {}", self.token).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }
}

pub(crate) fn unix_now() -> i64 {
    machine_time().timestamp()
}

/// A store on `database` as it is.
pub(crate) fn open_store(database: &TestDatabase) -> Store {
    let options = test_kit::pool_options();
    Store::open(&database.url.parse().unwrap(), options).unwrap()
}

/// What a `SELECT count(*)` says, asked beside the service.
pub(crate) async fn count(database: &TestDatabase, query: &'static str) -> i64 {
    if database.url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
    } else {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
    }
}

/// Runs a statement beside the service.
pub(crate) async fn execute(database: &TestDatabase, statement: &'static str) {
    if database.url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    } else {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
}
