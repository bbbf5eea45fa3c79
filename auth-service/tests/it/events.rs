//! Events: written once, in the transaction of what they tell, read by everybody in one order. That each
//! part of an account's life writes its own is in `credentials/events.rs`.

mod list;
mod table;
mod webhooks;

use auth_service::store::{EventRecord, Store, events};
use sql_kit::read;
use test_kit::TestDatabase;

pub(crate) fn connect(database: &TestDatabase) -> Store {
    Store::open(&database.url.parse().unwrap(), test_kit::pool_options()).unwrap()
}

/// All events that may be read now.
pub(crate) async fn all(store: &Store) -> Vec<EventRecord> {
    after(store, 0).await
}

async fn after(store: &Store, position: i64) -> Vec<EventRecord> {
    let read = read!(store, |unit| {
        let up_to = events::horizon(unit).await?;
        events::between(unit, None, position, up_to, 100_000).await
    });
    read.await.unwrap()
}

pub(crate) fn names(events: &[EventRecord]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}
