//! Managed keys: generated here, sealed in the database, rotated on a schedule.
//!
//! A key's state follows from the times of activation alone: of the keys of one algorithm, the last
//! one activated is active, later ones are next, earlier ones retired. Replicas that share a database
//! therefore agree without talking to each other, and the one that adds a key first has added it for
//! all. The time is that of the database. Replicas with different `JWT_ALGORITHM` keep to the keys of
//! their own algorithm and publish those of all.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use token_verifier::Algorithm;

use super::{
    JWKS_MAX_AGE, KeyRing, MOST_KEYS, ScheduledKey, SealError, Sealer, SigningKey, expires_at,
};
use crate::store::{KeyRecord, Store, StoreError};

/// The longest that a token of ours can live, whatever the settings were when it was issued.
const MAX_TOKEN_TTL: TimeDelta = TimeDelta::hours(1);
/// How often the database is asked for keys that another replica has added.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// The longest that a key can sign, whatever the settings of the replica that uses it.
const MAX_ROTATION_PERIOD: TimeDelta = TimeDelta::days(365);

/// When keys change.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// How long a key signs.
    pub rotation_period: Duration,
}

impl Schedule {
    /// How long a key is published before it signs: longer than any verifier keeps the JWKS.
    fn lead() -> TimeDelta {
        TimeDelta::seconds(i64::from(JWKS_MAX_AGE) * 2)
    }

    fn lead_of(immediately: bool) -> TimeDelta {
        if immediately { Self::short_lead() } else { Self::lead() }
    }

    /// How long a key is published before it signs where an operator cannot wait: until every
    /// replica publishes it. Verifiers then fetch it with the first token that names it.
    fn short_lead() -> TimeDelta {
        TimeDelta::from_std(RELOAD_INTERVAL * 2).unwrap_or_default()
    }

    fn rotation_period(self) -> TimeDelta {
        TimeDelta::from_std(self.rotation_period).unwrap_or(TimeDelta::MAX)
    }
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The encryption key.
    #[error("KEY_ENCRYPTION_KEY: {0}")]
    Seal(#[from] SealError),
    /// A key is for another algorithm.
    #[error("the key is not for {0}, which JWT_ALGORITHM asks for")]
    OtherAlgorithm(&'static str),
    /// A key that was given, or one in the database, cannot be used.
    #[error("a signing key cannot be used: {0}")]
    Key(#[from] super::KeyFileError),
    /// A new key could not be made, which is a fault of the machine or of ours.
    #[error("a signing key could not be generated: {0}")]
    Generation(String),
    /// An imported key is there already.
    #[error("the key {0} is in the database already")]
    Exists(String),
    /// There is no such key.
    #[error("there is no key {0} in the database")]
    Unknown(String),
    /// Verifiers take no longer list of keys.
    #[error(
        "there are {MOST_KEYS} keys in the database, and verifiers take no more: wait until retired \
         ones are removed, an hour after another one has taken over, or revoke some"
    )]
    TooMany,
}

/// The keys in the database.
#[derive(Debug, Clone)]
pub struct ManagedKeys {
    store: Store,
    sealer: Arc<Sealer>,
    algorithm: Algorithm,
    schedule: Schedule,
}

impl ManagedKeys {
    /// Keys of `algorithm` in `store`, sealed by `sealer`.
    #[must_use]
    pub fn new(
        store: Store,
        sealer: Arc<Sealer>,
        algorithm: Algorithm,
        schedule: Schedule,
    ) -> Self {
        Self { store, sealer, algorithm, schedule }
    }

    /// The present time, by the database's clock, which all replicas share.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn now(&self) -> Result<DateTime<Utc>, KeysError> {
        self.store.ping().await?;
        Ok(self.store.now())
    }

    /// Loads the keys; adds one where none is there or the next one is due, and removes those that
    /// have signed no token that still lives.
    ///
    /// # Errors
    ///
    /// Where the database is away, or its keys were sealed under another key: then nothing is
    /// changed.
    pub async fn load(&self, now: DateTime<Utc>) -> Result<KeyRing, KeysError> {
        loop {
            let records = self.store.signing_keys().await?;
            let ring = self.open(&records)?;
            let Some(activates_at) = self.due(&records, now) else {
                self.remove_expired(&records, now).await?;
                return Ok(ring);
            };
            // Whoever loses the race sees the winner's key in the next round.
            match self.add(&records, activates_at, now).await {
                Err(KeysError::TooMany) if !records.is_empty() => {
                    self.remove_expired(&records, now).await?;
                    tracing::warn!(count = records.len(), "too many signing keys to add one");
                    return Ok(ring);
                }
                added => added?,
            };
        }
    }

