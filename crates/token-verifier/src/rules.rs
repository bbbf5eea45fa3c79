//! What a verifier demands beyond a good signature.

use std::time::Duration;

/// The checks that an operator may set. The default demands neither issuer nor audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// When set, the token must carry exactly this `iss` (RFC 7519 section 4.1.1).
    pub issuer: Option<String>,
    /// When set, the token's `aud` must be or contain exactly this value (RFC 7519 section 4.1.3).
    pub audience: Option<String>,
    /// How long after `exp` a token is still taken. Zero by default: `exp == now` is expired. Whole
    /// seconds count, a fraction is ignored.
    pub exp_leeway: Duration,
    /// How far in the future `iat` and `nbf` may lie, because two clocks never agree. 60 s by
    /// default. Whole seconds count, a fraction is ignored.
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
