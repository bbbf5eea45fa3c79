//! Asking for a mail takes the same time whether the address has an account or not.
//!
//! What is measured is the time of the whole request, as a client sees it, so that work on the database
//! counts too. Both kinds of address take turns and their medians are compared. A busy machine can make one
//! comparison wrong, and more samples then put it right; a difference that is there stays.

use std::time::{Duration, Instant};

use auth_service::config;
use service_kit::settings::Setting;
use test_kit::ENGINES;

use super::Service;
use crate::support::PASSWORD;

/// By how much the medians may differ.
const MOST: f64 = 0.2;
/// Pairs in one round, and how many rounds there are at most.
const PAIRS: usize = 40;
const ROUNDS: usize = 16;

const SETTINGS: [(Setting, &str); 3] = [
    (config::RESETS_PER_HOUR, "0"),
    (config::MAILS_PER_MINUTE, "0"),
    (config::EMAIL_VERIFICATION, "on"),
];

fn median(samples: &mut [Duration]) -> f64 {
    samples.sort_unstable();
    samples[samples.len() / 2].as_secs_f64()
}

/// Asks for both in turn, and returns how much longer the first one takes, as a part of the second.
async fn difference(known: impl AsyncFn() -> u16, unknown: impl AsyncFn() -> u16) -> f64 {
    let (mut of_known, mut of_unknown) = (Vec::new(), Vec::new());
    let mut ratio = f64::INFINITY;
    for _ in 0..ROUNDS {
        for pair in 0..PAIRS {
            // Each comes first as often, and what is written after an answer, such as the mail itself, has
            // time to be over.
            for is_known in [pair % 2 == 0, pair % 2 != 0] {
                tokio::time::sleep(Duration::from_millis(15)).await;
                let asked = Instant::now();
                let status = if is_known { known().await } else { unknown().await };
                let took = asked.elapsed();
                assert_eq!(status, 202);
                if is_known { of_known.push(took) } else { of_unknown.push(took) }
            }
        }
        ratio = median(&mut of_known) / median(&mut of_unknown) - 1.0;
        if ratio.abs() <= MOST {
            break;
        }
    }
    ratio
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_a_mail_takes_as_long_for_an_address_that_nobody_has() {
    for engine in ENGINES {
        let service = Service::start(engine, &SETTINGS).await;
        service.register("known@b.com", PASSWORD).await;
        let forgot = |email: &'static str| {
            let service = &service;
            async move || service.forgot(email).await.status.as_u16()
        };
        let resend = |email: &'static str| {
            let service = &service;
            async move || service.resend(email).await.status.as_u16()
        };
        let by_reset = difference(forgot("known@b.com"), forgot("nobody@b.com")).await;
        assert!(by_reset.abs() <= MOST, "{engine:?}: a reset tells an account by {by_reset:+.2}");
        let by_verification = difference(resend("known@b.com"), resend("nobody@b.com")).await;
        assert!(
            by_verification.abs() <= MOST,
            "{engine:?}: a verification tells an account by {by_verification:+.2}"
        );
    }
}

/// What is compared above would be seen if it were there: an address of another length of work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_would_be_noticed() {
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(4)).await;
        202
    };
    let fast = async || {
        tokio::time::sleep(Duration::from_millis(3)).await;
        202
    };
    assert!(difference(slow, fast).await > MOST);
}
