//! Creation of accounts by operators.

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

/// The input for a new account.
#[derive(Debug)]
pub struct NewAccount {
    /// Its email.
    pub email: Email,
    /// Whether the email counts as confirmed.
    pub email_verified: bool,
    /// The hash of its password, created elsewhere, in a format that an import accepts. Without one, the
    /// account has no password until its owner chooses one with a link.
    pub password_hash: Option<String>,
    /// Whether to send the owner a link to choose a password, if mail is on.
    pub send_link: bool,
}

/// The result of a creation.
#[derive(Debug)]
pub struct Created {
    /// The account.
    pub account: AccountRecord,
    /// Whether a mail with a link to choose a password was queued.
    pub link_sent: bool,
}

impl Service {
    /// Creates an account, even if `REGISTRATION` is closed. Pending registrations for its email end.
    /// The link in the mail is valid for as long as one that confirms an address, because its recipient
    /// does not expect it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an unusable hash, [`Error::EmailAlreadyRegistered`], and the errors of the
    /// database.
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
            // Until the schemes in use are refreshed, a login to the new account may take longer than
            // others. If this fails, the next periodic refresh makes up for it.
            let _ = self.refresh_work().await;
        }
        tracing::info!(
            event = "account.created", account = %account.id, actor = %by.actor, "account created"
        );
        Ok(Created { link_sent: welcome.is_some(), account })
    }

    /// Parses a hash that was created elsewhere, by the rules of an import.
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

/// The first link of an account, with which its owner chooses a password, and the mail with it.
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
