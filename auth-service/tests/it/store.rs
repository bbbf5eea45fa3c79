//! What every store does: one suite, both engines.

use auth_service::{
    domain::{AccountId, Email},
    password::PasswordHash,
    store::{AccountRecord, KeyRecord, Store, StoreError, accounts},
};
use chrono::TimeDelta;
use service_kit::clock::machine_time;
use sql_kit::{read, transaction, write_one};
use test_kit::{ENGINES, TestDatabase};

const BCRYPT: &str = "$2a$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const ARGON2ID: &str =
    "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

fn connect(database: &TestDatabase) -> Store {
    Store::open(&database.url.parse().unwrap(), test_kit::pool_options()).unwrap()
}

async fn create(store: &Store, account: &AccountRecord) -> Result<bool, StoreError> {
    write_one!(store, |unit| accounts::insert(unit, account).await).await
}

async fn find(store: &Store, email: &Email) -> Result<Option<AccountRecord>, StoreError> {
    read!(store, |unit| accounts::by_email(unit, email).await).await
}

async fn by_id(store: &Store, id: AccountId) -> Result<Option<AccountRecord>, StoreError> {
    read!(store, |unit| accounts::by_id(unit, id).await).await
}

async fn delete(store: &Store, id: AccountId) -> Result<bool, StoreError> {
    transaction!(store, |unit| accounts::delete(unit, id).await).await
}

async fn hash_schemes(store: &Store) -> Result<Vec<String>, StoreError> {
    read!(store, |unit| accounts::hash_schemes(unit).await).await
}

fn account(email: &str) -> AccountRecord {
    AccountRecord {
        id: AccountId::generate(),
        email: Email::parse(email).unwrap(),
        password_hash: PasswordHash::stored(format!("hash of {email}")),
        created_at: machine_time(),
        generation: 0,
        email_verified: false,
        disabled: false,
    }
}

fn key(kid: &str, activates_in: TimeDelta) -> KeyRecord {
    KeyRecord {
        kid: kid.to_owned(),
        algorithm: "ES256".to_owned(),
        sealed_key: vec![0, 1, 255],
        created_at: machine_time(),
        activates_at: machine_time() + activates_in,
    }
}

#[tokio::test]
async fn an_account_comes_back_as_it_was_stored() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let (jane, other) = (account("jane@example.com"), account("other@example.com"));
        assert_eq!(create(&store, &jane).await, Ok(true));
        assert_eq!(find(&store, &jane.email).await, Ok(Some(jane.clone())));
        assert_eq!(find(&store, &other.email).await, Ok(None));
        assert_eq!(by_id(&store, jane.id).await, Ok(Some(jane)));
        assert_eq!(by_id(&store, other.id).await, Ok(None));
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
                let store = store.clone();
                tokio::spawn(async move { create(&store, &account("a@b.com")).await })
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
        create(&store, &jane).await.unwrap();
        let new = PasswordHash::stored(ARGON2ID.to_owned());
        for (before, after, replaced) in [
            ("another", &new, false),
            ("hash of jane@example.com", &new, true),
            ("hash of jane@example.com", &jane.password_hash, false),
        ] {
            let before = PasswordHash::stored(before.to_owned());
            let done = write_one!(store, |unit| {
                accounts::replace_password_hash(unit, jane.id, &before, after).await
            });
            assert_eq!(done.await, Ok(replaced), "{engine:?}");
        }
        let stored = find(&store, &jane.email).await.unwrap().unwrap();
        assert_eq!(stored.password_hash, new);
        assert_eq!(hash_schemes(&store).await, Ok(vec!["argon2id:64,1,1".to_owned()]));
    }
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_email_free() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let jane = account("jane@example.com");
        create(&store, &jane).await.unwrap();
        assert_eq!(delete(&store, jane.id).await, Ok(true));
        assert_eq!(delete(&store, jane.id).await, Ok(false));
        assert_eq!(by_id(&store, jane.id).await, Ok(None));
        assert_eq!(create(&store, &account("jane@example.com")).await, Ok(true));
    }
}

#[tokio::test]
async fn the_schemes_in_use_are_named_once_each() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        assert_eq!(hash_schemes(&store).await, Ok(vec![]));
        let none = PasswordHash::none().as_str().to_owned();
        let hashes = [BCRYPT, ARGON2ID, &none, ARGON2ID, BCRYPT, ARGON2ID];
        for (number, hash) in hashes.into_iter().enumerate() {
            let mut record = account(&format!("p{number}@example.com"));
            record.password_hash = PasswordHash::stored(hash.to_owned());
            create(&store, &record).await.unwrap();
        }
        let schemes = hash_schemes(&store).await.unwrap();
        assert_eq!(schemes, ["argon2id:64,1,1", "bcrypt:12", "none"], "{engine:?}");
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
                let store = store.clone();
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

#[tokio::test]
async fn what_a_transaction_writes_is_there_as_a_whole_or_not_at_all() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let (jane, other) = (account("jane@example.com"), account("other@example.com"));
        let failed: Result<(), _> = transaction!(store, |unit| {
            accounts::insert(unit, &jane).await?;
            Err(sql_kit::SqlError::RowNotFound)
        })
        .await;
        assert_eq!(failed, Err(StoreError::Internal));
        let abandoned = transaction!(store, |unit| {
            accounts::insert(unit, &jane).await?;
            unit.abandon();
            Ok(())
        });
        assert_eq!(abandoned.await, Ok(()));
        assert_eq!(by_id(&store, jane.id).await, Ok(None), "{engine:?}");
        let done = transaction!(store, |unit| {
            accounts::insert(unit, &jane).await?;
            accounts::insert(unit, &other).await?;
            accounts::raise_generation(unit, jane.id).await
        });
        assert_eq!(done.await, Ok(Some(1)));
        assert_eq!(by_id(&store, jane.id).await.unwrap().unwrap().generation, 1);
        assert_eq!(by_id(&store, other.id).await, Ok(Some(other)), "{engine:?}");
    }
}
