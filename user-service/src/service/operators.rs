//! What operators can do: show and delete any profile. They are not callers, so the rules for
//! callers do not apply.

use chrono::{DateTime, Utc};

use super::Service;
use crate::{
    domain::{Profile, UserId},
    error::Error,
    store::{Deletion, Origin},
};

/// Everything that is stored about an account here.
#[derive(Debug)]
pub struct StoredData {
    /// The account.
    pub id: UserId,
    /// Its profile.
    pub profile: Option<Profile>,
    /// When its profile, or the account, was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl Service {
    /// Returns everything that is stored about an account.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`] if nothing is stored, and the errors of the database.
    pub async fn held(&self, id: UserId) -> Result<StoredData, Error> {
        let profile = self.store.profiles(&[id]).await?.pop();
        let deleted_at = self.store.deleted_at(id).await?;
        if profile.is_none() && deleted_at.is_none() {
            return Err(Error::UserNotFound);
        }
        Ok(StoredData { id, profile, deleted_at })
    }

    /// Deletes a profile permanently, and queues the deletion of the account at the auth service.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`], and the errors of the database.
    pub async fn remove(&self, id: UserId, origin: &Origin) -> Result<(), Error> {
        loop {
            let present = self.store.profiles(&[id]).await?.pop().ok_or(Error::UserNotFound)?;
            let deletion = Deletion { id, version: present.version, origin };
            if self.store.delete_profile(deletion).await? {
                tracing::info!(
                    event = "profile.deleted",
                    account = %id,
                    actor = "operator",
                    "profile deleted"
                );
                return Ok(());
            }
        }
    }
}
