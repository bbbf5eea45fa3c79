//! Throttling: both edges, both engines, and what it must not do.

use std::time::Duration;

use auth_service::{config, store::Store};
use http::Method;
use latchkey_contracts::auth::v1::{LoginRequest, auth_service_client::AuthServiceClient};
use serde_json::json;
use service_kit::settings::Setting;
use sql_kit::{read, transaction, values};
use test_kit::{Answer, ENGINES, Engine, channel, send};
use tonic_types::StatusExt as _;

use crate::support::{PASSWORD, Running};

/// So that a client can leave while its password is looked at.
const SLOW: (Setting, &str) = (config::BCRYPT_COST, "14");

const FEW: [(Setting, &str); 3] = [
    (config::LOGIN_FAILURES_PER_PAIR, "3"),
    (config::LOGIN_FAILURES_PER_ACCOUNT, "5"),
    (service_kit::runtime::TRUSTED_PROXIES, "127.0.0.0/8"),
];

async fn login_from(service: &Running, network: &str, email: &str, password: &str) -> Answer {
    let request = service
        .rest
        .request(Method::POST, "/auth/login")
        .header("x-forwarded-for", network)
        .json(&json!({"email": email, "password": password}));
    send(request).await
}

#[tokio::test]
async fn after_enough_failures_even_the_right_password_is_refused() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &FEW).await;
        service.register("a@b.com").await;
        for email in ["a@b.com", "unknown@b.com"] {
            // Neither case nor spaces nor the other edge give a fresh budget.
            for spelling in [email.to_uppercase(), format!(" {email} "), email.to_owned()] {
                let failed = login_from(&service, "1.1.1.1", &spelling, "wrong").await;
                assert_eq!(failed.status, 401, "{engine:?} {spelling:?}");
            }
            let refused = login_from(&service, "1.1.1.1", email, PASSWORD).await;
            assert_eq!(refused.status, 429, "{engine:?} {email}: {}", refused.text);
            assert_eq!(refused.code(), "too_many_attempts");
            let seconds: u64 = refused.header("retry-after").parse().unwrap();
            assert!((890..=900).contains(&seconds), "{seconds}");
            assert_eq!(refused.header("ratelimit-policy"), "\"login-failures-per-pair\";q=3;w=900");
            assert!(
                refused.header("ratelimit").starts_with("\"login-failures-per-pair\";r=0;t="),
                "{}",
                refused.header("ratelimit")
            );
            let mut client = AuthServiceClient::new(channel(service.grpc).await);
            let mut request = tonic::Request::new(LoginRequest {
                email: email.to_owned(),
                password: PASSWORD.to_owned(),
                ..Default::default()
            });
            request.metadata_mut().insert("x-forwarded-for", "1.1.1.1".parse().unwrap());
            let status = client.login(request).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        }
        // Another network has its own budget.
        assert_eq!(login_from(&service, "2.2.2.2", "a@b.com", PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn many_at_once_get_no_more_tries_than_one_by_one() {
    for engine in ENGINES {
        let service = std::sync::Arc::new(Running::start_with(engine, &FEW).await);
        service.register("a@b.com").await;
        let tries: Vec<_> = (0..12)
            .map(|_| {
                let service = std::sync::Arc::clone(&service);
                tokio::spawn(async move {
                    login_from(&service, "1.1.1.1", "a@b.com", "wrong").await.status.as_u16()
                })
            })
            .collect();
        let mut looked_at = 0;
        for attempt in tries {
            looked_at += u32::from(attempt.await.unwrap() == 401);
        }
        assert_eq!(looked_at, 3, "{engine:?}");
    }
}

#[tokio::test]
async fn right_passwords_at_once_are_no_failures() {
    for engine in ENGINES {
        let service = std::sync::Arc::new(Running::start_with(engine, &FEW).await);
        service.register("a@b.com").await;
        let tries: Vec<_> = (0..20)
            .map(|_| {
                let service = std::sync::Arc::clone(&service);
                tokio::spawn(async move {
                    login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await.status.as_u16()
                })
            })
            .collect();
        for attempt in tries {
            assert_eq!(attempt.await.unwrap(), 200, "{engine:?}");
        }
    }
}

/// Rows of the throttle in a database, of which some are pending.
pub(crate) async fn rows(service: &Running) -> (i64, i64) {
    let store =
        Store::open(&service.database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
    let counted = read!(store, |unit| {
        let row = unit
            .fetch_one(
                "SELECT count(*) AS n, count(CASE WHEN pending > 0 THEN 1 END) AS p FROM login_failures",
                values![],
            )
            .await?;
        Ok((row.get("n")?, row.get("p")?))
    });
    let counted = counted.await.unwrap();
    store.close().await;
    counted
}

async fn nothing_pending(service: &Running) -> i64 {
    let settled = async {
        loop {
            let (rows, pending) = rows(service).await;
            if pending == 0 {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap()
}

#[tokio::test]
async fn those_who_leave_before_their_password_is_looked_at_have_not_failed() {
    for engine in ENGINES {
        let one_thread = [
            FEW[0],
            FEW[1],
            FEW[2],
            (config::HASH_WORKERS, "1"),
            (config::BCRYPT_INTERLEAVE, "false"),
            SLOW,
        ];
        let service = std::sync::Arc::new(Running::start_with(engine, &one_thread).await);
        service.register("a@b.com").await;
        // The one thread is busy with somebody else's password.
        let busy = tokio::spawn({
            let service = std::sync::Arc::clone(&service);
            async move { login_from(&service, "9.9.9.9", "busy@b.com", "wrong").await.status }
        });
        tokio::time::sleep(Duration::from_millis(60)).await;
        // After different times, so that some leave while the database commits that they try.
        for milliseconds in (2..40).step_by(2) {
            let leaving = login_from(&service, "1.1.1.1", "a@b.com", "wrong");
            let _ = tokio::time::timeout(Duration::from_millis(milliseconds), leaving).await;
        }
        assert_eq!(busy.await.unwrap(), 401);
        // Only what the busy one left, for its pair and its account.
        assert_eq!(nothing_pending(&service).await, 2, "{engine:?}");
        let stayed = login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await;
        assert_eq!(stayed.status, 200, "{engine:?}: {}", stayed.text);
    }
}

#[tokio::test]
async fn leaving_after_a_password_is_looked_at_saves_no_failure() {
    for engine in ENGINES {
        let slow = [FEW[0], FEW[1], FEW[2], SLOW];
        let service = Running::start_with(engine, &slow).await;
        service.register("a@b.com").await;
        // By a closed connection, and by a deadline of gRPC.
        for number in 0..3 {
            let limit = Duration::from_millis(60);
            if number == 0 {
                let leaving = login_from(&service, "1.1.1.1", "a@b.com", "wrong");
                assert!(tokio::time::timeout(limit, leaving).await.is_err(), "hashing is too fast");
            } else {
                let mut client = AuthServiceClient::new(channel(service.grpc).await);
                let mut request = tonic::Request::new(LoginRequest {
                    email: "a@b.com".to_owned(),
                    password: "wrong".to_owned(),
                    ..Default::default()
                });
                request.metadata_mut().insert("x-forwarded-for", "1.1.1.1".parse().unwrap());
                request.set_timeout(limit);
                client.login(request).await.unwrap_err();
            }
            nothing_pending(&service).await;
        }
        let refused = login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await;
        assert_eq!(refused.status, 429, "{engine:?}: {}", refused.text);
    }
}

#[tokio::test]
async fn what_is_refused_or_succeeds_leaves_no_row() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &FEW).await;
        service.register("a@b.com").await;
        assert_eq!(login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await.status, 200);
        assert_eq!(nothing_pending(&service).await, 0, "{engine:?}");
        for _ in 0..3 {
            login_from(&service, "1.1.1.1", "a@b.com", "wrong").await;
        }
        assert_eq!(nothing_pending(&service).await, 2, "{engine:?}");
        for _ in 0..5 {
            assert_eq!(login_from(&service, "1.1.1.1", "a@b.com", "wrong").await.status, 429);
        }
        assert_eq!(rows(&service).await, (2, 0), "{engine:?}");
    }
}

#[tokio::test]
async fn replicas_share_what_is_counted() {
    for engine in ENGINES {
        let one = Running::start_with(engine, &FEW).await;
        let two = Running::start_beside(&one, &FEW).await;
        one.register("a@b.com").await;
        // At once, at both.
        let tries = (0..12).map(|number| {
            let service = if number % 2 == 0 { &one } else { &two };
            login_from(service, "1.1.1.1", "a@b.com", "wrong")
        });
        let looked_at = futures_util::future::join_all(tries).await;
        let looked_at = looked_at.iter().filter(|answer| answer.status == 401).count();
        assert_eq!(looked_at, 3, "{engine:?}");
        for service in [&one, &two] {
            let refused = login_from(service, "1.1.1.1", "a@b.com", PASSWORD).await;
            assert_eq!(refused.status, 429, "{engine:?}");
        }
    }
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_of_its_owner() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &FEW).await;
        let id = service.register("a@b.com").await;
        assert_eq!(login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await.status, 200);
        login_from(&service, "1.1.1.1", "a@b.com", "wrong").await;
        service.delete_account(&id).await;
        let store =
            Store::open(&service.database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
        let left = read!(store, |unit| {
            let row = unit
                .fetch_one(
                    "SELECT (SELECT count(*) FROM login_failures)
                          + (SELECT count(*) FROM login_networks) AS n",
                    values![],
                )
                .await?;
            row.get::<i64>("n")
        });
        assert_eq!(left.await, Ok(0), "{engine:?}");
    }
}

#[tokio::test]
async fn deletions_and_logins_at_once_do_not_wait_for_each_other_for_ever() {
    for engine in ENGINES {
        let service = std::sync::Arc::new(Running::start_with(engine, &FEW[2..]).await);
        for round in 0..5 {
            let email = format!("p{round}@b.com");
            let id = service.register(&email).await;
            let logins: Vec<_> = (0..8)
                .map(|number| {
                    let (service, email) = (std::sync::Arc::clone(&service), email.clone());
                    tokio::spawn(async move {
                        let network = format!("1.1.1.{number}");
                        login_from(&service, &network, &email, PASSWORD).await.status.as_u16()
                    })
                })
                .collect();
            service.delete_account(&id).await;
            for login in logins {
                let status = login.await.unwrap();
                assert!([200, 401].contains(&status), "{engine:?}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn pruning_removes_all_that_no_longer_counts_and_nothing_else() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &FEW).await;
        let store =
            Store::open(&service.database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
        let now = store.now();
        let add = |number: i64, ends: chrono::TimeDelta| {
            let (store, key) = (store.clone(), number.to_be_bytes());
            async move {
                let add = transaction!(store, |unit| {
                    unit.execute(
                        "INSERT INTO login_failures
                             (subject, network, failures, expires_at, pending, pending_until)
                         VALUES ($1, '', 1, $2, 0, $2)",
                        values![&key[..], now + ends],
                    )
                    .await
                });
                add.await.unwrap();
            }
        };
        for number in 0..30 {
            let minutes = if number % 3 == 0 { 5 } else { -5 };
            add(number, chrono::TimeDelta::minutes(minutes)).await;
        }
        assert_eq!(store.prune_attempts(now).await, Ok(20), "{engine:?}");
        assert_eq!(store.prune_attempts(now).await, Ok(0), "{engine:?}");
        assert_eq!(rows(&service).await, (10, 0), "{engine:?}");
    }
}

#[tokio::test]
async fn a_success_resets_its_pair() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &FEW).await;
        service.register("a@b.com").await;
        for _ in 0..3 {
            for _ in 0..2 {
                assert_eq!(login_from(&service, "1.1.1.1", "a@b.com", "wrong").await.status, 401);
            }
            let right = login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await;
            if right.status == 200 {
                continue;
            }
            // Successes do not reset the count over all networks, but their network is spared it.
            panic!("{engine:?}: {}", right.text);
        }
    }
}

#[tokio::test]
async fn nobody_is_locked_out_of_a_network_they_have_logged_in_from() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &FEW).await;
        service.register("a@b.com").await;
        assert_eq!(login_from(&service, "9.9.9.9", "a@b.com", PASSWORD).await.status, 200);
        for network in ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4", "5.5.5.5"] {
            assert_eq!(login_from(&service, network, "a@b.com", "wrong").await.status, 401);
        }
        let strange = login_from(&service, "6.6.6.6", "a@b.com", PASSWORD).await;
        assert_eq!(strange.status, 429, "{engine:?}");
        assert!(strange.header("ratelimit").starts_with("\"login-failures-per-account\""));
        let known = login_from(&service, "9.9.9.9", "a@b.com", PASSWORD).await;
        assert_eq!(known.status, 200, "{engine:?}: {}", known.text);
    }
}

