//! Starts the service on a fresh database, signs tokens for it and talks to it.

pub(crate) mod accounts;
pub(crate) mod database;
pub(crate) mod proxy;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use latchkey_contracts::user::v1::user_service_client::UserServiceClient;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use service_kit::settings::{Setting, Source};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use user_service::{
    App, BuildError,
    config::{self, Settings},
};
use uuid::Uuid;

pub(crate) use database::{Engine, TestDatabase};

pub(crate) const SECRET: &str = "a secret for tests of 32 bytes or more";

/// Makes a test on each engine of each function named.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::Engine::Sqlite).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::Engine::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;

/// The settings of a test: `database` and what is given.
pub(crate) fn settings(database_url: &str, given: &[(Setting, &str)]) -> Settings {
    let mut source = Source::default();
    source.set(&config::HTTP_ADDR, "127.0.0.1:0");
    source.set(&config::GRPC_ADDR, "127.0.0.1:0");
    source.set(&config::DATABASE_URL, database_url);
    source.set(&config::JWT_SECRET, SECRET);
    for (setting, value) in given {
        source.set(setting, *value);
    }
    Settings::read(&mut source).unwrap()
}

/// A running service.
pub(crate) struct Service {
    pub(crate) http: String,
    pub(crate) grpc: String,
    pub(crate) client: reqwest::Client,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), BuildError>>,
}

impl Service {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(database: &TestDatabase, given: &[(Setting, &str)]) -> Self {
        let service = Self::start_unready(&database.url, given).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while service.get_path("/readyz", None).await.status != StatusCode::OK {
            assert!(tokio::time::Instant::now() < deadline, "not ready in 20 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service
    }

    /// Starts one that may not become ready.
    pub(crate) async fn start_unready(url: &str, given: &[(Setting, &str)]) -> Self {
        let shutdown = CancellationToken::new();
        let app = App::build(settings(url, given), shutdown.clone()).await.unwrap();
        let http = format!("http://{}", app.http_address());
        let grpc = format!("http://{}", app.grpc_address());
        let running = tokio::spawn(app.run());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, grpc, client, shutdown, running }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }

    pub(crate) async fn grpc_channel(&self) -> Channel {
        Endpoint::from_shared(self.grpc.clone()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.grpc_channel().await)
    }

    pub(crate) async fn send(&self, call: Call<'_>) -> Answer {
        let url = format!("{}{}", self.http, call.path);
        let mut request = self.client.request(call.method, url).headers(call.headers);
        if let Some(person) = call.person {
            request = request.bearer_auth(&person.token);
        }
        if let Some((media_type, body)) = call.body {
            request = request.header("content-type", media_type).body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, body, text }
    }

    pub(crate) async fn get_path(&self, path: &str, person: Option<&Person>) -> Answer {
        self.send(Call { person, ..Call::new(Method::GET, path) }).await
    }

    pub(crate) async fn get(&self, person: &Person, id: Uuid) -> Answer {
        self.get_path(&format!("/users/{id}"), Some(person)).await
    }

    pub(crate) async fn put(&self, person: &Person, body: Value) -> Answer {
        let path = person.path();
        self.send(Call::new(Method::PUT, &path).by(person).json(&body)).await
    }

    pub(crate) async fn delete(&self, person: &Person) -> Answer {
        let path = person.path();
        self.send(Call::new(Method::DELETE, &path).by(person)).await
    }
}

/// A REST request.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) person: Option<&'a Person>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<(&'a str, Vec<u8>)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, person: None, headers: HeaderMap::new(), body: None }
    }

    pub(crate) fn by(self, person: &'a Person) -> Self {
        Self { person: Some(person), ..self }
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    pub(crate) fn body(self, media_type: &'a str, body: &[u8]) -> Self {
        Self { body: Some((media_type, body.to_vec())), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }
}

/// A REST answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// Status and code in one text, such as `404 user_not_found`; `200` for a success.
    pub(crate) fn outcome(&self) -> String {
        match self.body["code"].as_str() {
            Some(code) => format!("{} {code}", self.status.as_u16()),
            None => self.status.as_u16().to_string(),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Pointers and codes of the faults, sorted.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let mut faults: Vec<_> = self.body["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|fault| {
                let text = |name: &str| fault[name].as_str().unwrap().to_owned();
                (text("pointer"), text("code"))
            })
            .collect();
        faults.sort();
        faults
    }
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
        let iat = unix_now() - age;
        let mut claims = json!({ "sub": id, "iat": iat, "exp": unix_now() + 3600 });
        if let Some(email) = email {
            claims["email"] = email.into();
        }
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
        Self { id, email: email.unwrap_or_default().to_owned(), token }
    }

    pub(crate) fn path(&self) -> String {
        format!("/users/{}", self.id)
    }

    /// A gRPC request by this person.
    pub(crate) fn ask<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let value = format!("Bearer {}", self.token).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
