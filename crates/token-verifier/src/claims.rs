//! The claims of a valid token.

use std::fmt;

use uuid::Uuid;

/// The claims of a token whose signature and times were verified.
///
/// Times are seconds since the Unix epoch (NumericDate, RFC 7519 section 2); fractions are truncated.
/// Claims that are not listed here are ignored, as RFC 7519 section 4 requires.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// The account that the token was issued for (`sub`, RFC 7519 section 4.1.2). Never the nil UUID.
    pub sub: Uuid,
    /// The account's email address when the token was issued; at most 254 bytes.
    pub email: Option<String>,
    /// When the token was issued (`iat`, RFC 7519 section 4.1.6).
    pub iat: i64,
    /// The first second at which the token is no longer valid (`exp`, RFC 7519 section 4.1.4).
    pub exp: i64,
    /// The first second at which the token is valid (`nbf`, RFC 7519 section 4.1.5).
    pub nbf: Option<i64>,
    /// The issuer (`iss`, RFC 7519 section 4.1.1).
    pub iss: Option<String>,
    /// The audience (`aud`, RFC 7519 section 4.1.3). Empty if the token has none.
    pub aud: Vec<String>,
    /// The token's own identifier (`jti`, RFC 7519 section 4.1.7).
    pub jti: Option<String>,
    /// The generation of the account's credentials when the token was issued (`gen`); 0 if the token
    /// has none. At most 2^53 - 1, which every JSON parser reads exactly (RFC 7493 section 2.2).
    pub generation: u64,
    /// The session that the token belongs to (`sid`). Never the nil UUID.
    pub sid: Option<Uuid>,
    /// Whether the account's owner has confirmed `email` (OpenID Connect Core 1.0 section 5.1); `None`
    /// if the issuer does not confirm addresses.
    pub email_verified: Option<bool>,
}

impl fmt::Debug for Claims {
    /// Omits the email address, because it is personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("sub", &self.sub)
            .field("email", &self.email.as_ref().map(|_| "[redacted]"))
            .field("iat", &self.iat)
            .field("exp", &self.exp)
            .field("nbf", &self.nbf)
            .field("iss", &self.iss)
            .field("aud", &self.aud)
            .field("jti", &self.jti)
            .field("generation", &self.generation)
            .field("sid", &self.sid)
            .field("email_verified", &self.email_verified)
            .finish()
    }
}
