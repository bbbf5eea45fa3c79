//! Callers: accounts that are authenticated by an access token.

use http::HeaderMap;
use service_kit::access;
use sql_kit::{Unit, read};
use token_verifier::{AuthError, Claims, Rules, VerifyError, bearer_token};
use uuid::Uuid;

use super::Service;
use crate::{
    domain::AccountId,
    error::Error,
    store::{AccountRecord, accounts, sessions},
};

/// The calling account and the session of its token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account in its current state.
    pub account: AccountRecord,
    /// The session of the token; `None` for a login without `offline_access`.
    pub session: Option<Uuid>,
}

impl Service {
    /// Authenticates the sender of a request by its headers (RFC 6750, section 2.1).
    ///
    /// # Errors
    ///
    /// If there is no token, or if it is invalid, expired or revoked; or if the database is unavailable.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let presented = bearer_token(headers).map_err(|error| match error {
            AuthError::Missing => Error::Unauthenticated,
            AuthError::Ambiguous => Error::AmbiguousCredentials,
            _ => Error::InvalidToken,
        });
        let claims = match presented {
            Ok(token) => self.verify(token)?,
            Err(error) => Err(error),
        };
        let judged = match claims {
            Ok(claims) => {
                // The access log names the account even if its token was revoked.
                access::note_account(claims.sub);
                self.caller(&claims).await?.ok_or(Error::TokenRevoked)
            }
            Err(error) => Err(error),
        };
        judged.inspect_err(|error| {
            tracing::info!(event = "access.unauthenticated", reason = %error, "refused");
        })
    }

    /// The claims of a token that is valid and has not expired. Revocation is not checked. The inner error
    /// says what is wrong with the token.
    pub(super) fn verify(&self, token: &str) -> Result<Result<Claims, Error>, Error> {
        let ring = self.loaded_keys()?;
        let rules = Rules::default().issuer(&self.issuer.issuer).audience(&self.issuer.audience);
        let now = self.store.now().timestamp();
        let verified = token_verifier::verify(token, ring.verification(), &rules, now);
        Ok(verified.map_err(|error| match error {
            VerifyError::Expired => Error::TokenExpired,
            _ => Error::InvalidToken,
        }))
    }

    /// The caller with these claims; `None` if the token was revoked.
    pub(super) async fn caller(&self, claims: &Claims) -> Result<Option<Caller>, Error> {
        let (id, session) = (AccountId(claims.sub), claims.sid);
        let found = read!(self.store, |unit| {
            let account = accounts::by_id(unit, id).await?;
            Ok((account, is_alive(unit, session).await?))
        });
        Ok(match found.await? {
            (Some(account), true)
                if !account.disabled
                    && i64::try_from(claims.generation)
                        .is_ok_and(|own| own >= account.generation) =>
            {
                Some(Caller { account, session })
            }
            _ => None,
        })
    }
}

/// Whether the session of a token is active. A token without a session counts as active.
async fn is_alive(unit: &mut Unit, session: Option<Uuid>) -> Result<bool, sqlx::Error> {
    match session {
        Some(session) => sessions::exists(unit, session).await,
        None => Ok(true),
    }
}
