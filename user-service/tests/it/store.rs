//! What the store promises, on both engines.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use sql_kit::StoreError;
use test_kit::{Engine, TestDatabase};
use user_service::{
    domain::{Caller, Profile, UserId},
    page_token::Cursor,
    store::{Deletion, Origin, Store},
};
use uuid::Uuid;

use crate::support::{count, execute, on_both_engines, open_store};

on_both_engines!(
    a_profile_comes_back_as_it_went_in,
    a_profile_is_made_once,
    of_two_updates_of_one_version_one_is_done,
    a_deletion_leaves_a_tombstone_and_an_entry,
    a_deleted_profile_does_not_come_back,
    pages_are_in_order,
    an_entry_is_taken_once_until_its_lease_ends,
    the_outbox_is_counted_listed_and_made_due,
    a_secret_is_shared,
    migrating_twice_at_once_is_safe,
    a_newer_database_is_refused,
);

async fn fresh(engine: Engine) -> (TestDatabase, Arc<dyn Store>) {
    let database = TestDatabase::create(engine).await;
    let store = open_store(&database);
    store.migrate().await.unwrap();
    (database, store)
}

fn someone() -> Profile {
    let caller = Caller::new(Uuid::now_v7(), Some("a@example.com".to_owned()), 1_750_000_000);
    Profile::first(&caller, sql_kit::now())
}

async fn find(store: &Arc<dyn Store>, id: UserId) -> Option<Profile> {
    store.profiles(&[id]).await.unwrap().pop()
}

static ORIGIN: LazyLock<Origin> = LazyLock::new(|| Origin {
    request_id: "request-1".to_owned(),
    traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
});

fn deletion(profile: &Profile) -> Deletion<'static> {
    Deletion { id: profile.id, version: profile.version, origin: &ORIGIN }
}

async fn a_profile_comes_back_as_it_went_in(engine: Engine) {
    let (_database, store) = fresh(engine).await;
    let mut profile = someone();
    profile.name = "Zoë 🦊 'quoted' \"twice\" -- \\".to_owned();
    profile.bio = "line\n\ttab".to_owned();
    let mut other = someone();
    (other.email, other.email_iat) = (None, None);
    for profile in [&profile, &other] {
        assert!(store.create_profile(profile).await.unwrap());
        assert_eq!(find(&store, profile.id).await.as_ref(), Some(profile));
    }
    let unknown = UserId(Uuid::now_v7());
    let mut both = store.profiles(&[other.id, unknown, profile.id]).await.unwrap();
    both.sort_by_key(|found| found.id != other.id);
    assert_eq!(both, [other, profile]);
    assert_eq!(store.profiles(&[unknown]).await.unwrap(), []);
    assert_eq!(store.profiles(&[]).await.unwrap(), []);
    store.ping().await.unwrap();
}

async fn a_profile_is_made_once(engine: Engine) {
    let (database, store) = fresh(engine).await;
    let profile = someone();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (store, profile) = (Arc::clone(&store), profile.clone());
            tokio::spawn(async move { store.create_profile(&profile).await.unwrap() })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap());
    }
    assert_eq!(made, 1);
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 1);
}

async fn of_two_updates_of_one_version_one_is_done(engine: Engine) {
    let (_database, store) = fresh(engine).await;
    let profile = someone();
    store.create_profile(&profile).await.unwrap();
    let mut next = profile.next(sql_kit::now());
    (next.name, next.bio) = ("name".to_owned(), "bio".to_owned());
    (next.email, next.email_iat) = (Some("b@example.com".to_owned()), Some(1_760_000_000));
    assert!(store.update_profile(&next).await.unwrap());
    assert!(!store.update_profile(&next).await.unwrap());
    assert_eq!(find(&store, profile.id).await, Some(next));
    assert!(!store.update_profile(&someone().next(sql_kit::now())).await.unwrap());
}

async fn a_deletion_leaves_a_tombstone_and_an_entry(engine: Engine) {
    let (database, store) = fresh(engine).await;
    let profile = someone();
    store.create_profile(&profile).await.unwrap();
    let now = sql_kit::now();
    let stale = Deletion { version: 7, ..deletion(&profile) };
    assert!(!store.delete_profile(stale, now).await.unwrap());
    assert!(!store.is_deleted(profile.id).await.unwrap());
    assert_eq!(count(&database, "SELECT count(*) FROM outbox").await, 0);

    assert!(store.delete_profile(deletion(&profile), now).await.unwrap());
    assert!(!store.delete_profile(deletion(&profile), now).await.unwrap());
    assert!(store.is_deleted(profile.id).await.unwrap());
    assert_eq!(find(&store, profile.id).await, None);
    let entries = store.take_due(now, now + TimeDelta::seconds(9), 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].account_id, profile.id);
    assert_eq!(entries[0].origin, *ORIGIN);
    assert_eq!((entries[0].created_at, entries[0].attempts), (now, 1));
}

