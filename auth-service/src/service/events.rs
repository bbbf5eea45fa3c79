//! The list of events, for operators and exports.

use chrono::TimeDelta;
use sql_kit::read;

use super::{Service, cursor::Cursor};
use crate::{
    domain::{AccountId, AccountKey},
    error::Error,
    store::{EventRecord, Store, events, revocations},
};

/// The retention of events.
#[derive(Debug, Clone, Copy)]
pub struct EventRules {
    /// How long an event is kept.
    pub retention: TimeDelta,
    /// How many events are kept at most; 0 means any number.
    pub most: u32,
}

/// One page of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events, the oldest first, each with the cursor of the position after it.
    pub events: Vec<(EventRecord, String)>,
    /// The cursor of the next page. It stays valid while no events are added.
    pub next_cursor: String,
    /// Whether there are more events already.
    pub more: bool,
    /// Whether events between the cursor and the first one may have been removed by the retention rules.
    pub is_behind: bool,
}

/// Up to `limit` events after a cursor, optionally of one account. An empty cursor means the oldest event. A
/// reader that continues from the cursor of each page gets every event exactly once, in whatever order
/// concurrent transactions commit.
///
/// # Errors
///
/// [`Error::InvalidPageToken`] for a cursor that is malformed or belongs to another database, for example to the
/// one before a backup was restored; and the errors of the database.
pub async fn list(
    store: &Store,
    account: Option<AccountId>,
    cursor: &str,
    limit: u32,
) -> Result<EventPage, Error> {
    let page = read!(store, |unit| {
        let installation = revocations::installation(unit).await?;
        let place = match cursor {
            "" => Some(Cursor::start()),
            text => Cursor::read(text, &installation),
        };
        let Some(place) = place else { return Ok(None) };
        let oldest = events::oldest(unit).await?.unwrap_or(1);
        let is_behind = place.position > 0 && place.position < oldest - 1;
        if place.position >= oldest {
            let id = events::id_at(unit, place.position).await?;
            if id.is_none_or(|id| id.as_bytes()[..] != place.nonce[..]) {
                return Ok(None);
            }
        }
        let up_to = events::horizon(unit).await?;
        // Fetches one more than requested, to know whether there are more.
        let wanted = limit.saturating_add(1);
        let mut records = events::between(unit, account, place.position, up_to, wanted).await?;
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = records.len() > size;
        records.truncate(size);
        let with_cursor = |record: EventRecord| {
            let nonce = record.id.as_bytes().to_vec();
            let cursor = Cursor { position: record.position, nonce }.write(&installation);
            (record, cursor)
        };
        let events: Vec<_> = records.into_iter().map(with_cursor).collect();
        let next_cursor =
            events.last().map_or_else(|| place.write(&installation), |(_, cursor)| cursor.clone());
        Ok(Some(EventPage { events, next_cursor, more, is_behind }))
    });
    page.await?.ok_or(Error::InvalidPageToken)
}

impl Service {
    /// Lists events; see [`list`]. An account that no longer exists, named by its id, has no events.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`] for an email without an account, and the errors of [`list`].
    pub async fn events(
        &self,
        account: Option<&AccountKey>,
        cursor: &str,
        limit: u32,
    ) -> Result<EventPage, Error> {
        self.ready()?;
        let account = match account {
            None => None,
            Some(AccountKey::Id(id)) => Some(*id),
            Some(key) => Some(self.find_account(key).await?.id),
        };
        list(&self.store, account, cursor, limit).await
    }
}
