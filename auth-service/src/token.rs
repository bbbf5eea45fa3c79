//! Access tokens: JWTs as RFC 9068 has them, signed by the active key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::Header;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::{AccountId, Email},
    keys::SigningKey,
};

/// What goes into every token.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `iss`: who issues it.
    pub issuer: String,
    /// `aud`: whom it is meant for.
    pub audience: String,
    /// How long it lives.
    pub ttl: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: Uuid,
    aud: &'a str,
    exp: i64,
    iat: i64,
    jti: Uuid,
    email: &'a str,
}

impl Issuer {
    /// Issues a token for an account at `now`, signed by `key`.
    ///
    /// # Errors
    ///
    /// Where signing fails, which for a key that was accepted once is a fault of the machine.
    pub fn issue(
        &self,
        account: AccountId,
        email: &Email,
        key: &SigningKey,
        now: DateTime<Utc>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(key.jwt_algorithm());
        header.typ = Some("at+jwt".to_owned());
        header.kid = key.kid().map(str::to_owned);
        let iat = now.timestamp();
        let claims = Claims {
            iss: &self.issuer,
            sub: account.0,
            aud: &self.audience,
            exp: iat + i64::try_from(self.ttl.as_secs()).unwrap_or(0),
            iat,
            jti: Uuid::new_v4(),
            email: email.as_str(),
        };
        jsonwebtoken::encode(&header, &claims, key.encoding_key())
    }
}
