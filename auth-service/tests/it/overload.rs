//! More logins than can be hashed in time: they are told at once, and when to come again.

use std::time::{Duration, Instant};

use auth_service::config;
use futures_util::future::join_all;
use latchkey_contracts::auth::v1::{LoginRequest, auth_service_client::AuthServiceClient};
use serde_json::json;
use service_kit::settings::Setting;
use test_kit::{ENGINES, channel};
use tonic_types::StatusExt as _;

use crate::support::Running;

/// One hash at a time, each of which takes a second or more where this is not optimised.
const SLOW: [(Setting, &str); 4] = [
    (config::HASH_WORKERS, "1"),
    (config::BCRYPT_INTERLEAVE, "false"),
    (config::BCRYPT_COST, "14"),
    (config::HASH_QUEUE_TIMEOUT, "1"),
];

#[tokio::test]
async fn whoever_would_wait_too_long_is_refused_at_once_at_both_edges() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &SLOW).await;
        let body = json!({"email": "nobody@b.com", "password": "wrong"});
        let busy = join_all((0..8).map(|_| service.rest.post("/auth/login", &body)));
        let refused = async {
            // Meanwhile the one thread is busy, and the queue is as long as it may be.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let asked = Instant::now();
            let refused = service.rest.post("/auth/login", &body).await;
            assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
            assert_eq!((refused.status.as_u16(), refused.code()), (503, "overloaded"));
            let seconds: u64 = refused.header("retry-after").parse().unwrap();
            assert!((1..=60).contains(&seconds), "{seconds}");

            let mut client = AuthServiceClient::new(channel(service.grpc).await);
            let login = LoginRequest {
                email: "nobody@b.com".to_owned(),
                password: "wrong".to_owned(),
                ..Default::default()
            };
            let asked = Instant::now();
            let status = client.login(login).await.unwrap_err();
            assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
            assert_eq!(status.code(), tonic::Code::Unavailable, "{engine:?}");
            assert_eq!(status.get_details_error_info().unwrap().reason, "overloaded");
            let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
            assert!((1..=60).contains(&delay.as_secs()), "{delay:?}");

            // Whatever needs no hash is as fast as ever.
            for path in ["/readyz", "/.well-known/jwks.json"] {
                let asked = Instant::now();
                assert_eq!(service.rest.get(path).await.status, 200, "{path}");
                assert!(asked.elapsed() < Duration::from_secs(3), "{path}: {:?}", asked.elapsed());
            }
        };
        let (busy, ()) = tokio::join!(busy, refused);
        let looked_at = busy.iter().filter(|answer| answer.status == 401).count();
        assert!((1..8).contains(&looked_at), "{engine:?}: {looked_at}");
        assert!(busy.iter().all(|answer| [401, 503].contains(&answer.status.as_u16())));
        // A refused login has left nothing, and has not failed.
        let (_, pending) = crate::throttle::rows(&service).await;
        assert_eq!(pending, 0, "{engine:?}");
    }
}
