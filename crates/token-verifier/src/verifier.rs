//! What a service holds: keys, rules and a clock, behind one call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header::AUTHORIZATION};
use thiserror::Error;
use uuid::Uuid;

use crate::claims::Claims;
use crate::clock::{Clock, unix_now};
#[cfg(feature = "jwks")]
use crate::jwks::JwksCache;
use crate::key_set::KeySet;
use crate::revocation::RevocationList;
use crate::rules::Rules;
use crate::verified::{Digest, Verified, VerifiedTokens};
use crate::verify::{MAX_TOKEN_BYTES, VerifyError, check_times, verify};

/// How often keys are looked up for one token: as they are, after another caller's refetch, after
/// one's own.
#[cfg(feature = "jwks")]
const MAX_ROUNDS: usize = 3;

#[cfg(feature = "jwks")]
const UNKNOWN_KEY: AuthError = AuthError::Invalid(VerifyError::UnknownKey);

/// Where the source has keys that cannot be known here, a token of an unknown key may be genuine.
#[cfg(feature = "jwks")]
fn unknown_key(cache: &JwksCache) -> AuthError {
    if cache.may_miss_keys() { AuthError::KeysUnavailable } else { UNKNOWN_KEY }
}

/// Why a request is not let in. Its text contains nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No `Authorization` field, or one of another scheme than Bearer. HTTP status 401.
    #[error("no bearer token")]
    Missing,
    /// More than one `Authorization` field (RFC 9110 section 11.6.2 allows one). HTTP status 400.
    #[error("more than one Authorization field")]
    Ambiguous,
    /// The scheme is Bearer, but no token follows as RFC 6750 section 2.1 has it. HTTP status 401.
    #[error("malformed bearer token")]
    Malformed,
    /// The token is refused. HTTP status 401.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    /// The token was valid until its session, or every token of its account, was ended. HTTP status
    /// 401.
    #[error("the token was revoked")]
    Revoked {
        /// The account that the token is of, for the log.
        sub: Uuid,
    },
    /// No keys have arrived yet, or not the one that the token names because the JWKS document is too
    /// large to be taken, so that the token cannot be judged. HTTP status 503.
    #[error("the signing keys are not available yet")]
    KeysUnavailable,
    /// The list of revocations is older than [`Verifier::with_revocations_max_age`] allows, or its source
    /// has not been asked yet. HTTP status 503.
    #[error("the list of revoked tokens is not up to date")]
    RevocationsStale,
}

impl AuthError {
    /// A name for logs and metrics that does not change: snake_case, from a closed list.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Malformed => "malformed_header",
            Self::Invalid(error) => error.reason(),
            Self::Revoked { .. } => "revoked",
            Self::KeysUnavailable => "keys_unavailable",
            Self::RevocationsStale => "revocations_stale",
        }
    }

    /// The code that a client sees. Coarser than [`Self::reason`]: which check failed is nothing that
    /// the sender of a forged token should learn. Of a genuine one the sender learns that it has expired
    /// (`token_expired`: refresh it) or was revoked (`token_revoked`: log in again).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "unauthenticated",
            Self::Ambiguous => "malformed_request",
            Self::Invalid(VerifyError::Expired) => "token_expired",
            Self::Malformed | Self::Invalid(_) => "invalid_token",
            Self::Revoked { .. } => "token_revoked",
            Self::KeysUnavailable => "signing_keys_unavailable",
            Self::RevocationsStale => "revocations_stale",
        }
    }

    /// The HTTP status (RFC 9110 section 15).
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Missing | Self::Malformed | Self::Invalid(_) | Self::Revoked { .. } => {
                http::StatusCode::UNAUTHORIZED
            }
            Self::Ambiguous => http::StatusCode::BAD_REQUEST,
            Self::KeysUnavailable | Self::RevocationsStale => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The value of the field `WWW-Authenticate` (RFC 6750 section 3) if the answer has one: the
    /// error is named only when a token was presented.
    #[must_use]
    pub fn www_authenticate(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some(r#"Bearer realm="latchkey""#),
            Self::Malformed | Self::Invalid(_) | Self::Revoked { .. } => {
                Some(r#"Bearer realm="latchkey", error="invalid_token""#)
            }
            Self::Ambiguous | Self::KeysUnavailable | Self::RevocationsStale => None,
        }
    }
}

