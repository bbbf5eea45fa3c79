//! Admits attempts and settles them.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use service_kit::{access, client_address::Network};
use sql_kit::{Unit, read, transaction};

use super::{Counters, Decision, Exhausted, FailureLimits, Outcome, Refusals, Subject, SubjectKey};
use crate::{
    domain::AccountId,
    error::Error,
    events::{Actor, Event, Requester},
    store::{Store, StoreError, accounts, attempts},
};

/// How long a waiting attempt pauses before it checks again: the initial and the longest interval
/// (backoff).
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
const MAX_BUSY_INTERVAL: Duration = Duration::from_millis(400);

/// The guard before every password check.
#[derive(Debug)]
pub struct Throttle {
    store: Store,
    limits: FailureLimits,
    refusals: Refusals,
    /// How long an attempt may wait for pending ones.
    patience: Duration,
    /// Set once the database has been prepared.
    key: OnceLock<SubjectKey>,
}

impl Throttle {
    /// Creates a guard that stores its counters in `store`. An attempt waits for pending ones for at
    /// most `patience`.
    #[must_use]
    pub fn new(
        store: Store,
        limits: FailureLimits,
        refusals: Refusals,
        patience: Duration,
    ) -> Self {
        Self { store, limits, refusals, patience, key: OnceLock::new() }
    }

    /// Sets the key of the subjects. Only the first call has an effect.
    pub fn use_key(&self, key: SubjectKey) {
        let _ = self.key.set(key);
    }

    /// The subject of an attempt with this email.
    ///
    /// # Errors
    ///
    /// [`Error::DatabaseUnavailable`] before [`Throttle::use_key`] was called.
    pub fn subject(&self, email: &str) -> Result<Subject, Error> {
        self.key.get().map(|key| key.subject(email)).ok_or(Error::DatabaseUnavailable)
    }

    /// Admits an attempt, unless the account has reached its limit. While pending attempts could
    /// exhaust the limit, this waits and only reads. `slot` reserves what the attempt needs, such as a
    /// slot of the hashing pool; if that fails, the attempt is not counted.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAttempts`], the errors of `slot`, and the errors of the database.
    pub async fn admit<S>(
        self: &Arc<Self>,
        subject: Subject,
        by: &Requester,
        slot: impl Fn() -> Result<S, Error>,
    ) -> Result<(Permit, S), Error> {
        let network = by.network;
        let permit =
            || Permit { throttle: Arc::clone(self), subject, by: by.clone(), is_open: false };
        if self.limits.are_off() {
            let slot = slot()?;
            return Ok((permit(), slot));
        }
        let (started, mut pause) = (Instant::now(), BUSY_INTERVAL);
        loop {
            match self.look(&subject, network).await? {
                Decision::Refused(exhausted) => return Err(self.refuse(exhausted, network)),
                Decision::Busy => {}
                Decision::Admitted => {
                    let slot = slot()?;
                    // A task of its own: if the client leaves while the database commits, the permit exists
                    // nevertheless, and takes the attempt back when it is dropped.
                    let counting = tokio::spawn(access::in_present_request(permit().count()));
                    // The panic hook has logged why a task failed.
                    let (decision, permit) = counting.await.map_err(|_| Error::Internal)??;
                    match decision {
                        Decision::Admitted => return Ok((permit, slot)),
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

    /// Fails if an attempt would be refused now, without counting one. For requests that must report
    /// the limit before the password is checked.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAttempts`], and the errors of the database.
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

    /// Counts an attempt as pending if it is admitted.
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

    /// Settles an attempt, whether or not the account exists.
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

    /// Records the network of a successful login if no limits are set. Usually the network is already
    /// known and nothing is written.
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

    /// Records an event of an account, unless it was deleted or is still a registration.
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

/// An admitted attempt that must be settled. If it is dropped first, because the password was not
/// checked, the attempt does not count.
#[derive(Debug)]
pub struct Permit {
    throttle: Arc<Throttle>,
    subject: Subject,
    by: Requester,
    /// Whether it is counted as pending.
    is_open: bool,
}

impl Permit {
    /// Counts the attempt as pending if it is admitted.
    async fn count(mut self) -> Result<(Decision, Self), StoreError> {
        let decision = self.throttle.count(&self.subject, self.by.network).await?;
        self.is_open = decision == Decision::Admitted;
        Ok((decision, self))
    }

    /// Settles the attempt: either the password belongs to the named account, or it is wrong. If a
    /// wrong password cannot be recorded, this is an error, because otherwise the attacker would have
    /// a free guess.
    ///
    /// # Errors
    ///
    /// The errors of the database, but only for a wrong password.
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
                // The login still succeeds. The attempt only counts as pending for up to a minute.
                tracing::warn!(%error, "cannot settle an attempt");
                Ok(())
            }
            done => done,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Without a runtime the process is ending, so nothing can be settled.
        let (true, Ok(runtime)) = (self.is_open, tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (throttle, subject, by) = (Arc::clone(&self.throttle), self.subject, self.by.clone());
        runtime.spawn(async move {
            // If this fails, the attempt stops counting when its time as pending is over.
            let _ = throttle.settle(&subject, &by, Outcome::Abandoned, None).await;
        });
    }
}
