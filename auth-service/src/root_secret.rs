//! The secret from which the keys for refresh tokens, attempts and mail are derived. It is generated
//! once, shared by all replicas, and stored encrypted in the database like the signing keys. `keys
//! rewrap` re-encrypts it without changing it.

use aws_lc_rs::{hmac, rand};
use sql_kit::{read, transaction};
use zeroize::Zeroizing;

use crate::{
    keys::{KeysError, SealError, Sealer},
    store::{Store, secrets},
};

const NAME: &str = "root";
const LENGTH: usize = 32;

/// The root secret.
pub(crate) struct RootSecret(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for RootSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RootSecret([redacted])")
    }
}

impl RootSecret {
    /// A root secret that is derived from `secret` and not stored in the database.
    #[must_use]
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(Zeroizing::new(secret.to_vec()))
    }

    /// Loads the root secret, or generates it if there is none.
    ///
    /// # Errors
    ///
    /// If the database is unavailable, or if the secret was encrypted with another key.
    pub(crate) async fn load(store: &Store, sealer: &Sealer) -> Result<Self, KeysError> {
        // It is generated only once, so a read comes first, which does not have to wait for other
        // writers.
        let sealed = match read!(store, |unit| secrets::find(unit, NAME).await).await? {
            Some(sealed) => sealed,
            None => {
                let mut fresh = Zeroizing::new([0; LENGTH]);
                rand::fill(&mut fresh[..]).map_err(|_| SealError::BadKey)?;
                let fresh = sealer.seal(NAME, &fresh[..])?;
                transaction!(store, |unit| secrets::get_or_insert(unit, NAME, &fresh).await).await?
            }
        };
        Ok(Self(sealer.open(NAME, &sealed)?))
    }

    /// Derives a key for one purpose: the HMAC-SHA-256 of the purpose's name under the root secret.
    #[must_use]
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(hmac::sign(&root, purpose.as_bytes()).as_ref());
        key
    }
}
