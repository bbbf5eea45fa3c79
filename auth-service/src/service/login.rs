//! Login, and the password check that all other operations share.

use std::sync::{Arc, PoisonError};

use service_kit::access;
use sql_kit::{read, write_one};
use uuid::Uuid;

use super::{Requester, Service, Verification};
use crate::{
    domain::{Email, Password},
    error::Error,
    password::{Checked, Work},
    sessions::RefreshToken,
    store::{
        AccountRecord, SessionRecord, Store, accounts,
        registrations::{self, RegistrationRecord},
    },
    throttle::Permit,
    token::Grant,
};

/// An access token and its lifetime.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub access_token: String,
    /// Its lifetime, in seconds.
    pub expires_in: u64,
    /// The refresh token of its session, if it has one.
    pub refresh: Option<IssuedRefresh>,
}

/// A refresh token and its lifetime.
#[derive(Debug)]
pub struct IssuedRefresh {
    /// The token.
    pub token: String,
    /// Its remaining lifetime, in seconds.
    pub expires_in: u64,
}

/// The credentials of a login, exactly as the client sent them.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// The email.
    pub email: &'a str,
    /// The password.
    pub password: &'a str,
    /// The program (`User-Agent`) for which a session is requested; `None` without `offline_access`.
    pub offline_access: Option<&'a str>,
}

impl Service {
    /// Checks an email and a password, and issues an access token; with `offline_access` also a refresh
    /// token.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCredentials`] for anything that is wrong with either, always after the same work;
    /// throttling, overload, and the errors of the database.
    pub async fn login(
        &self,
        credentials: Credentials<'_>,
        by: &Requester,
    ) -> Result<Issued, Error> {
        let network = by.network;
        self.loaded_keys()?;
        self.admit(&self.limits.logins, network)?;
        let Credentials { email, password, offline_access } = credentials;
        let account = self.check_password(email, Password::normalize(password), by).await?;
        let Some(account) = account else {
            let (account, code) = (access::noted_account(), "invalid_credentials");
            tracing::info!(event = "login.failed", account, %network, code, "login failed");
            return Err(Error::InvalidCredentials);
        };
        if self.registration.verification == Verification::Required && !account.email_verified {
            tracing::info!(event = "login.not_verified", %network, "email not verified");
            // The account may be older than the setting to confirm addresses, so it never got a link.
            if self.has_account(&account).await? {
                self.mail_verification(&account.email, by).await?;
            }
            return Err(Error::EmailNotVerified);
        }
        let (account, session) = match offline_access {
            Some(agent) => self.begin_session(&account, by, agent).await?,
            None => (self.present(&account).await?, None),
        };
        let issued = self.issue(&account, session.as_ref())?;
        tracing::info!(event = "login.ok", account = %account.id, %network, "login ok");
        Ok(issued)
    }

    /// The account in its current state. `checked` is the state against which its password was checked.
    async fn present(&self, checked: &AccountRecord) -> Result<AccountRecord, Error> {
        let found = read!(self.store, |unit| accounts::by_id(unit, checked.id).await);
        found
            .await?
            .filter(|present| still_admits(present, checked))
            .ok_or(Error::InvalidCredentials)
    }

    /// Issues an access token for an account, and the current refresh token of its session, if there is
    /// one.
    pub(super) fn issue(
        &self,
        account: &AccountRecord,
        session: Option<&SessionRecord>,
    ) -> Result<Issued, Error> {
        let mut issued = self.issue_access(account, session.map(|session| session.id))?;
        issued.refresh = match session {
            Some(session) => {
                let now = self.store.now();
                // A session can only be started if there is a key, so this does not happen.
                let key = self.refresh_token_key().ok_or(Error::Internal)?;
                let number = session.position.current;
                let left = (session.expires_at - now).num_milliseconds();
                Some(IssuedRefresh {
                    token: key.write(RefreshToken { session: session.id, number }),
                    expires_in: u64::try_from(left).unwrap_or(0).div_ceil(1000),
                })
            }
            None => None,
        };
        Ok(issued)
    }

    /// Issues only an access token.
    pub(super) fn issue_access(
        &self,
        account: &AccountRecord,
        session: Option<Uuid>,
    ) -> Result<Issued, Error> {
        let now = self.store.now();
        let ring = self.loaded_keys()?;
        let key = ring.active(now).ok_or(Error::DatabaseUnavailable)?;
        let tells_verified = self.registration.verification != Verification::Off;
        let grant = Grant {
            account: account.id,
            email: &account.email,
            generation: account.generation,
            session,
            email_verified: tells_verified.then_some(account.email_verified),
        };
        let access_token = self.issuer.issue(grant, key, now).map_err(|error| {
            tracing::error!(%error, "signing failed");
            Error::Internal
        })?;
        Ok(Issued { access_token, expires_in: self.issuer.ttl.as_secs(), refresh: None })
    }

