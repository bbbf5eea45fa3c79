//! The list of deleted accounts, for services that store data about accounts.

use chrono::TimeDelta;
use sql_kit::{read, write_one};

use super::{Service, cursor::Cursor};
use crate::{
    domain::AccountId,
    error::Error,
    store::{
        StoreError,
        deletions::{self, DeletionRecord},
        revocations,
    },
};

/// How long a deletion stays in the list. A service that was offline for longer may miss some.
const KEPT: TimeDelta = TimeDelta::days(90);

/// One page of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedAccounts {
    /// The accounts, in the order of their deletion.
    pub accounts: Vec<AccountId>,
    /// The cursor of the next page.
    pub next_cursor: String,
    /// Whether there are more accounts already.
    pub more: bool,
    /// Whether the cursor was unknown, so that the list starts from the beginning.
    pub reset: bool,
}

fn place(record: &DeletionRecord) -> Cursor {
    Cursor { position: record.position, nonce: record.nonce.clone() }
}

impl Service {
    /// Up to `limit` accounts that were deleted after a cursor. An empty cursor means the beginning. So
    /// does an unknown one, which also sets `reset`.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn deleted_accounts(
        &self,
        cursor: &str,
        limit: u32,
    ) -> Result<DeletedAccounts, Error> {
        self.loaded_keys()?;
        let page = read!(self.store, |unit| {
            let installation = revocations::installation(unit).await?;
            let known = match Cursor::read(cursor, &installation) {
                _ if cursor.is_empty() => Some(Cursor::start()),
                Some(start) if start == Cursor::start() => Some(start),
                Some(place) if deletions::is_known(unit, place.position, &place.nonce).await? => {
                    Some(place)
                }
                _ => None,
            };
            let reset = known.is_none();
            let from = known.unwrap_or_else(Cursor::start);
            // Fetches one more than requested, to know whether there are more.
            let mut records =
                deletions::after(unit, from.position, limit.saturating_add(1)).await?;
            let size = usize::try_from(limit).unwrap_or(usize::MAX);
            let more = records.len() > size;
            records.truncate(size);
            Ok(DeletedAccounts {
                next_cursor: records.last().map_or(from, place).write(&installation),
                accounts: records.into_iter().map(|record| record.account).collect(),
                more,
                reset,
            })
        });
        Ok(page.await?)
    }

    /// Removes the deletions that are older than the list keeps them.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub(super) async fn prune_deletions(&self) -> Result<(), StoreError> {
        let before = self.store.now() - KEPT;
        while write_one!(self.store, |unit| deletions::prune(unit, before).await).await? {}
        Ok(())
    }
}
