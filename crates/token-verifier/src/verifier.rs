//! The verifier of a service, which combines keys, rules and a clock.

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

/// How often keys are looked up for one token: in the present set, after a fetch that another caller
/// requested, and after a fetch of its own.
#[cfg(feature = "jwks")]
const MAX_ROUNDS: usize = 3;

#[cfg(feature = "jwks")]
const UNKNOWN_KEY: AuthError = AuthError::Invalid(VerifyError::UnknownKey);

/// If the JWKS document is too large to be read, a token with an unknown key may be genuine.
#[cfg(feature = "jwks")]
fn unknown_key(cache: &JwksCache) -> AuthError {
    if cache.may_miss_keys() { AuthError::KeysUnavailable } else { UNKNOWN_KEY }
}

/// Why a request is not authenticated. The text contains nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// There is no `Authorization` header, or its scheme is not Bearer. HTTP status 401.
    #[error("no bearer token")]
    Missing,
    /// There is more than one `Authorization` header (RFC 9110 section 11.6.2 allows one). HTTP status 400.
    #[error("more than one Authorization field")]
    Ambiguous,
    /// The scheme is Bearer, but the rest is not a token of RFC 6750 section 2.1. HTTP status 401.
    #[error("malformed bearer token")]
    Malformed,
    /// The token is refused. HTTP status 401.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    /// The token was valid until its session, or all tokens of its account, were revoked. HTTP status 401.
    #[error("the token was revoked")]
    Revoked {
        /// The account of the token, for the log.
        sub: Uuid,
    },
    /// The token cannot be checked: no keys have arrived yet, or its key is missing and the JWKS document
    /// is too large to be read. HTTP status 503.
    #[error("the signing keys are not available yet")]
    KeysUnavailable,
    /// The list of revocations is older than [`Verifier::with_revocations_max_age`] allows, or its source
    /// has not been queried yet. HTTP status 503.
    #[error("the list of revoked tokens is not up to date")]
    RevocationsStale,
}

impl AuthError {
    /// A stable name for logs and metrics, in snake_case and from a closed list.
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

    /// The code for the client. It is coarser than [`Self::reason`], because the sender of a forged token
    /// must not learn which check failed. The sender of a genuine token learns that it has expired
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

    /// The value of `WWW-Authenticate` (RFC 6750 section 3), if the response has one. It names an error
    /// only if a token was presented.
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

/// Extracts the token from the `Authorization` header (RFC 6750 section 2.1). The scheme is
/// case-insensitive (RFC 9110 section 11.1). Tokens in a body or a query string are never read.
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
    if token.is_empty() {
        return Err(AuthError::Missing);
    }
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !token.bytes().all(is_token_byte) {
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

/// Verifies access tokens. Clones are cheap and share the keys. The claims of up to 10,000 tokens are
/// cached by the digest of the token, until their `exp` or a change of the keys. Revocations are checked at
/// every use.
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
    /// A verifier with a fixed set of keys.
    #[must_use]
    pub fn with_keys(keys: KeySet, rules: Rules) -> Self {
        Self::new(Source::Fixed(keys), rules)
    }

    /// A verifier with keys from a JWKS URL. [`JwksCache::run`] must run on another clone of the cache;
    /// otherwise nothing is fetched.
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

    /// Refuses revoked tokens, according to this list, with [`AuthError::Revoked`]. Until the source of the
    /// list has been queried once, no token is accepted and the verifier is not ready.
    #[must_use]
    pub fn with_revocations(self, list: RevocationList) -> Self {
        list.keep_for(self.rules.leeway_seconds());
        Self { revocations: Some(list), ..self }
    }

    /// While the list of revocations is older than this, or was never complete, refuses all tokens with
    /// [`AuthError::RevocationsStale`] and is not ready. Without this, a list of any age is used.
    #[must_use]
    pub fn with_revocations_max_age(self, max_age: Duration) -> Self {
        Self { revocations_max_age: Some(max_age), ..self }
    }

    /// Replaces the system's clock, for tests. It returns seconds since the Unix epoch.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Verifies a token. A token with an unknown key makes a JWKS source fetch its document again, at most
    /// once in 10 s however many such tokens arrive. The call waits for it: at most 5 s, usually a few
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// Any [`AuthError`] except those about the header.
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

    /// Verifies a token with the present keys, without waiting. A token with an unknown key is refused, and
    /// makes a JWKS source fetch its document in the background, with the same limit as in
    /// [`Self::verify`].
    ///
    /// # Errors
    ///
    /// Any [`AuthError`] except those about the header.
    pub fn verify_cached(&self, token: &str) -> Result<Claims, AuthError> {
        let outcome = self.check(token, &self.keys()?);
        #[cfg(feature = "jwks")]
        if let (Err(UNKNOWN_KEY), Source::Jwks(cache)) = (&outcome, &self.source) {
            cache.request_refetch();
            return Err(unknown_key(cache));
        }
        outcome
    }

    /// Verifies the token in the `Authorization` header (RFC 6750 section 2.1) like [`Self::verify`].
    ///
    /// # Errors
    ///
    /// Any [`AuthError`].
    pub async fn verify_authorization(&self, headers: &HeaderMap) -> Result<Claims, AuthError> {
        self.verify(bearer_token(headers)?).await
    }

    /// The issuer that every token must have, if one is required.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.rules.issuer.as_deref()
    }

    /// Whether tokens can be verified: there are keys, and the list of revocations is recent enough.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.has_keys() && self.has_current_revocations()
    }

    /// Whether there are keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys().is_ok()
    }

    /// Whether the list of revocations is recent enough. True if there is no list.
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
        // Without any key, valid tokens cannot be distinguished from invalid ones, which is not the
        // client's fault.
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

    /// The last check, so that an expired token is reported as expired, whether or not it was revoked.
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