#[tokio::test]
async fn the_window_ends_and_a_restart_does_not_end_it() {
    for engine in ENGINES {
        let window = [FEW[0], FEW[1], FEW[2], (config::LOGIN_FAILURE_WINDOW, "6")];
        let service = Running::start_with(engine, &window).await;
        service.register("a@b.com").await;
        for _ in 0..3 {
            login_from(&service, "1.1.1.1", "a@b.com", "wrong").await;
        }
        let service = Running::start_on(service.stop().await, &window).await;
        let refused = login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await;
        assert_eq!(refused.status, 429, "{engine:?}");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert_eq!(login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn a_network_has_its_share_of_requests_each_minute() {
    let few = [
        (config::LOGINS_PER_MINUTE, "2"),
        (config::REGISTRATIONS_PER_MINUTE, "2"),
        // Nobody is trusted, so what a client says of its address changes nothing.
    ];
    let service = Running::start_with(Engine::Sqlite, &few).await;
    for path in ["/auth/register", "/auth/login"] {
        let mut statuses = Vec::new();
        for number in 0..3 {
            let request = service
                .rest
                .request(Method::POST, path)
                .header("x-forwarded-for", format!("1.1.1.{number}"))
                .json(&json!({"email": format!("p{number}@b.com"), "password": PASSWORD}));
            let answer = send(request).await;
            statuses.push(answer.status.as_u16());
            if number == 2 {
                assert_eq!(answer.code(), "too_many_requests");
                assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 60);
                assert!(answer.header("ratelimit-policy").ends_with(";q=2;w=60"));
            }
        }
        assert_eq!(statuses[2], 429, "{path}: {statuses:?}");
        assert!(statuses[..2].iter().all(|status| *status < 300), "{path}: {statuses:?}");
    }
}
