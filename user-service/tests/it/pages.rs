//! A walk through the pages neither skips nor repeats what is there all the time, whatever is added
//! or removed meanwhile.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    prop_oneof,
    test_runner::{Config, TestCaseError, TestRunner},
};
use test_kit::{Engine, TestDatabase};
use tokio::runtime::Handle;
use user_service::{
    domain::{Audience, Caller, PageSize, Target, UserId, Visibility},
    etag::Preconditions,
    service::{Service, Visit},
    store::Origin,
};
use uuid::Uuid;

use crate::support::{on_both_engines, open_store};

on_both_engines!(a_walk_is_complete_and_without_repetition);

#[derive(Debug, Clone)]
enum Change {
    Add,
    /// Of those that were there at the start, whichever this picks.
    Remove(usize),
}

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = prop_oneof![
        proptest::strategy::Just(Change::Add),
        any::<usize>().prop_map(Change::Remove),
    ];
    vec(vec(change, 0..4), 0..8)
}

async fn a_walk_is_complete_and_without_repetition(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let store = open_store(&database);
    store.migrate().await.unwrap();
    let visibility = Visibility { profiles: Audience::Members, emails: Audience::Owner };
    let service = Arc::new(Service::new(store, visibility));
    service.prepare().await.unwrap();
    let handle = Handle::current();
    let run = move || {
        let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
        runner.run(&(0..12_usize, 1..5_i32, changes()), |(start, size, changes)| {
            handle.block_on(walk(&service, start, size, changes))
        })
    };
    // proptest is not asynchronous; its cases wait on a thread of their own.
    tokio::task::spawn_blocking(run).await.unwrap().unwrap();
}

fn someone() -> Visit {
    Visit::new(Caller::new(Uuid::new_v4(), None, 0))
}

async fn walk(
    service: &Service,
    start: usize,
    size: i32,
    changes: Vec<Vec<Change>>,
) -> Result<(), TestCaseError> {
    // The database is the same for all cases: what others left takes part in the walk.
    let reader = someone();
    let mut there = vec![];
    for _ in 0..start {
        let caller = someone();
        service.conclude(&caller).await.unwrap();
        there.push(caller);
    }
    let size = PageSize::from_number(size).unwrap();
    let (mut seen, mut removed) = (Vec::<UserId>::new(), HashSet::new());
    let mut changes = changes.into_iter();
    let mut token = String::new();
    loop {
        let page = service.list(&reader, size, &token).await.unwrap();
        let length = u32::try_from(page.profiles.len()).unwrap();
        proptest::prop_assert!(length <= size.get());
        proptest::prop_assert!(length == size.get() || page.next_page_token.is_empty());
        seen.extend(page.profiles.iter().map(|profile| profile.id));
        for change in changes.next().unwrap_or_default() {
            match change {
                Change::Add => service.conclude(&someone()).await.unwrap(),
                Change::Remove(_) if there.is_empty() => {}
                Change::Remove(pick) => {
                    let caller = there.swap_remove(pick % there.len());
                    let none = Preconditions::default();
                    let (request_id, traceparent) = ("test".to_owned(), String::new());
                    let origin = Origin { request_id, traceparent };
                    service.delete(&caller, Target::Me, &none, &origin).await.unwrap();
                    removed.insert(caller.caller().id);
                }
            }
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let distinct: BTreeSet<_> = seen.iter().collect();
    proptest::prop_assert_eq!(distinct.len(), seen.len(), "somebody was seen twice");
    for caller in there.iter().chain([&reader]) {
        proptest::prop_assert!(distinct.contains(&caller.caller().id), "somebody was skipped");
    }
    Ok(())
}
