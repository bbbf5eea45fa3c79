//! Accounts after registration: introspection of their tokens, deletion.

use sql_kit::{read, transaction};
use token_verifier::{Claims, Rules};

use super::Service;
use crate::{
    domain::AccountId,
    error::Error,
    store::{accounts, attempts},
};

impl Service {
    /// The claims of a token if it is active (RFC 7662, section 2.2): valid now, and of an account
    /// that exists.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn introspect(&self, token: &str) -> Result<Option<Claims>, Error> {
        let ring = self.loaded_keys()?;
        let rules = Rules::default()
            .issuer(self.issuer.issuer.clone())
            .audience(self.issuer.audience.clone());
        let now = self.store.now().timestamp();
        let Ok(claims) = token_verifier::verify(token, ring.verification(), &rules, now) else {
            return Ok(None);
        };
        let id = AccountId(claims.sub);
        let account = read!(self.store, |unit| accounts::by_id(unit, id).await).await?;
        Ok(account.is_some().then_some(claims))
    }

    /// Deletes an account, and in the same transaction all that is known of it; one that does not
    /// exist is as good as deleted.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn delete_account(&self, id: AccountId) -> Result<(), Error> {
        self.loaded_keys()?;
        loop {
            let found = read!(self.store, |unit| accounts::by_id(unit, id).await).await?;
            let Some(found) = found else {
                return Ok(());
            };
            let subject = self.throttle.subject(found.email.as_str())?;
            let deleted = transaction!(self.store, |unit| {
                // In the order in which a login takes them.
                attempts::lock(unit, &subject).await?;
                let Some(account) = accounts::lock(unit, id).await? else {
                    return Ok(true);
                };
                // Its email was changed just now: the attempts on it have another subject.
                if account.email != found.email {
                    return Ok(false);
                }
                attempts::forget(unit, &subject).await?;
                accounts::delete(unit, id).await
            });
            if deleted.await? {
                tracing::info!(event = "account.deleted", account = %id, "account deleted");
                return Ok(());
            }
        }
    }
}
