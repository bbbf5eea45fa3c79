//! Accounts that an operator creates.

use service_kit::json::fault;
use sql_kit::{read, transaction};

use crate::{
    domain::{AccountId, Email},
    error::Error,
    events::{Cause, Event},
    field_code,
    import::RowRules,
    mail::{Kind, Message, Outgoing, Page},
    password::PasswordHash,
    service::{
        Mail, Service,
        links::{Token, until},
    },
    store::{
        AccountRecord, accounts,
        links::{self, LinkRecord, Purpose},
        registrations,
    },
};

/// An account that is to be created.
#[derive(Debug)]
pub struct NewAccount {
    /// Its email.
    pub email: Email,
    /// Whether the email counts as confirmed.
    pub email_verified: bool,
    /// The hash of its password, made elsewhere, in a form that an import takes. Without one it has no
    /// password until its owner chooses one by a link.
    pub password_hash: Option<String>,
    /// Whether its owner is sent a link to choose a password, where mail is on.
    pub send_link: bool,
}

/// An account that was created.
#[derive(Debug)]
pub struct Created {
    /// The account.
    pub account: AccountRecord,
    /// Whether a link to choose a password is on its way to its owner.
    pub link_sent: bool,
}

impl Service {
    /// Creates an account, whatever `REGISTRATION` says. Registrations for its email that wait for their
    /// links end. The mail with its link works as long as one that confirms an address: nobody sits
    /// waiting for it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a hash that no password can be checked against,
    /// [`Error::EmailAlreadyRegistered`], or the database.
    pub async fn create_account(&self, new: NewAccount, by: &Cause<'_>) -> Result<Created, Error> {
        self.ready()?;
        let has_hash = new.password_hash.is_some();
        let account = AccountRecord {
            id: AccountId::generate(),
            email: new.email,
            password_hash: self.foreign_hash(new.password_hash).await?,
            created_at: self.store.now(),
            generation: 0,
            email_verified: new.email_verified,
            disabled: false,
        };
        let welcome = match &self.mail {
            Some(mail) if new.send_link => Some((mail, welcome(mail, &account)?)),
            _ => None,
        };
        let created = transaction!(self.store, |unit| {
            registrations::lock(unit, &account.email).await?;
            if !accounts::insert(unit, &account).await? {
                return Ok(false);
            }
            registrations::remove_all(unit, &account.email).await?;
            if let Some((mail, (link, outgoing))) = &welcome {
                links::insert(unit, link).await?;
                mail.mailer.add(unit, outgoing, by.origin).await?;
            }
            self.store.record(unit, &Event::AccountCreated, Some(account.id), by).await?;
            Ok(true)
        });
        if !created.await? {
            return Err(Error::EmailAlreadyRegistered);
        }
        self.wake_mailer();
        if has_hash {
            // Until this has been done a login to the account costs more than others. If it fails, the
            // next look at the schemes in use does it.
            let _ = self.refresh_work().await;
        }
        tracing::info!(
            event = "account.created", account = %account.id, actor = %by.actor, "account created"
        );
        Ok(Created { link_sent: welcome.is_some(), account })
    }

    /// Reads a hash that was made elsewhere, by the rules of an import.
    async fn foreign_hash(&self, text: Option<String>) -> Result<PasswordHash, Error> {
        if text.is_none() {
            return Ok(PasswordHash::none());
        }
        let in_use = read!(self.store, |unit| accounts::hash_schemes(unit).await).await?;
        let mut rules = RowRules::new(None, in_use.iter().filter_map(|name| name.parse().ok()));
        rules.hash(text).map_err(|refusal| {
            let fault = fault("password_hash", field_code::UNUSABLE_PASSWORD_HASH, refusal.0);
            Error::Invalid(vec![fault])
        })
    }
}

/// The first link of an account, by which its owner chooses a password, and its mail.
fn welcome(mail: &Mail, account: &AccountRecord) -> Result<(LinkRecord, Outgoing), Error> {
    let token = Token::generate()?;
    let link = mail.link(Page::ResetPassword, &token)?;
    let (lifetime, now) = (mail.verification_ttl, account.created_at);
    let message = Message::new(Kind::AccountCreated, &account.email, now).link(&link, lifetime);
    let record = LinkRecord {
        digest: token.digest,
        purpose: Purpose::ResetPassword(Some(account.id)),
        email: account.email.clone(),
        generation: account.generation,
        expires_at: until(now, lifetime),
    };
    Ok((record, mail.mailer.write(&message)?))
}
