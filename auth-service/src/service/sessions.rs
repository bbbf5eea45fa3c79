//! Sessions. A login with `offline_access` starts one, refreshes extend it, and its owner can end it.

use std::sync::{Arc, Mutex, PoisonError};

use service_kit::{
    access,
    client_address::Network,
    metrics::{Counts, Metrics, Unit},
};
use sql_kit::{read, transaction, write_one};
use uuid::Uuid;

use super::{Caller, Issued, Requester, Service, login::still_admits, revocations::end_all};
use crate::{
    error::Error,
    events::{Actor, Event, SessionEnd},
    sessions::{Position, RefreshToken, Verdict, present, user_agent},
    store::{
        AccountRecord, SessionRecord, accounts,
        revocations::{self, Revoked},
        sessions,
    },
};

/// How often a refresh retries after a concurrent refresh has changed the session.
const TRIES: u32 = 100;

/// The outcomes of refreshes, as metrics name them.
pub mod outcome {
    /// The next token was issued.
    pub const ISSUED: &str = "issued";
    /// The same token was given again, within the retry window.
    pub const REPEATED: &str = "repeated";
    /// The token is not authentic, or its session has ended.
    pub const REFUSED: &str = "refused";
    /// The session was ended, because two parties had the same token.
    pub const REUSED: &str = "reused";
    /// All of them.
    pub const ALL: [&str; 4] = [ISSUED, REPEATED, REFUSED, REUSED];
}

/// Counts refreshes by their outcome.
#[derive(Debug, Clone)]
pub(super) struct Refreshes(Counts);

impl Refreshes {
    /// Publishes the counts in `metrics`.
    pub(super) fn observed_by(metrics: &Metrics) -> Self {
        let help = "Refreshes of sessions";
        Self(metrics.counts("auth.session.refreshes", help, "outcome", &outcome::ALL))
    }
}

/// The numbers of sessions, of entries in the revocation feed, and of events, as of the last count.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes(Arc<Mutex<Option<(i64, i64, i64)>>>);

impl Sizes {
    /// Publishes the numbers in `metrics`.
    pub(super) fn observed_by(metrics: &Metrics) -> Self {
        let sizes = Self::default();
        let (sessions, entries, events) = (sizes.clone(), sizes.clone(), sizes.clone());
        metrics.gauge("auth.sessions", "Sessions in the database", Unit::Count, move || {
            sessions.get().map(|(sessions, ..)| sessions as f64)
        });
        let help = "Entries of the revocation feed";
        metrics.gauge("auth.revocation.entries", help, Unit::Count, move || {
            entries.get().map(|(_, entries, _)| entries as f64)
        });
        metrics.gauge("auth.events", "Events in the database", Unit::Count, move || {
            events.get().map(|(.., events)| events as f64)
        });
        sizes
    }

