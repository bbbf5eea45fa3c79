//! What no longer counts is removed, and nothing else.

use auth_service::{config, store::Store};
use chrono::TimeDelta;
use serde_json::json;
use service_kit::settings::Setting;
use sql_kit::{read, values};
use test_kit::{ENGINES, TestDatabase};

use crate::support::{PASSWORD, Running};

/// Rows of the tables that are pruned, in the order of the test.
async fn rows(store: &Store) -> [i64; 6] {
    let counted = read!(store, |unit| {
        let row = unit
            .fetch_one(
                "SELECT (SELECT count(*) FROM sessions) AS sessions,
                        (SELECT count(*) FROM revocations) AS revocations,
                        (SELECT count(*) FROM links) AS links,
                        (SELECT count(*) FROM link_quotas) AS quotas,
                        (SELECT count(*) FROM login_failures) AS failures,
                        (SELECT count(*) FROM registrations) AS registrations",
                values![],
            )
            .await?;
        let names = ["sessions", "revocations", "links", "quotas", "failures", "registrations"];
        let mut counts = [0; 6];
        for (count, name) in counts.iter_mut().zip(names) {
            *count = row.get(name)?;
        }
        Ok(counts)
    });
    counted.await.unwrap()
}

/// Two sessions of which one ends by a logout, a reset that was asked for, a failed login, and a
/// registration that nobody has confirmed.
async fn leave_traces(service: &Running, email: &str) {
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let body = json!({"email": email, "password": PASSWORD, "offline_access": true});
        let login = service.rest.post("/auth/login", &body).await;
        assert_eq!(login.status, 200, "{}", login.text);
        tokens.push(json!({"refresh_token": login.json["refresh_token"]}));
    }
    assert_eq!(service.rest.post("/auth/logout", &tokens[0]).await.status, 204);
    let forgot = json!({"email": email});
    assert_eq!(service.rest.post("/auth/password/forgot", &forgot).await.status, 202);
    let wrong = json!({"email": email, "password": "wrong"});
    assert_eq!(service.rest.post("/auth/login", &wrong).await.status, 401);
}

#[tokio::test]
async fn each_table_forgets_what_is_over_and_keeps_what_is_not() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let folder = database.folder().join("mail").display().to_string();
        let settings: [(Setting, &str); 1] = [(config::MAIL_DIR, &folder)];
        let service = Running::start_on(database, &settings).await;
        let store =
            Store::open(&service.database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
        for email in ["a@b.com", "c@d.com"] {
            service.register(email).await;
        }
        leave_traces(&service, "a@b.com").await;
        // Each failed login counts for its pair and for its account.
        let before = [1, 1, 1, 1, 2, 0];
        assert_eq!(rows(&store).await, before, "{engine:?}");
        service.service.prune().await;
        assert_eq!(rows(&store).await, before, "{engine:?}: nothing is over yet");

        // Longer than anything lives, and then the same again for somebody else.
        service.advance_clock(TimeDelta::days(31));
        leave_traces(&service, "c@d.com").await;
        assert_eq!(rows(&store).await, [2, 2, 2, 2, 4, 0], "{engine:?}");
        service.service.prune().await;
        assert_eq!(rows(&store).await, before, "{engine:?}");
        // The newest entry of the feed is where those stand who have read all.
        service.advance_clock(TimeDelta::days(31));
        service.service.prune().await;
        assert_eq!(rows(&store).await, [0, 1, 0, 0, 0, 0], "{engine:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_registration_that_nobody_confirms_is_forgotten() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let folder = database.folder().join("mail").display().to_string();
        let settings: [(Setting, &str); 2] =
            [(config::MAIL_DIR, &folder), (config::EMAIL_VERIFICATION, "required")];
        let service = Running::start_on(database, &settings).await;
        let store =
            Store::open(&service.database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
        service.register("a@b.com").await;
        service.service.prune().await;
        assert_eq!(rows(&store).await[5], 1, "{engine:?}");
        service.advance_clock(TimeDelta::days(31));
        service.register("c@d.com").await;
        service.service.prune().await;
        assert_eq!(rows(&store).await[5], 1, "{engine:?}");
        store.close().await;
    }
}
