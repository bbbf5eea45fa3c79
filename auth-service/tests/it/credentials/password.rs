//! Change and reset of the password.

use auth_service::{config, store::Store};
use chrono::TimeDelta;
use serde_json::json;
use sql_kit::{read, values};
use test_kit::{ENGINES, TestDatabase};

use super::{OTHER_PASSWORD, Service, assert_refused, claims};
use crate::support::{PASSWORD, Running};

#[tokio::test]
async fn a_change_keeps_the_callers_session_and_ends_the_others() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        let (mine, my_refresh) = service.session("a@b.com", PASSWORD).await;
        let (theirs, their_refresh) = service.session("a@b.com", PASSWORD).await;

        let changed = service.change_password(&mine, PASSWORD, OTHER_PASSWORD).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!(changed.header("cache-control"), "no-store");
        assert_eq!(changed.json["token_type"], "Bearer");
        assert_eq!(changed.json["expires_in"], 3600);
        assert!(changed.json.get("refresh_token").is_none(), "{}", changed.text);
        let fresh = changed.json["access_token"].as_str().unwrap();
        assert_eq!(claims(fresh)["sid"], claims(&mine)["sid"]);
        assert_eq!(claims(fresh)["gen"], 1);

        assert!(service.takes(fresh).await);
        assert!(!service.takes(&mine).await && !service.takes(&theirs).await);
        assert_refused(&service.refresh(&their_refresh).await, 401, "invalid_refresh_token");
        assert_eq!(service.refresh(&my_refresh).await.status, 200);
        assert_refused(&service.login("a@b.com", PASSWORD).await, 401, "invalid_credentials");
        assert_eq!(service.login("a@b.com", OTHER_PASSWORD).await.status, 200);
        let notice = service.mailbox.next("password_changed", "a@b.com").await;
        assert!(notice.text.contains("If it was not you"));
    }
}

#[tokio::test]
async fn a_change_is_refused_in_the_order_of_the_contract() {
    for engine in ENGINES {
        let limit = [(config::LOGIN_FAILURES_PER_PAIR, "2")];
        let service = Service::start(engine, &limit).await;
        service.register("a@b.com", PASSWORD).await;
        let token = service.running.login("a@b.com").await;

        // Nobody's token, then what is missing, then the new password's rules, then the current one.
        let body = json!({});
        let anonymous = service.call(http::Method::PUT, "/auth/password", "x", body.clone()).await;
        assert_refused(&anonymous, 401, "invalid_token");
        let missing = service.call(http::Method::PUT, "/auth/password", &token, body).await;
        assert_refused(&missing, 400, "validation_failed");
        assert_eq!(missing.json["errors"].as_array().unwrap().len(), 2);
        let weak = service.change_password(&token, "wrong password", "short").await;
        assert_refused(&weak, 400, "validation_failed");
        assert_eq!(weak.json["errors"][0]["pointer"], "/new_password");
        let own = service.change_password(&token, PASSWORD, "a@b.com.").await;
        assert_eq!(own.status, 200, "{}", own.text);
        let token = own.json["access_token"].as_str().unwrap();
        let email = service.change_password(token, "a@b.com.", "A@b.com").await;
        assert_refused(&email, 400, "validation_failed");

        // Wrong ones count, whether they are empty or not, and then go before the rules.
        for wrong in ["wrong password", ""] {
            let answer = service.change_password(token, wrong, OTHER_PASSWORD).await;
            assert_refused(&answer, 403, "invalid_credentials");
        }
        let throttled = service.change_password(token, "a@b.com.", "short").await;
        assert_refused(&throttled, 429, "too_many_attempts");
        assert!(!throttled.header("retry-after").is_empty());
        assert_refused(&service.login("a@b.com", "a@b.com.").await, 429, "too_many_attempts");
    }
}

#[tokio::test]
async fn of_many_changes_at_once_one_wins() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        let token = service.running.login("a@b.com").await;
        let passwords: Vec<_> = (0..5).map(|number| format!("new password {number}")).collect();
        let changes = passwords.iter().map(|new| service.change_password(&token, PASSWORD, new));
        let answers = futures_util::future::join_all(changes).await;
        let won: Vec<_> =
            answers.iter().zip(&passwords).filter(|(answer, _)| answer.status == 200).collect();
        assert_eq!(won.len(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert!([401, 403].contains(&answer.status.as_u16()), "{}", answer.text);
        }
        assert_eq!(service.login("a@b.com", won[0].1).await.status, 200);
    }
}