/// Takes the token out of the `Authorization` field (RFC 6750 section 2.1). The scheme's letter case
/// does not matter (RFC 9110 section 11.1). Tokens in a body or a query string are never read.
///
/// # Errors
///
/// [`AuthError::Missing`], [`AuthError::Ambiguous`] or [`AuthError::Malformed`].
pub fn bearer_token(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Err(AuthError::Missing),
        (Some(field), None) => field.as_bytes(),
        (Some(_), Some(_)) => return Err(AuthError::Ambiguous),
    };
    let scheme_ends = field.iter().position(|byte| *byte == b' ').unwrap_or(field.len());
    let (scheme, token) = field.split_at(scheme_ends);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(AuthError::Missing);
    }
    let token = std::str::from_utf8(token).map_err(|_| AuthError::Malformed)?.trim_matches(' ');
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if token.is_empty() || !token.bytes().all(is_token_byte) {
        return Err(AuthError::Malformed);
    }
    Ok(token)
}

#[derive(Clone)]
enum Source {
    Fixed(KeySet),
    #[cfg(feature = "jwks")]
    Jwks(JwksCache),
}

/// Validates access tokens. Clones are cheap and share the keys. The claims of up to 10,000 tokens are
/// remembered, by the digest of the token, until their `exp` or a change of the keys. Revocations are
/// looked up at every use.
#[derive(Clone)]
pub struct Verifier {
    source: Source,
    rules: Arc<Rules>,
    verified: Arc<VerifiedTokens>,
    revocations: Option<RevocationList>,
    revocations_max_age: Option<Duration>,
    clock: Clock,
}

impl Verifier {
    /// A verifier with keys that never change.
    #[must_use]
    pub fn with_keys(keys: KeySet, rules: Rules) -> Self {
        Self::new(Source::Fixed(keys), rules)
    }

    /// A verifier with keys from a JWKS URL. Nothing is fetched unless [`JwksCache::run`] runs on
    /// another clone of the cache.
    #[cfg(feature = "jwks")]
    #[must_use]
    pub fn with_jwks(cache: JwksCache, rules: Rules) -> Self {
        Self::new(Source::Jwks(cache), rules)
    }

    fn new(source: Source, rules: Rules) -> Self {
        Self {
            source,
            rules: Arc::new(rules),
            verified: Arc::new(VerifiedTokens::new()),
            revocations: None,
            revocations_max_age: None,
            clock: Arc::new(unix_now),
        }
    }

    /// Refuses the tokens that this list says are revoked, with [`AuthError::Revoked`]. Until the list's
    /// source has been asked once, no token is taken and the verifier is not ready.
    #[must_use]
    pub fn with_revocations(self, list: RevocationList) -> Self {
        list.keep_for(self.rules.leeway_seconds());
        Self { revocations: Some(list), ..self }
    }

    /// Takes no token, with [`AuthError::RevocationsStale`], and is not ready while the list of revocations
    /// is older than this or has never been complete. Without it a list of any age counts.
    #[must_use]
    pub fn with_revocations_max_age(self, max_age: Duration) -> Self {
        Self { revocations_max_age: Some(max_age), ..self }
    }

