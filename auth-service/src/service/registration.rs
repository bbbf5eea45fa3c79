//! Registration.

use chrono::TimeDelta;
use service_kit::access;
use sql_kit::{read, transaction};

use super::{
    Requester, Service, Verification,
    links::{Token, until},
};
use crate::{
    domain::{AccountId, Registration},
    error::Error,
    events::{Actor, Event},
    mail::{Kind, Message, Outgoing, Page},
    store::{
        AccountRecord, accounts,
        links::{self, LinkRecord, Purpose},
        registrations::{self, RegistrationRecord},
    },
};

/// The least time for which a pending registration is kept. During that time, an expired link can be sent
/// again.
const REGISTRATION_LIFETIME: TimeDelta = TimeDelta::days(7);

/// Who may register, and whether addresses are confirmed.
#[derive(Debug, Clone, Copy)]
pub struct RegistrationRules {
    /// Whether registration is open to anybody.
    pub is_open: bool,
    /// Whether addresses are confirmed.
    pub verification: Verification,
}

impl Service {
    /// Fails unless registration is open.
    ///
    /// # Errors
    ///
    /// [`Error::RegistrationClosed`].
    pub const fn may_register(&self) -> Result<(), Error> {
        if self.registration.is_open { Ok(()) } else { Err(Error::RegistrationClosed) }
    }

    /// Creates an account. If addresses are confirmed, the mail with the link is queued in the same
    /// transaction. If they must be confirmed first, this only creates a registration, which the link
    /// turns into an account; several registrations may exist for the same email.
    ///
    /// # Errors
    ///
    /// [`Error::RegistrationClosed`], [`Error::EmailAlreadyRegistered`], throttling, overload, and the
    /// errors of the database.
    pub async fn register(
        &self,
        registration: Registration,
        by: &Requester,
    ) -> Result<AccountRecord, Error> {
        self.may_register()?;
        self.loaded_keys()?;
        self.admit(&self.limits.registrations, by.network)?;
        let Registration { email, password } = registration;
        let password = self.accept("password", password).await?;
        // Avoids hashing if the email is already known to be taken. The insertion below decides.
        let existing = read!(self.store, |unit| accounts::by_email(unit, &email).await);
        if existing.await?.is_some() {
            return Err(Error::EmailAlreadyRegistered);
        }
        let password_hash = self.hash(password).await?;
        let account = AccountRecord {
            id: AccountId::generate(),
            email,
            password_hash,
            created_at: self.store.now(),
            generation: 0,
            email_verified: false,
            disabled: false,
        };
        let is_waiting = self.registration.verification == Verification::Required;
        let sent = self.verification_of(&account, is_waiting)?;
        let written = transaction!(self.store, |unit| {
            let is_new = if is_waiting {
                registrations::insert(unit, &self.waiting(&account)).await?;
                accounts::by_email(unit, &account.email).await?.is_none()
            } else {
                accounts::insert(unit, &account).await?
            };
            if !is_new {
                unit.abandon();
                return Ok(false);
            }
            if !is_waiting {
                let event = Event::AccountRegistered { email_verified: false };
                let cause = by.acting_as(Actor::Anonymous);
                self.store.record(unit, &event, Some(account.id), &cause).await?;
            }
            if let (Some(mail), Some((link, outgoing))) = (&self.mail, &sent) {
                links::insert(unit, link).await?;
                mail.mailer.add(unit, outgoing, &by.origin).await?;
            }
            Ok(true)
        });
        if !written.await? {
            return Err(Error::EmailAlreadyRegistered);
        }
        self.wake_mailer();
        let event = if is_waiting { "registration.waiting" } else { "account.registered" };
        access::note_account(account.id);
        tracing::info!(event, account = %account.id, network = %by.network, "registered");
        Ok(account)
    }

    /// The link that confirms the address of a new account, and its mail. `None` if addresses are not
    /// confirmed.
    fn verification_of(
        &self,
        account: &AccountRecord,
        is_waiting: bool,
    ) -> Result<Option<(LinkRecord, Outgoing)>, Error> {
        let mail = match self.registration.verification {
            Verification::Off => return Ok(None),
            Verification::On | Verification::Required => self.mail()?,
        };
        let token = Token::generate()?;
        let link = mail.link(Page::VerifyEmail, &token)?;
        let lifetime = mail.verification_ttl;
        let message = Message::new(Kind::EmailVerification, &account.email, account.created_at)
            .link(&link, lifetime);
        let record = LinkRecord {
            digest: token.digest,
            purpose: match is_waiting {
                true => Purpose::VerifyRegistration(account.id.0),
                false => Purpose::VerifyEmail(account.id),
            },
            email: account.email.clone(),
            generation: account.generation,
            expires_at: until(account.created_at, lifetime),
        };
        Ok(Some((record, mail.mailer.write(&message)?)))
    }

    fn waiting(&self, account: &AccountRecord) -> RegistrationRecord {
        let least = account.created_at + REGISTRATION_LIFETIME;
        let link = self.mail.as_ref().map(|mail| until(account.created_at, mail.verification_ttl));
        RegistrationRecord {
            id: account.id.0,
            email: account.email.clone(),
            password_hash: account.password_hash.clone(),
            created_at: account.created_at,
            expires_at: link.map_or(least, |link| link.max(least)),
        }
    }
}
