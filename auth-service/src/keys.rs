//! Signing keys: one of three kinds of source, one ring of keys.

mod managed;
mod seal;
mod signing_key;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
pub use managed::{KeysError, ManagedKeys, Schedule, list};
pub use seal::{SealError, Sealer};
pub use signing_key::{CryptoError, KeyFileError, SigningKey};
use token_verifier::{Algorithm, KeySet, VerificationKey};

/// How long a verifier may keep our JWKS (`Cache-Control: max-age`), in seconds.
pub const JWKS_MAX_AGE: u32 = 300;

/// The most keys that are published: verifiers take no longer a list.
pub const MOST_KEYS: usize = 64;

/// A key and from when on it signs.
#[derive(Debug, Clone)]
pub struct ScheduledKey {
    /// The key.
    pub key: Arc<SigningKey>,
    /// From then on it signs, until the next key's time.
    pub activates_at: DateTime<Utc>,
}

/// The keys of this service at one moment: those that sign, will sign, or have signed tokens that
/// still live.
#[derive(Debug, Clone)]
pub struct KeyRing {
    /// By time of activation.
    keys: Vec<ScheduledKey>,
    verification: KeySet,
    /// What this replica signs with where it can.
    algorithm: Option<Algorithm>,
}

impl KeyRing {
    /// A ring of `keys` and of retired keys that only verify.
    #[must_use]
    pub fn new(mut keys: Vec<ScheduledKey>, retired: Vec<VerificationKey>) -> Self {
        keys.sort_by_key(|scheduled| scheduled.activates_at);
        // The latest come first: where there are too many, the oldest are left out.
        let signing = keys.iter().rev().map(|scheduled| scheduled.key.verification_key().clone());
        let mut published: Vec<VerificationKey> = Vec::new();
        for key in signing.chain(retired) {
            // A retired key may be given twice, or be the signing key again.
            if !published.iter().any(|other| other.kid() == key.kid()) {
                published.push(key);
            }
        }
        published.truncate(MOST_KEYS);
        let verification = KeySet::new(published);
        Self { keys, verification, algorithm: None }
    }

    /// A ring of one key that signs from the beginning of time.
    #[must_use]
    pub fn of_one(key: SigningKey, retired: Vec<VerificationKey>) -> Self {
        let scheduled = ScheduledKey { key: Arc::new(key), activates_at: DateTime::<Utc>::MIN_UTC };
        Self::new(vec![scheduled], retired)
    }

    /// The same keys for a replica that signs with `algorithm`.
    #[must_use]
    pub fn preferring(self, algorithm: Algorithm) -> Self {
        Self { algorithm: Some(algorithm), ..self }
    }

    /// The key to sign with at `now`: the last of our algorithm that has been activated; where there
    /// is none, the last of any; and where none has been activated yet, the one that is first.
    #[must_use]
    pub fn active(&self, now: DateTime<Utc>) -> Option<&Arc<SigningKey>> {
        let activated = || self.keys.iter().rev().filter(|key| key.activates_at <= now);
        let ours = |scheduled: &&ScheduledKey| {
            self.algorithm.is_none_or(|algorithm| scheduled.key.algorithm() == algorithm)
        };
        let active = activated().find(ours).or_else(|| activated().next());
        active.or_else(|| self.keys.first()).map(|scheduled| &scheduled.key)
    }

    /// Whether tokens are signed at `now` with a key whose time has not come, which means that the
    /// clock has gone back.
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

/// From when on no token can live that `key` signed, if a later one has taken over.
#[must_use]
fn expires_at(successor_activates_at: DateTime<Utc>, token_ttl: TimeDelta) -> DateTime<Utc> {
    // A replica whose clock is behind goes on signing a little longer.
    successor_activates_at + token_ttl + TimeDelta::minutes(5)
}
