//! The list of deleted accounts, for services that keep something about accounts.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use sql_kit::{read, write_one};

use super::Service;
use crate::{
    domain::AccountId,
    error::Error,
    store::{
        StoreError,
        deletions::{self, DeletionRecord},
        revocations,
    },
};

/// How long a deletion is listed. A service that was away for longer may miss some.
const KEPT: TimeDelta = TimeDelta::days(90);
const INSTALLATION_BYTES: usize = 8;
const POSITION_BYTES: usize = 8;

/// Some of the accounts that were deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedAccounts {
    /// The accounts, the first to be deleted first.
    pub accounts: Vec<AccountId>,
    /// Where the next page begins.
    pub next_cursor: String,
    /// Whether there are more.
    pub more: bool,
    /// Whether the cursor was unknown, so that the list begins anew.
    pub reset: bool,
}

/// A place in the list: after the entry at `position`, or before the first one at 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    position: i64,
    nonce: Vec<u8>,
}

impl Cursor {
    const fn start() -> Self {
        Self { position: 0, nonce: Vec::new() }
    }

    fn after(record: &DeletionRecord) -> Self {
        Self { position: record.position, nonce: record.nonce.clone() }
    }

    fn write(&self, installation: &[u8]) -> String {
        let position = self.position.to_be_bytes();
        URL_SAFE_NO_PAD.encode([installation, &position, &self.nonce].concat())
    }

    /// Reads a cursor of this installation.
    fn read(text: &str, installation: &[u8]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (of, rest) = bytes.split_at_checked(INSTALLATION_BYTES)?;
        verify_slices_are_equal(of, installation).ok()?;
        let (position, nonce) = rest.split_at_checked(POSITION_BYTES)?;
        let position = i64::from_be_bytes(*position.first_chunk()?);
        Some(Self { position, nonce: nonce.to_vec() })
    }
}

impl Service {
    /// Up to `limit` accounts that were deleted after a cursor. An empty cursor says from the beginning;
    /// so does one that is unknown, with `reset`.
    ///
    /// # Errors
    ///
    /// Where the database is away.
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
            // One more than asked for tells whether there are more.
            let mut records =
                deletions::after(unit, from.position, limit.saturating_add(1)).await?;
            let size = usize::try_from(limit).unwrap_or(usize::MAX);
            let more = records.len() > size;
            records.truncate(size);
            Ok(DeletedAccounts {
                next_cursor: records.last().map_or(from, Cursor::after).write(&installation),
                accounts: records.into_iter().map(|record| record.account).collect(),
                more,
                reset,
            })
        });
        Ok(page.await?)
    }

    /// Removes the deletions that are no longer listed.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub(super) async fn prune_deletions(&self) -> Result<(), StoreError> {
        let before = self.store.now() - KEPT;
        while write_one!(self.store, |unit| deletions::prune(unit, before).await).await? {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_its_installation() {
        let cursor = Cursor { position: 7, nonce: vec![1; 8] };
        let text = cursor.write(&[5; 8]);
        assert_eq!(Cursor::read(&text, &[5; 8]), Some(cursor));
        assert_eq!(Cursor::read(&text, &[6; 8]), None);
        for text in ["", "x", "....", &text[1..], &format!("{text}="), "\u{e9}"] {
            assert_eq!(Cursor::read(text, &[5; 8]), None, "{text:?}");
        }
        let start = Cursor::start().write(&[5; 8]);
        assert_eq!(Cursor::read(&start, &[5; 8]), Some(Cursor::start()));
    }
}
