//! What every store does: one suite, both engines.

use std::sync::Arc;

use auth_service::{
    domain::{AccountId, Email},
    store::{AccountRecord, KeyRecord, Store, StoreError, open},
};
use chrono::TimeDelta;
use test_kit::{ENGINES, TestDatabase};

fn connect(database: &TestDatabase) -> Arc<dyn Store> {
    let options = test_kit::pool_options();
    open(&database.url.parse().unwrap(), options).unwrap()
}

fn account(email: &str) -> AccountRecord {
    AccountRecord {
        id: AccountId::generate(),
        email: Email::parse(email).unwrap(),
        password_hash: format!("hash of {email}"),
        hash_scheme: "bcrypt:12".to_owned(),
        created_at: sql_kit::now(),
    }
}

fn key(kid: &str, activates_in: TimeDelta) -> KeyRecord {
    KeyRecord {
        kid: kid.to_owned(),
        algorithm: "ES256".to_owned(),
        sealed_key: vec![0, 1, 255],
        created_at: sql_kit::now(),
        activates_at: sql_kit::now() + activates_in,
    }
}

#[tokio::test]
async fn an_account_comes_back_as_it_was_stored() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let (jane, other) = (account("jane@example.com"), account("other@example.com"));
        assert_eq!(store.create_account(&jane).await, Ok(true));
        assert_eq!(store.account_by_email(&jane.email).await, Ok(Some(jane.clone())));
        assert_eq!(store.account_by_email(&other.email).await, Ok(None));
        assert_eq!(store.account_exists(jane.id).await, Ok(true));
        assert_eq!(store.account_exists(other.id).await, Ok(false));
    }
}

#[tokio::test]
async fn an_email_has_one_account_however_many_try_at_once() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let tries: Vec<_> = (0..20)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.create_account(&account("a@b.com")).await })
            })
            .collect();
        let mut created = 0;
        for attempt in tries {
            created += u32::from(attempt.await.unwrap().unwrap());
        }
        assert_eq!(created, 1, "{engine:?}");
    }
}

#[tokio::test]
async fn a_password_hash_is_replaced_only_where_it_is_still_the_one_that_was_read() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let jane = account("jane@example.com");
        store.create_account(&jane).await.unwrap();
        let replace = |before: &'static str, after: &'static str| {
            store.replace_password_hash(jane.id, before, after, "argon2id:1,2,3")
        };
        assert_eq!(replace("another", "new").await, Ok(false));
        assert_eq!(replace("hash of jane@example.com", "new").await, Ok(true));
        assert_eq!(replace("hash of jane@example.com", "newer").await, Ok(false));
        let stored = store.account_by_email(&jane.email).await.unwrap().unwrap();
        assert_eq!(stored.password_hash, "new");
        assert_eq!(stored.hash_scheme, "argon2id:1,2,3");
    }
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_email_free() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let jane = account("jane@example.com");
        store.create_account(&jane).await.unwrap();
        assert_eq!(store.delete_account(jane.id).await, Ok(Some(jane.email.clone())));
        assert_eq!(store.delete_account(jane.id).await, Ok(None));
        assert_eq!(store.account_exists(jane.id).await, Ok(false));
        assert_eq!(store.create_account(&account("jane@example.com")).await, Ok(true));
    }
}

#[tokio::test]
async fn the_schemes_in_use_are_named_once_each() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        assert_eq!(store.hash_schemes().await, Ok(vec![]));
        for (number, scheme) in ["b", "a", "c", "a", "b", "a"].into_iter().enumerate() {
            let mut record = account(&format!("p{number}@example.com"));
            record.hash_scheme = scheme.to_owned();
            store.create_account(&record).await.unwrap();
        }
        let schemes = store.hash_schemes().await.unwrap();
        assert_eq!(schemes, ["a", "b", "c"], "{engine:?}");
    }
}

#[tokio::test]
async fn signing_keys_come_by_time_of_activation() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let (first, second) = (key("z", TimeDelta::zero()), key("a", TimeDelta::hours(1)));
        assert_eq!(store.add_signing_key(&first, Some("none")).await, Ok(false));
        assert_eq!(store.add_signing_key(&first, None).await, Ok(true));
        assert_eq!(store.add_signing_key(&second, None).await, Ok(false));
        assert_eq!(store.add_signing_key(&second, Some("z")).await, Ok(true));
        assert_eq!(store.signing_keys().await, Ok(vec![first.clone(), second.clone()]));
        store.remove_signing_key("z").await.unwrap();
        assert_eq!(store.signing_keys().await, Ok(vec![second]));
    }
}

#[tokio::test]
async fn of_many_that_add_the_next_key_one_does() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let tries: Vec<_> = (0..8)
            .map(|number| {
                let store = Arc::clone(&store);
                let key = key(&format!("k{number}"), TimeDelta::seconds(number));
                tokio::spawn(async move { store.add_signing_key(&key, None).await })
            })
            .collect();
        let mut added = 0;
        for attempt in tries {
            added += u32::from(attempt.await.unwrap().unwrap());
        }
        assert_eq!(added, 1, "{engine:?}");
        assert_eq!(store.signing_keys().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn migrating_twice_or_at_once_is_safe() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let (one, two) = (connect(&database), connect(&database));
        assert_eq!(one.check_migrated().await, Err(StoreError::NotMigrated(1)));
        let (first, second) = tokio::join!(one.migrate(), two.migrate());
        assert_eq!((first, second), (Ok(()), Ok(())), "{engine:?}");
        assert_eq!(two.migrate().await, Ok(()));
        assert_eq!(one.check_migrated().await, Ok(()));
        assert_eq!(one.ping().await, Ok(()));
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let migration = "INSERT INTO _sqlx_migrations
            (version, description, success, checksum, execution_time)
            VALUES (9999, 'of the future', true, 'x', 0)";
        match database.url.parse().unwrap() {
            sql_kit::Database::Postgres(connect) => {
                let pool = sqlx::PgPool::connect_with(connect[0].clone()).await.unwrap();
                sqlx::query(migration).execute(&pool).await.unwrap();
            }
            sql_kit::Database::Sqlite(connect) => {
                let pool = sqlx::SqlitePool::connect_with(*connect).await.unwrap();
                sqlx::query(migration).execute(&pool).await.unwrap();
            }
        }
        assert_eq!(store.migrate().await, Err(StoreError::Newer(9999)), "{engine:?}");
        assert_eq!(store.check_migrated().await, Err(StoreError::Newer(9999)), "{engine:?}");
    }
}
