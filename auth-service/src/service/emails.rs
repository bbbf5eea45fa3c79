//! Confirmation and change of email addresses. All consequences take effect in the same transaction.

use sql_kit::{transaction, write_one};
use uuid::Uuid;

use super::{
    Caller, Requester, Service, Verification,
    links::{Token, take, until},
    passwords::is_unchanged,
    revocations::end_all,
};
use crate::{
    domain::{AccountId, Email},
    error::Error,
    events::{Actor, Event},
    mail::{Kind, Message, Outgoing, Page},
    store::{
        AccountRecord, accounts, attempts,
        links::{self, LinkRecord, Purpose},
        registrations,
    },
};

/// The result of using a link.
enum Used {
    Done(AccountId),
    /// The link is no longer valid.
    Dead,
    /// The address already has an account. The link is used up.
    Taken,
    /// The address got an account so late that the transaction failed; the link still has to be removed.
    TakenMeanwhile,
}

impl Service {
    /// Uses a link that confirms an address. It confirms that of an account, turns a registration into an
    /// account, or puts a change of address into effect.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`] and [`Error::InvalidLink`]; [`Error::EmailAlreadyRegistered`] if another
    /// account has got the address in the meantime, which uses up the link; and the errors of the
    /// database.
    pub async fn verify_email(&self, token: &str, by: &Requester) -> Result<(), Error> {
        self.mail()?;
        self.loaded_keys()?;
        let link = self.link(token).await?;
        let (used, event) = match &link.purpose {
            Purpose::ResetPassword(_) => (Used::Dead, ""),
            Purpose::VerifyEmail(account) => {
                (self.confirm(*account, &link, by).await?, "email.verified")
            }
            Purpose::VerifyRegistration(id) => {
                (self.complete(*id, &link, by).await?, "account.registered")
            }
            Purpose::ChangeEmail(account, new) => {
                (self.apply_change(*account, new, &link, by).await?, "email.changed")
            }
        };
        match used {
            Used::Done(account) => {
                tracing::info!(event, %account, "link used");
                Ok(())
            }
            Used::Dead => Err(Error::InvalidLink),
            Used::Taken => Err(Error::EmailAlreadyRegistered),
            Used::TakenMeanwhile => {
                let used = write_one!(self.store, |unit| links::remove(unit, &link.digest).await);
                used.await?;
                Err(Error::EmailAlreadyRegistered)
            }
        }
    }

    async fn confirm(
        &self,
        id: AccountId,
        link: &LinkRecord,
        by: &Requester,
    ) -> Result<Used, Error> {
        let used = transaction!(self.store, |unit| {
            if take(unit, link, id).await?.is_none() {
                return Ok(Used::Dead);
            }
            accounts::set_email_verified(unit, id).await?;
            let cause = by.acting_as(Actor::Account);
            self.store.record(unit, &Event::EmailVerified, Some(id), &cause).await?;
            Ok(Used::Done(id))
        });
        Ok(used.await?)
    }

    async fn complete(&self, id: Uuid, link: &LinkRecord, by: &Requester) -> Result<Used, Error> {
        let used = transaction!(self.store, |unit| {
            registrations::lock(unit, &link.email).await?;
            let now = self.store.now();
            let Some(registration) = registrations::by_id(unit, id, now).await? else {
                return Ok(Used::Dead);
            };
            if !links::remove(unit, &link.digest).await? {
                return Ok(Used::Dead);
            }
            let account = AccountRecord { email_verified: true, ..registration.into_unverified() };
            if !accounts::insert(unit, &account).await? {
                return Ok(Used::Taken);
            }
            registrations::remove_all(unit, &account.email).await?;
            let event = Event::AccountRegistered { email_verified: true };
            let cause = by.acting_as(Actor::Account);
            self.store.record(unit, &event, Some(account.id), &cause).await?;
            Ok(Used::Done(account.id))
        });
        Ok(used.await?)
    }

