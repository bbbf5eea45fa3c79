//! The life of an account: passwords and addresses that change, by mail or by who knows the password.

mod breached;
mod email;
mod equal_time;
mod events;
mod limits;
mod mailbox;
mod operators;
mod password;
mod registration;
mod rpc;
mod smtp;

use auth_service::config;
use http::Method;
use serde_json::{Value, json};
use service_kit::settings::Setting;
use test_kit::{Answer, Engine, TestDatabase, send};

use self::mailbox::Mailbox;
use crate::support::Running;

const OTHER_PASSWORD: &str = "an other good one";

/// A service that writes its mail into a folder.
struct Service {
    running: Running,
    mailbox: Mailbox,
}

impl Service {
    async fn start(engine: Engine, overrides: &[(Setting, &str)]) -> Self {
        Self::start_on(TestDatabase::create(engine).await, overrides).await
    }

    async fn start_on(database: TestDatabase, overrides: &[(Setting, &str)]) -> Self {
        let folder = database.folder().join("mail").display().to_string();
        let mailbox = Mailbox::new(&folder);
        let mut all = vec![(config::MAIL_DIR, folder.as_str())];
        all.extend(overrides);
        Self { running: Running::start_on(database, &all).await, mailbox }
    }

    async fn stop(self) -> TestDatabase {
        self.running.stop().await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.running.rest.post(path, &body).await
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: Value) -> Answer {
        send(self.running.rest.request(method, path).bearer_auth(token).json(&body)).await
    }

    async fn register(&self, email: &str, password: &str) -> Answer {
        self.post("/auth/register", json!({"email": email, "password": password})).await
    }

    async fn login(&self, email: &str, password: &str) -> Answer {
        self.post("/auth/login", json!({"email": email, "password": password})).await
    }

    /// An access token and the refresh token of its session.
    async fn session(&self, email: &str, password: &str) -> (String, String) {
        let body = json!({"email": email, "password": password, "offline_access": true});
        let answer = self.post("/auth/login", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let text = |member: &str| answer.json[member].as_str().unwrap().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    async fn refresh(&self, token: &str) -> Answer {
        self.post("/auth/refresh", json!({"refresh_token": token})).await
    }

    async fn forgot(&self, email: &str) -> Answer {
        self.post("/auth/password/forgot", json!({"email": email})).await
    }

    async fn reset(&self, token: &str, password: &str) -> Answer {
        self.post("/auth/password/reset", json!({"token": token, "new_password": password})).await
    }

    async fn resend(&self, email: &str) -> Answer {
        self.post("/auth/email/verification", json!({"email": email})).await
    }

    async fn verify(&self, token: &str) -> Answer {
        self.post("/auth/email/verify", json!({"token": token})).await
    }

    async fn change_password(&self, token: &str, current: &str, new: &str) -> Answer {
        let body = json!({"current_password": current, "new_password": new});
        self.call(Method::PUT, "/auth/password", token, body).await
    }

    async fn change_email(&self, token: &str, email: &str, current: &str) -> Answer {
        let body = json!({"email": email, "current_password": current});
        self.call(Method::PUT, "/auth/email", token, body).await
    }

    async fn delete(&self, token: &str, current: &str) -> Answer {
        let body = json!({"current_password": current});
        self.call(Method::POST, "/auth/account/delete", token, body).await
    }

    /// Whether the auth service takes a token.
    async fn takes(&self, token: &str) -> bool {
        let answer =
            send(self.running.rest.request(Method::GET, "/auth/sessions").bearer_auth(token)).await;
        answer.status == 200
    }
}

/// The claims of a token, unchecked.
fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{}", answer.text);
}
