//! Access tokens: JWTs in the profile of RFC 9068, signed by the active key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::{AccountId, Email},
    keys::{CryptoError, SigningKey},
};

/// Issues access tokens. Its fields are the same in every token.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `iss`: the issuer.
    pub issuer: String,
    /// `aud`: the audience.
    pub audience: String,
    /// The lifetime of a token.
    pub ttl: Duration,
}

/// The claims of a token that depend on the account.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// `sub`: the account.
    pub account: AccountId,
    /// `email`: its email.
    pub email: &'a Email,
    /// `gen`: the generation of its credentials. A token with a lower generation than the account
    /// is revoked.
    pub generation: i64,
    /// `sid`: the session, for a login with `offline_access`.
    pub session: Option<Uuid>,
    /// `email_verified`, if addresses are confirmed.
    pub email_verified: Option<bool>,
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
    r#gen: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
}

impl Issuer {
    /// Issues a token for `grant` at `now`, signed by `key`.
    ///
    /// # Errors
    ///
    /// If signing fails. For a valid key that is a failure of the machine.
    pub fn issue(
        &self,
        grant: Grant<'_>,
        key: &SigningKey,
        now: DateTime<Utc>,
    ) -> Result<String, CryptoError> {
        let iat = now.timestamp();
        let claims = Claims {
            iss: &self.issuer,
            sub: grant.account.0,
            aud: &self.audience,
            exp: iat + i64::try_from(self.ttl.as_secs()).unwrap_or(0),
            iat,
            jti: Uuid::new_v4(),
            email: grant.email.as_str(),
            r#gen: grant.generation,
            sid: grant.session,
            email_verified: grant.email_verified,
        };
        key.sign(&serde_json::to_vec(&claims).map_err(|_| CryptoError)?)
    }
}
