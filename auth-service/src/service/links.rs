//! One-time links. Anybody can request one for any address, but only the recipient of the mail can use it.

use std::time::Duration;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use service_kit::settings::Secret;
use sql_kit::{Unit, read, transaction};

use super::Service;
use crate::{
    domain::{AccountId, Email},
    error::Error,
    events::Requester,
    mail::{Kind, Links, Mailer, Message, Page},
    store::{
        AccountRecord, accounts,
        links::{self, LinkRecord, Purpose},
        registrations,
    },
    throttle::NetworkLimit,
};

const TOKEN_BYTES: usize = 32;

/// Whether addresses are confirmed by mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Addresses are not confirmed.
    Off,
    /// An account exists before its address is confirmed, and its tokens say whether it is.
    On,
    /// An account is created only when its address is confirmed.
    Required,
}

/// Mail, as the service layer uses it.
#[derive(Debug)]
pub struct Mail {
    /// Writes mails to the outbox.
    pub mailer: Mailer,
    /// Builds links.
    pub links: Links,
    /// How long a link to choose a password works.
    pub reset_ttl: Duration,
    /// How long a link to confirm an address works.
    pub verification_ttl: Duration,
    /// How many links may be sent to one address per hour; 0 means no limit.
    pub per_hour: u32,
    /// The limit on mails that one network requests.
    pub per_network: NetworkLimit,
}

/// The secret of a one-time link.
pub(super) struct Token {
    pub(super) secret: Secret,
    /// The SHA-256 of the secret, which is what is stored. A fast hash is enough, because the secret has
    /// 256 random bits.
    pub(super) digest: [u8; 32],
}

impl Token {
    pub(super) fn generate() -> Result<Self, Error> {
        let mut bytes = [0; TOKEN_BYTES];
        rand::fill(&mut bytes).map_err(|_| Error::Internal)?;
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
        Ok(Self { secret, digest: sha256(&bytes) })
    }

    /// The digest of a secret that a client sent. A whole link or its fragment is accepted as well,
    /// because that is what people copy.
    pub(super) fn digest_of(text: &str) -> Option<[u8; 32]> {
        let secret = text.trim().rsplit('#').next()?;
        let secret = secret.strip_prefix("token=").unwrap_or(secret);
        let bytes = URL_SAFE_NO_PAD.decode(secret).ok()?;
        (bytes.len() == TOKEN_BYTES).then(|| sha256(&bytes))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

/// Which link is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Reset,
    Verification,
}

/// The effect of a link, and the mail that carries it.
struct Target {
    purpose: Purpose,
    email: Email,
    generation: i64,
    kind: Kind,
    /// When the action happened that is to be confirmed.
    time: DateTime<Utc>,
}

impl Service {
    /// The mail configuration, if mail is on.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`].
    pub fn mail(&self) -> Result<&Mail, Error> {
        self.mail.as_ref().ok_or(Error::MailDisabled)
    }

    /// Sends a password reset link if the address has an account or pending registrations. Neither the
    /// response nor its duration reveals whether it has.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`], throttling, and the errors of the database.
    pub async fn forgot_password(&self, email: &Email, by: &Requester) -> Result<(), Error> {
        self.mail_link(Wanted::Reset, email, by).await?;
        tracing::info!(event = "password.reset_requested", network = %by.network, "reset requested");
        Ok(())
    }

    /// Sends the link that confirms an address again, if there is something to confirm. The response does
    /// not reveal whether there is.
    ///
    /// # Errors
    ///
    /// [`Error::MailDisabled`], throttling, and the errors of the database.
    pub async fn send_verification(&self, email: &Email, by: &Requester) -> Result<(), Error> {
        self.mail_link(Wanted::Verification, email, by).await?;
        tracing::info!(event = "email.verification_requested", network = %by.network, "verification requested");
        Ok(())
    }

