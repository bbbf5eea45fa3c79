//! Admits attempts and settles them.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use service_kit::client_address::Network;
use sql_kit::{Unit, read, transaction};

use super::{Counters, Decision, Exhausted, FailureLimits, Outcome, Refusals, Subject, SubjectKey};
use crate::{
    domain::AccountId,
    error::Error,
    events::{Actor, Event, Requester},
    store::{Store, StoreError, accounts, attempts},
};

/// How long an attempt waits before it asks again whether it may be made: at first, and at most.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
const MAX_BUSY_INTERVAL: Duration = Duration::from_millis(400);

/// The guard before every check of a password.
#[derive(Debug)]
pub struct Throttle {
    store: Store,
    limits: FailureLimits,
    refusals: Refusals,
    /// How long an attempt may wait for others.
    patience: Duration,
    /// Known once the database has been seen.
    key: OnceLock<SubjectKey>,
}

impl Throttle {
    /// A guard that keeps its counts in `store`. An attempt waits for others `patience` at most.
    #[must_use]
    pub fn new(
        store: Store,
        limits: FailureLimits,
        refusals: Refusals,
        patience: Duration,
    ) -> Self {
        Self { store, limits, refusals, patience, key: OnceLock::new() }
    }

    /// Takes up the key of the subjects. The first one stays.
    pub fn use_key(&self, key: SubjectKey) {
        let _ = self.key.set(key);
    }

    /// The subject of an attempt with this email; nothing before [`Throttle::use_key`].
    ///
    /// # Errors
    ///
    /// [`Error::DatabaseUnavailable`] before the key is there.
    pub fn subject(&self, email: &str) -> Result<Subject, Error> {
        self.key.get().map(|key| key.subject(email)).ok_or(Error::DatabaseUnavailable)
    }

    /// Admits an attempt, unless the account has had its share. While pending attempts may use up
    /// what is left of it, this waits, and only reads. What the attempt needs to be carried out, such
    /// as a slot of the hashing threads, comes from `slot`; an attempt that gets none is not counted.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAttempts`], those of `slot`, and those of the database.
    pub async fn admit<S>(
        self: &Arc<Self>,
        subject: Subject,
        by: &Requester,
        slot: impl Fn() -> Result<S, Error>,
    ) -> Result<(Permit, S), Error> {
        let network = by.network;
        let permit =
            |is_open| Permit { throttle: Arc::clone(self), subject, by: by.clone(), is_open };
        if self.limits.are_off() {
            let slot = slot()?;
            return Ok((permit(false), slot));
        }
        let (started, mut pause) = (Instant::now(), BUSY_INTERVAL);
        loop {
            match self.look(&subject, network).await? {
                Decision::Refused(exhausted) => return Err(self.refuse(exhausted, network)),
                Decision::Busy => {}
                Decision::Admitted => {
                    let slot = slot()?;
                    match self.count(&subject, network).await? {
                        Decision::Admitted => return Ok((permit(true), slot)),
                        Decision::Refused(exhausted) => {
                            return Err(self.refuse(exhausted, network));
                        }
                        Decision::Busy => {}
                    }
                }
            }
            if started.elapsed() > self.patience {
                return Err(Error::Overloaded(BUSY_INTERVAL));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_BUSY_INTERVAL);
        }
    }

    /// Refuses where an attempt would be refused now, and counts none: for what is to be told before a
    /// password is looked at.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAttempts`], and those of the database.
    pub async fn inspect(&self, subject: &Subject, network: Network) -> Result<(), Error> {
        if self.limits.are_off() {
            return Ok(());
        }
        match self.look(subject, network).await? {
            Decision::Refused(exhausted) => Err(self.refuse(exhausted, network)),
            Decision::Busy | Decision::Admitted => Ok(()),
        }
    }

    async fn look(&self, subject: &Subject, network: Network) -> Result<Decision, StoreError> {
        let now = self.store.now();
        let counted =
            read!(self.store, |unit| attempts::counters(unit, subject, network, now).await).await?;
        Ok(counted.decide(self.limits, now))
    }

    /// Counts an attempt as pending, if it is admitted.
    async fn count(&self, subject: &Subject, network: Network) -> Result<Decision, StoreError> {
        transaction!(self.store, |unit| {
            attempts::lock(unit, subject).await?;
            let now = self.store.now();
            let counted = attempts::counters(unit, subject, network, now).await?;
            let decision = counted.decide(self.limits, now);
            if decision == Decision::Admitted {
                let pending = counted.with_pending(self.limits, now);
                attempts::put_counters(unit, subject, network, &pending).await?;
            }
            Ok(decision)
        })
        .await
    }