    /// Adds the next key, to sign when every verifier has had time to see it, or with `immediately`
    /// as soon as every replica publishes it. Returns its id.
    ///
    /// # Errors
    ///
    /// As [`ManagedKeys::load`].
    pub async fn rotate(&self, immediately: bool, now: DateTime<Utc>) -> Result<String, KeysError> {
        let activates_at = now + Schedule::lead_of(immediately);
        loop {
            let records = self.store.signing_keys().await?;
            self.open(&records)?;
            if let Some(kid) = self.add(&records, activates_at, now).await? {
                return Ok(kid);
            }
        }
    }

    /// Adds a key that was made elsewhere, as [`ManagedKeys::rotate`] adds a new one.
    ///
    /// # Errors
    ///
    /// Where it is for another algorithm than ours, and as [`ManagedKeys::load`].
    pub async fn import(
        &self,
        key: SigningKey,
        immediately: bool,
        now: DateTime<Utc>,
    ) -> Result<String, KeysError> {
        if key.verification_key().algorithm() != self.algorithm {
            return Err(KeysError::OtherAlgorithm(self.algorithm.as_str()));
        }
        let activates_at = now + Schedule::lead_of(immediately);
        loop {
            let records = self.store.signing_keys().await?;
            self.open(&records)?;
            if let Some(kid) = key.kid().filter(|kid| records.iter().any(|r| r.kid == *kid)) {
                return Err(KeysError::Exists(kid.to_owned()));
            }
            if let Some(kid) = self.insert(&records, &key, activates_at, now).await? {
                return Ok(kid);
            }
        }
    }

    /// Removes a key at once, as for one that was stolen: tokens that it has signed are valid nowhere
    /// as soon as verifiers have fetched the keys anew, which the first token of another key makes them
    /// do. Where it is the one that signs, a new key signs from now on, and its id is returned.
    ///
    /// # Errors
    ///
    /// Where there is no such key, and as [`ManagedKeys::load`].
    pub async fn revoke(&self, kid: &str, now: DateTime<Utc>) -> Result<Option<String>, KeysError> {
        let records = self.store.signing_keys().await?;
        self.open(&records)?;
        let Some(revoked) = records.iter().find(|record| record.kid == kid) else {
            return Err(KeysError::Unknown(kid.to_owned()));
        };
        let signs = revoked.algorithm == self.algorithm.as_str()
            && active(&records, &revoked.algorithm, now).is_some_and(|record| record.kid == kid);
        self.store.remove_signing_key(kid).await?;
        let mut successor = None;
        while signs && successor.is_none() {
            let records = self.store.signing_keys().await?;
            successor = self.add(&records, now, now).await?;
        }
        tracing::warn!(event = "signing_key.revoked", kid, successor, "signing key revoked");
        Ok(successor)
    }

    /// Seals all keys under another encryption key. Services that run go on with the keys they have
    /// loaded, and need the new encryption key at their next start.
    ///
    /// # Errors
    ///
    /// As [`ManagedKeys::load`]; nothing is changed then.
    pub async fn rewrap(&self, sealer: &Sealer) -> Result<usize, KeysError> {
        let reseal = |name: String, sealed: Vec<u8>| {
            let after = sealer.seal(&name, &self.sealer.open(&name, &sealed)?)?;
            Ok::<_, KeysError>((name, sealed, after))
        };
        loop {
            let records = self.store.signing_keys().await?;
            let keys = records.into_iter().map(|record| reseal(record.kid, record.sealed_key));
            let keys = keys.collect::<Result<Vec<_>, _>>()?;
            let secrets = self.store.sealed_secrets().await?;
            let secrets = secrets.into_iter().map(|(name, sealed)| reseal(name, sealed));
            let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
            if self.store.reseal(&keys, &secrets).await? {
                tracing::info!(
                    event = "signing_key.rewrapped",
                    count = keys.len(),
                    "keys rewrapped"
                );
                return Ok(keys.len());
            }
        }
    }

