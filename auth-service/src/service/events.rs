//! The list of events, for operators and whoever exports them.

use chrono::TimeDelta;
use sql_kit::read;

use super::{Service, cursor::Cursor};
use crate::{
    domain::{AccountId, AccountKey},
    error::Error,
    store::{EventRecord, Store, events, revocations},
};

/// How long events are kept, and how many.
#[derive(Debug, Clone, Copy)]
pub struct EventRules {
    /// How long.
    pub retention: TimeDelta,
    /// How many at most; 0: any number.
    pub most: u32,
}

/// Some of the events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events, the oldest first, each with the cursor of the place after it.
    pub events: Vec<(EventRecord, String)>,
    /// Where the next page begins. It stays good while nothing is added.
    pub next_cursor: String,
    /// Whether there are more already.
    pub more: bool,
    /// Whether events may be missing between the cursor and the first one: they were too old, or too many.
    pub is_behind: bool,
}

/// Up to `limit` events after a cursor, of one account where one is given. An empty cursor says from the
/// oldest that is kept. Whoever goes on from each page's cursor sees every event once, however the
/// transactions that write them end.
///
/// # Errors
///
/// [`Error::InvalidPageToken`] for a cursor that is malformed, or of another database, such as one from before a
/// backup was restored; or the database.
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
        // One more than asked for tells whether there are more.
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
    /// What happened; see [`list`]. An account that no longer exists, named by its id, has no events.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`] for an email that has no account, and those of [`list`].
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
