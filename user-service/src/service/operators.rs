//! What operators may do, who are not callers: they see every profile, and may delete it.

use chrono::{DateTime, Utc};

use super::Service;
use crate::{
    domain::{Profile, UserId},
    error::Error,
    store::{Deletion, Origin},
};

/// All that is known of an account here.
#[derive(Debug)]
pub struct Held {
    /// The account.
    pub id: UserId,
    /// Its profile.
    pub profile: Option<Profile>,
    /// When its profile, or the account, was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl Service {
    /// All that is known of an account.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`] where that is nothing, or the database.
    pub async fn held(&self, id: UserId) -> Result<Held, Error> {
        let profile = self.store.profiles(&[id]).await?.pop();
        let deleted_at = self.store.deleted_at(id).await?;
        if profile.is_none() && deleted_at.is_none() {
            return Err(Error::UserNotFound);
        }
        Ok(Held { id, profile, deleted_at })
    }

    /// Deletes a profile for good, and sees to it that the auth service deletes the account.
    ///
    /// # Errors
    ///
    /// [`Error::UserNotFound`], or the database.
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
