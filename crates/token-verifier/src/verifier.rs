//! What a service holds: keys, rules and a clock, behind one call.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header::AUTHORIZATION};
use thiserror::Error;

use crate::claims::Claims;
#[cfg(feature = "jwks")]
use crate::jwks::JwksCache;
use crate::key_set::KeySet;
use crate::rules::Rules;
use crate::verified::{Digest, VerifiedTokens};
use crate::verify::{MAX_TOKEN_BYTES, VerifyError, check_times, verify};

/// How often keys are looked up for one token: as they are, after another caller's refetch, after
/// one's own.
#[cfg(feature = "jwks")]
const MAX_ROUNDS: usize = 3;

/// Why a request is not let in. Contains nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
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
    /// No keys have arrived yet, so that no token can be judged. HTTP status 503.
    #[error("the signing keys are not available yet")]
    KeysUnavailable,
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
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// The code that a client sees. Coarser than [`Self::reason`]: which check failed is nothing that
    /// the sender of a forged token should learn.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "unauthenticated",
            Self::Ambiguous => "malformed_request",
            Self::Malformed | Self::Invalid(_) => "invalid_token",
            Self::KeysUnavailable => "signing_keys_unavailable",
        }
    }

    /// The HTTP status (RFC 9110 section 15).
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Missing | Self::Malformed | Self::Invalid(_) => http::StatusCode::UNAUTHORIZED,
            Self::Ambiguous => http::StatusCode::BAD_REQUEST,
            Self::KeysUnavailable => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The value of the field `WWW-Authenticate` (RFC 6750 section 3) if the answer has one: the
    /// error is named only when a token was presented.
    #[must_use]
    pub fn www_authenticate(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some(r#"Bearer realm="latchkey""#),
            Self::Malformed | Self::Invalid(_) => {
                Some(r#"Bearer realm="latchkey", error="invalid_token""#)
            }
            Self::Ambiguous | Self::KeysUnavailable => None,
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
/// remembered, by the digest of the token, until their `exp` or a change of the keys.
#[derive(Clone)]
pub struct Verifier {
    source: Source,
    rules: Arc<Rules>,
    verified: Arc<VerifiedTokens>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
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
            clock: Arc::new(unix_now),
        }
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
    /// [`AuthError::Invalid`] or [`AuthError::KeysUnavailable`].
    pub async fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        #[cfg(feature = "jwks")]
        if let Source::Jwks(cache) = &self.source {
            let mut keys = self.keys()?;
            for _ in 1..MAX_ROUNDS {
                match self.check(token, &keys) {
                    Err(VerifyError::UnknownKey) => match cache.newer_than(&keys).await {
                        Some(newer) => keys = newer,
                        None => return Err(VerifyError::UnknownKey.into()),
                    },
                    outcome => return Ok(outcome?),
                }
            }
            return Ok(self.check(token, &keys)?);
        }
        Ok(self.check(token, &self.keys()?)?)
    }

    /// Validates a token with the keys at hand and never waits. A token of an unknown key is
    /// refused, and makes a JWKS source fetch its document in the background, under the same limit
    /// as for [`Self::verify`].
    ///
    /// # Errors
    ///
    /// [`AuthError::Invalid`] or [`AuthError::KeysUnavailable`].
    pub fn verify_cached(&self, token: &str) -> Result<Claims, AuthError> {
        let outcome = self.check(token, &self.keys()?);
        #[cfg(feature = "jwks")]
        if let (Err(VerifyError::UnknownKey), Source::Jwks(cache)) = (&outcome, &self.source) {
            cache.request_refetch();
        }
        Ok(outcome?)
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

    /// Whether there are keys, so that tokens can be judged.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.keys().is_ok()
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

    fn check(&self, token: &str, keys: &KeySet) -> Result<Claims, VerifyError> {
        let now = (self.clock)();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::TooLong);
        }
        let digest = Digest::of(token);
        if let Some(claims) = self.verified.get(&digest, keys) {
            return match check_times(&claims, &self.rules, now) {
                Ok(()) => Ok(Claims::clone(&claims)),
                Err(error) => {
                    self.verified.forget(&digest);
                    Err(error)
                }
            };
        }
        let claims = verify(token, keys, &self.rules, now)?;
        self.verified.keep(digest, keys.clone(), claims.clone());
        Ok(claims)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// A clock before 1970 reads as 1970, when no token of today is valid yet.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
