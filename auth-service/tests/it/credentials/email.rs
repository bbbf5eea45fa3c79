//! Change of the address.

use auth_service::config;
use test_kit::ENGINES;

use super::{OTHER_PASSWORD, Service, assert_refused, claims};
use crate::support::PASSWORD;

#[tokio::test]
async fn a_new_address_takes_effect_when_it_is_confirmed() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::EMAIL_VERIFICATION, "on")]).await;
        service.register("a@b.com", PASSWORD).await;
        service.mailbox.next("email_verification", "a@b.com").await;
        let (token, refresh) = service.session("a@b.com", PASSWORD).await;

        let wrong = service.change_email(&token, "new@b.com", "wrong password").await;
        assert_refused(&wrong, 403, "invalid_credentials");
        assert_refused(
            &service.change_email(&token, "new", PASSWORD).await,
            400,
            "validation_failed",
        );
        let asked = service.change_email(&token, "New@b.com", PASSWORD).await;
        assert_eq!((asked.status.as_u16(), asked.text.as_str()), (202, ""));
        let told = service.mailbox.next("email_change_requested", "a@b.com").await;
        assert!(told.text.contains("new@b.com"));
        let link = service.mailbox.next("email_change", "new@b.com").await;
        // Until then everything is as it was.
        assert!(service.takes(&token).await);
        assert_refused(&service.login("new@b.com", PASSWORD).await, 401, "invalid_credentials");

        assert_eq!(service.verify(&link.token()).await.status, 204);
        for to in ["a@b.com", "new@b.com"] {
            let told = service.mailbox.next("email_changed", to).await;
            assert!(told.text.contains("If it was not you"));
        }
        assert!(!service.takes(&token).await);
        assert_refused(&service.refresh(&refresh).await, 401, "invalid_refresh_token");
        assert_refused(&service.login("a@b.com", PASSWORD).await, 401, "invalid_credentials");
        let token = service.running.login("new@b.com").await;
        assert_eq!(
            (&claims(&token)["email"], &claims(&token)["email_verified"]),
            (&"new@b.com".into(), &true.into())
        );
        assert_refused(&service.verify(&link.token()).await, 400, "invalid_link");
        assert_eq!(service.register("a@b.com", PASSWORD).await.status, 201);
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_to_its_owner_alone() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        service.register("taken@b.com", OTHER_PASSWORD).await;
        let token = service.running.login("a@b.com").await;
        let asked = service.change_email(&token, "taken@b.com", PASSWORD).await;
        assert_eq!((asked.status.as_u16(), asked.text.as_str()), (202, ""));
        let mail = service.mailbox.next("email_taken", "taken@b.com").await;
        assert!(!mail.text.contains("#token="), "{}", mail.text);
        service.mailbox.next("email_change_requested", "a@b.com").await;
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
}

#[tokio::test]
async fn an_address_that_is_taken_meanwhile_is_a_conflict() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        let token = service.running.login("a@b.com").await;
        service.change_email(&token, "new@b.com", PASSWORD).await;
        let link = service.mailbox.next("email_change", "new@b.com").await.token();
        service.register("new@b.com", OTHER_PASSWORD).await;
        assert_refused(&service.verify(&link).await, 409, "email_already_registered");
        assert_refused(&service.verify(&link).await, 400, "invalid_link");
        assert!(service.takes(&token).await);
        assert_eq!(service.login("new@b.com", OTHER_PASSWORD).await.status, 200);
        assert_eq!(service.login("a@b.com", PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn a_new_change_replaces_the_one_that_waits_and_a_resend_serves_it() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        service.register("a@b.com", PASSWORD).await;
        let token = service.running.login("a@b.com").await;
        service.change_email(&token, "one@b.com", PASSWORD).await;
        let first = service.mailbox.next("email_change", "one@b.com").await.token();
        service.change_email(&token, "two@b.com", PASSWORD).await;
        let second = service.mailbox.next("email_change", "two@b.com").await.token();
        assert_refused(&service.verify(&first).await, 400, "invalid_link");
        assert_eq!(service.resend("two@b.com").await.status, 202);
        let again = service.mailbox.next("email_change", "two@b.com").await.token();
        assert_ne!(again, second);
        assert_eq!(service.verify(&again).await.status, 204);
        assert_refused(&service.verify(&second).await, 400, "invalid_link");
        assert_eq!(service.login("two@b.com", PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn many_who_confirm_one_address_at_once_do_not_fail() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        let mut links = Vec::new();
        for email in ["a@b.com", "b@b.com", "c@b.com"] {
            service.register(email, PASSWORD).await;
            let token = service.running.login(email).await;
            service.change_email(&token, "new@b.com", PASSWORD).await;
            links.push(service.mailbox.next("email_change", "new@b.com").await.token());
        }
        let used =
            futures_util::future::join_all(links.iter().map(|link| service.verify(link))).await;
        assert_eq!(used.iter().filter(|answer| answer.status == 204).count(), 1);
        for answer in used.iter().filter(|answer| answer.status != 204) {
            assert_refused(answer, 409, "email_already_registered");
        }
        for link in &links {
            assert_refused(&service.verify(link).await, 400, "invalid_link");
        }
    }
}

#[tokio::test]
async fn a_stranger_is_sent_so_many_links_by_changes_and_no_more() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::RESETS_PER_HOUR, "2")]).await;
        service.register("a@b.com", PASSWORD).await;
        let token = service.running.login("a@b.com").await;
        let mut links = Vec::new();
        for number in 0..4 {
            let answer = service.change_email(&token, "new@b.com", PASSWORD).await;
            assert_eq!(answer.status, 202, "{}", answer.text);
            if number < 2 {
                links.push(service.mailbox.next("email_change", "new@b.com").await.token());
                service.mailbox.next("email_change_requested", "a@b.com").await;
            }
        }
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
        // The change that was told last still waits.
        assert_eq!(service.verify(&links[1]).await.status, 204);
    }
}

/// Whoever asks for the link again wants that of the last attempt, not that of a stranger before it.
#[tokio::test]
async fn of_a_change_and_a_registration_a_resend_serves_the_newest() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::EMAIL_VERIFICATION, "required")]).await;
        service.register("a@b.com", PASSWORD).await;
        let link = service.mailbox.next("email_verification", "a@b.com").await.token();
        assert_eq!(service.verify(&link).await.status, 204);
        let token = service.running.login("a@b.com").await;
        service.change_email(&token, "new@b.com", PASSWORD).await;
        service.mailbox.next("email_change", "new@b.com").await;

        service.register("new@b.com", OTHER_PASSWORD).await;
        service.mailbox.next("email_verification", "new@b.com").await;
        service.resend("new@b.com").await;
        service.mailbox.next("email_verification", "new@b.com").await;

        service.change_email(&token, "new@b.com", PASSWORD).await;
        service.mailbox.next("email_change", "new@b.com").await;
        service.resend("new@b.com").await;
        let link = service.mailbox.next("email_change", "new@b.com").await.token();
        assert_eq!(service.verify(&link).await.status, 204);
        assert_eq!(service.login("new@b.com", PASSWORD).await.status, 200);
    }
}