#[tokio::test]
async fn a_forgotten_password_is_chosen_anew_by_a_link() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        let (access, refresh) = service.session("a@b.com", PASSWORD).await;

        let asked = service.forgot("A@B.com").await;
        assert_eq!((asked.status.as_u16(), asked.text.as_str()), (202, ""));
        let mail = service.mailbox.next("password_reset", "a@b.com").await;
        let page = format!("http://{}/account/reset-password#token=", service.running.http);
        assert!(mail.text.contains(&page), "{}", mail.text);
        let first = mail.token();
        service.forgot("a@b.com").await;
        let second = service.mailbox.next("password_reset", "a@b.com").await.token();

        // Neither looking nor failing uses a link up.
        for method in [http::Method::GET, http::Method::HEAD] {
            let page = service.running.rest.request(method, "/account/reset-password");
            assert_eq!(page.send().await.unwrap().status(), 200);
        }
        assert_refused(&service.reset(&first, "short").await, 400, "validation_failed");
        let own = service.reset(&first, "a@b.com").await;
        assert!(["validation_failed"].contains(&own.code()), "{}", own.text);

        assert_eq!(service.reset(&first, OTHER_PASSWORD).await.status, 204);
        for used in [&first, &second] {
            assert_refused(&service.reset(used, "yet another one").await, 400, "invalid_link");
        }
        assert_eq!(service.login("a@b.com", OTHER_PASSWORD).await.status, 200);
        assert_refused(&service.login("a@b.com", PASSWORD).await, 401, "invalid_credentials");
        assert!(!service.takes(&access).await);
        assert_refused(&service.refresh(&refresh).await, 401, "invalid_refresh_token");
        service.mailbox.next("password_was_reset", "a@b.com").await;
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
}

#[tokio::test]
async fn every_link_that_does_not_work_is_the_same() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::EMAIL_VERIFICATION, "on")]).await;
        service.register("a@b.com", PASSWORD).await;
        let verification = service.mailbox.next("email_verification", "a@b.com").await.token();
        service.forgot("a@b.com").await;
        let expired = service.mailbox.next("password_reset", "a@b.com").await.token();
        service.running.advance_clock(TimeDelta::seconds(1801));
        let unknown = "A".repeat(43);
        let mut answers = Vec::new();
        for token in ["", "x", &unknown, &expired, &verification, &format!("{expired}=")] {
            let answer = service.reset(token, OTHER_PASSWORD).await;
            assert_refused(&answer, 400, "invalid_link");
            answers.push((answer.json["detail"].clone(), answer.json["title"].clone()));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_refused(&service.verify(&expired).await, 400, "invalid_link");
        // A link of another kind was not used up by that.
        assert_eq!(service.verify(&verification).await.status, 204);
    }
}

#[tokio::test]
async fn of_many_who_use_one_link_at_once_one_wins() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        service.forgot("a@b.com").await;
        let token = service.mailbox.next("password_reset", "a@b.com").await.token();
        let passwords: Vec<_> = (0..5).map(|number| format!("new password {number}")).collect();
        let resets = passwords.iter().map(|new| service.reset(&token, new));
        let answers = futures_util::future::join_all(resets).await;
        let won: Vec<_> =
            answers.iter().zip(&passwords).filter(|(answer, _)| answer.status == 204).collect();
        assert_eq!(won.len(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 204) {
            assert_refused(answer, 400, "invalid_link");
        }
        assert_eq!(service.login("a@b.com", won[0].1).await.status, 200);
    }
}

#[tokio::test]
async fn whatever_raises_the_generation_kills_the_links() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        for act in ["change", "out everywhere"] {
            service.forgot("a@b.com").await;
            let link = service.mailbox.next("password_reset", "a@b.com").await.token();
            let token = service.running.login("a@b.com").await;
            match act {
                "change" => {
                    let changed = service.change_password(&token, PASSWORD, PASSWORD).await;
                    assert_eq!(changed.status, 200, "{}", changed.text);
                }
                _ => {
                    let (method, body) = (http::Method::DELETE, json!({}));
                    let ended = service.call(method, "/auth/sessions", &token, body).await;
                    assert_eq!(ended.status, 204, "{}", ended.text);
                }
            }
            assert_refused(&service.reset(&link, OTHER_PASSWORD).await, 400, "invalid_link");
        }
        service.forgot("a@b.com").await;
        let link = service.mailbox.next("password_reset", "a@b.com").await.token();
        let token = service.running.login("a@b.com").await;
        assert_refused(&service.delete(&token, "wrong password").await, 403, "invalid_credentials");
        assert_eq!(service.delete(&token, PASSWORD).await.status, 204);
        assert_refused(&service.reset(&link, OTHER_PASSWORD).await, 400, "invalid_link");
        assert_refused(&service.login("a@b.com", PASSWORD).await, 401, "invalid_credentials");
        assert!(!service.takes(&token).await);
        service.mailbox.next("account_deleted", "a@b.com").await;
        assert_eq!(service.register("a@b.com", PASSWORD).await.status, 201);
    }
}

