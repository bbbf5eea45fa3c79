//! Changing a password, and choosing one by a link. Whatever follows from it is in the same transaction.

use service_kit::json::fault;
use sql_kit::transaction;

use super::{Caller, Issued, Requester, Service, links::take, revocations::end_all};
use crate::{
    domain::{AccountId, Email, Password},
    error::Error,
    events::{Actor, Event},
    field_code,
    mail::{Kind, Message},
    password::{Make, PasswordHash},
    store::{
        AccountRecord, accounts, attempts,
        links::{self, LinkRecord, Purpose},
        registrations,
    },
};

/// A new password that nothing speaks against. Only [`Service::accept`] makes one, and no other is hashed.
pub(super) struct Accepted(Password);

impl Service {
    /// Replaces the password of the caller's account and issues a fresh access token. The caller's session
    /// stays; every other one, every access token and every one-time link of the account ends.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAttempts`], [`Error::Invalid`] for a new password that breaks a rule,
    /// [`Error::WrongPassword`]; overload, or the database.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current_password: &str,
        new_password: &str,
        by: &Requester,
    ) -> Result<Issued, Error> {
        let email = &caller.account.email;
        self.throttle.inspect(&self.throttle.subject(email.as_str())?, by.network).await?;
        let new_password = self.new_password(new_password, Some(email))?;
        let new_password = self.accept("new_password", new_password).await?;
        let mut account = self.confirm_password(caller, current_password, by).await?;
        let hash = self.hash(new_password).await?;
        let notice = self.notice(&Message::new(Kind::PasswordChanged, email, self.store.now()))?;
        let until = self.revoked_until();
        let changed = transaction!(self.store, |unit| {
            if !is_unchanged(unit, &account).await? {
                return Ok(None);
            }
            accounts::set_password(unit, account.id, &hash).await?;
            self.add_notice(unit, notice.as_ref(), by).await?;
            let cause = by.acting_as(Actor::Account);
            self.store.record(unit, &Event::PasswordChanged, Some(account.id), &cause).await?;
            end_all(unit, account.id, caller.session, until).await
        });
        // Another change has ended the token that the caller presented.
        account.generation = changed.await?.ok_or(Error::TokenRevoked)?;
        self.wake_mailer();
        tracing::info!(event = "password.changed", account = %account.id, "password changed");
        self.issue_access(&account, caller.session)
    }

    /// Sets the password of the account that a link is for, confirms its address, and ends all of its
    /// sessions, access tokens and links. For an address that has only registrations, the account is made.
    ///
    /// The link is used up when all of that is done, and not before: a password that breaks a rule, or a
    /// service that is overloaded, leaves it good.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`], [`Error::Invalid`] for a password that breaks a rule,
    /// [`Error::InvalidLink`]; overload, or the database.
    pub async fn reset_password(
        &self,
        token: &str,
        new_password: &str,
        by: &Requester,
    ) -> Result<(), Error> {
        self.mail()?;
        self.loaded_keys()?;
        let password = self.new_password(new_password, None)?;
        let password = self.accept("new_password", password).await?;
        let link = self.link(token).await?;
        let Purpose::ResetPassword(account) = link.purpose else {
            return Err(Error::InvalidLink);
        };
        // Now that the email is known.
        self.new_password(new_password, Some(&link.email))?;
        let hash = self.hash(password).await?;
        let id = match account {
            Some(id) => self.set_password(id, &link, &hash, by).await?,
            None => self.make_account(&link, hash, by).await?,
        };
        tracing::info!(event = "password.reset", account = %id, "password reset");
        Ok(())
    }

    async fn set_password(
        &self,
        id: AccountId,
        link: &LinkRecord,
        hash: &PasswordHash,
        by: &Requester,
    ) -> Result<AccountId, Error> {
        let message = Message::new(Kind::PasswordWasReset, &link.email, self.store.now());
        let notice = self.notice(&message)?;
        let subject = self.throttle.subject(link.email.as_str())?;
        let until = self.revoked_until();
        let done = transaction!(self.store, |unit| {
            // In the order in which a login takes them.
            attempts::lock(unit, &subject).await?;
            let Some(account) = take(unit, link, id).await? else {
                return Ok(false);
            };
            accounts::set_password(unit, id, hash).await?;
            accounts::set_email_verified(unit, id).await?;
            // Whoever reads the mail of the address is no longer kept waiting for what others tried.
            attempts::forget(unit, &subject).await?;
            self.add_notice(unit, notice.as_ref(), by).await?;
            let cause = by.acting_as(Actor::Account);
            self.store.record(unit, &Event::PasswordReset, Some(id), &cause).await?;
            if !account.email_verified {
                self.store.record(unit, &Event::EmailVerified, Some(id), &cause).await?;
            }
            end_all(unit, id, None, until).await?;
            Ok(true)
        });
        if !done.await? {
            return Err(Error::InvalidLink);
        }
        self.wake_mailer();
        Ok(id)
    }

    /// Makes an account for an address that has only registrations, and ends those.
    async fn make_account(
        &self,
        link: &LinkRecord,
        password_hash: PasswordHash,
        by: &Requester,
    ) -> Result<AccountId, Error> {
        let account = AccountRecord {
            id: AccountId::generate(),
            email: link.email.clone(),
            password_hash,
            created_at: self.store.now(),
            generation: 0,
            email_verified: true,
            disabled: false,
        };
        let made = transaction!(self.store, |unit| {
            registrations::lock(unit, &link.email).await?;
            let is_good = links::remove(unit, &link.digest).await?
                && registrations::remove_all(unit, &link.email).await? > 0
                && accounts::insert(unit, &account).await?;
            if is_good {
                let event = Event::AccountRegistered { email_verified: true };
                let cause = by.acting_as(Actor::Account);
                self.store.record(unit, &event, Some(account.id), &cause).await?;
            }
            Ok(is_good)
        });
        if !made.await? {
            return Err(Error::InvalidLink);
        }
        tracing::info!(event = "account.registered", account = %account.id, "account registered");
        Ok(account.id)
    }

    /// Reads a new password by the rules.
    fn new_password(&self, text: &str, email: Option<&Email>) -> Result<Password, Error> {
        Password::parse_new(text, email, &self.password_rules)
            .map_err(|(code, rule)| Error::Invalid(vec![fault("new_password", code, rule)]))
    }

    /// Accepts a new password that is not known from a breach, as far as breached ones are looked up.
    /// `pointer` is the member that it came in.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for one that is.
    pub(super) async fn accept(
        &self,
        pointer: &str,
        password: Password,
    ) -> Result<Accepted, Error> {
        match &self.breaches {
            Some(breaches) if breaches.is_breached(&password).await => {
                let rule = "has appeared in a data breach: choose another one".to_owned();
                Err(Error::Invalid(vec![fault(pointer, field_code::PASSWORD_BREACHED, rule)]))
            }
            _ => Ok(Accepted(password)),
        }
    }

    /// Hashes a new password.
    pub(super) async fn hash(&self, password: Accepted) -> Result<PasswordHash, Error> {
        Ok(self.hashing.run(Make::new(self.scheme, password.0)?).await??)
    }

    /// The caller's account, if this is its password. It counts, and costs, what a login does.
    ///
    /// # Errors
    ///
    /// [`Error::WrongPassword`], throttling, overload, or the database.
    pub(super) async fn confirm_password(
        &self,
        caller: &Caller,
        password: &str,
        by: &Requester,
    ) -> Result<AccountRecord, Error> {
        let (id, email) = (caller.account.id, caller.account.email.as_str());
        let account = self.check_password(email, Password::normalize(password), by).await?;
        match account.filter(|account| account.id == id) {
            Some(account) if account.generation == caller.account.generation => Ok(account),
            Some(_) => Err(Error::TokenRevoked),
            None => {
                tracing::info!(event = "password.wrong", account = %id, network = %by.network, "wrong password");
                Err(Error::WrongPassword)
            }
        }
    }
}

/// Whether an account, which is locked from here on, is still as it was when its password was looked at.
pub(super) async fn is_unchanged(
    unit: &mut sql_kit::Unit,
    account: &AccountRecord,
) -> Result<bool, sqlx::Error> {
    let present = accounts::lock(unit, account.id).await?;
    Ok(present.is_some_and(|present| {
        present.generation == account.generation && present.email == account.email
    }))
}
