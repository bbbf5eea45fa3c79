//! A running auth service on a free port and a fresh database.

use std::sync::Arc;

use auth_service::{App, config::Settings, service::Service};
use latchkey_contracts::auth::v1::{
    DeleteAccountRequest, account_service_client::AccountServiceClient,
};
use service_kit::settings::{Setting, Source};
use test_kit::{Client, Engine, TestDatabase, channel, runtime::ServiceRuntime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SERVICE_TOKEN: &str = "service-token-of-32-bytes-or-more";
pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-32-bytes-or-more!!";
/// 32 bytes in base64.
pub(crate) const ENCRYPTION_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
pub(crate) const PASSWORD: &str = "S3cureP@ss";

pub(crate) struct Running {
    pub(crate) rest: Client,
    pub(crate) http: std::net::SocketAddr,
    pub(crate) grpc: std::net::SocketAddr,
    pub(crate) admin: Option<std::net::SocketAddr>,
    pub(crate) database: TestDatabase,
    pub(crate) service: Arc<Service>,
    clock: service_kit::clock::Clock,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), auth_service::BuildError>>,
    _runtime: ServiceRuntime,
}

/// The settings of a test: cheap hashes, free ports.
pub(crate) fn settings(database_url: &str, overrides: &[(Setting, &str)]) -> Source {
    use auth_service::config;

    let mut source = Source::default();
    source.set(&config::DATABASE_URL, database_url);
    source.set(&config::HTTP_ADDR, "127.0.0.1:0");
    source.set(&config::GRPC_ADDR, "127.0.0.1:0");
    source.set(&config::ADMIN_ADDR, "127.0.0.1:0");
    source.set(&config::KEY_ENCRYPTION_KEY, ENCRYPTION_KEY);
    source.set(&config::SERVICE_TOKEN, SERVICE_TOKEN);
    source.set(&config::ADMIN_TOKEN, ADMIN_TOKEN);
    // The cheapest that may be set; ES256 makes keys in no time.
    source.set(&config::BCRYPT_COST, "10");
    source.set(&config::JWT_ALGORITHM, "ES256");
    // A machine that is busy with other tests is no overload.
    source.set(&config::HASH_QUEUE_TIMEOUT, "60");
    for (setting, value) in overrides {
        source.set(setting, *value);
    }
    source
}

impl Running {
    pub(crate) async fn start(engine: Engine) -> Self {
        Self::start_with(engine, &[]).await
    }

    pub(crate) async fn start_with(engine: Engine, overrides: &[(Setting, &str)]) -> Self {
        Self::start_on(TestDatabase::create(engine).await, overrides).await
    }

    pub(crate) async fn start_on(database: TestDatabase, overrides: &[(Setting, &str)]) -> Self {
        let settings = Settings::read(&mut settings(&database.url, overrides)).unwrap();
        let shutdown = CancellationToken::new();
        let runtime = ServiceRuntime::start();
        let app = runtime.spawn(App::build(settings, shutdown.clone())).await.unwrap().unwrap();
        let (http, grpc) = (app.server().http_address(), app.server().grpc_address());
        let rest = Client::new(http);
        let (clock, service) = (app.clock().clone(), Arc::clone(app.service()));
        let (health, admin) = (app.server().health().clone(), app.server().admin_address());
        let task = runtime.spawn(app.run());
        health.ready().await;
        Self {
            rest,
            http,
            grpc,
            admin,
            database,
            service,
            clock,
            shutdown,
            task,
            _runtime: runtime,
        }
    }

    /// Moves the clock that the service goes by.
    pub(crate) fn advance_clock(&self, by: chrono::TimeDelta) {
        self.clock.advance(by);
    }

    /// Starts a second service on the same database.
    pub(crate) async fn start_beside(other: &Self, overrides: &[(Setting, &str)]) -> Self {
        Self::start_on(other.database.clone(), overrides).await
    }

    /// Deletes an account as the user service does.
    pub(crate) async fn delete_account(&self, id: &str) {
        let mut client = AccountServiceClient::new(channel(self.grpc).await);
        let mut request = tonic::Request::new(DeleteAccountRequest { id: id.to_owned() });
        let token = format!("Bearer {SERVICE_TOKEN}").parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        client.delete_account(request).await.unwrap();
    }

    /// Stops the service and hands back its database.
    pub(crate) async fn stop(self) -> TestDatabase {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.database
    }

    pub(crate) async fn register(&self, email: &str) -> String {
        let body = serde_json::json!({"email": email, "password": PASSWORD});
        let answer = self.rest.post("/auth/register", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn login(&self, email: &str) -> String {
        let body = serde_json::json!({"email": email, "password": PASSWORD});
        let answer = self.rest.post("/auth/login", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json["access_token"].as_str().unwrap().to_owned()
    }
}
