//! Both services on two databases, as the tests of moves and backups need them.

use http::Method;
use serde_json::{Value, json};
use service_kit::settings::Source;
use test_kit::{Answer, Client, Engine, TestDatabase, send};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PASSWORD: &str = "S3cureP@ss";
const SERVICE_TOKEN: &str = "service-token-of-32-bytes-or-more";
const ENCRYPTION_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Both services on two databases.
pub(crate) struct Services {
    pub(crate) auth: Client,
    users: Client,
    stop: CancellationToken,
    tasks: (JoinHandle<bool>, JoinHandle<bool>),
}

/// The databases of both.
pub(crate) struct Databases {
    pub(crate) auth: TestDatabase,
    pub(crate) user: TestDatabase,
}

impl Databases {
    pub(crate) async fn create(engine: Engine) -> Self {
        Self { auth: TestDatabase::create(engine).await, user: TestDatabase::create(engine).await }
    }
}

impl Services {
    pub(crate) async fn start(databases: &Databases) -> Self {
        let stop = CancellationToken::new();
        let mut source = Source::default();
        {
            use auth_service::config;
            source.set(&config::DATABASE_URL, &databases.auth.url);
            source.set(&config::KEY_ENCRYPTION_KEY, ENCRYPTION_KEY);
            source.set(&config::SERVICE_TOKEN, SERVICE_TOKEN);
            source.set(&config::BCRYPT_COST, "10");
            source.set(&config::REGISTRATIONS_PER_MINUTE, "0");
            source.set(&config::LOGINS_PER_MINUTE, "0");
            for address in [config::HTTP_ADDR, config::GRPC_ADDR, config::ADMIN_ADDR] {
                source.set(&address, "127.0.0.1:0");
            }
        }
        let settings = auth_service::config::Settings::read(&mut source).unwrap();
        let auth = auth_service::App::build(settings, stop.clone()).await.unwrap();
        let (http, grpc) = (auth.server().http_address(), auth.server().grpc_address());
        let health = auth.server().health().clone();
        let auth_task = tokio::spawn(async { auth.run().await.is_ok() });
        health.ready().await;

        let mut source = Source::default();
        {
            use user_service::config;
            source.set(&config::DATABASE_URL, &databases.user.url);
            source.set(&config::JWKS_URL, format!("http://{http}/.well-known/jwks.json"));
            source.set(&config::JWT_ISSUER, "http://localhost:3000");
            source.set(&config::JWT_AUDIENCE, "latchkey");
            source.set(&config::AUTH_GRPC_URL, format!("http://{grpc}"));
            source.set(&config::SERVICE_TOKEN, SERVICE_TOKEN);
            for address in [config::HTTP_ADDR, config::GRPC_ADDR, config::ADMIN_ADDR] {
                source.set(&address, "127.0.0.1:0");
            }
        }
        let settings = user_service::config::Settings::read(&mut source).unwrap();
        let user = user_service::App::build(settings, stop.clone()).await.unwrap();
        let users = Client::new(user.server().http_address());
        let health = user.server().health().clone();
        let user_task = tokio::spawn(async { user.run().await.is_ok() });
        health.ready().await;
        Self { auth: Client::new(http), users, stop, tasks: (auth_task, user_task) }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        assert!(self.tasks.0.await.unwrap() && self.tasks.1.await.unwrap());
    }

    pub(crate) async fn register(&self, email: &str) -> String {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = self.auth.post("/auth/register", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn login(&self, email: &str) -> Answer {
        let body = json!({"email": email, "password": PASSWORD, "offline_access": true});
        self.auth.post("/auth/login", &body).await
    }

    pub(crate) async fn refresh(&self, token: &Value) -> Answer {
        self.auth.post("/auth/refresh", &json!({"refresh_token": token})).await
    }

    pub(crate) async fn users(
        &self,
        method: Method,
        path: &str,
        token: &Value,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.users.request(method, path).bearer_auth(token.as_str().unwrap());
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await
    }
}