    /// The keys in the database by time of activation, each with its state at `now`: `retired`,
    /// `active` or `next`.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn list(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Vec<(KeyRecord, &'static str)>, KeysError> {
        list(&self.store, now).await
    }

    /// Keeps `publish` told of the keys until the future is dropped. A failure keeps the last ring.
    pub async fn keep_current(&self, publish: impl Fn(KeyRing)) {
        let (mut seen, mut signing) = (Vec::new(), None);
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            if let Err(error) = self.reload(&mut seen, &publish).await {
                tracing::warn!(%error, "cannot reload the signing keys");
            }
            let kid = active(&seen, self.algorithm.as_str(), self.store.now());
            let kid = kid.map(|record| record.kid.clone());
            if signing.is_some() && kid != signing {
                tracing::info!(event = "signing_key.rotated", kid, "another key signs now");
            }
            signing = kid;
        }
    }

    /// Opening keys takes time, so it is done only when there is something to do.
    async fn reload(
        &self,
        seen: &mut Vec<KeyRecord>,
        publish: impl Fn(KeyRing),
    ) -> Result<(), KeysError> {
        let now = self.now().await?;
        let records = self.store.signing_keys().await?;
        let idle =
            self.due(&records, now).is_none() && self.expired(&records, now).next().is_none();
        if idle && records == *seen {
            return Ok(());
        }
        publish(self.load(now).await?);
        *seen = records;
        Ok(())
    }

    fn open(&self, records: &[KeyRecord]) -> Result<KeyRing, KeysError> {
        let keys = records
            .iter()
            .map(|record| {
                let der = self.sealer.open(&record.kid, &record.sealed_key)?;
                let key = Arc::new(SigningKey::from_der(&der)?);
                Ok(ScheduledKey { key, activates_at: record.activates_at })
            })
            .collect::<Result<_, KeysError>>()?;
        Ok(KeyRing::new(keys, Vec::new()).preferring(self.algorithm))
    }

    /// When the key that has to be added now shall be activated, if one has to be.
    fn due(&self, records: &[KeyRecord], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let ours = records.iter().rfind(|record| record.algorithm == self.algorithm.as_str());
        let Some(newest) = ours else {
            // The first key of all signs at once; that of another algorithm is published first.
            let lead = if records.is_empty() { TimeDelta::zero() } else { Schedule::lead() };
            return Some(now + lead);
        };
        let end = newest.activates_at.checked_add_signed(self.schedule.rotation_period())?;
        (end - Schedule::lead() <= now).then(|| end.max(now + Schedule::lead()))
    }

    async fn add(
        &self,
        records: &[KeyRecord],
        activates_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, KeysError> {
        let algorithm = self.algorithm;
        let key = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm))
            .await
            .map_err(|error| KeysError::Generation(error.to_string()))?
            .map_err(|error| KeysError::Generation(error.to_string()))?;
        self.insert(records, &key, activates_at, now).await
    }

    async fn insert(
        &self,
        records: &[KeyRecord],
        key: &SigningKey,
        activates_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, KeysError> {
        if records.len() >= MOST_KEYS {
            return Err(KeysError::TooMany);
        }
        let (kid, pkcs8) = key.kid().zip(key.pkcs8()).ok_or(super::KeyFileError::Unsupported)?;
        let record = KeyRecord {
            kid: kid.to_owned(),
            algorithm: self.algorithm.as_str().to_owned(),
            sealed_key: self.sealer.seal(kid, pkcs8)?,
            created_at: now,
            activates_at,
        };
        let expected = records.last().map(|record| record.kid.as_str());
        if !self.store.add_signing_key(&record, expected).await? {
            return Ok(None);
        }
        tracing::info!(
            event = "signing_key.added",
            kid = record.kid,
            algorithm = record.algorithm,
            activates_at = %activates_at.to_rfc3339(),
            "signing key added"
        );
        Ok(Some(record.kid))
    }

    async fn remove_expired(
        &self,
        records: &[KeyRecord],
        now: DateTime<Utc>,
    ) -> Result<(), KeysError> {
        for record in self.expired(records, now) {
            self.store.remove_signing_key(&record.kid).await?;
            tracing::info!(event = "signing_key.removed", kid = record.kid, "signing key removed");
        }
        Ok(())
    }

    /// The keys that have signed no token that still lives. A key of another algorithm than ours that
    /// no later one has followed is somebody else's, who may use it for as long as any key may be used.
    fn expired<'a>(
        &self,
        records: &'a [KeyRecord],
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = &'a KeyRecord> {
        let ours = self.algorithm.as_str();
        records.iter().enumerate().filter_map(move |(at, record)| {
            let same = |later: &&KeyRecord| later.algorithm == record.algorithm;
            let end = match records.get(at + 1..)?.iter().find(same) {
                Some(successor) => successor.activates_at,
                None if record.algorithm == ours => return None,
                None => record.activates_at.checked_add_signed(MAX_ROTATION_PERIOD)?,
            };
            (expires_at(end, MAX_TOKEN_TTL) < now).then_some(record)
        })
    }
}

/// The keys in a database by time of activation, each with its state at `now`: `retired`, `active` or
/// `next`. None is opened.
///
/// # Errors
///
/// Where the database is away.
pub async fn list(
    store: &Store,
    now: DateTime<Utc>,
) -> Result<Vec<(KeyRecord, &'static str)>, KeysError> {
    let records = store.signing_keys().await?;
    let state = |record: &KeyRecord| match active(&records, &record.algorithm, now) {
        Some(active) if active.kid == record.kid => "active",
        _ if record.activates_at <= now => "retired",
        _ => "next",
    };
    let states: Vec<_> = records.iter().map(state).collect();
    Ok(records.into_iter().zip(states).collect())
}

/// The key of an algorithm that signs now. Records come by time of activation.
fn active<'a>(
    records: &'a [KeyRecord],
    algorithm: &str,
    now: DateTime<Utc>,
) -> Option<&'a KeyRecord> {
    records.iter().rfind(|record| record.algorithm == algorithm && record.activates_at <= now)
}
