//! The keys that a verifier trusts, and which of them a token is checked with.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::json;
use crate::key::{Algorithm, KeyError, VerificationKey};
use crate::verify::VerifyError;

/// How many keys are tried for a token that names none: each try costs a signature check.
const MAX_TRIES: usize = 16;

/// An immutable set of keys; cloning it is cheap.
///
/// A token's `kid` selects the key (RFC 7515 section 4.1.4). There is one exception: when the set
/// is made by [`KeySet::new`] of a single key that came from a secret or a PEM file, the `kid` is
/// ignored. An operator who configures one key by hand replaces that file and nothing else, and the
/// issuer may name its key as it likes. Keys from a JWKS are never found under another name.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Arc<[VerificationKey]>,
}

impl KeySet {
    /// A set of these keys.
    #[must_use]
    pub fn new(keys: Vec<VerificationKey>) -> Self {
        Self { keys: keys.into() }
    }

    /// Reads a JWK Set (RFC 7517 section 5). Keys that cannot be used here, such as those for
    /// encryption or of another type, are left out, as that section asks.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotJwks`] if the document is not one JSON object, without duplicate members, that
    /// has an array `keys`.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeyError> {
        let document = json::object(json).map_err(|_| KeyError::NotJwks)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeyError::NotJwks)?;
        Ok(Self::new(keys.iter().filter_map(|jwk| VerificationKey::from_jwk(jwk).ok()).collect()))
    }

    /// Whether there is no key at all, so that no token can be valid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys, in the order of their source.
    pub fn iter(&self) -> impl Iterator<Item = &VerificationKey> {
        self.keys.iter()
    }

    /// The public keys as a JWK Set (RFC 7517 section 5). Secrets are left out.
    #[must_use]
    pub fn to_jwks(&self) -> Value {
        json!({ "keys": self.keys.iter().filter_map(VerificationKey::to_jwk).collect::<Vec<_>>() })
    }

    /// Whether the two are clones of one set.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.keys, &other.keys)
    }

    /// The keys that a token with this header may be signed by: never of another algorithm, at most
    /// a few, and at least one.
    pub(crate) fn candidates(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<Vec<&VerificationKey>, VerifyError> {
        let kid = match &*self.keys {
            [only] if only.is_from_file() => None,
            _ => kid,
        };
        let named = |key: &&VerificationKey| kid.is_none() || key.kid() == kid;
        let candidates: Vec<_> = self
            .keys
            .iter()
            .filter(named)
            .filter(|key| key.algorithm() == algorithm)
            .take(MAX_TRIES)
            .collect();
        if !candidates.is_empty() {
            Ok(candidates)
        } else if self.keys.iter().any(|key| named(&key)) {
            Err(VerifyError::AlgorithmMismatch)
        } else {
            Err(VerifyError::UnknownKey)
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
