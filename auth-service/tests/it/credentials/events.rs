//! What each part of an account's life leaves in the events.

use auth_service::{
    config,
    store::{EventRecord, Store},
};
use http::Method;
use serde_json::{Value, json};
use service_kit::settings::Setting;
use test_kit::{ENGINES, send};

use super::{OTHER_PASSWORD, Service, claims};
use crate::{
    events::{all, connect, names},
    support::PASSWORD,
};

const VERIFIED: (Setting, &str) = (config::EMAIL_VERIFICATION, "on");
const PROXIES: (Setting, &str) = (service_kit::runtime::TRUSTED_PROXIES, "127.0.0.0/8");

/// The events since the last look.
struct Watch {
    store: Store,
    position: i64,
}

impl Watch {
    fn on(service: &Service) -> Self {
        Self { store: connect(&service.running.database), position: 0 }
    }

    async fn new_events(&mut self) -> Vec<EventRecord> {
        let mut events = all(&self.store).await;
        events.retain(|event| event.position > self.position);
        self.position = events.last().map_or(self.position, |event| event.position);
        events
    }

    /// Asserts which events have come since the last look, and by whom.
    async fn expect(&mut self, wanted: &[(&str, &str)]) -> Vec<EventRecord> {
        let events = self.new_events().await;
        let seen: Vec<_> = events.iter().map(|e| (e.name.as_str(), e.actor.as_str())).collect();
        assert_eq!(seen, wanted);
        events
    }
}

async fn login_from(service: &Service, network: &str, password: &str, offline: bool) -> u16 {
    let body = json!({"email": "a@b.com", "password": password, "offline_access": offline});
    let request = service.running.rest.request(Method::POST, "/auth/login");
    send(request.header("x-forwarded-for", network).json(&body)).await.status.as_u16()
}

#[tokio::test]
async fn each_thing_that_happens_to_an_account_is_an_event() {
    for engine in ENGINES {
        let service = Service::start(engine, &[VERIFIED]).await;
        let mut watch = Watch::on(&service);
        let id =
            service.register("a@b.com", PASSWORD).await.json["id"].as_str().unwrap().to_owned();
        let events = watch.expect(&[("account.registered", "anonymous")]).await;
        assert_eq!(Value::Object(events[0].data.clone()), json!({"email_verified": false}));
        assert_eq!(events[0].network.as_deref(), Some("127.0.0.1"));
        assert_eq!(events[0].account.unwrap().to_string(), id);
        assert_eq!(events[0].request_id.as_ref().unwrap().len(), 36);

        let link = service.mailbox.next("email_verification", "a@b.com").await;
        assert_eq!(service.verify(&link.token()).await.status, 204);
        watch.expect(&[("email.verified", "account")]).await;
        assert_eq!(service.verify(&link.token()).await.status, 400);
        assert_eq!(service.register("a@b.com", PASSWORD).await.status, 409);
        watch.expect(&[]).await;

        let (token, refresh) = service.session("a@b.com", PASSWORD).await;
        let sid = claims(&token)["sid"].clone();
        let begun = [("login.new_network", "account"), ("session.begun", "account")];
        let events = watch.expect(&begun).await;
        assert_eq!(events[1].data["session"], sid);
        let logout = service.post("/auth/logout", json!({"refresh_token": refresh})).await;
        assert_eq!(logout.status, 204);
        let ended = watch.expect(&[("session.ended", "account")]).await;
        assert_eq!(Value::Object(ended[0].data.clone()), json!({"session": sid, "by": "logout"}));
        assert_eq!(ended[0].account.unwrap().to_string(), id);
        service.post("/auth/logout", json!({"refresh_token": refresh})).await;
        watch.expect(&[]).await;

        // A login without a session, from a network that is known, writes none.
        let token = service.running.login("a@b.com").await;
        watch.expect(&[]).await;
        assert_eq!(service.change_password(&token, "wrong", OTHER_PASSWORD).await.status, 403);
        watch.expect(&[]).await;
        let changed = service.change_password(&token, PASSWORD, OTHER_PASSWORD).await;
        let token = changed.json["access_token"].as_str().unwrap();
        // The right password has come after a wrong one.
        let events =
            watch.expect(&[("login.failed", "anonymous"), ("password.changed", "account")]).await;
        assert_eq!(
            Value::Object(events[0].data.clone()),
            json!({"failures": 1, "policy": null}),
            "{engine:?}"
        );

        assert_eq!(service.change_email(token, "new@b.com", OTHER_PASSWORD).await.status, 202);
        watch.expect(&[("email.change_requested", "account")]).await;
        let link = service.mailbox.next("email_change", "new@b.com").await;
        assert_eq!(service.verify(&link.token()).await.status, 204);
        watch.expect(&[("email.changed", "account")]).await;

        service.forgot("new@b.com").await;
        let link = service.mailbox.next("password_reset", "new@b.com").await;
        assert_eq!(service.reset(&link.token(), "weak").await.status, 400);
        watch.expect(&[]).await;
        assert_eq!(service.reset(&link.token(), PASSWORD).await.status, 204);
        watch.expect(&[("password.reset", "account")]).await;

        let (token, _) = service.session("new@b.com", PASSWORD).await;
        let (other, _) = service.session("new@b.com", PASSWORD).await;
        watch.new_events().await;
        let path = format!("/auth/sessions/{}", claims(&other)["sid"].as_str().unwrap());
        assert_eq!(service.call(Method::DELETE, &path, &token, json!({})).await.status, 204);
        let ended = watch.expect(&[("session.ended", "account")]).await;
        assert_eq!(ended[0].data["by"], "owner");
        service.call(Method::DELETE, "/auth/sessions", &token, json!({})).await;
        watch.expect(&[("session.all_ended", "account")]).await;

        let token = service.running.login("new@b.com").await;
        watch.new_events().await;
        assert_eq!(service.delete(&token, PASSWORD).await.status, 204);
        watch.expect(&[("account.deleted", "account")]).await;

        // Nothing leads to the person any more, in whichever event.
        for event in all(&watch.store).await {
            let told = format!("{event:?}");
            assert!(event.account.is_none() && event.network.is_none(), "{told}");
            assert!(event.request_id.is_none() && event.data.is_empty(), "{told}");
            assert!(!told.contains(&id) && !told.contains('@'), "{told}");
        }
        service.stop().await;
    }
}

