//! Every rule of the user service, once. Both edges call it and add nothing of their own.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::{
    domain::{Caller, Edit, EmailVisibility, PageSize, Profile, UserId},
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
    store: Arc<dyn Store>,
    reads: Reads,
    email_visibility: EmailVisibility,
    /// Nothing until the database has been migrated.
    page_key: OnceLock<PageKey>,
    /// Tells the outbox worker of a new entry.
    deleted: Arc<Notify>,
}

/// One page of the list.
#[derive(Debug)]
pub struct Page {
    /// Its profiles.
    pub profiles: Vec<Profile>,
    /// The token of the next page; empty at the end.
    pub next_page_token: String,
}

/// What was found of a profile that a caller asked for.
#[derive(Debug)]
pub enum Found {
    /// The profile.
    Profile(Profile),
    /// The caller has this version already; its tag.
    NotModified(String),
}

impl Service {
    /// The service on `store`. It answers nobody before [`Service::prepare`]. `deleted` is notified
    /// of each deletion.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        email_visibility: EmailVisibility,
        deleted: Arc<Notify>,
    ) -> Self {
        let reads = Reads::new(Arc::clone(&store));
        Self { store, reads, email_visibility, page_key: OnceLock::new(), deleted }
    }

    /// Loads what has to be there before the first request, once the database is migrated.
    ///
    /// # Errors
    ///
    /// Where the database is away.
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

    /// Gets a profile, as far as the caller may see it.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`], [`Error::PreconditionFailed`], those of [`Service::admit`].
    pub async fn get(
        &self,
        caller: &Caller,
        id: UserId,
        preconditions: &Preconditions,
    ) -> Result<Found, Error> {
        let profile = self.load(caller, id).await?.ok_or(Error::UserNotFound)?;
        let etag = profile.etag();
        if !preconditions.matches(&etag) {
            return Err(Error::PreconditionFailed);
        }
        if preconditions.excludes(&etag) {
            return Ok(Found::NotModified(etag));
        }
        Ok(Found::Profile(self.shown(caller, profile)))
    }

    /// Lists profiles by creation, then id, from where `page_token` says; an empty one says from the
    /// beginning.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPageToken`], those of [`Service::admit`].
    pub async fn list(
        &self,
        caller: &Caller,
        size: PageSize,
        page_token: &str,
    ) -> Result<Page, Error> {
        self.admit(caller).await?;
        let key = self.page_key()?;
        let after = match page_token {
            "" => None,
            token => Some(key.open(token).ok_or(Error::InvalidPageToken)?),
        };
        // One more than asked for tells whether there is another page.
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

    /// Lets the caller change the profile `id` if it is their own, and returns it. This comes before
    /// anything is read of what they want to change.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] for another's profile, whether it exists or not;
    /// [`Error::PreconditionFailed`]; those of [`Service::admit`].
    pub async fn authorize(
        &self,
        caller: &Caller,
        id: UserId,
        preconditions: &Preconditions,
    ) -> Result<Profile, Error> {
        let own = self.admit(caller).await?;
        own_only(caller, id)?;
        demand(preconditions, &own)?;
        Ok(own)
    }

    /// Changes the caller's profile, of which `present` is a version that [`Service::authorize`]
    /// returned. `edit` says what to change in a version; it is asked again when another request was
    /// faster.
    ///
    /// # Errors
    ///
    /// Those of `edit` and of [`Service::authorize`].
    pub async fn update(
        &self,
        caller: &Caller,
        mut present: Profile,
        preconditions: &Preconditions,
        edit: impl Fn(&Profile) -> Result<Edit, Error>,
    ) -> Result<Profile, Error> {
        loop {
            demand(preconditions, &present)?;
            let Edit { name, bio } = edit(&present)?;
            let mut next = present.next(sql_kit::now());
            if let Some(name) = name {
                next.name = name.into_text();
            }
            if let Some(bio) = bio {
                next.bio = bio.into_text();
            }
            if self.store.update_profile(&next).await? {
                tracing::info!(event = "profile.updated", account = %caller.id, "profile updated");
                return Ok(next);
            }
            present = self.admit(caller).await?;
        }
    }

    /// Deletes the caller's profile for good, and sees to it that the auth service deletes the
    /// account. `origin` goes with that message.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`] if they have deleted it before, and those of [`Service::authorize`].
    pub async fn delete(
        &self,
        caller: &Caller,
        id: UserId,
        preconditions: &Preconditions,
        origin: &Origin,
    ) -> Result<(), Error> {
        loop {
            let present = match self.authorize(caller, id, preconditions).await {
                // To have deleted it is no reason to be refused deleting it again.
                Err(Error::AccountDeleted) if caller.id == id => return Err(Error::UserNotFound),
                authorized => authorized?,
            };
            let deletion = Deletion { id, version: present.version, origin };
            if self.store.delete_profile(deletion, sql_kit::now()).await? {
                tracing::info!(event = "profile.deleted", account = %caller.id, "profile deleted");
                self.deleted.notify_one();
                return Ok(());
            }
        }
    }

    /// The caller's own profile. It is made here if this is their first request of any kind, and
    /// takes over a changed email of a newer token. Every request comes by here, also one that is
    /// refused afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::AccountDeleted`], or the database.
    pub async fn admit(&self, caller: &Caller) -> Result<Profile, Error> {
        self.load(caller, caller.id).await?.ok_or(Error::AccountDeleted)
    }

    /// Admits the caller and finds the profile `id`, in one query where there is nothing to change.
    async fn load(&self, caller: &Caller, id: UserId) -> Result<Option<Profile>, Error> {
        self.page_key()?;
        let (own, other) = self.reads.pair(caller.id, id).await?;
        let own = match own {
            Some(own) => self.take_over_email(caller, own).await?,
            None => self.create(caller).await?,
        };
        Ok(if caller.id == id { Some(own) } else { other })
    }

    async fn create(&self, caller: &Caller) -> Result<Profile, Error> {
        loop {
            let first = Profile::first(caller, sql_kit::now());
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
        loop {
            let newer = own.email_iat.is_none_or(|known| known < caller.issued_at);
            if caller.email.is_none() || !newer {
                return Ok(own);
            }
            if caller.email == own.email {
                // Noted without a new version of the profile: an older token must not take it back.
                self.store.confirm_email(own.id, caller.issued_at).await?;
                own.email_iat = Some(caller.issued_at);
                return Ok(own);
            }
            let mut next = own.next(sql_kit::now());
            next.email.clone_from(&caller.email);
            next.email_iat = Some(caller.issued_at);
            if self.store.update_profile(&next).await? {
                tracing::info!(event = "profile.email_changed", account = %caller.id, "email changed");
                return Ok(next);
            }
            own = match self.reads.pair(caller.id, caller.id).await? {
                (Some(own), _) => own,
                (None, _) => return Err(Error::AccountDeleted),
            };
        }
    }

    /// The profile as `caller` may see it.
    fn shown(&self, caller: &Caller, mut profile: Profile) -> Profile {
        if self.email_visibility == EmailVisibility::Owner && profile.id != caller.id {
            profile.email = None;
        }
        profile
    }

    /// Before the key has been loaded the database has not been migrated either.
    fn page_key(&self) -> Result<&PageKey, Error> {
        self.page_key.get().ok_or(Error::DatabaseUnavailable)
    }
}

fn own_only(caller: &Caller, id: UserId) -> Result<(), Error> {
    if caller.id == id {
        return Ok(());
    }
    tracing::info!(event = "access.forbidden", account = %caller.id, "access forbidden");
    Err(Error::Forbidden)
}

fn demand(preconditions: &Preconditions, present: &Profile) -> Result<(), Error> {
    let etag = present.etag();
    if preconditions.matches(&etag) && !preconditions.excludes(&etag) {
        Ok(())
    } else {
        Err(Error::PreconditionFailed)
    }
}