    async fn mail_link(&self, wanted: Wanted, email: &Email, by: &Requester) -> Result<(), Error> {
        self.loaded_keys()?;
        self.admit(&self.mail()?.per_network, by.network)?;
        self.mail_admitted_link(wanted, email, by).await
    }

    /// Sends the confirmation link of an unverified account to its owner, who has just entered its
    /// password.
    pub(super) async fn mail_verification(
        &self,
        email: &Email,
        by: &Requester,
    ) -> Result<(), Error> {
        self.mail_admitted_link(Wanted::Verification, email, by).await
    }

    /// Does the same work for every address. If nothing is to be sent, the link and the mail are removed
    /// again in the same transaction; otherwise the same DELETE statements run but match no row.
    async fn mail_admitted_link(
        &self,
        wanted: Wanted,
        email: &Email,
        by: &Requester,
    ) -> Result<(), Error> {
        let mail = self.mail()?;
        let subject = self.throttle.subject(email.as_str())?;
        let (token, none) = (Token::generate()?, Token::generate()?);
        let (page, lifetime) = match wanted {
            Wanted::Reset => (Page::ResetPassword, mail.reset_ttl),
            Wanted::Verification => (Page::VerifyEmail, mail.verification_ttl),
        };
        let link = mail.link(page, &token)?;
        let written = transaction!(self.store, |unit| {
            let now = self.store.now();
            let target = self.target(unit, wanted, email, now).await?;
            let may_send = links::count(unit, &subject, mail.per_hour, now).await?;
            let is_sent = target.is_some() && may_send;
            let target = target.unwrap_or_else(|| nothing(wanted, email, now));
            let mut message = Message::new(target.kind, email, target.time).link(&link, lifetime);
            if target.kind == Kind::EmailChange {
                message = message.change(&target.email, email);
            }
            let outgoing = match mail.mailer.write(&message) {
                Ok(outgoing) => outgoing,
                Err(error) => {
                    unit.abandon();
                    return Ok(Err(error));
                }
            };
            let record = LinkRecord {
                digest: token.digest,
                purpose: target.purpose,
                email: target.email,
                generation: target.generation,
                expires_at: until(now, lifetime),
            };
            links::insert(unit, &record).await?;
            mail.mailer.add(unit, &outgoing, &by.origin).await?;
            let (digest, id) = match is_sent {
                true => (none.digest, uuid::Uuid::new_v4()),
                false => (token.digest, outgoing.id()),
            };
            links::remove(unit, &digest).await?;
            mail.mailer.remove(unit, id).await?;
            Ok(Ok(()))
        });
        written.await??;
        mail.mailer.wake_after_answer();
        Ok(())
    }

    /// The effect of a link to this address. The same statements run whatever they find.
    async fn target(
        &self,
        unit: &mut Unit,
        wanted: Wanted,
        email: &Email,
        now: DateTime<Utc>,
    ) -> Result<Option<Target>, sqlx::Error> {
        let account = accounts::by_email(unit, email).await?;
        let registration = registrations::newest(unit, email, now).await?;
        let change = links::change_to(unit, email, now).await?;
        let lifetime = self.mail.as_ref().map(|mail| mail.verification_ttl).unwrap_or_default();
        let lifetime = TimeDelta::from_std(lifetime).unwrap_or_default();
        // A disabled account cannot be used, so it gets no links.
        if account.as_ref().is_some_and(|account| account.disabled) {
            return Ok(None);
        }
        let of_account = |account: AccountRecord, kind, purpose: fn(AccountId) -> Purpose| Target {
            purpose: purpose(account.id),
            email: account.email,
            generation: account.generation,
            kind,
            time: account.created_at,
        };
        Ok(match (wanted, account, registration) {
            (Wanted::Reset, Some(account), _) => {
                Some(of_account(account, Kind::PasswordReset, |id| {
                    Purpose::ResetPassword(Some(id))
                }))
            }
            (Wanted::Reset, None, registration) => registration.map(|registration| Target {
                purpose: Purpose::ResetPassword(None),
                email: registration.email,
                generation: 0,
                kind: Kind::PasswordReset,
                time: now,
            }),
            (Wanted::Verification, Some(account), _) => {
                (self.registration.verification != Verification::Off && !account.email_verified)
                    .then(|| of_account(account, Kind::EmailVerification, Purpose::VerifyEmail))
            }
            // Of a pending change to this address and a registration for it, the newest attempt counts.
            (Wanted::Verification, None, registration) => match (change, registration) {
                (Some(change), registration)
                    if registration.as_ref().is_none_or(|registration| {
                        registration.created_at < change.expires_at - lifetime
                    }) =>
                {
                    Some(Target {
                        purpose: change.purpose,
                        email: change.email,
                        generation: change.generation,
                        kind: Kind::EmailChange,
                        time: now,
                    })
                }
                (_, Some(registration)) => Some(Target {
                    purpose: Purpose::VerifyRegistration(registration.id),
                    email: registration.email,
                    generation: 0,
                    kind: Kind::EmailVerification,
                    time: registration.created_at,
                }),
                (_, None) => None,
            },
        })
    }

