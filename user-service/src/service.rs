//! All rules of the user service. Both edges call it and add no rules of their own.

mod operators;
mod visit;

use std::sync::OnceLock;

pub use self::{operators::StoredData, visit::Visit};
use crate::{
    domain::{Caller, Edit, PageSize, Profile, Target, UserId, Visibility},
    error::Error,
    etag::Preconditions,
    page_token::{self, Cursor, PageKey},
    reads::Reads,
    store::{Deletion, Origin, Store, StoreError},
};

/// The name under which the store keeps the key of page tokens.
const PAGE_KEY: &str = "page-token";

/// The user service.
#[derive(Debug)]
pub struct Service {
    store: Store,
    reads: Reads,
    visibility: Visibility,
    /// Empty until the database has been migrated.
    page_key: OnceLock<PageKey>,
    writes: visit::Writes,
}

/// What a caller wants to do with a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Read,
    Change,
    Delete,
}

/// One page of the list.
#[derive(Debug)]
pub struct Page {
    /// Its profiles.
    pub profiles: Vec<Profile>,
    /// The token of the next page; empty on the last page.
    pub next_page_token: String,
}

impl Service {
    /// The service on `store`. It answers no request before [`Service::prepare`].
    #[must_use]
    pub fn new(store: Store, visibility: Visibility) -> Self {
        let reads = Reads::new(store.clone());
        let (page_key, writes) = (OnceLock::new(), visit::Writes::default());
        Self { store, reads, visibility, page_key, writes }
    }

