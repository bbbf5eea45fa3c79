//! What a valid token says.

use std::fmt;

use uuid::Uuid;

/// The claims of a token whose signature and times were checked.
///
/// Times are seconds since the Unix epoch (NumericDate, RFC 7519 section 2); a fraction in the token
/// is cut off. Claims that are not listed here are ignored, as RFC 7519 section 4 asks.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// The account that the token speaks for (`sub`, RFC 7519 section 4.1.2). Never the nil UUID.
    pub sub: Uuid,
    /// The account's email address when the token was issued; at most 254 bytes.
    pub email: Option<String>,
    /// When the token was issued (`iat`, RFC 7519 section 4.1.6).
    pub iat: i64,
    /// The first second at which the token is no longer valid (`exp`, RFC 7519 section 4.1.4).
    pub exp: i64,
    /// The first second at which the token is valid (`nbf`, RFC 7519 section 4.1.5).
    pub nbf: Option<i64>,
    /// Who issued the token (`iss`, RFC 7519 section 4.1.1).
    pub iss: Option<String>,
    /// Whom the token is meant for (`aud`, RFC 7519 section 4.1.3). Empty when the token names nobody.
    pub aud: Vec<String>,
    /// The token's own identifier (`jti`, RFC 7519 section 4.1.7).
    pub jti: Option<String>,
    /// The generation of the account's credentials when the token was issued (`gen`); 0 when the token
    /// has none. At most 2^53 - 1, as every JSON parser reads it (RFC 7493 section 2.2).
    pub generation: u64,
    /// The session that the token belongs to (`sid`). Never the nil UUID.
    pub sid: Option<Uuid>,
    /// Whether the account's owner has proven to receive mail at `email` (OpenID Connect Core 1.0
    /// section 5.1); `None` where the issuer does not verify addresses.
    pub email_verified: Option<bool>,
}

impl fmt::Debug for Claims {
    /// Leaves the email address out, so that a logged value names nobody.
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