#[tokio::test]
async fn a_link_that_makes_an_account_or_an_address_is_an_event() {
    for engine in ENGINES {
        let required = (config::EMAIL_VERIFICATION, "required");
        let service = Service::start(engine, &[required]).await;
        let mut watch = Watch::on(&service);
        for email in ["a@b.com", "b@b.com"] {
            service.register(email, PASSWORD).await;
        }
        watch.expect(&[]).await;
        let link = service.mailbox.next("email_verification", "a@b.com").await;
        service.verify(&link.token()).await;
        let events = watch.expect(&[("account.registered", "account")]).await;
        assert_eq!(events[0].data["email_verified"], true);
        service.forgot("b@b.com").await;
        let link = service.mailbox.next("password_reset", "b@b.com").await;
        assert_eq!(service.reset(&link.token(), OTHER_PASSWORD).await.status, 204);
        let events = watch.expect(&[("account.registered", "account")]).await;
        assert_eq!(events[0].data["email_verified"], true);
        service.stop().await;

        let service = Service::start(engine, &[VERIFIED]).await;
        service.register("a@b.com", PASSWORD).await;
        let mut watch = Watch::on(&service);
        watch.new_events().await;
        service.forgot("a@b.com").await;
        let link = service.mailbox.next("password_reset", "a@b.com").await;
        service.reset(&link.token(), OTHER_PASSWORD).await;
        // Whoever used the link reads the mail of the address.
        watch.expect(&[("password.reset", "account"), ("email.verified", "account")]).await;
    }
}