    fn refuse(&self, exhausted: Exhausted, network: Network) -> Error {
        let policy = exhausted.policy;
        tracing::warn!(event = "login.throttled", policy, %network, "login throttled");
        self.refusals.count(&exhausted);
        Error::TooManyAttempts(exhausted)
    }

    /// Settles an attempt on an account, or on none.
    async fn settle(
        &self,
        subject: &Subject,
        by: &Requester,
        outcome: Outcome,
        account: Option<AccountId>,
    ) -> Result<(), StoreError> {
        let network = by.network;
        transaction!(self.store, |unit| {
            attempts::lock(unit, subject).await?;
            let now = self.store.now();
            let counted: Counters = attempts::counters(unit, subject, network, now).await?;
            let settled = counted.settled(outcome, self.limits, now);
            attempts::put_counters(unit, subject, network, &settled).await?;
            let Some(account) = account else { return Ok(()) };
            let mut events = Vec::new();
            match outcome {
                Outcome::Failed => {
                    events.extend(settled.used_up(self.limits).map(|(policy, failures)| {
                        Event::LoginFailed { failures, policy: Some(policy) }
                    }));
                }
                Outcome::Succeeded => {
                    events.extend(
                        Some(counted.failures_of_pair(now))
                            .filter(|failures| *failures > 0)
                            .map(|failures| Event::LoginFailed { failures, policy: None }),
                    );
                    let is_noted =
                        attempts::note_network(unit, subject, account, network, now).await?;
                    if is_noted && !counted.is_known_network {
                        events.push(Event::LoginFromNewNetwork);
                    }
                }
                Outcome::Abandoned => {}
            }
            self.record(unit, account, by, &events).await
        })
        .await
    }

    /// Notes the network of a right password where nothing is counted. Mostly it is known already, and
    /// nothing is written.
    async fn note(
        &self,
        subject: &Subject,
        by: &Requester,
        account: AccountId,
    ) -> Result<(), StoreError> {
        let (network, now) = (by.network, self.store.now());
        let known =
            read!(self.store, |unit| attempts::counters(unit, subject, network, now).await).await?;
        if known.is_known_network {
            return Ok(());
        }
        transaction!(self.store, |unit| {
            attempts::lock(unit, subject).await?;
            if !attempts::note_network(unit, subject, account, network, now).await? {
                return Ok(());
            }
            self.record(unit, account, by, &[Event::LoginFromNewNetwork]).await
        })
        .await
    }

    /// Records what happened to an account, unless it has been deleted or is none yet.
    async fn record(
        &self,
        unit: &mut Unit,
        account: AccountId,
        by: &Requester,
        events: &[Event],
    ) -> Result<(), sqlx::Error> {
        if events.is_empty() || accounts::lock(unit, account).await?.is_none() {
            return Ok(());
        }
        for event in events {
            let actor = match event {
                Event::LoginFailed { .. } => Actor::Anonymous,
                _ => Actor::Account,
            };
            self.store.record(unit, event, Some(account), &by.acting_as(actor)).await?;
        }
        Ok(())
    }
}

/// An attempt that was admitted and has to be settled. Dropped before that, because the password was
/// not looked at, it did not happen.
#[derive(Debug)]
pub struct Permit {
    throttle: Arc<Throttle>,
    subject: Subject,
    by: Requester,
    /// Whether it is counted as pending.
    is_open: bool,
}

impl Permit {
    /// Says how the attempt has ended: the password was that of the account that it named, if it named
    /// one, or wrong. A wrong password that cannot be noted must not be answered as one: it would be a
    /// free guess.
    ///
    /// # Errors
    ///
    /// Those of the database, for a wrong password only.
    pub async fn settle(
        mut self,
        account: Option<AccountId>,
        is_right: bool,
    ) -> Result<(), StoreError> {
        let (throttle, subject) = (&self.throttle, &self.subject);
        let done = match (std::mem::take(&mut self.is_open), account) {
            (true, account) => {
                let outcome = if is_right { Outcome::Succeeded } else { Outcome::Failed };
                throttle.settle(subject, &self.by, outcome, account).await
            }
            (false, Some(account)) if is_right => throttle.note(subject, &self.by, account).await,
            (false, _) => Ok(()),
        };
        match done {
            Err(error) if is_right => {
                // It costs the person one of their tries for a minute, not the login.
                tracing::warn!(%error, "cannot settle an attempt");
                Ok(())
            }
            done => done,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the attempt with it.
        let (true, Ok(runtime)) = (self.is_open, tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (throttle, subject, by) = (Arc::clone(&self.throttle), self.subject, self.by.clone());
        runtime.spawn(async move {
            // If this fails the attempt stops counting after a while.
            let _ = throttle.settle(&subject, &by, Outcome::Abandoned, None).await;
        });
    }
}
