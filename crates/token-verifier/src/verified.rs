//! A cache of verified tokens.
//!
//! Verifying a signature takes tens of microseconds, and clients send the same token many times. The cache only stores
//! the result of a pure function: the claims that follow from a token's text, a set of keys and the rules of one
//! verifier. Times and revocations are checked at every use. So a cached token stops being valid exactly at its `exp`,
//! as soon as its session is revoked, and as soon as the set of keys changes. Refused tokens are not cached, because
//! they could displace valid ones.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use quick_cache::sync::Cache;

use crate::claims::Claims;
use crate::key_set::KeySet;
use crate::revocation::RevocationKeys;

/// The capacity of the cache. With claims of the usual length it takes about 5 MB.
const CAPACITY: usize = 10_000;

/// The digest that identifies a token. The token itself is a credential, so it is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; SHA256_OUTPUT_LEN]);

impl Digest {
    pub(crate) fn of(token: &str) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// The cached result for a token.
pub(crate) struct Verified {
    pub(crate) claims: Claims,
    /// The keys for looking it up in the list of revocations, which are computed only once.
    pub(crate) revocation: RevocationKeys,
}

impl Verified {
    pub(crate) fn new(claims: Claims) -> Self {
        Self { revocation: RevocationKeys::of(&claims), claims }
    }
}

#[derive(Clone)]
struct Kept {
    keys: KeySet,
    verified: Arc<Verified>,
}

/// The tokens that one verifier has verified.
pub(crate) struct VerifiedTokens(Cache<Digest, Kept>);

impl VerifiedTokens {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// The result for a token that was verified with exactly this set of keys.
    pub(crate) fn get(&self, token: &Digest, keys: &KeySet) -> Option<Arc<Verified>> {
        let kept = self.0.get(token)?;
        kept.keys.is_same(keys).then_some(kept.verified)
    }

    pub(crate) fn keep(&self, token: Digest, keys: KeySet, verified: Verified) {
        self.0.insert(token, Kept { keys, verified: Arc::new(verified) });
    }

    pub(crate) fn forget(&self, token: &Digest) {
        self.0.remove(token);
    }
}
