//! What every authenticated request does, whatever else it is about: it makes its caller's profile if
//! there is none, takes over the email of a newer token, and is refused if the account was deleted.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::Service;
use crate::{
    domain::{Caller, Profile, UserId},
    error::Error,
};

/// How long reads leave their callers' profiles as they are after the database has refused to write.
const PAUSE: Duration = Duration::from_secs(1);

/// One request of a caller.
#[derive(Debug)]
pub struct Visit {
    caller: Caller,
    /// Whether the service has looked at the caller's profile.
    is_attended: AtomicBool,
}

impl Visit {
    /// A request of `caller` that has just come.
    #[must_use]
    pub const fn new(caller: Caller) -> Self {
        Self { caller, is_attended: AtomicBool::new(false) }
    }

    /// Who calls.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// Whether the database has refused to write lately.
#[derive(Debug, Default)]
pub(super) struct Writes {
    refused: Mutex<Option<Instant>>,
}

impl Writes {
    fn are_worth_a_try(&self) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_none_or(|since| since.elapsed() >= PAUSE)
    }

    fn note_refusal(&self) {
        let now = Some(Instant::now());
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Service {
    /// Whether an account is known to be deleted.
    pub async fn is_deleted(&self, id: UserId) -> bool {
        // Without the database that is not known.
        self.store.is_deleted(id).await.unwrap_or(false)
    }

    /// Ends a request. One that was refused before the service saw it, because of its path or its
    /// body for instance, is a request like any other; and a deleted caller is told that before
    /// anything else.
    ///
    /// # Errors
    ///
    /// [`Error::AccountDeleted`], or the database: the answer then, whatever it would have been.
    pub async fn conclude(&self, visit: &Visit) -> Result<(), Error> {
        if visit.is_attended.load(Relaxed) {
            return Ok(());
        }
        self.admit_reader(visit, visit.caller.id).await.map(drop)
    }

    /// Admits a caller who is about to change something, and returns their profile.
    ///
    /// # Errors
    ///
    /// [`Error::AccountDeleted`], or the database.
    pub(super) async fn admit(&self, visit: &Visit) -> Result<Profile, Error> {
        self.attend(visit)?;
        let caller = &visit.caller;
        match self.reads.pair(caller.id, caller.id).await? {
            (Some(own), _) => self.take_over_email(caller, own).await,
            (None, _) => self.create(caller).await,
        }
    }

    /// Admits a caller who only reads and finds the profile `other`, in one query where there is
    /// nothing to change. A database that takes no writes still serves reads: the caller's own
    /// profile then stays as it is, or is missing until it can be made.
    ///
    /// # Errors
    ///
    /// [`Error::AccountDeleted`], or the database.
    pub(super) async fn admit_reader(
        &self,
        visit: &Visit,
        other: UserId,
    ) -> Result<(Option<Profile>, Option<Profile>), Error> {
        self.attend(visit)?;
        let caller = &visit.caller;
        let (own, other) = self.reads.pair(caller.id, other).await?;
        let own = match own {
            Some(own) if !is_news(caller, &own) => Some(own),
            Some(own) if !self.writes.are_worth_a_try() => Some(own),
            Some(own) => match self.take_over_email(caller, own.clone()).await {
                Err(Error::DatabaseUnavailable) => {
                    self.writes.note_refusal();
                    Some(own)
                }
                taken => Some(taken?),
            },
            None => {
                let is_tried = self.writes.are_worth_a_try();
                let created = if is_tried {
                    self.create(caller).await
                } else {
                    Err(Error::DatabaseUnavailable)
                };
                match created {
                    Err(Error::DatabaseUnavailable) => {
                        // What was not tried was not refused either. Callers who come often would else put off
                        // the next try for ever.
                        if is_tried {
                            self.writes.note_refusal();
                        }
                        if self.store.is_deleted(caller.id).await? {
                            return Err(Error::AccountDeleted);
                        }
                        None
                    }
                    created => Some(created?),
                }
            }
        };
        Ok((own, other))
    }

    fn attend(&self, visit: &Visit) -> Result<(), Error> {
        visit.is_attended.store(true, Relaxed);
        self.page_key().map(drop)
    }

    async fn create(&self, caller: &Caller) -> Result<Profile, Error> {
        loop {
            let first = Profile::first(caller, self.store.clock().now());
            if self.store.create_profile(&first).await? {
                tracing::info!(event = "profile.created", account = %caller.id, "profile created");
                return Ok(first);
            }
            // Another request was faster, or the account is deleted.
            if let (Some(own), _) = self.reads.pair(caller.id, caller.id).await? {
                return self.take_over_email(caller, own).await;
            }
            if self.store.is_deleted(caller.id).await? {
                return Err(Error::AccountDeleted);
            }
        }
    }

    /// Takes over what the token says of the email, unless a newer token has said something.
    async fn take_over_email(&self, caller: &Caller, mut own: Profile) -> Result<Profile, Error> {
        while is_news(caller, &own) {
            if caller.email == own.email {
                // Noted without a new version of the profile: an older token must not take it back.
                self.store.confirm_email(own.id, caller.issued_at).await?;
                own.email_iat = Some(caller.issued_at);
                return Ok(own);
            }
            let mut next = own.next(self.store.clock().now());
            next.email.clone_from(&caller.email);
            next.email_iat = Some(caller.issued_at);
            if self.store.change_email(&next).await? {
                tracing::info!(event = "profile.email_changed", account = %caller.id, "email changed");
                return Ok(next);
            }
            own = match self.reads.pair(caller.id, caller.id).await? {
                (Some(own), _) => own,
                (None, _) => return Err(Error::AccountDeleted),
            };
        }
        Ok(own)
    }
}

/// Whether the caller's token says something of the email that is newer than what is known.
fn is_news(caller: &Caller, own: &Profile) -> bool {
    caller.email.is_some() && own.email_iat.is_none_or(|known| known < caller.issued_at)
}
