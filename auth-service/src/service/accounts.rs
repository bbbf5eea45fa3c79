//! Accounts after registration: introspection of their tokens, deletion.

use sql_kit::{read, transaction};
use token_verifier::Claims;

use super::{Service, revocations::end_all};
use crate::{
    domain::AccountId,
    error::Error,
    store::{accounts, attempts},
};

impl Service {
    /// The claims of a token if it is active (RFC 7662, section 2.2): valid now, not revoked, and of an
    /// account that exists.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn introspect(&self, token: &str) -> Result<Option<Claims>, Error> {
        Ok(self.judge(token).await?.ok().map(|(claims, _)| claims))
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
            let until = self.revoked_until();
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
                end_all(unit, id, None, until).await?;
                accounts::delete(unit, id).await
            });
            if deleted.await? {
                tracing::info!(event = "account.deleted", account = %id, "account deleted");
                return Ok(());
            }
        }
    }
}