#[tokio::test]
async fn failed_logins_are_told_in_bulk_and_unknown_addresses_not_at_all() {
    for engine in ENGINES {
        let limits =
            [(config::LOGIN_FAILURES_PER_PAIR, "3"), (config::LOGIN_FAILURES_PER_ACCOUNT, "4")];
        let service = Service::start(engine, &[limits[0], limits[1], PROXIES]).await;
        service.register("a@b.com", PASSWORD).await;
        let mut watch = Watch::on(&service);
        watch.new_events().await;
        for (network, wanted) in [
            ("192.0.2.1", 401),
            ("192.0.2.1", 401),
            ("192.0.2.1", 401),
            ("192.0.2.1", 429),
            ("192.0.2.2", 401),
            ("192.0.2.2", 429),
        ] {
            assert_eq!(login_from(&service, network, "wrong", false).await, wanted);
        }
        let failed = [("login.failed", "anonymous"), ("login.failed", "anonymous")];
        let events = watch.expect(&failed).await;
        let told = |event: &EventRecord| {
            (event.network.clone().unwrap(), Value::Object(event.data.clone()))
        };
        let pair = json!({"failures": 3, "policy": "login-failures-per-pair"});
        let account = json!({"failures": 4, "policy": "login-failures-per-account"});
        assert_eq!(told(&events[0]), ("192.0.2.1".to_owned(), pair));
        assert_eq!(told(&events[1]), ("192.0.2.2".to_owned(), account), "{engine:?}");
        for _ in 0..4 {
            service.login("nobody@b.com", "wrong").await;
        }
        watch.expect(&[]).await;
    }
}

#[tokio::test]
async fn a_login_from_a_new_network_is_an_event_once_with_and_without_limits() {
    for engine in ENGINES {
        for limit in ["10", "0"] {
            let limits = [
                (config::LOGIN_FAILURES_PER_PAIR, limit),
                (config::LOGIN_FAILURES_PER_ACCOUNT, limit),
                PROXIES,
            ];
            let service = Service::start(engine, &limits).await;
            service.register("a@b.com", PASSWORD).await;
            let mut watch = Watch::on(&service);
            watch.new_events().await;
            for network in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"] {
                assert_eq!(login_from(&service, network, PASSWORD, false).await, 200);
            }
            let new = ("login.new_network", "account");
            let events = watch.expect(&[new, new]).await;
            let networks: Vec<_> = events.iter().map(|e| e.network.clone().unwrap()).collect();
            assert_eq!(networks, ["192.0.2.1", "192.0.2.2"], "{engine:?} {limit}");
            assert_eq!(login_from(&service, "192.0.2.9", "wrong", false).await, 401);
            watch.expect(&[]).await;
        }
    }
}

#[tokio::test]
async fn the_session_that_gives_way_to_a_new_one_and_a_stolen_token_are_events() {
    for engine in ENGINES {
        let rules = [(config::SESSIONS_PER_ACCOUNT, "1"), (config::REFRESH_RETRY_WINDOW, "0")];
        let service = Service::start(engine, &rules).await;
        service.register("a@b.com", PASSWORD).await;
        let (first, _) = service.session("a@b.com", PASSWORD).await;
        let mut watch = Watch::on(&service);
        watch.new_events().await;
        let (second, refresh) = service.session("a@b.com", PASSWORD).await;
        let events =
            watch.expect(&[("session.begun", "account"), ("session.ended", "account")]).await;
        let given_way = json!({"session": claims(&first)["sid"], "by": "limit"});
        assert_eq!(Value::Object(events[1].data.clone()), given_way);

        // The owner goes on twice; whoever then comes with the first token has stolen it.
        let next = service.refresh(&refresh).await.json["refresh_token"].clone();
        assert_eq!(service.refresh(next.as_str().unwrap()).await.status, 200);
        watch.expect(&[]).await;
        assert_eq!(service.refresh(&refresh).await.status, 401);
        let events = watch.expect(&[("session.reuse_detected", "anonymous")]).await;
        assert_eq!(events[0].data["session"], claims(&second)["sid"], "{engine:?}");
        assert_eq!(service.refresh(&refresh).await.status, 401);
        watch.expect(&[]).await;
    }
}

#[tokio::test]
async fn another_service_that_deletes_an_account_is_named() {
    for engine in ENGINES {
        let service = Service::start(engine, &[]).await;
        let id =
            service.register("a@b.com", PASSWORD).await.json["id"].as_str().unwrap().to_owned();
        service.running.delete_account(&id).await;
        service.running.delete_account(&id).await;
        let events = all(&connect(&service.running.database)).await;
        assert_eq!(names(&events), ["account.registered", "account.deleted"]);
        assert_eq!(events[1].actor, "service", "{engine:?}");
    }
}
