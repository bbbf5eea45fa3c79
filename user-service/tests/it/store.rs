//! What the store promises, on both engines.

use std::sync::LazyLock;

use chrono::TimeDelta;
use service_kit::clock::machine_time;
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
    a_change_of_the_texts_leaves_the_email_alone,
    a_secret_is_shared,
    migrating_twice_at_once_is_safe,
    a_newer_database_is_refused,
);

async fn fresh(engine: Engine) -> (TestDatabase, Store) {
    let database = TestDatabase::create(engine).await;
    let store = open_store(&database);
    store.migrate().await.unwrap();
    (database, store)
}

fn someone() -> Profile {
    let caller = Caller::new(Uuid::now_v7(), Some("a@example.com".to_owned()), 1_750_000_000);
    Profile::first(&caller, machine_time())
}

async fn find(store: &Store, id: UserId) -> Option<Profile> {
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
            let (store, profile) = (store.clone(), profile.clone());
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
    let mut next = profile.next(store.clock().now());
    (next.name, next.bio) = ("name".to_owned(), "bio".to_owned());
    assert!(store.change_texts(&next).await.unwrap());
    assert!(!store.change_texts(&next).await.unwrap());
    assert_eq!(find(&store, profile.id).await.as_ref(), Some(&next));
    let mut renamed = next.next(store.clock().now());
    (renamed.email, renamed.email_iat) = (Some("b@example.com".to_owned()), Some(1_760_000_000));
    assert!(store.change_email(&renamed).await.unwrap());
    assert!(!store.change_email(&renamed).await.unwrap());
    assert_eq!(find(&store, profile.id).await.as_ref(), Some(&renamed));
    // An older token does not take it back.
    let mut older = renamed.next(store.clock().now());
    (older.email, older.email_iat) = (Some("a@example.com".to_owned()), Some(1_755_000_000));
    assert!(!store.change_email(&older).await.unwrap());
    // Nor is an email confirmed that is not stored any more.
    assert!(!store.confirm_email(&next, 1_770_000_000).await.unwrap());
    let unknown = someone().next(store.clock().now());
    assert!(!store.change_texts(&unknown).await.unwrap());
}

async fn a_change_of_the_texts_leaves_the_email_alone(engine: Engine) {
    let (_database, store) = fresh(engine).await;
    let profile = someone();
    store.create_profile(&profile).await.unwrap();
    // A PUT has read the profile and waits for its body; meanwhile a newer token comes by.
    let mut next = profile.next(store.clock().now());
    next.name = "name".to_owned();
    assert!(store.confirm_email(&profile, 1_760_000_000).await.unwrap());
    assert!(store.change_texts(&next).await.unwrap());
    let found = find(&store, profile.id).await.unwrap();
    assert_eq!((found.name.as_str(), found.email_iat), ("name", Some(1_760_000_000)));
}

async fn a_deletion_leaves_a_tombstone_and_an_entry(engine: Engine) {
    let (database, store) = fresh(engine).await;
    let profile = someone();
    store.create_profile(&profile).await.unwrap();
    let stale = Deletion { version: 7, ..deletion(&profile) };
    assert!(!store.delete_profile(stale).await.unwrap());
    assert!(!store.is_deleted(profile.id).await.unwrap());
    assert_eq!(count(&database, "SELECT count(*) FROM outbox").await, 0);

    assert!(store.delete_profile(deletion(&profile)).await.unwrap());
    assert!(!store.delete_profile(deletion(&profile)).await.unwrap());
    assert!(store.is_deleted(profile.id).await.unwrap());
    assert_eq!(find(&store, profile.id).await, None);
    let entries = store.outbox().list(10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].id, &entries[0].origin), (profile.id.0, &*ORIGIN));
    assert_eq!((entries[0].due_at, entries[0].attempts), (entries[0].created_at, 0));
}

async fn a_deleted_profile_does_not_come_back(engine: Engine) {
    let (database, store) = fresh(engine).await;
    for _ in 0..10 {
        let profile = someone();
        store.create_profile(&profile).await.unwrap();
        let creators: Vec<_> = (0..8)
            .map(|_| {
                let (store, profile) = (store.clone(), profile.clone());
                tokio::spawn(async move {
                    for _ in 0..4 {
                        store.create_profile(&profile).await.unwrap();
                    }
                })
            })
            .collect();
        assert!(store.delete_profile(deletion(&profile)).await.unwrap());
        for creator in creators {
            creator.await.unwrap();
        }
    }
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 0);
}

async fn pages_are_in_order(engine: Engine) {
    let (_database, store) = fresh(engine).await;
    let start = store.clock().now();
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

#[test]
fn migrations_only_add() {
    test_kit::migrations::assert_additive(&user_service::store::MIGRATIONS);
}