    /// Loads the key of page tokens. Call it once the database is migrated, before the first
    /// request.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        let mut fresh = [0; page_token::KEY_BYTES];
        aws_lc_rs::rand::fill(&mut fresh).map_err(|_| StoreError::Internal)?;
        let key = self.store.shared_secret(PAGE_KEY, &fresh).await?;
        // A second call would find the same key.
        let _ = self.page_key.set(PageKey::new(&key));
        Ok(())
    }

    /// Whether [`Service::prepare`] has been done.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.page_key.get().is_some()
    }

    /// Whether a caller may do this with a profile. The result does not depend on whether the
    /// profile exists.
    fn may(&self, caller: &Caller, action: Action, target: UserId) -> Result<(), Error> {
        if caller.id == target {
            return Ok(());
        }
        match action {
            Action::Read if self.visibility.profiles.is_for_members() => Ok(()),
            // A caller who may not see the profile must not learn that it exists.
            Action::Read => Err(Error::UserNotFound),
            Action::Change | Action::Delete => {
                tracing::info!(event = "access.forbidden", account = %caller.id, "access forbidden");
                Err(Error::Forbidden)
            }
        }
    }

    /// Returns a profile, without what the caller may not see.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`], and the errors of a visit.
    pub async fn get(&self, visit: &Visit, target: Target) -> Result<Profile, Error> {
        let caller = visit.caller();
        let id = target.id(caller);
        let may = self.may(caller, Action::Read, id);
        let other = if may.is_ok() { id } else { caller.id };
        let (own, other) = self.admit_reader(visit, other).await?;
        may?;
        if id == caller.id {
            // The caller's own profile is missing only if the database accepted no writes.
            return own.ok_or(Error::DatabaseUnavailable);
        }
        Ok(self.shown(caller, other.ok_or(Error::UserNotFound)?))
    }

    /// Lists profiles by creation time, then id, from the position of `page_token`; an empty token
    /// means the beginning. If only owners may see profiles, the list has only the caller's own.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPageToken`], and the errors of a visit.
    pub async fn list(
        &self,
        visit: &Visit,
        size: PageSize,
        page_token: &str,
    ) -> Result<Page, Error> {
        let caller = visit.caller();
        let (own, _) = self.admit_reader(visit, caller.id).await?;
        if !self.visibility.profiles.is_for_members() {
            // This list has a single page, so no token can be valid.
            return match page_token {
                "" => {
                    Ok(Page { profiles: own.into_iter().collect(), next_page_token: String::new() })
                }
                _ => Err(Error::InvalidPageToken),
            };
        }
        let key = self.page_key()?;
        let after = match page_token {
            "" => None,
            token => Some(key.open(token).ok_or(Error::InvalidPageToken)?),
        };
        // Fetches one more than requested, to know whether there is another page.
        let mut profiles = self.store.page(after, size.get() + 1).await?;
        let size = usize::try_from(size.get()).unwrap_or(usize::MAX);
        let more = profiles.len() > size;
        profiles.truncate(size);
        let next_page_token = match profiles.last() {
            Some(last) if more => key.seal(Cursor { created_at: last.created_at, id: last.id }),
            _ => String::new(),
        };
        let profiles = profiles.into_iter().map(|profile| self.shown(caller, profile)).collect();
        Ok(Page { profiles, next_page_token })
    }

    /// Checks that the caller may change the profile, and returns it. The edges call this before
    /// they read the body of the request.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for the profile of someone else, whether it exists or not;
    /// [`Error::PreconditionFailed`]; the errors of a visit.
    pub async fn authorize(
        &self,
        visit: &Visit,
        target: Target,
        preconditions: &Preconditions,
    ) -> Result<Profile, Error> {
        self.authorize_to(visit, Action::Change, target, preconditions).await
    }

    async fn authorize_to(
        &self,
        visit: &Visit,
        action: Action,
        target: Target,
        preconditions: &Preconditions,
    ) -> Result<Profile, Error> {
        let own = self.admit(visit).await?;
        self.may(visit.caller(), action, target.id(visit.caller()))?;
        demand(preconditions, &own)?;
        Ok(own)
    }

    /// Changes the caller's profile. `present` is the version that [`Service::authorize`] returned.
    /// `edit` computes the change from a version; it is called again if another request has changed
    /// the profile in the meantime.
    ///
    /// # Errors
    ///
    /// The errors of `edit` and of [`Service::authorize`].
    pub async fn update(
        &self,
        visit: &Visit,
        mut present: Profile,
        preconditions: &Preconditions,
        edit: impl Fn(&Profile) -> Result<Edit, Error>,
    ) -> Result<Profile, Error> {
        loop {
            demand(preconditions, &present)?;
            let Edit { name, bio } = edit(&present)?;
            let mut next = present.next(self.store.clock().now());
            if let Some(name) = name {
                next.name = name.into_text();
            }
            if let Some(bio) = bio {
                next.bio = bio.into_text();
            }
            if self.store.change_texts(&next).await? {
                tracing::info!(event = "profile.updated", account = %next.id, "profile updated");
                return Ok(next);
            }
            present = self.admit(visit).await?;
        }
    }

    /// Deletes the caller's profile permanently, and queues the deletion of the account at the auth
    /// service. `origin` is stored with it.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`] if it was deleted before, and the errors of [`Service::authorize`].
    pub async fn delete(
        &self,
        visit: &Visit,
        target: Target,
        preconditions: &Preconditions,
        origin: &Origin,
    ) -> Result<(), Error> {
        let id = target.id(visit.caller());
        loop {
            let present = self.authorize_to(visit, Action::Delete, target, preconditions).await;
            let present = match present {
                // An owner who repeats the deletion gets [`Error::UserNotFound`], not the error for
                // deleted accounts.
                Err(Error::AccountDeleted) if visit.caller().id == id => {
                    return Err(Error::UserNotFound);
                }
                authorized => authorized?,
            };
            let deletion = Deletion { id, version: present.version, origin };
            if self.store.delete_profile(deletion).await? {
                tracing::info!(event = "profile.deleted", account = %id, "profile deleted");
                return Ok(());
            }
        }
    }

    /// The profile without what `caller` may not see.
    fn shown(&self, caller: &Caller, mut profile: Profile) -> Profile {
        if !self.visibility.emails.is_for_members() && profile.id != caller.id {
            profile.email = None;
        }
        profile
    }

    /// The key is loaded after the migration. Before that, the database counts as unavailable.
    fn page_key(&self) -> Result<&PageKey, Error> {
        self.page_key.get().ok_or(Error::DatabaseUnavailable)
    }
}

fn demand(preconditions: &Preconditions, present: &Profile) -> Result<(), Error> {
    let etag = present.etag();
    if preconditions.matches(&etag) && !preconditions.excludes(&etag) {
        Ok(())
    } else {
        Err(Error::PreconditionFailed)
    }
}