    async fn has_account(&self, account: &AccountRecord) -> Result<bool, Error> {
        let found = read!(self.store, |unit| accounts::by_id(unit, account.id).await);
        Ok(found.await?.is_some())
    }

    /// The account with this email. If there is none and addresses must be confirmed, the newest
    /// registration.
    async fn find(&self, email: &Email) -> Result<Option<AccountRecord>, Error> {
        if self.registration.verification != Verification::Required {
            return Ok(read!(self.store, |unit| accounts::by_email(unit, email).await).await?);
        }
        let now = self.store.now();
        let found = read!(self.store, |unit| {
            // Both queries always run, so that the time does not reveal which one matches.
            let account = accounts::by_email(unit, email).await?;
            let registration = registrations::newest(unit, email, now).await?;
            Ok((account, registration))
        });
        let (account, registration) = found.await?;
        Ok(account.or_else(|| registration.map(RegistrationRecord::into_unverified)))
    }

    /// Returns the account with this email if the password is right. The attempt counts towards the limits,
    /// and a failing one costs the same work whether or not the account exists.
    ///
    /// If the client disconnects before its password is checked, the attempt does not count. From then on
    /// it does: a separate task settles it, so that disconnecting early does not avoid the failure.
    pub(super) async fn check_password(
        &self,
        email: &str,
        password: Password,
        by: &Requester,
    ) -> Result<Option<AccountRecord>, Error> {
        let subject = self.throttle.subject(email)?;
        let slot = || Ok(self.hashing.slot()?);
        let (permit, slot) = self.throttle.admit(subject, by, slot).await?;
        let account = match Email::parse(email) {
            Ok(email) => self.find(&email).await?,
            Err(_) => None,
        };
        if let Some(account) = &account {
            access::note_account(account.id);
        }

        let work = self.work_for(account.as_ref()).await?;
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let (ticket, checked) = slot.submit(work.check(password, stored));
        let store = self.store.clone();
        let settled = async move { settle(&store, permit, account, checked.await??).await };
        let settled = tokio::spawn(access::in_present_request(settled));
        let account = settled.await.map_err(|error| {
            tracing::error!(%error, "the check of a password failed");
            Error::Internal
        })?;
        drop(ticket);
        account
    }
}

impl Service {
    /// The work of a failing login. If the scheme of the account's hash is not part of it, another process
    /// has just imported the account. Then the schemes in use are read again, so that all logins from here
    /// on cost the same.
    async fn work_for(&self, account: Option<&AccountRecord>) -> Result<Arc<Work>, Error> {
        let work = self.work();
        match account.and_then(|account| account.password_hash.scheme()) {
            Some(scheme) if !work.covers(scheme) => {
                self.refresh_work().await?;
                Ok(self.work())
            }
            _ => Ok(work),
        }
    }

    fn work(&self) -> Arc<Work> {
        Arc::clone(&self.work.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a login may continue: the account still has the password that was checked, and was not disabled
/// in the meantime. The generation is no proof of that, because ending all sessions raises it too. The hash
/// is no proof either, because a concurrent login may have replaced it by a newer one of the same password.
pub(super) fn still_admits(present: &AccountRecord, checked: &AccountRecord) -> bool {
    let has_same_password =
        present.generation == checked.generation || present.password_hash == checked.password_hash;
    has_same_password && !present.disabled
}

/// Records the outcome of an attempt, and replaces an outdated hash.
async fn settle(
    store: &Store,
    permit: Permit,
    account: Option<AccountRecord>,
    checked: Checked,
) -> Result<Option<AccountRecord>, Error> {
    if let (Some(reason), Some(account)) = (checked.unusable, &account) {
        tracing::error!(
            event = "password_hash.unusable", account = %account.id, %reason,
            "a stored password hash cannot be used, so that no password is the right one"
        );
    }
    let id = account.as_ref().map(|account| account.id);
    let account = account.filter(|account| checked.right && !account.disabled);
    permit.settle(id, account.is_some()).await?;
    let Some(mut account) = account else {
        return Ok(None);
    };
    if let Some(after) = checked.replacement {
        let replaced = write_one!(store, |unit| {
            let before = &account.password_hash;
            accounts::replace_password_hash(unit, account.id, before, &after).await
        });
        // If this fails, the next login replaces the hash.
        match replaced.await {
            Ok(true) => {
                tracing::info!(
                    event = "password_hash.replaced", account = %account.id, "password hash replaced"
                );
                account.password_hash = after;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot replace a password hash"),
        }
    }
    Ok(Some(account))
}
