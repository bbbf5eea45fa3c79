//! The trusted keys of a verifier, and the selection of the key for a token.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::json;
use crate::key::{Algorithm, KeyError, VerificationKey};
use crate::verify::VerifyError;

/// How many keys are tried for a token without a `kid`, because each try costs a signature
/// verification.
const MAX_TRIES: usize = 16;

/// An immutable set of keys; cloning it is cheap.
///
/// A token's `kid` selects the key (RFC 7515 section 4.1.4). There is one exception: in a set that
/// [`KeySet::new`] made of a single key from a secret or a PEM file, the `kid` is ignored. So an
/// operator who configures one key by hand only has to replace that file, and the issuer is free to
/// choose the `kid`. Keys from a JWKS are only found by their own `kid`.
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

    /// Parses a JWK Set (RFC 7517 section 5). Keys that cannot be used here, such as encryption keys
    /// or unsupported types, are ignored, as that section recommends.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotJwks`] if the document is not a single JSON object without duplicate members
    /// and with an array `keys`.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeyError> {
        let document = json::object(json).map_err(|_| KeyError::NotJwks)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeyError::NotJwks)?;
        Ok(Self::new(keys.iter().filter_map(|jwk| VerificationKey::from_jwk(jwk).ok()).collect()))
    }

    /// Whether the set is empty, so that no token can be valid.
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

    /// The public keys as a JWK Set (RFC 7517 section 5). Secrets are omitted.
    #[must_use]
    pub fn to_jwks(&self) -> Value {
        json!({ "keys": self.keys.iter().filter_map(VerificationKey::to_jwk).collect::<Vec<_>>() })
    }

    /// Whether both are clones of one set.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.keys, &other.keys)
    }

    /// The keys that may have signed a token with this header: only those for its algorithm, at most
    /// [`MAX_TRIES`], and at least one.
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
