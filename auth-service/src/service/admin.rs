//! The actions of operators on accounts, both from the command line and over `auth.v1.AdminService`.
//! Operators never learn or choose passwords: they send the owner a link.

mod create;
mod list;
mod page_token;

use sql_kit::transaction;

pub use self::{
    create::{Created, NewAccount},
    list::{
        AccountDetails, AccountFilter, AccountPage, FailedLogins, PAGE_DEFAULT, PAGE_MAX, page_size,
    },
};
use super::{
    Service,
    links::{Token, until},
    revocations::end_all,
};
use crate::{
    domain::AccountKey,
    error::Error,
    events::{Cause, Event},
    mail::{Kind, Message, Page},
    store::{
        AccountRecord, accounts, attempts,
        links::{self, LinkRecord, Purpose},
    },
};

impl Service {
    /// Fails unless the database has been prepared.
    pub(super) fn ready(&self) -> Result<(), Error> {
        if self.is_prepared() { Ok(()) } else { Err(Error::DatabaseUnavailable) }
    }

    /// Disables an account. Its sessions, access tokens and one-time links end in the same transaction,
    /// and a login fails as with a wrong password. An account that is already disabled is left
    /// unchanged.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], and the errors of the database.
    pub async fn disable_account(
        &self,
        key: &AccountKey,
        by: &Cause<'_>,
    ) -> Result<AccountRecord, Error> {
        self.ready()?;
        let ended_until = self.revoked_until();
        let disabled = transaction!(self.store, |unit| {
            let Some(mut account) = accounts::lock_by_key(unit, key).await? else {
                return Ok(None);
            };
            if !account.disabled {
                account.disabled = true;
                accounts::set_disabled(unit, account.id, true).await?;
                let event = Event::AccountDisabled;
                self.store.record(unit, &event, Some(account.id), by).await?;
                let generation = end_all(unit, account.id, None, ended_until).await?;
                account.generation = generation.unwrap_or(account.generation);
            }
            Ok(Some(account))
        });
        let account = disabled.await?.ok_or(Error::AccountNotFound)?;
        tracing::info!(
            event = "account.disabled", account = %account.id, actor = %by.actor, "account disabled"
        );
        Ok(account)
    }

    /// Enables a disabled account, so that its owner can log in again. What ended when it was disabled
    /// is not restored.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], and the errors of the database.
    pub async fn enable_account(
        &self,
        key: &AccountKey,
        by: &Cause<'_>,
    ) -> Result<AccountRecord, Error> {
        self.ready()?;
        let enabled = transaction!(self.store, |unit| {
            let Some(account) = accounts::lock_by_key(unit, key).await? else {
                return Ok(None);
            };
            if account.disabled {
                accounts::set_disabled(unit, account.id, false).await?;
                self.store.record(unit, &Event::AccountEnabled, Some(account.id), by).await?;
            }
            Ok(Some(AccountRecord { disabled: false, ..account }))
        });
        let account = enabled.await?.ok_or(Error::AccountNotFound)?;
        tracing::info!(
            event = "account.enabled", account = %account.id, actor = %by.actor, "account enabled"
        );
        Ok(account)
    }

    /// Resets the failed logins of an account from all networks, so that its owner need not wait. The
    /// limits on the requests of a network are not reset.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], and the errors of the database.
    pub async fn unlock_account(
        &self,
        key: &AccountKey,
        by: &Cause<'_>,
    ) -> Result<AccountRecord, Error> {
        self.ready()?;
        loop {
            let found = self.find_account(key).await?;
            let subject = self.throttle.subject(found.email.as_str())?;
            let unlocked = transaction!(self.store, |unit| {
                // Locks are taken in the same order as in a login, to avoid deadlocks.
                attempts::lock(unit, &subject).await?;
                let account = accounts::lock(unit, found.id).await?;
                // The email was changed in the meantime, so its attempts are stored under another
                // subject: start again.
                let account = account.filter(|account| account.email == found.email);
                if account.is_some() {
                    attempts::forget_failures(unit, &subject).await?;
                    self.store.record(unit, &Event::AccountUnlocked, Some(found.id), by).await?;
                }
                Ok(account)
            });
            if let Some(account) = unlocked.await? {
                tracing::info!(
                    event = "account.unlocked", account = %account.id, actor = %by.actor,
                    "failed logins forgotten"
                );
                return Ok(account);
            }
        }
    }

