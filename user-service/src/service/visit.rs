//! What every authenticated request does: it creates the caller's profile if there is none, stores the email
//! of a newer token, and is refused if the account was deleted.

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

/// How long reads do not try to update their callers' profiles after the database has rejected a write.
const PAUSE: Duration = Duration::from_secs(1);

/// One request of a caller.
#[derive(Debug)]
pub struct Visit {
    caller: Caller,
    /// Whether the caller's profile has been created or updated for this request.
    is_attended: AtomicBool,
}

impl Visit {
    /// A new request of `caller`.
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

/// Whether the database has rejected a write recently.
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
        // If the database is unavailable, the account counts as not deleted.
        self.store.is_deleted(id).await.unwrap_or(false)
    }

    /// Ends a request. A request that was refused before it reached the service, for example because of its
    /// path or body, counts as a visit too. A caller whose account was deleted gets that error before any
    /// other.
    ///
    /// # Errors
    ///
    /// [`Error::AccountDeleted`], and the errors of the database. They replace any other response.
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
    /// [`Error::AccountDeleted`], and the errors of the database.
    pub(super) async fn admit(&self, visit: &Visit) -> Result<Profile, Error> {
        self.attend(visit)?;
        let caller = &visit.caller;
        match self.reads.pair(caller.id, caller.id).await? {
            (Some(own), _) => self.take_over_email(caller, own).await,
            (None, _) => self.create(caller).await,
        }
    }

    /// Admits a caller who only reads, and finds the profile `other`. If nothing has to be written, this is
    /// one query. A read-only database still serves reads: the caller's own profile then stays as it is, or is
    /// missing until it can be created.
    ///
    /// # Errors
    ///
    /// [`Error::AccountDeleted`], and the errors of the database.
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
                        // Only a write that was tried extends the pause. Otherwise frequent callers would
                        // postpone the next try forever.
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
            // Another request has created the profile first, or the account is deleted.
            if let (Some(own), _) = self.reads.pair(caller.id, caller.id).await? {
                return self.take_over_email(caller, own).await;
            }
            if self.store.is_deleted(caller.id).await? {
                return Err(Error::AccountDeleted);
            }
        }
    }

    /// Stores the email of the token, unless a newer token has provided one.
    async fn take_over_email(&self, caller: &Caller, mut own: Profile) -> Result<Profile, Error> {
        while is_news(caller, &own) {
            if caller.email == own.email {
                // Stores only the `iat`, without a new version of the profile, so that an older token cannot
                // change the email back.
                if self.store.confirm_email(&own, caller.issued_at).await? {
                    own.email_iat = Some(caller.issued_at);
                    return Ok(own);
                }
                own = self.own_again(caller).await?;
                continue;
            }
            let mut next = own.next(self.store.clock().now());
            next.email.clone_from(&caller.email);
            next.email_iat = Some(caller.issued_at);
            if self.store.change_email(&next).await? {
                tracing::info!(event = "profile.email_changed", account = %caller.id, "email changed");
                return Ok(next);
            }
            own = self.own_again(caller).await?;
        }
        Ok(own)
    }

    async fn own_again(&self, caller: &Caller) -> Result<Profile, Error> {
        self.reads.pair(caller.id, caller.id).await?.0.ok_or(Error::AccountDeleted)
    }
}

/// Whether the caller's token has an email that is newer than the stored one. `iat` has whole seconds: of
/// two tokens of the same second with different emails, the one that is presented counts, because the
/// auth service revokes the older one when an email changes.
fn is_news(caller: &Caller, own: &Profile) -> bool {
    caller.email.is_some()
        && own.email_iat.is_none_or(|known| {
            known < caller.issued_at || known == caller.issued_at && caller.email != own.email
        })
}
