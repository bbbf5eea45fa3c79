//! Changing a password, and choosing one with a link. All consequences take effect in the same
//! transaction.

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

/// A new password that passed all checks. Only [`Service::accept`] creates one, and only this type can be
/// hashed.
pub(super) struct Accepted(Password);

impl Service {
    /// Replaces the password of the caller's account and issues a new access token. The caller's session
    /// stays; all other sessions, access tokens and one-time links of the account end.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAttempts`], [`Error::Invalid`] for a new password that breaks a rule,
    /// [`Error::WrongPassword`], overload, and the errors of the database.
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
        // A concurrent change has revoked the caller's token.
        account.generation = changed.await?.ok_or(Error::TokenRevoked)?;
        self.wake_mailer();
        tracing::info!(event = "password.changed", account = %account.id, "password changed");
        self.issue_access(&account, caller.session)
    }

    /// Sets the password of the account that a link belongs to, confirms its address, and ends all of its
    /// sessions, access tokens and links. If the address only has registrations, an account is created.
    ///
    /// The link is used up only if all of this succeeds. It stays valid if the password breaks a rule or
    /// the service is overloaded.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`], [`Error::Invalid`] for a password that breaks a rule,
    /// [`Error::InvalidLink`], overload, and the errors of the database.
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
        // Check again, because the rules may depend on the email, which is known now.
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
            // Locks are taken in the same order as in a login, to avoid deadlocks.
            attempts::lock(unit, &subject).await?;
            let Some(account) = take(unit, link, id).await? else {
                return Ok(false);
            };
            accounts::set_password(unit, id, hash).await?;
            accounts::set_email_verified(unit, id).await?;
            // The owner has proved to receive mail at the address, so failed attempts of others no longer
            // delay them.
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

    /// Creates an account for an address that only has registrations, and removes these.
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

    /// Parses a new password and applies the rules.
    fn new_password(&self, text: &str, email: Option<&Email>) -> Result<Password, Error> {
        Password::parse_new(text, email, &self.password_rules)
            .map_err(|(code, rule)| Error::Invalid(vec![fault("new_password", code, rule)]))
    }

    /// Accepts a new password unless it is known from a breach, if breached passwords are looked up.
    /// `pointer` is the JSON Pointer of the member that it came from.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a breached password.
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

    /// Returns the caller's account if the password is right. The attempt counts, and costs as much work,
    /// as a login.
    ///
    /// # Errors
    ///
    /// [`Error::WrongPassword`], throttling, overload, and the errors of the database.
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

/// Locks an account, and returns whether it is unchanged since its password was checked.
pub(super) async fn is_unchanged(
    unit: &mut sql_kit::Unit,
    account: &AccountRecord,
) -> Result<bool, sqlx::Error> {
    let present = accounts::lock(unit, account.id).await?;
    Ok(present.is_some_and(|present| {
        present.generation == account.generation && present.email == account.email
    }))
}
