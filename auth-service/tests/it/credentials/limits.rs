//! What is refused, what is not told, and how much is sent.

use auth_service::config;
use chrono::TimeDelta;
use http::Method;
use serde_json::json;
use test_kit::{ENGINES, Engine, send};

use super::{Service, assert_refused};
use crate::support::{PASSWORD, Running};

#[tokio::test]
async fn without_mail_only_what_needs_none_is_there() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        service.register("a@b.com").await;
        let token = service.login("a@b.com").await;
        for path in [
            "/auth/password/forgot",
            "/auth/password/reset",
            "/auth/email/verification",
            "/auth/email/verify",
        ] {
            // Before what is wrong with the body.
            assert_refused(&service.rest.post(path, &json!({})).await, 404, "mail_disabled");
        }
        let anonymous =
            send(service.rest.request(Method::PUT, "/auth/email").json(&json!({}))).await;
        assert_refused(&anonymous, 401, "unauthenticated");
        let change = service.rest.request(Method::PUT, "/auth/email").bearer_auth(&token);
        assert_refused(&send(change.json(&json!({}))).await, 404, "mail_disabled");
        for page in ["reset-password", "verify-email", "pages/page.js", "pages/page.css"] {
            let page = service.rest.get(&format!("/account/{page}")).await;
            assert_refused(&page, 404, "not_found");
        }
        let body = json!({"current_password": PASSWORD, "new_password": "an other good one"});
        let change = service.rest.request(Method::PUT, "/auth/password").bearer_auth(&token);
        let changed = send(change.json(&body)).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let token = changed.json["access_token"].as_str().unwrap();
        let body = json!({"current_password": "an other good one"});
        let delete = service.rest.request(Method::POST, "/auth/account/delete").bearer_auth(token);
        assert_eq!(send(delete.json(&body)).await.status, 204);
    }
}

#[tokio::test]
async fn an_unknown_address_is_answered_as_a_known_one_and_sent_nothing() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::EMAIL_VERIFICATION, "on")]).await;
        service.register("a@b.com", PASSWORD).await;
        service.mailbox.next("email_verification", "a@b.com").await;
        for path in ["/auth/password/forgot", "/auth/email/verification"] {
            let mut answers = Vec::new();
            for email in ["a@b.com", "nobody@b.com"] {
                for _ in 0..2 {
                    let mut answer = service.post(path, json!({"email": email})).await;
                    for field in ["x-request-id", "date"] {
                        answer.headers.remove(field);
                    }
                    answers.push((answer.status, answer.headers, answer.text));
                }
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            assert_eq!(answers[0].0, 202);
            assert_refused(
                &service.post(path, json!({"email": "x"})).await,
                400,
                "validation_failed",
            );
        }
        for kind in ["password_reset", "email_verification"] {
            for _ in 0..2 {
                service.mailbox.next(kind, "a@b.com").await;
            }
        }
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
}

#[tokio::test]
async fn an_address_is_sent_no_more_links_than_its_share_of_the_hour() {
    for engine in ENGINES {
        let overrides = [(config::RESETS_PER_HOUR, "3"), (config::EMAIL_VERIFICATION, "on")];
        let service = Service::start(engine, &overrides).await;
        service.register("a@b.com", PASSWORD).await;
        service.mailbox.next("email_verification", "a@b.com").await;
        service.resend("a@b.com").await;
        service.mailbox.next("email_verification", "a@b.com").await;
        for _ in 0..4 {
            assert_eq!(service.forgot("A@b.com").await.status, 202);
        }
        for _ in 0..2 {
            service.mailbox.next("password_reset", "a@b.com").await;
        }
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
        service.running.advance_clock(TimeDelta::seconds(3601));
        service.forgot("a@b.com").await;
        service.mailbox.next("password_reset", "a@b.com").await;
    }
}

#[tokio::test]
async fn a_network_asks_for_no_more_mails_than_its_share_of_the_minute() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::MAILS_PER_MINUTE, "3")]).await;
        service.register("a@b.com", PASSWORD).await;
        let token = service.running.login("a@b.com").await;
        assert_eq!(service.forgot("nobody@b.com").await.status, 202);
        assert_eq!(service.resend("nobody@b.com").await.status, 202);
        assert_eq!(service.change_email(&token, "new@b.com", PASSWORD).await.status, 202);
        for answer in [
            service.forgot("a@b.com").await,
            service.forgot("nobody@b.com").await,
            service.resend("a@b.com").await,
            service.change_email(&token, "new@b.com", PASSWORD).await,
        ] {
            assert_refused(&answer, 429, "too_many_requests");
            assert!(answer.header("ratelimit-policy").starts_with("\"mails-per-network\""));
            assert!(!answer.header("retry-after").is_empty());
        }
    }
}

