//! Registration with addresses that are confirmed, and without anybody who may register.

use auth_service::config;
use chrono::TimeDelta;
use serde_json::json;
use test_kit::{ENGINES, Engine};

use super::{OTHER_PASSWORD, Service, assert_refused, claims};
use crate::support::PASSWORD;

const REQUIRED: (service_kit::settings::Setting, &str) = (config::EMAIL_VERIFICATION, "required");
const ON: (service_kit::settings::Setting, &str) = (config::EMAIL_VERIFICATION, "on");

#[tokio::test]
async fn with_on_an_account_exists_at_once_and_tokens_say_whether_it_is_confirmed() {
    for engine in ENGINES {
        let service = Service::start(engine, &[ON]).await;
        assert_eq!(service.register("a@b.com", PASSWORD).await.status, 201);
        let token = service.running.login("a@b.com").await;
        assert_eq!(claims(&token)["email_verified"], false);
        let mail = service.mailbox.next("email_verification", "a@b.com").await;
        assert!(mail.text.contains("do not follow the link"), "{}", mail.text);
        assert_eq!(service.resend("a@b.com").await.status, 202);
        let again = service.mailbox.next("email_verification", "a@b.com").await;
        assert_eq!(service.verify(&mail.token()).await.status, 204);
        let token = service.running.login("a@b.com").await;
        assert_eq!(claims(&token)["email_verified"], true);
        assert_refused(&service.verify(&mail.token()).await, 400, "invalid_link");
        // One that was on its way is good, and does nothing more.
        assert_eq!(service.verify(&again.token()).await.status, 204);
        // There is nothing to confirm any more.
        assert_eq!(service.resend("a@b.com").await.status, 202);
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
    let service = Service::start(Engine::Sqlite, &[]).await;
    service.register("a@b.com", PASSWORD).await;
    let token = service.running.login("a@b.com").await;
    assert!(claims(&token).get("email_verified").is_none());
}

#[tokio::test]
async fn with_required_an_account_comes_into_being_by_its_link() {
    for engine in ENGINES {
        let service = Service::start(engine, &[REQUIRED]).await;
        let registered = service.register("A@b.com", PASSWORD).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        assert_eq!(registered.json["email"], "a@b.com");
        assert_refused(&service.login("a@b.com", PASSWORD).await, 403, "email_not_verified");
        assert_refused(&service.login("a@b.com", "wrong one").await, 401, "invalid_credentials");
        let link = service.mailbox.next("email_verification", "a@b.com").await.token();
        assert_eq!(service.verify(&link).await.status, 204);
        let token = service.running.login("a@b.com").await;
        assert_eq!(claims(&token)["sub"], registered.json["id"]);
        assert_eq!(claims(&token)["email_verified"], true);
        assert_refused(&service.verify(&link).await, 400, "invalid_link");
        let again = service.register("a@b.com", OTHER_PASSWORD).await;
        assert_refused(&again, 409, "email_already_registered");
        service.mailbox.assert_empty();
    }
}

/// Each of them ends the others: on Postgres they waited for each other once, and all were 503.
#[tokio::test]
async fn of_links_for_one_address_that_are_used_at_once_one_wins() {
    for engine in ENGINES {
        let service = Service::start(engine, &[REQUIRED]).await;
        let mut links = Vec::new();
        for number in 0..8 {
            service.register("a@b.com", &format!("{PASSWORD}{number}")).await;
            links.push(service.mailbox.next("email_verification", "a@b.com").await.token());
        }
        for _ in 0..4 {
            service.resend("a@b.com").await;
            links.push(service.mailbox.next("email_verification", "a@b.com").await.token());
        }
        service.register("b@b.com", PASSWORD).await;
        let link = service.mailbox.next("email_verification", "b@b.com").await.token();
        service.verify(&link).await;
        let token = service.running.login("b@b.com").await;
        service.change_email(&token, "a@b.com", PASSWORD).await;
        links.push(service.mailbox.next("email_change", "a@b.com").await.token());
        let used =
            futures_util::future::join_all(links.iter().map(|link| service.verify(link))).await;
        let won = used.iter().filter(|answer| answer.status == 204).count();
        assert_eq!(won, 1, "{:?}", used.iter().map(|answer| &answer.text).collect::<Vec<_>>());
        for answer in used.iter().filter(|answer| answer.status != 204) {
            assert!([400, 409].contains(&answer.status.as_u16()), "{}", answer.text);
        }
    }
}

/// Somebody registers with an address that is not theirs, before or after its owner, and waits for the
/// owner to make the account theirs.
#[tokio::test]
async fn whoever_registers_another_persons_address_gains_nothing_and_hinders_nobody() {
    for engine in ENGINES {
        for attacker_is_first in [true, false] {
            let service = Service::start(engine, &[REQUIRED]).await;
            let (owner, attacker) = ("the owner's own", "the attacker's own");
            let order = if attacker_is_first { [attacker, owner] } else { [owner, attacker] };
            let mut links = Vec::new();
            let mut ids = Vec::new();
            for password in order {
                let answer = service.register("a@b.com", password).await;
                assert_eq!(answer.status, 201, "{}", answer.text);
                ids.push((password, answer.json["id"].clone()));
                let mail = service.mailbox.next("email_verification", "a@b.com").await;
                links.push((password, mail.token()));
            }
            let of = |who: &str| links.iter().find(|(password, _)| *password == who).unwrap();
            assert_eq!(service.verify(&of(owner).1).await.status, 204);
            let token = service.login("a@b.com", owner).await;
            assert_eq!(token.status, 200, "{}", token.text);
            let (_, id) = ids.iter().find(|(password, _)| *password == owner).unwrap();
            assert_eq!(claims(token.json["access_token"].as_str().unwrap())["sub"], *id);
            let theirs = service.login("a@b.com", attacker).await;
            assert_refused(&theirs, 401, "invalid_credentials");
            // What the owner's mailbox still has of the attacker does nothing, even if it is followed.
            assert_refused(&service.verify(&of(attacker).1).await, 400, "invalid_link");
            assert_eq!(service.login("a@b.com", owner).await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_login_knows_the_newest_registration_only_and_a_resend_serves_it() {
    for engine in ENGINES {
        let service = Service::start(engine, &[REQUIRED]).await;
        service.register("a@b.com", PASSWORD).await;
        service.mailbox.next("email_verification", "a@b.com").await;
        service.register("a@b.com", OTHER_PASSWORD).await;
        service.mailbox.next("email_verification", "a@b.com").await;
        assert_refused(&service.login("a@b.com", PASSWORD).await, 401, "invalid_credentials");
        assert_refused(&service.login("a@b.com", OTHER_PASSWORD).await, 403, "email_not_verified");
        assert_eq!(service.resend("a@b.com").await.status, 202);
        let link = service.mailbox.next("email_verification", "a@b.com").await.token();
        assert_eq!(service.verify(&link).await.status, 204);
        assert_eq!(service.login("a@b.com", OTHER_PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn a_reset_of_an_address_with_registrations_makes_the_account_and_ends_them() {
    for engine in ENGINES {
        let service = Service::start(engine, &[REQUIRED]).await;
        service.register("a@b.com", "the attacker's own").await;
        let theirs = service.mailbox.next("email_verification", "a@b.com").await.token();
        service.forgot("a@b.com").await;
        let link = service.mailbox.next("password_reset", "a@b.com").await.token();
        assert_eq!(service.reset(&link, PASSWORD).await.status, 204);
        assert_eq!(claims(&service.running.login("a@b.com").await)["email_verified"], true);
        assert_refused(&service.verify(&theirs).await, 400, "invalid_link");
        assert_refused(&service.reset(&link, OTHER_PASSWORD).await, 400, "invalid_link");
        let login = service.login("a@b.com", "the attacker's own").await;
        assert_refused(&login, 401, "invalid_credentials");
    }
}

#[tokio::test]
async fn twenty_registrations_of_an_email_live_side_by_side() {
    for engine in ENGINES {
        let service = Service::start(engine, &[REQUIRED]).await;
        let mut links = Vec::new();
        for number in 0..21 {
            service.register("a@b.com", &format!("password number {number}")).await;
            links.push(service.mailbox.next("email_verification", "a@b.com").await.token());
        }
        assert_refused(&service.verify(&links[0]).await, 400, "invalid_link");
        assert_eq!(service.verify(&links[1]).await.status, 204);
        assert_eq!(service.login("a@b.com", "password number 1").await.status, 200);
        for link in &links[2..] {
            assert_refused(&service.verify(link).await, 400, "invalid_link");
        }
    }
}

#[tokio::test]
async fn a_link_that_is_too_old_can_be_sent_again() {
    for engine in ENGINES {
        let short = (config::EMAIL_VERIFICATION_TTL, "60");
        let service = Service::start(engine, &[REQUIRED, short]).await;
        service.register("a@b.com", PASSWORD).await;
        let old = service.mailbox.next("email_verification", "a@b.com").await.token();
        service.running.advance_clock(TimeDelta::seconds(61));
        assert_refused(&service.verify(&old).await, 400, "invalid_link");
        service.resend("a@b.com").await;
        let new = service.mailbox.next("email_verification", "a@b.com").await.token();
        assert_eq!(service.verify(&new).await.status, 204);
    }
}

#[tokio::test]
async fn accounts_from_before_have_to_confirm_their_address() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        let service = Service::start_on(service.stop().await, &[REQUIRED]).await;
        assert_refused(&service.login("a@b.com", PASSWORD).await, 403, "email_not_verified");
        let link = service.mailbox.next("email_verification", "a@b.com").await.token();
        assert_refused(&service.login("a@b.com", "wrong one").await, 401, "invalid_credentials");
        assert_eq!(service.verify(&link).await.status, 204);
        assert_eq!(service.login("a@b.com", PASSWORD).await.status, 200);
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
}

#[tokio::test]
async fn a_closed_service_registers_nobody() {
    let service = Service::start(Engine::Sqlite, &[(config::REGISTRATION, "closed")]).await;
    for body in [json!({"email": "a@b.com", "password": PASSWORD}), json!({})] {
        let answer = service.post("/auth/register", body).await;
        assert_refused(&answer, 403, "registration_closed");
    }
}