    /// Finds the link with this secret, if it is still valid.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidLink`] if it is malformed, unknown, used or expired; and the errors of the
    /// database.
    pub(super) async fn link(&self, token: &str) -> Result<LinkRecord, Error> {
        let digest = Token::digest_of(token).ok_or(Error::InvalidLink)?;
        let now = self.store.now();
        let found = read!(self.store, |unit| links::by_digest(unit, &digest, now).await);
        found.await?.ok_or(Error::InvalidLink)
    }
}

impl Mail {
    /// Builds the link with a token. It fails if the base is not known yet, before the listener is bound.
    pub(super) fn link(&self, page: Page, token: &Token) -> Result<Secret, Error> {
        self.links.to(page, &token.secret).map(Secret::new).ok_or(Error::DatabaseUnavailable)
    }
}

/// Locks the account of a link and uses up the link, provided that the account has not changed since the
/// link was created and is not disabled.
///
/// # Errors
///
/// The errors of the database.
pub(super) async fn take(
    unit: &mut Unit,
    link: &LinkRecord,
    account: AccountId,
) -> Result<Option<AccountRecord>, sqlx::Error> {
    let account = accounts::lock(unit, account).await?;
    let account = account.filter(|account| {
        account.email == link.email && account.generation == link.generation && !account.disabled
    });
    match account {
        Some(account) if links::remove(unit, &link.digest).await? => Ok(Some(account)),
        _ => Ok(None),
    }
}

/// The end of a period that begins now.
pub(super) fn until(now: DateTime<Utc>, lifetime: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(lifetime).unwrap_or(TimeDelta::days(7))
}

/// A link without effect, for an address for which there is nothing to do.
fn nothing(wanted: Wanted, email: &Email, now: DateTime<Utc>) -> Target {
    let (purpose, kind) = match wanted {
        Wanted::Reset => (Purpose::ResetPassword(None), Kind::PasswordReset),
        Wanted::Verification => {
            (Purpose::VerifyRegistration(uuid::Uuid::nil()), Kind::EmailVerification)
        }
    };
    Target { purpose, email: email.clone(), generation: 0, kind, time: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_digest_alone_or_in_its_link() {
        let token = Token::generate().unwrap();
        let secret = token.secret.expose();
        assert_eq!(secret.len(), 43);
        for text in [
            secret.to_owned(),
            format!(" {secret}\n"),
            format!("token={secret}"),
            format!("https://example.com/account/reset-password#token={secret}"),
        ] {
            assert_eq!(Token::digest_of(&text), Some(token.digest), "{text}");
        }
        assert_ne!(
            Token::digest_of(Token::generate().unwrap().secret.expose()),
            Some(token.digest)
        );
        for text in
            ["", "#", "token=", &secret[1..], &format!("{secret}="), &format!("{secret}A"), "é"]
        {
            assert_eq!(Token::digest_of(text), None, "{text}");
        }
    }
}
