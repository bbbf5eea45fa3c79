//! Introspection of access tokens, and the deletion of accounts.

use chrono::{DateTime, Utc};
use sql_kit::{Unit, read, transaction};
use token_verifier::Claims;

use super::{Caller, Requester, Service, passwords::is_unchanged, revocations::end_all};
use crate::{
    domain::AccountId,
    error::Error,
    events::{Actor, Cause},
    mail::{Kind, Message},
    store::{accounts, attempts, sessions},
    throttle::Subject,
};

impl Service {
    /// The claims of a token if it is active (RFC 7662, section 2.2): it is valid and not revoked, and its
    /// account exists.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn introspect(&self, token: &str) -> Result<Option<Claims>, Error> {
        let Ok(claims) = self.verify(token)? else {
            return Ok(None);
        };
        Ok(self.caller(&claims).await?.map(|_| claims))
    }

    /// Deletes an account and, in the same transaction, all data about it. Succeeds if the account does
    /// not exist. Its events stay, but are anonymised.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn delete_account(&self, id: AccountId, cause: &Cause<'_>) -> Result<(), Error> {
        self.delete(id, cause).await.map(drop)
    }

    /// Does the same and returns whether the account existed.
    pub(super) async fn delete(&self, id: AccountId, cause: &Cause<'_>) -> Result<bool, Error> {
        self.ready()?;
        self.store.prepare_to_erase_events(id).await?;
        loop {
            let found = read!(self.store, |unit| accounts::by_id(unit, id).await).await?;
            let Some(found) = found else {
                return Ok(false);
            };
            let subject = self.throttle.subject(found.email.as_str())?;
            let until = self.revoked_until();
            let deleted = transaction!(self.store, |unit| {
                // Locks are taken in the same order as in a login, to avoid deadlocks.
                attempts::lock(unit, &subject).await?;
                let Some(account) = accounts::lock(unit, id).await? else {
                    return Ok(Some(false));
                };
                // The email was changed in the meantime, so its attempts are stored under another subject:
                // start again.
                if account.email != found.email {
                    return Ok(None);
                }
                self.erase(unit, &subject, id, until, cause).await.map(Some)
            });
            if let Some(deleted) = deleted.await? {
                if deleted {
                    tracing::info!(
                        event = "account.deleted", account = %id, actor = %cause.actor,
                        "account deleted"
                    );
                }
                return Ok(deleted);
            }
        }
    }

    /// Deletes the caller's account.
    ///
    /// # Errors
    ///
    /// [`Error::WrongPassword`], throttling, overload, and the errors of the database.
    pub async fn delete_own_account(
        &self,
        caller: &Caller,
        current_password: &str,
        by: &Requester,
    ) -> Result<(), Error> {
        let account = self.confirm_password(caller, current_password, by).await?;
        let (id, email) = (account.id, &account.email);
        let subject = self.throttle.subject(email.as_str())?;
        let notice = self.notice(&Message::new(Kind::AccountDeleted, email, self.store.now()))?;
        let (until, cause) = (self.revoked_until(), by.acting_as(Actor::Account));
        self.store.prepare_to_erase_events(id).await?;
        let deleted = transaction!(self.store, |unit| {
            attempts::lock(unit, &subject).await?;
            if !is_unchanged(unit, &account).await? {
                return Ok(false);
            }
            self.add_notice(unit, notice.as_ref(), by).await?;
            self.erase(unit, &subject, id, until, &cause).await
        });
        if !deleted.await? {
            return Err(Error::TokenRevoked);
        }
        self.wake_mailer();
        tracing::info!(event = "account.deleted", account = %id, "account deleted");
        Ok(())
    }

    /// Deletes a locked account and all data about it, and revokes its tokens. Returns whether the account
    /// existed.
    async fn erase(
        &self,
        unit: &mut Unit,
        subject: &Subject,
        id: AccountId,
        until: DateTime<Utc>,
        cause: &Cause<'_>,
    ) -> Result<bool, sqlx::Error> {
        attempts::forget(unit, subject).await?;
        // A concurrent end of a session writes an event. Deleting the sessions first waits for it, so that
        // this event is anonymised too. The revocation list comes last, because its lock makes others
        // wait.
        sessions::delete_of(unit, id, None).await?;
        self.store.erase_events(unit, id, cause).await?;
        end_all(unit, id, None, until).await?;
        accounts::delete(unit, id).await
    }
}
