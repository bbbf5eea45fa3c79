//! Signing keys.

use chrono::{DateTime, Utc};
use sql_kit::{Row, StoreError, Unit, read, transaction, values, write_one};

use super::{Store, secrets};

/// A stored signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub kid: String,
    /// Its algorithm (RFC 7518, section 3.1).
    pub algorithm: String,
    /// The private key, encrypted.
    pub sealed_key: Vec<u8>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// The time from which it signs.
    pub activates_at: DateTime<Utc>,
}

/// An encrypted value: its name, the old ciphertext and the new one.
pub type Resealed = (String, Vec<u8>, Vec<u8>);

fn key(row: &Row) -> Result<KeyRecord, sqlx::Error> {
    Ok(KeyRecord {
        kid: row.get("kid")?,
        algorithm: row.get("algorithm")?,
        sealed_key: row.get("sealed_key")?,
        created_at: row.get("created_at")?,
        activates_at: row.get("activates_at")?,
    })
}

/// Only one replica at a time can change keys. Readers are not blocked.
async fn lock(unit: &mut Unit) -> Result<(), sqlx::Error> {
    if unit.is_postgres() {
        unit.execute("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE", values![]).await?;
    }
    Ok(())
}

impl Store {
    /// All signing keys by time of activation.
    ///
    /// # Errors
    ///
    /// The errors of the database, as of all methods here.
    pub async fn signing_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        read!(self, |unit| {
            let rows = unit
                .fetch_all(
                    "SELECT kid, algorithm, sealed_key, created_at, activates_at
                     FROM signing_keys ORDER BY activates_at, created_at, kid",
                    values![],
                )
                .await?;
            rows.iter().map(key).collect()
        })
        .await
    }

    /// Adds a signing key if the last key by activation is still `expected`, or if there is none and
    /// `expected` is `None`. Returns whether it was added.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn add_signing_key(
        &self,
        key: &KeyRecord,
        expected: Option<&str>,
    ) -> Result<bool, StoreError> {
        transaction!(self, |unit| {
            lock(unit).await?;
            let newest = unit
                .fetch_optional(
                    "SELECT kid FROM signing_keys
                     ORDER BY activates_at DESC, created_at DESC, kid DESC LIMIT 1",
                    values![],
                )
                .await?;
            let newest: Option<String> = newest.map(|row| row.get("kid")).transpose()?;
            if newest.as_deref() != expected {
                return Ok(false);
            }
            unit.execute(
                "INSERT INTO signing_keys (kid, algorithm, sealed_key, created_at, activates_at)
                 VALUES ($1, $2, $3, $4, $5)",
                values![
                    &key.kid,
                    &key.algorithm,
                    &key.sealed_key,
                    key.created_at,
                    key.activates_at
                ],
            )
            .await?;
            Ok(true)
        })
        .await
    }

    /// The secrets that all replicas share, as pairs of name and ciphertext.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn sealed_secrets(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        read!(self, |unit| secrets::all(unit).await).await
    }

    /// Replaces the ciphertexts of all signing keys and secrets at once, if exactly these exist and
    /// all still have the old ciphertext. Returns whether they were replaced.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn reseal(&self, keys: &[Resealed], shared: &[Resealed]) -> Result<bool, StoreError> {
        transaction!(self, |unit| {
            lock(unit).await?;
            let row = unit
                .fetch_one(
                    "SELECT (SELECT count(*) FROM signing_keys) AS keys,
                            (SELECT count(*) FROM secrets) AS secrets",
                    values![],
                )
                .await?;
            let (stored_keys, stored_secrets): (i64, i64) = (row.get("keys")?, row.get("secrets")?);
            let mut all = usize::try_from(stored_keys) == Ok(keys.len())
                && usize::try_from(stored_secrets) == Ok(shared.len());
            for (kid, before, after) in keys {
                all &= unit
                    .execute(
                        "UPDATE signing_keys SET sealed_key = $3
                         WHERE kid = $1 AND sealed_key = $2",
                        values![kid, before, after],
                    )
                    .await?
                    == 1;
            }
            for (name, before, after) in shared {
                all &= secrets::reseal(unit, name, before, after).await?;
            }
            if !all {
                unit.abandon();
            }
            Ok(all)
        })
        .await
    }

    /// Removes a signing key.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn remove_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        write_one!(self, |unit| {
            unit.execute("DELETE FROM signing_keys WHERE kid = $1", values![kid]).await?;
            Ok(())
        })
        .await
    }
}