    /// Replaces the system's clock, for tests. It tells seconds since the Unix epoch.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Validates a token. A token of an unknown key makes a JWKS source fetch its document again, at
    /// most once in 10 s however many such tokens arrive, and waits for it: at most 5 s, usually a
    /// few milliseconds.
    ///
    /// # Errors
    ///
    /// Any [`AuthError`] but those of a header field.
    pub async fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        #[cfg(feature = "jwks")]
        if let Source::Jwks(cache) = &self.source {
            let mut keys = self.keys()?;
            for _ in 1..MAX_ROUNDS {
                match self.check(token, &keys) {
                    Err(UNKNOWN_KEY) => match cache.newer_than(&keys).await {
                        Some(newer) => keys = newer,
                        None => return Err(unknown_key(cache)),
                    },
                    outcome => return outcome,
                }
            }
            return match self.check(token, &keys) {
                Err(UNKNOWN_KEY) => Err(unknown_key(cache)),
                outcome => outcome,
            };
        }
        self.check(token, &self.keys()?)
    }

    /// Validates a token with the keys at hand and never waits. A token of an unknown key is
    /// refused, and makes a JWKS source fetch its document in the background, under the same limit
    /// as for [`Self::verify`].
    ///
    /// # Errors
    ///
    /// Any [`AuthError`] but those of a header field.
    pub fn verify_cached(&self, token: &str) -> Result<Claims, AuthError> {
        let outcome = self.check(token, &self.keys()?);
        #[cfg(feature = "jwks")]
        if let (Err(UNKNOWN_KEY), Source::Jwks(cache)) = (&outcome, &self.source) {
            cache.request_refetch();
            return Err(unknown_key(cache));
        }
        outcome
    }

    /// Validates the token in the `Authorization` field (RFC 6750 section 2.1) as [`Self::verify`]
    /// does.
    ///
    /// # Errors
    ///
    /// Any [`AuthError`].
    pub async fn verify_authorization(&self, headers: &HeaderMap) -> Result<Claims, AuthError> {
        self.verify(bearer_token(headers)?).await
    }

    /// The issuer that every token must name, if one is demanded.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.rules.issuer.as_deref()
    }

    /// Whether tokens can be judged: there are keys, and the list of revocations may be relied on.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.has_keys() && self.has_current_revocations()
    }

    /// Whether there are keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys().is_ok()
    }

    /// Whether there is no list of revocations, or one that may be relied on.
    #[must_use]
    pub fn has_current_revocations(&self) -> bool {
        self.revocations.as_ref().is_none_or(|list| self.may_rely_on(list))
    }

    fn may_rely_on(&self, list: &RevocationList) -> bool {
        match self.revocations_max_age {
            None => list.was_asked(),
            Some(most) => list.age().is_some_and(|age| age <= most),
        }
    }

    fn keys(&self) -> Result<KeySet, AuthError> {
        let keys = match &self.source {
            Source::Fixed(keys) => Some(keys.clone()),
            #[cfg(feature = "jwks")]
            Source::Jwks(cache) => cache.keys(),
        };
        // Without a single key a good token looks like a bad one; that is not the client's fault.
        keys.filter(|keys| !keys.is_empty()).ok_or(AuthError::KeysUnavailable)
    }

    fn check(&self, token: &str, keys: &KeySet) -> Result<Claims, AuthError> {
        let now = (self.clock)();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::TooLong.into());
        }
        let digest = Digest::of(token);
        if let Some(verified) = self.verified.get(&digest, keys) {
            if let Err(error) = check_times(&verified.claims, &self.rules, now) {
                self.verified.forget(&digest);
                return Err(error.into());
            }
            self.check_revocation(&verified, now)?;
            return Ok(verified.claims.clone());
        }
        let claims = verify(token, keys, &self.rules, now)?;
        let verified = Verified::new(claims.clone());
        let revocation = self.check_revocation(&verified, now);
        self.verified.keep(digest, keys.clone(), verified);
        revocation.map(|()| claims)
    }

    /// The last check: a token that has expired is said to have expired, revoked or not.
    fn check_revocation(&self, token: &Verified, now: i64) -> Result<(), AuthError> {
        let Some(list) = &self.revocations else {
            return Ok(());
        };
        if list.revokes_at(&token.revocation, now, self.rules.leeway_seconds()) {
            Err(AuthError::Revoked { sub: token.claims.sub })
        } else if self.may_rely_on(list) {
            Ok(())
        } else {
            Err(AuthError::RevocationsStale)
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("rules", &self.rules).finish_non_exhaustive()
    }
}
