//! Tokens that have been verified before.
//!
//! A signature costs tens of microseconds to verify, and clients send one token many times. What is
//! kept is nothing but the result of a pure function: the claims that follow from a token's text, a
//! set of keys and the rules of one verifier. Times are not part of it; they are checked at every
//! use. So a token ends with its `exp` to the second, and with its key as soon as the set of keys is
//! another one. Refused tokens are not kept: they could crowd out good ones.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use quick_cache::sync::Cache;

use crate::claims::Claims;
use crate::key_set::KeySet;

/// How many tokens are kept. With claims of usual length they take some 5 MB.
const CAPACITY: usize = 10_000;

/// A token, told apart from all others. The token itself is a credential, which is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; SHA256_OUTPUT_LEN]);

impl Digest {
    pub(crate) fn of(token: &str) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

#[derive(Clone)]
struct Verified {
    keys: KeySet,
    claims: Arc<Claims>,
}

/// The tokens that one verifier has verified.
pub(crate) struct VerifiedTokens(Cache<Digest, Verified>);

impl VerifiedTokens {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// The claims of a token that was verified with these very keys.
    pub(crate) fn get(&self, token: &Digest, keys: &KeySet) -> Option<Arc<Claims>> {
        let verified = self.0.get(token)?;
        verified.keys.is_same(keys).then_some(verified.claims)
    }

    pub(crate) fn keep(&self, token: Digest, keys: KeySet, claims: Claims) {
        self.0.insert(token, Verified { keys, claims: Arc::new(claims) });
    }

    pub(crate) fn forget(&self, token: &Digest) {
        self.0.remove(token);
    }
}