    async fn apply_change(
        &self,
        id: AccountId,
        new: &Email,
        link: &LinkRecord,
        by: &Requester,
    ) -> Result<Used, Error> {
        let now = self.store.now();
        let told =
            |to| self.notice(&Message::new(Kind::EmailChanged, to, now).change(&link.email, new));
        let notices = [told(&link.email)?, told(new)?];
        let ended_until = self.revoked_until();
        let subjects =
            (self.throttle.subject(link.email.as_str())?, self.throttle.subject(new.as_str())?);
        let used = transaction!(self.store, |unit| {
            if take(unit, link, id).await?.is_none() {
                return Ok(Used::Dead);
            }
            registrations::lock(unit, new).await?;
            if accounts::by_email(unit, new).await?.is_some() {
                return Ok(Used::Taken);
            }
            if !accounts::set_email(unit, id, new).await? {
                unit.abandon();
                return Ok(Used::TakenMeanwhile);
            }
            registrations::remove_all(unit, new).await?;
            attempts::move_networks(unit, &subjects.0, &subjects.1).await?;
            for notice in &notices {
                self.add_notice(unit, notice.as_ref(), by).await?;
            }
            let cause = by.acting_as(Actor::Account);
            self.store.record(unit, &Event::EmailChanged, Some(id), &cause).await?;
            end_all(unit, id, None, ended_until).await?;
            Ok(Used::Done(id))
        });
        let used = used.await?;
        self.wake_mailer();
        Ok(used)
    }

    /// Starts a change of the caller's address. It takes effect when the new address is confirmed, and
    /// replaces an earlier pending change. The response does not reveal whether the new address has an
    /// account; only its mailbox receives a notice.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`], throttling, [`Error::WrongPassword`], overload, and the errors of the
    /// database.
    pub async fn change_email(
        &self,
        caller: &Caller,
        new: &Email,
        current_password: &str,
        by: &Requester,
    ) -> Result<(), Error> {
        let mail = self.mail()?;
        self.admit(&mail.per_network, by.network)?;
        let account = self.confirm_password(caller, current_password, by).await?;
        if *new == account.email {
            // The address does not change, but it may still need to be confirmed.
            if self.registration.verification != Verification::Off && !account.email_verified {
                self.mail_verification(new, by).await?;
            }
            return Ok(());
        }
        let now = self.store.now();
        let subject = self.throttle.subject(new.as_str())?;
        let token = Token::generate()?;
        let link = mail.link(Page::VerifyEmail, &token)?;
        let old = &account.email;
        let (verify, taken, told) = (
            Message::new(Kind::EmailChange, new, now)
                .link(&link, mail.verification_ttl)
                .change(old, new),
            Message::new(Kind::EmailTaken, new, now),
            Message::new(Kind::EmailChangeRequested, old, now).change(old, new),
        );
        let [verify, taken, told] =
            [mail.mailer.write(&verify)?, mail.mailer.write(&taken)?, mail.mailer.write(&told)?];
        let record = LinkRecord {
            digest: token.digest,
            purpose: Purpose::ChangeEmail(account.id, new.clone()),
            email: old.clone(),
            generation: account.generation,
            expires_at: until(now, mail.verification_ttl),
        };
        let begun = transaction!(self.store, |unit| {
            if !is_unchanged(unit, &account).await? {
                return Ok(false);
            }
            // If the quota is used up, nothing is sent and a pending change stays.
            if !links::count(unit, &subject, mail.per_hour, now).await? {
                return Ok(true);
            }
            links::remove_changes_of(unit, account.id).await?;
            let to_new: &Outgoing = match accounts::by_email(unit, new).await? {
                Some(_) => &taken,
                None => {
                    links::insert(unit, &record).await?;
                    &verify
                }
            };
            mail.mailer.add(unit, to_new, &by.origin).await?;
            mail.mailer.add(unit, &told, &by.origin).await?;
            let (event, cause) = (Event::EmailChangeRequested, by.acting_as(Actor::Account));
            self.store.record(unit, &event, Some(account.id), &cause).await?;
            Ok(true)
        });
        if !begun.await? {
            return Err(Error::TokenRevoked);
        }
        mail.mailer.wake();
        tracing::info!(event = "email.change_requested", account = %account.id, "change of email requested");
        Ok(())
    }
}
