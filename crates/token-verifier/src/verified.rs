//! Tokens that have been verified before.
//!
//! A signature costs tens of microseconds to verify, and clients send one token many times. What is
//! kept is nothing but the result of a pure function: the claims that follow from a token's text, a
//! set of keys and the rules of one verifier. Times and revocations are not part of it; they are
//! checked at every use. So a token ends with its `exp` to the second, with its session as soon as the
//! list says so, and with its key as soon as the set of keys is another one. Refused tokens are not kept: they could crowd out good ones.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use quick_cache::sync::Cache;

use crate::claims::Claims;
use crate::key_set::KeySet;
use crate::revocation::RevocationKeys;

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

/// What is known of a token.
pub(crate) struct Verified {
    pub(crate) claims: Claims,
    /// What the list of revocations is asked; digests, which are computed once.
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

    /// What is known of a token that was verified with these very keys.
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