#[tokio::test]
async fn a_reset_ends_the_throttling_that_others_have_caused() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::LOGIN_FAILURES_PER_PAIR, "1")]).await;
        service.register("a@b.com", PASSWORD).await;
        service.login("a@b.com", "wrong password").await;
        assert_refused(&service.login("a@b.com", PASSWORD).await, 429, "too_many_attempts");
        service.forgot("a@b.com").await;
        let link = service.mailbox.next("password_reset", "a@b.com").await.token();
        assert_eq!(service.reset(&link, OTHER_PASSWORD).await.status, 204);
        assert_eq!(service.login("a@b.com", OTHER_PASSWORD).await.status, 200);
    }
}

/// All that is in a database, as far as text and bytes can be found in it.
async fn contents(database: &TestDatabase) -> Vec<u8> {
    let Some(file) = database.url.strip_prefix("sqlite://") else {
        let store = Store::open(&database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
        let found = read!(store, |unit| {
            let row = unit
                .fetch_one(
                    "SELECT string_agg(query_to_xml(
                         format('SELECT t::text FROM %I t', tablename), true, false, '')::text, '')
                         AS text
                     FROM pg_tables WHERE schemaname = current_schema()",
                    values![],
                )
                .await?;
            row.get::<String>("text")
        });
        let found = found.await.unwrap();
        store.close().await;
        return found.into_bytes();
    };
    let file = file.split('?').next().unwrap();
    [file.to_owned(), format!("{file}-wal")]
        .into_iter()
        .filter_map(|file| std::fs::read(file).ok())
        .flatten()
        .collect()
}

/// Whether these bytes are in there, as they are or in hexadecimal, as Postgres shows them.
fn holds(contents: &[u8], wanted: &[u8]) -> bool {
    let hex: String = wanted.iter().map(|byte| format!("{byte:02x}")).collect();
    [wanted, hex.as_bytes()]
        .iter()
        .any(|wanted| contents.windows(wanted.len()).any(|window| window == *wanted))
}

#[tokio::test]
async fn a_link_survives_a_restart_and_nothing_readable_is_stored() {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };

    for engine in ENGINES {
        // Nobody listens on this port, so the mail waits in the outbox.
        let away = [
            (config::SMTP_URL, "smtp://127.0.0.1:1?tls=none"),
            (config::MAIL_FROM, "latchkey@example.com"),
            (config::PUBLIC_URL, "https://id.example.com"),
        ];
        let service = Running::start_with(engine, &away).await;
        service.register("the.owner@b.com").await;
        let forgot = json!({"email": "the.owner@b.com"});
        assert_eq!(service.rest.post("/auth/password/forgot", &forgot).await.status, 202);
        let database = service.stop().await;
        let stored = contents(&database).await;
        assert!(holds(&stored, b"the.owner@b.com"), "{engine:?}: the account can be read");

        let service = Service::start_on(database, &[]).await;
        // The first try has failed, and the next is later.
        service.running.advance_clock(TimeDelta::seconds(60));
        let mail = service.mailbox.next("password_reset", "the.owner@b.com").await;
        let (link, text) = (mail.token(), "https://id.example.com/account/reset-password");
        assert!(mail.text.contains(text), "{}", mail.text);
        // Neither the secret in any form, nor what the mail says or where it is from.
        let secret = URL_SAFE_NO_PAD.decode(&link).unwrap();
        assert_eq!(secret.len(), 32);
        for readable in [
            link.as_bytes(),
            &secret,
            STANDARD.encode(&secret).as_bytes(),
            STANDARD.encode(&link).trim_end_matches('=').as_bytes(),
            b"#token=",
            b"reset-password",
            b"latchkey@example.com",
        ] {
            let shown = String::from_utf8_lossy(readable);
            assert!(!holds(&stored, readable), "{engine:?}: {shown} is stored");
        }
        assert_eq!(service.reset(&link, OTHER_PASSWORD).await.status, 204, "{engine:?}");
        assert_eq!(service.login("the.owner@b.com", OTHER_PASSWORD).await.status, 200);
    }
}