#[tokio::test]
async fn no_header_of_a_request_changes_a_link() {
    let public = [(config::PUBLIC_URL, "https://auth.example.com/base/")];
    let service = Service::start(Engine::Sqlite, &public).await;
    service.register("a@b.com", PASSWORD).await;
    let request = service.running.rest.request(Method::POST, "/auth/password/forgot");
    let request = request
        .header("host", "evil.example")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "host=evil.example");
    assert_eq!(send(request.json(&json!({"email": "a@b.com"}))).await.status, 202);
    let mail = service.mailbox.next("password_reset", "a@b.com").await;
    let link = "\r\nhttps://auth.example.com/base/account/reset-password#token=";
    assert!(mail.text.contains(link) && !mail.text.contains("evil"), "{}", mail.text);
}

#[tokio::test]
async fn pages_may_do_nothing_but_call_their_service() {
    let service = Service::start(Engine::Sqlite, &[]).await;
    for page in ["/account/reset-password", "/account/verify-email?utm_source=mail"] {
        let answer = service.running.rest.get(page).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cache-control"), "no-store");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!answer.text.contains("<script>") && !answer.text.contains("style="));
        assert!(!answer.text.contains("://"), "nothing from elsewhere");
    }
    let post = service.running.rest.request(Method::POST, "/account/reset-password");
    assert_eq!(send(post).await.status, 405);
}

#[tokio::test]
async fn what_needs_mail_ends_the_start_without_it_by_name() {
    let database = test_kit::TestDatabase::create(Engine::Sqlite).await;
    let faults = |overrides: &[(service_kit::settings::Setting, &str)]| {
        let mut source = crate::support::settings(&database.url, overrides);
        config::Settings::read(&mut source).unwrap_err().to_string()
    };
    for verification in ["on", "required"] {
        let told = faults(&[(config::EMAIL_VERIFICATION, verification)]);
        assert!(told.contains("EMAIL_VERIFICATION: ") && told.contains("SMTP_URL"), "{told}");
    }
    let told = faults(&[(config::SMTP_URL, "smtps://user:hunter2@mail.example.com")]);
    assert!(told.contains("MAIL_FROM: is required with SMTP_URL"), "{told}");
    assert!(told.contains("PUBLIC_URL: is required with SMTP_URL"), "{told}");
    let told = faults(&[
        (config::SMTP_URL, "smtp://user:hunter2@mail.example.com?tls=maybe"),
        (config::SMTP_CA_FILE, "/nowhere.pem"),
        (config::MAIL_FROM, "nobody"),
        (config::PUBLIC_URL, "example.com"),
        (config::MAIL_TEMPLATES_DIR, "/nowhere"),
        (config::PASSWORD_RESET_URL, "javascript:alert(1)"),
        (config::PASSWORD_RESET_TTL, "0"),
        (config::EMAIL_VERIFICATION, "maybe"),
        (config::REGISTRATION, "maybe"),
    ]);
    for name in [
        "SMTP_URL",
        "SMTP_CA_FILE",
        "MAIL_FROM",
        "PUBLIC_URL",
        "MAIL_TEMPLATES_DIR",
        "PASSWORD_RESET_URL",
        "PASSWORD_RESET_TTL",
        "EMAIL_VERIFICATION",
        "REGISTRATION",
    ] {
        assert!(told.contains(&format!("\n  {name}: ")), "{name} in {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

/// With keys that are given, mail still needs the key that seals it.
#[tokio::test]
async fn mail_needs_an_encryption_key() {
    let mut source = service_kit::settings::Source::default();
    for (setting, value) in [
        (config::DATABASE_URL, "sqlite::memory:"),
        (config::JWT_ALGORITHM, "HS256"),
        (config::JWT_SECRET, "a-shared-secret-of-32-bytes-or-so"),
        (config::SMTP_URL, "smtps://mail.example.com"),
        (config::MAIL_FROM, "a@b.com"),
        (config::PUBLIC_URL, "https://example.com"),
    ] {
        source.set(&setting, value);
    }
    let told = config::Settings::read(&mut source).unwrap_err().to_string();
    assert!(told.contains("KEY_ENCRYPTION_KEY: is required with SMTP_URL"), "{told}");
}