    /// Ends every session and access token of an account, as its owner can ("log out everywhere").
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], and the errors of the database.
    pub async fn end_account_sessions(
        &self,
        key: &AccountKey,
        by: &Cause<'_>,
    ) -> Result<AccountRecord, Error> {
        self.ready()?;
        let ended_until = self.revoked_until();
        let ended = transaction!(self.store, |unit| {
            let Some(account) = accounts::lock_by_key(unit, key).await? else {
                return Ok(None);
            };
            self.store.record(unit, &Event::AllSessionsEnded, Some(account.id), by).await?;
            let generation = end_all(unit, account.id, None, ended_until).await?;
            Ok(generation.map(|generation| AccountRecord { generation, ..account }))
        });
        let account = ended.await?.ok_or(Error::AccountNotFound)?;
        tracing::info!(
            event = "session.all_ended", account = %account.id, actor = %by.actor,
            "all sessions ended"
        );
        Ok(account)
    }

    /// Sends the owner of an account a password reset link. The limit on links per address is meant for
    /// anonymous requests, and does not apply here.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`], [`Error::AccountNotFound`], [`Error::AccountDisabled`], and the errors
    /// of the database.
    pub async fn send_password_reset(
        &self,
        key: &AccountKey,
        by: &Cause<'_>,
    ) -> Result<AccountRecord, Error> {
        let mail = self.mail()?;
        self.ready()?;
        let found = self.find_account(key).await?;
        let (token, now) = (Token::generate()?, self.store.now());
        let link = mail.link(Page::ResetPassword, &token)?;
        let message =
            Message::new(Kind::PasswordReset, &found.email, now).link(&link, mail.reset_ttl);
        let outgoing = mail.mailer.write(&message)?;
        let sent = transaction!(self.store, |unit| {
            let account = accounts::lock(unit, found.id).await?;
            let Some(account) = account.filter(|account| account.email == found.email) else {
                return Ok(Err(Error::AccountNotFound));
            };
            if account.disabled {
                return Ok(Err(Error::AccountDisabled));
            }
            let record = LinkRecord {
                digest: token.digest,
                purpose: Purpose::ResetPassword(Some(account.id)),
                email: account.email.clone(),
                generation: account.generation,
                expires_at: until(now, mail.reset_ttl),
            };
            links::insert(unit, &record).await?;
            mail.mailer.add(unit, &outgoing, by.origin).await?;
            self.store.record(unit, &Event::PasswordResetRequested, Some(account.id), by).await?;
            Ok(Ok(account))
        });
        let account = sent.await??;
        mail.mailer.wake();
        tracing::info!(
            event = "password.reset_requested", account = %account.id, actor = %by.actor,
            "a link to choose a new password is on its way"
        );
        Ok(account)
    }

    /// Deletes an account and all data about it, as its owner can.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], and the errors of the database.
    pub async fn remove_account(
        &self,
        key: &AccountKey,
        by: &Cause<'_>,
    ) -> Result<AccountRecord, Error> {
        self.ready()?;
        let account = self.find_account(key).await?;
        if !self.delete(account.id, by).await? {
            return Err(Error::AccountNotFound);
        }
        Ok(account)
    }

    pub(super) async fn find_account(&self, key: &AccountKey) -> Result<AccountRecord, Error> {
        let found = sql_kit::read!(self.store, |unit| accounts::by_key(unit, key).await).await?;
        found.ok_or(Error::AccountNotFound)
    }
}