    fn get(&self) -> Option<(i64, i64, i64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the numbers of a count; `None` if it failed.
    pub(super) fn set(&self, sizes: Option<(i64, i64, i64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sizes;
    }
}

impl Service {
    /// Whether a login may ask for a refresh token.
    #[must_use]
    pub const fn offers_refresh_tokens(&self) -> bool {
        self.sessions.are_on
    }

    /// Starts a session for an account whose password was right, and returns the account in its current
    /// state. The account must still have that password: a change in the meantime has ended all sessions,
    /// and the old password must not start a new one.
    pub(super) async fn begin_session(
        &self,
        account: &AccountRecord,
        by: &Requester,
        agent: &str,
    ) -> Result<(AccountRecord, Option<SessionRecord>), Error> {
        let now = self.store.now();
        let session = SessionRecord {
            id: Uuid::new_v4(),
            account: account.id,
            created_at: now,
            last_used_at: now,
            expires_at: self.sessions.expires_at(now, now),
            position: Position::first(),
            network: by.network.to_string(),
            user_agent: user_agent(agent),
        };
        let (most, until) = (self.sessions.per_account, self.revoked_until());
        let begun = transaction!(self.store, |unit| {
            let present = accounts::lock(unit, account.id).await?;
            let Some(present) = present.filter(|present| still_admits(present, account)) else {
                return Ok(None);
            };
            sessions::insert(unit, &session).await?;
            let cause = by.acting_as(Actor::Account);
            let begun = Event::SessionBegun { session: session.id };
            self.store.record(unit, &begun, Some(account.id), &cause).await?;
            if most > 0 {
                let ended = sessions::delete_surplus(unit, account.id, most).await?;
                for session in &ended {
                    let event = Event::SessionEnded { session: *session, by: SessionEnd::Limit };
                    self.store.record(unit, &event, Some(account.id), &cause).await?;
                }
                let ended: Vec<_> = ended.into_iter().map(Revoked::Session).collect();
                revocations::add(unit, &ended, until).await?;
            }
            Ok(Some(present))
        });
        let account = begun.await?.ok_or(Error::InvalidCredentials)?;
        tracing::info!(event = "session.begun", account = %account.id, "session begun");
        Ok((account, Some(session)))
    }

    /// Exchanges a refresh token for an access token and the next refresh token, by the rule of
    /// [`crate::sessions::present`]. The rotation is durable before the response is sent.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRefreshToken`] for a token that is malformed, forged, expired or withdrawn, or
    /// whose session has ended; throttling, and the errors of the database.
    pub async fn refresh(&self, token: &str, by: &Requester) -> Result<Issued, Error> {
        self.loaded_keys()?;
        self.admit(&self.sessions.refreshes, by.network)?;
        // Verify the HMAC first, so that forged tokens never reach the database.
        let key = self.refresh_token_key().filter(|_| self.sessions.are_on);
        match key.and_then(|key| key.read(token)) {
            Some(token) => self.refresh_authentic(token, by).await,
            None => Err(self.refuse_refresh(by.network)),
        }
    }

    fn refuse_refresh(&self, network: Network) -> Error {
        self.refreshes.0.count(outcome::REFUSED);
        tracing::info!(event = "session.refresh_failed", %network, "refresh failed");
        Error::InvalidRefreshToken
    }

    async fn refresh_authentic(
        &self,
        token: RefreshToken,
        by: &Requester,
    ) -> Result<Issued, Error> {
        let network = by.network;
        for _ in 0..TRIES {
            let now = self.store.now();
            let found =
                read!(self.store, |unit| sessions::with_account(unit, token.session, now).await);
            let Some((mut session, account)) = found.await? else {
                return Err(self.refuse_refresh(network));
            };
            access::note_account(account.id);
            let window = self.sessions.retry_window;
            match present(&session.position, token.number, window, now) {
                Verdict::Repeat => {
                    self.refreshes.0.count(outcome::REPEATED);
                    return self.issue(&account, Some(&session));
                }
                Verdict::Issue(position) => {
                    let before = std::mem::replace(&mut session.position, position);
                    session.last_used_at = now;
                    session.expires_at = self.sessions.expires_at(session.created_at, now);
                    let moved = write_one!(self.store, |unit| {
                        sessions::advance(unit, &before, &session).await
                    });
                    if moved.await? {
                        self.refreshes.0.count(outcome::ISSUED);
                        return self.issue(&account, Some(&session));
                    }
                }
                Verdict::Theft => {
                    let until = self.revoked_until();
                    let ended = transaction!(self.store, |unit| {
                        let ended =
                            sessions::delete_at(unit, session.id, &session.position).await?;
                        if ended {
                            let event = Event::SessionReuseDetected { session: session.id };
                            let cause = by.acting_as(Actor::Anonymous);
                            self.store.record(unit, &event, Some(account.id), &cause).await?;
                            let revoked = [Revoked::Session(session.id)];
                            revocations::add(unit, &revoked, until).await?;
                        }
                        Ok(ended)
                    });
                    if ended.await? {
                        self.refreshes.0.count(outcome::REUSED);
                        tracing::warn!(
                            event = "session.reuse_detected",
                            account = %account.id,
                            %network,
                            "a refresh token was presented that somebody else has used: session ended"
                        );
                        return Err(Error::InvalidRefreshToken);
                    }
                }
            }
        }
        // Concurrent refreshes have changed the session each time, so this token is used many times at
        // once.
        Err(Error::Overloaded(std::time::Duration::from_secs(1)))
    }

    /// Ends the session of a refresh token. Any authentic token of the session does. A token that is not
    /// authentic, or whose session has already ended, is not an error (RFC 7009, section 2.2).
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn logout(&self, token: &str, by: &Requester) -> Result<(), Error> {
        self.loaded_keys()?;
        match self.refresh_token_key().and_then(|key| key.read(token)) {
            Some(token) => self.end(token.session, None, by).await.map(drop),
            None => Ok(()),
        }
    }

    /// The sessions of the caller, the most recently used one first.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionRecord>, Error> {
        let (account, now) = (caller.account.id, self.store.now());
        let found = read!(self.store, |unit| sessions::of_account(unit, account, now).await);
        Ok(found.await?)
    }

    /// Ends a session of the caller.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if it has ended, does not exist, or belongs to somebody else.
    pub async fn end_session(
        &self,
        caller: &Caller,
        id: Uuid,
        by: &Requester,
    ) -> Result<(), Error> {
        if self.end(id, Some(caller), by).await? { Ok(()) } else { Err(Error::SessionNotFound) }
    }

    async fn end(&self, id: Uuid, owner: Option<&Caller>, by: &Requester) -> Result<bool, Error> {
        let account = owner.map(|owner| owner.account.id);
        let means = if owner.is_some() { SessionEnd::Owner } else { SessionEnd::Logout };
        let event = Event::SessionEnded { session: id, by: means };
        let until = self.revoked_until();
        let ended = transaction!(self.store, |unit| {
            let Some(account) = sessions::delete(unit, id, account).await? else {
                return Ok(false);
            };
            self.store.record(unit, &event, Some(account), &by.acting_as(Actor::Account)).await?;
            revocations::add(unit, &[Revoked::Session(id)], until).await?;
            Ok(true)
        });
        let ended = ended.await?;
        if ended {
            tracing::info!(event = "session.ended", "session ended");
        }
        Ok(ended)
    }

    /// Ends every session and access token of the caller's account, including the caller's own.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn end_all_sessions(&self, caller: &Caller, by: &Requester) -> Result<(), Error> {
        let (account, until) = (caller.account.id, self.revoked_until());
        let ended = transaction!(self.store, |unit| {
            if accounts::lock(unit, account).await?.is_none() {
                return Ok(None);
            }
            let (event, cause) = (Event::AllSessionsEnded, by.acting_as(Actor::Account));
            self.store.record(unit, &event, Some(account), &cause).await?;
            end_all(unit, account, None, until).await
        });
        ended.await?;
        tracing::info!(event = "session.all_ended", %account, "all sessions ended");
        Ok(())
    }
}
