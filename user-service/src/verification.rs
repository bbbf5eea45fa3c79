//! How tokens are verified: the keys and the list of revoked tokens, with their metrics and readiness
//! checks.

use service_kit::{
    health::Check,
    metrics::{Metrics, Unit},
};
use token_verifier::{Algorithm, FeedOutcome, KeySet, Rules, Verifier};
use tokio_util::sync::CancellationToken;

use crate::{
    NAME,
    config::{KeySource, Revocations},
};

/// Creates a verifier. Its keys and its list of revoked tokens are refreshed in the background until the
/// shutdown.
pub(crate) fn verifier(
    keys: KeySource,
    revocations: Option<Revocations>,
    rules: Rules,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Verifier {
    if rules.issuer.is_none() || rules.audience.is_none() {
        tracing::warn!(
            service = NAME,
            "JWT_ISSUER or JWT_AUDIENCE is not set: tokens that were made for others are taken"
        );
    }
    let verifier = match keys {
        KeySource::Jwks(cache) => {
            let keys = cache.clone();
            let help = "Since the JWKS was last fetched";
            metrics.gauge("user.jwks.age", help, Unit::Seconds, move || {
                keys.age().map(|age| age.as_secs_f64())
            });
            tokio::spawn(cache.clone().run(shutdown.clone().cancelled_owned()));
            Verifier::with_jwks(cache, rules)
        }
        KeySource::Given(key) => {
            if key.algorithm() == Algorithm::Hs256 {
                tracing::warn!(
                    service = NAME,
                    "JWT_SECRET: whoever can verify a token can forge one; for a proof of concept \
                     only"
                );
            }
            Verifier::with_keys(KeySet::new(vec![key]), rules)
        }
    };
    match revocations {
        Some(revocations) => follow(verifier, revocations, metrics, shutdown),
        None => verifier,
    }
}

fn follow(
    verifier: Verifier,
    Revocations { feed, max_age }: Revocations,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Verifier {
    let list = feed.list();
    let (of_age, of_len) = (list.clone(), list.clone());
    let help = "Since the list of revoked tokens was last known to be complete";
    metrics.gauge("user.revocations.age", help, Unit::Seconds, move || {
        of_age.age().map(|age| age.as_secs_f64())
    });
    let help = "Entries of the list of revoked tokens";
    metrics.gauge("user.revocations.entries", help, Unit::Count, move || {
        Some(u32::try_from(of_len.len()).unwrap_or(u32::MAX).into())
    });
    let fetches = metrics.counts(
        "user.revocations.fetches",
        "Requests for the list of revoked tokens, by what came of them",
        "outcome",
        &FeedOutcome::ALL.map(FeedOutcome::as_str),
    );
    let feed = feed.with_observer(move |outcome| fetches.count(outcome.as_str()));
    tokio::spawn(feed.run(shutdown.clone().cancelled_owned()));
    let verifier = verifier.with_revocations(list);
    match max_age {
        Some(max_age) => verifier.with_revocations_max_age(max_age),
        None => verifier,
    }
}

/// The readiness checks: whether there are keys and, if the list of revoked tokens is followed, whether it
/// is fresh enough.
pub(crate) fn checks(verifier: &Verifier, follows_revocations: bool) -> Vec<Check> {
    let (keys, list) = (verifier.clone(), verifier.clone());
    let keys = Check::new("signing_keys", move || std::future::ready(keys.has_keys()));
    let list =
        Check::new("revocations", move || std::future::ready(list.has_current_revocations()));
    if follows_revocations { vec![keys, list] } else { vec![keys] }
}
