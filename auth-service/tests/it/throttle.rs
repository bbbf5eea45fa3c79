//! Throttling: both edges, both engines, and what it must not do.

use std::time::Duration;

use auth_service::config;
use http::Method;
use latchkey_contracts::auth::v1::{LoginRequest, auth_service_client::AuthServiceClient};
use serde_json::json;
use service_kit::settings::Setting;
use test_kit::{Answer, ENGINES, Engine, channel, send};
use tonic_types::StatusExt as _;

use crate::support::{PASSWORD, Running};

const FEW: [(Setting, &str); 3] = [
    (config::LOGIN_FAILURES_PER_PAIR, "3"),
    (config::LOGIN_FAILURES_PER_ACCOUNT, "5"),
    (config::TRUSTED_PROXIES, "127.0.0.0/8"),
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

#[tokio::test]
async fn those_who_leave_before_the_answer_have_not_failed() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &FEW).await;
        service.register("a@b.com").await;
        for _ in 0..6 {
            let leaving = login_from(&service, "1.1.1.1", "a@b.com", PASSWORD);
            let _ = tokio::time::timeout(Duration::from_millis(25), leaving).await;
        }
        let stayed = login_from(&service, "1.1.1.1", "a@b.com", PASSWORD).await;
        assert_eq!(stayed.status, 200, "{engine:?}: {}", stayed.text);
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
