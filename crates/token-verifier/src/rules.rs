//! What a verifier requires in addition to a valid signature.

use std::time::Duration;

/// The longest `exp_leeway` that revocation supports: an issuer lists a revocation for this long after
/// the last token that it revokes has expired. A verifier with a longer leeway that restarts after that
/// time may accept a revoked token again.
pub const MAX_EXP_LEEWAY: Duration = Duration::from_secs(300);

/// The checks that an operator can configure. By default neither an issuer nor an audience is required.
///
/// ```
/// use token_verifier::Rules;
///
/// let rules = Rules::default().issuer("https://auth.example").audience("latchkey");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// When set, the token must carry exactly this `iss` (RFC 7519 section 4.1.1).
    pub issuer: Option<String>,
    /// When set, the token's `aud` must be or contain exactly this value (RFC 7519 section 4.1.3).
    pub audience: Option<String>,
    /// How long after `exp` a token is still accepted. By default zero: a token with `exp == now` has
    /// expired. Fractions of a second are ignored. See [`MAX_EXP_LEEWAY`].
    pub exp_leeway: Duration,
    /// How far in the future `iat` and `nbf` may be, because clocks differ. By default 60 s. Fractions
    /// of a second are ignored.
    pub clock_skew: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            exp_leeway: Duration::ZERO,
            clock_skew: Duration::from_secs(60),
        }
    }
}

impl Rules {
    /// Requires this `iss`.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Requires this `aud`.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        Self { audience: Some(audience.into()), ..self }
    }

    /// Accepts tokens for this long after their `exp`.
    #[must_use]
    pub fn exp_leeway(self, exp_leeway: Duration) -> Self {
        Self { exp_leeway, ..self }
    }

    /// Accepts tokens whose `iat` and `nbf` are this far in the future.
    #[must_use]
    pub fn clock_skew(self, clock_skew: Duration) -> Self {
        Self { clock_skew, ..self }
    }

    /// `exp_leeway` in whole seconds.
    pub(crate) fn leeway_seconds(&self) -> i64 {
        i64::try_from(self.exp_leeway.as_secs()).unwrap_or(i64::MAX)
    }
}
