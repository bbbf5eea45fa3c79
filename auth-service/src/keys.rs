//! Signing keys: their sources, and the ring of keys that each source results in.

mod managed;
mod seal;
mod signing_key;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
pub use managed::{KeysError, ManagedKeys, RELOAD_INTERVAL, Schedule, list};
pub use seal::{SealError, Sealer};
pub use signing_key::{CryptoError, KeyFileError, SigningKey};
use token_verifier::{Algorithm, KeySet, VerificationKey};

/// How long a verifier may keep our JWKS (`Cache-Control: max-age`), in seconds.
pub const JWKS_MAX_AGE: u32 = 300;

/// The most keys that are published, because verifiers reject longer lists.
pub const MOST_KEYS: usize = 64;

/// A key and the time from which it signs.
#[derive(Debug, Clone)]
pub struct ScheduledKey {
    /// The key.
    pub key: Arc<SigningKey>,
    /// It signs from this time until the next key is activated.
    pub activates_at: DateTime<Utc>,
}

/// The keys of this service at one time: those that sign, will sign, or have signed tokens that have
/// not expired.
#[derive(Debug, Clone)]
pub struct KeyRing {
    /// Sorted by time of activation.
    keys: Vec<ScheduledKey>,
    verification: KeySet,
    /// The algorithm that this replica prefers.
    algorithm: Option<Algorithm>,
}

impl KeyRing {
    /// A ring of `keys` and of retired keys that only verify.
    #[must_use]
    pub fn new(mut keys: Vec<ScheduledKey>, retired: Vec<VerificationKey>) -> Self {
        keys.sort_by_key(|scheduled| scheduled.activates_at);
        // The newest keys come first, so that the oldest are left out if there are too many.
        let signing = keys.iter().rev().map(|scheduled| scheduled.key.verification_key().clone());
        let mut published: Vec<VerificationKey> = Vec::new();
        for key in signing.chain(retired) {
            // A retired key may be listed twice, or be the same as the signing key.
            if !published.iter().any(|other| other.kid() == key.kid()) {
                published.push(key);
            }
        }
        published.truncate(MOST_KEYS);
        let verification = KeySet::new(published);
        Self { keys, verification, algorithm: None }
    }

    /// A ring of one key that is active at all times.
    #[must_use]
    pub fn of_one(key: SigningKey, retired: Vec<VerificationKey>) -> Self {
        let scheduled = ScheduledKey { key: Arc::new(key), activates_at: DateTime::<Utc>::MIN_UTC };
        Self::new(vec![scheduled], retired)
    }

    /// The same ring for a replica that prefers `algorithm`.
    #[must_use]
    pub fn preferring(self, algorithm: Algorithm) -> Self {
        Self { algorithm: Some(algorithm), ..self }
    }

    /// The key to sign with at `now`: the most recently activated one of the preferred algorithm,
    /// else of any algorithm. If none has been activated yet, the one that is activated first.
    #[must_use]
    pub fn active(&self, now: DateTime<Utc>) -> Option<&Arc<SigningKey>> {
        let activated = || self.keys.iter().rev().filter(|key| key.activates_at <= now);
        let ours = |scheduled: &&ScheduledKey| {
            self.algorithm.is_none_or(|algorithm| scheduled.key.algorithm() == algorithm)
        };
        let active = activated().find(ours).or_else(|| activated().next());
        active.or_else(|| self.keys.first()).map(|scheduled| &scheduled.key)
    }

    /// Whether the signing key at `now` has not been activated yet, which means that the clock has
    /// gone back.
    #[must_use]
    pub fn is_early(&self, now: DateTime<Utc>) -> bool {
        !self.keys.is_empty() && self.keys.iter().all(|scheduled| scheduled.activates_at > now)
    }

    /// The keys that verify tokens of this service.
    #[must_use]
    pub const fn verification(&self) -> &KeySet {
        &self.verification
    }
}

/// When the last token that `key` signed has expired, after a later key has taken over.
#[must_use]
fn expires_at(successor_activates_at: DateTime<Utc>, token_ttl: TimeDelta) -> DateTime<Utc> {
    // A replica whose clock is behind signs a little longer with the old key.
    successor_activates_at + token_ttl + TimeDelta::minutes(5)
}