async fn a_deleted_profile_does_not_come_back(engine: Engine) {
    let (database, store) = fresh(engine).await;
    for _ in 0..10 {
        let profile = someone();
        store.create_profile(&profile).await.unwrap();
        let creators: Vec<_> = (0..8)
            .map(|_| {
                let (store, profile) = (Arc::clone(&store), profile.clone());
                tokio::spawn(async move {
                    for _ in 0..4 {
                        store.create_profile(&profile).await.unwrap();
                    }
                })
            })
            .collect();
        assert!(store.delete_profile(deletion(&profile), sql_kit::now()).await.unwrap());
        for creator in creators {
            creator.await.unwrap();
        }
    }
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 0);
}

async fn pages_are_in_order(engine: Engine) {
    let (_database, store) = fresh(engine).await;
    let start = sql_kit::now();
    let mut all = Vec::new();
    // Three at each moment, so that ids decide too; made in another order.
    for index in [7, 2, 5, 0, 8, 3, 6, 1, 4] {
        let mut profile = someone();
        profile.id = UserId(Uuid::new_v4());
        profile.created_at = start + TimeDelta::microseconds(index / 3);
        store.create_profile(&profile).await.unwrap();
        all.push(profile);
    }
    all.sort_by_key(|profile| (profile.created_at, profile.id));
    assert_eq!(store.page(None, 100).await.unwrap(), all);
    for (place, last) in all.iter().enumerate() {
        let after = Cursor { created_at: last.created_at, id: last.id };
        let page = store.page(Some(after), 4).await.unwrap();
        assert_eq!(page, all[place + 1..].iter().take(4).cloned().collect::<Vec<_>>());
    }
}

async fn an_entry_is_taken_once_until_its_lease_ends(engine: Engine) {
    let (_database, store) = fresh(engine).await;
    let now = sql_kit::now();
    let later = move |seconds| now + TimeDelta::seconds(seconds);
    for _ in 0..30 {
        let profile = someone();
        store.create_profile(&profile).await.unwrap();
        store.delete_profile(deletion(&profile), now).await.unwrap();
    }
    let takers: Vec<_> = (0..10)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.take_due(now, later(10), 5).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for taker in takers {
        let entries = taker.await.unwrap();
        assert!(entries.len() <= 5);
        taken.extend(entries.into_iter().map(|entry| entry.account_id));
    }
    // What a taker skipped because another one held it may be left.
    taken.extend(take(&store, now, later(10), 100).await);
    taken.sort();
    let all = taken.len();
    taken.dedup();
    assert_eq!((all, taken.len()), (30, 30));

    assert_eq!(take(&store, later(9), later(20), 100).await, []);
    let (first, second) = (taken[0], taken[1]);
    store.remove_delivered(first).await.unwrap();
    store.postpone(second, later(60)).await.unwrap();
    assert_eq!(take(&store, later(10), later(20), 100).await.len(), 28);
    assert_eq!(take(&store, later(60), later(70), 100).await.len(), 29);
}

async fn take(
    store: &Arc<dyn Store>,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: u32,
) -> Vec<UserId> {
    let entries = store.take_due(now, until, limit).await.unwrap();
    entries.into_iter().map(|entry| entry.account_id).collect()
}

async fn the_outbox_is_counted_listed_and_made_due(engine: Engine) {
    let (_database, store) = fresh(engine).await;
    assert_eq!(store.backlog().await, Ok((0, None)));
    let start = sql_kit::now();
    let mut deleted = Vec::new();
    for second in 0..3 {
        let profile = someone();
        store.create_profile(&profile).await.unwrap();
        let at = start + TimeDelta::seconds(second);
        assert!(store.delete_profile(deletion(&profile), at).await.unwrap());
        deleted.push(profile.id);
    }
    assert_eq!(store.backlog().await, Ok((3, Some(start))));
    let listed = store.outbox(2).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.account_id).collect::<Vec<_>>(), deleted[..2]);

    let later = start + TimeDelta::hours(1);
    for id in &deleted {
        store.postpone(*id, later).await.unwrap();
    }
    let now = start + TimeDelta::seconds(10);
    assert_eq!(store.take_due(now, later, 10).await, Ok(vec![]));
    assert_eq!(store.retry_all(now).await, Ok(3));
    assert_eq!(store.take_due(now, later, 10).await.unwrap().len(), 3);
}

async fn a_secret_is_shared(engine: Engine) {
    let (database, store) = fresh(engine).await;
    assert_eq!(store.shared_secret("a", b"first").await.unwrap(), b"first");
    let replica = open_store(&database);
    assert_eq!(replica.shared_secret("a", b"second").await.unwrap(), b"first");
    assert_eq!(replica.shared_secret("b", b"second").await.unwrap(), b"second");
}

async fn migrating_twice_at_once_is_safe(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let (one, other) = (open_store(&database), open_store(&database));
    assert_eq!(one.check_migrated().await, Err(StoreError::NotMigrated(1)));
    let (first, second) = tokio::join!(one.migrate(), other.migrate());
    first.and(second).unwrap();
    one.check_migrated().await.unwrap();
}

async fn a_newer_database_is_refused(engine: Engine) {
    let (database, store) = fresh(engine).await;
    let copy = "INSERT INTO _sqlx_migrations
                SELECT 99, description, installed_on, success, checksum, execution_time
                FROM _sqlx_migrations WHERE version = 1";
    execute(&database, copy).await;
    assert_eq!(store.migrate().await, Err(StoreError::Newer(99)));
    assert_eq!(store.check_migrated().await, Err(StoreError::Newer(99)));
}
