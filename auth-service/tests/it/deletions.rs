//! The list of deleted accounts.

use std::time::Duration;

use auth_service::{
    domain::{AccountId, Email},
    password::PasswordHash,
    store::{AccountRecord, Store, accounts, deletions},
};
use chrono::TimeDelta;
use latchkey_contracts::auth::v1::{
    ListDeletedAccountsRequest, ListDeletedAccountsResponse,
    account_service_client::AccountServiceClient,
};
use sql_kit::{read, transaction, write_one};
use test_kit::{ENGINES, Engine, TestDatabase, channel};
use tonic::{Code, Request, Status};

use crate::support::{Running, SERVICE_TOKEN};

async fn ask(
    service: &Running,
    cursor: &str,
    page_size: i32,
) -> Result<ListDeletedAccountsResponse, Status> {
    let mut client = AccountServiceClient::new(channel(service.grpc).await);
    let message = ListDeletedAccountsRequest { cursor: cursor.to_owned(), page_size };
    let mut request = Request::new(message);
    let token = format!("Bearer {SERVICE_TOKEN}").parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    Ok(client.list_deleted_accounts(request).await?.into_inner())
}

#[tokio::test]
async fn deletions_are_listed_in_their_order_and_once_for_each_cursor() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        let empty = ask(&service, "", 0).await.unwrap();
        assert!(empty.ids.is_empty() && !empty.more && !empty.reset);
        // To have nothing yet is a place too.
        assert_eq!(ask(&service, &empty.next_cursor, 0).await.unwrap(), empty);

        let mut ids = Vec::new();
        for number in 0..5 {
            let id = service.register(&format!("a{number}@example.com")).await;
            service.delete_account(&id).await;
            ids.push(id);
        }
        // What does not exist, or no longer does, is not deleted again.
        service.delete_account(&ids[0]).await;
        service.delete_account(&AccountId::generate().to_string()).await;

        let (mut cursor, mut seen) = (empty.next_cursor, Vec::new());
        loop {
            let page = ask(&service, &cursor, 2).await.unwrap();
            assert!(!page.reset && page.ids.len() <= 2);
            seen.extend(page.ids);
            cursor = page.next_cursor;
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, ids, "{engine:?}");
        assert_eq!(ask(&service, &cursor, 0).await.unwrap().ids, [""; 0]);
        assert_eq!(ask(&service, "", 0).await.unwrap().ids, ids);
        assert_eq!(ask(&service, "", 1001).await.unwrap().ids, ids);
        assert_eq!(ask(&service, "", -1).await.unwrap_err().code(), Code::InvalidArgument);
        // A cursor outlives a restart.
        let service = Running::start_on(service.stop().await, &[]).await;
        let page = ask(&service, &cursor, 0).await.unwrap();
        assert!(page.ids.is_empty() && !page.reset && page.next_cursor == cursor);
    }
}

#[tokio::test]
async fn a_cursor_that_is_unknown_begins_anew_and_says_so() {
    let (service, other) =
        (Running::start(Engine::Sqlite).await, Running::start(Engine::Sqlite).await);
    let mut ids = Vec::new();
    for running in [&service, &other] {
        let id = running.register("a@example.com").await;
        running.delete_account(&id).await;
        ids.push(id);
    }
    let of_other = ask(&other, "", 0).await.unwrap().next_cursor;
    for cursor in [of_other.as_str(), "x", "\u{e9}", &"A".repeat(1000)] {
        let page = ask(&service, cursor, 0).await.unwrap();
        assert!(page.reset, "{cursor}");
        assert_eq!(page.ids, ids[..1]);
        assert!(!ask(&service, &page.next_cursor, 0).await.unwrap().reset);
    }
}

#[tokio::test]
async fn the_list_is_for_services_alone() {
    let service = Running::start(Engine::Sqlite).await;
    let mut client = AccountServiceClient::new(channel(service.grpc).await);
    let refused = client.list_deleted_accounts(ListDeletedAccountsRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
}

async fn migrated(engine: Engine) -> (TestDatabase, Store) {
    let database = TestDatabase::create(engine).await;
    let store = Store::open(&database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
    store.migrate().await.unwrap();
    (database, store)
}

async fn add(store: &Store, name: usize) -> AccountId {
    let account = AccountRecord {
        id: AccountId::generate(),
        email: Email::parse(&format!("a{name}@example.com")).unwrap(),
        password_hash: PasswordHash::stored("hash".to_owned()),
        created_at: store.now(),
        generation: 0,
        disabled: false,
        email_verified: false,
    };
    assert!(write_one!(store, |unit| accounts::insert(unit, &account).await).await.unwrap());
    account.id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_committed_late_is_not_skipped() {
    for engine in ENGINES {
        let (_database, store) = migrated(engine).await;
        let mut ids = Vec::new();
        for name in 0..24 {
            ids.push(add(&store, name).await);
        }
        let deleting: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let (store, id) = (store.clone(), *id);
                tokio::spawn(async move {
                    let deleted = transaction!(store, |unit| {
                        let deleted = accounts::delete(unit, id).await?;
                        // Whoever comes first commits late.
                        let pause = if index % 3 == 0 { 20 } else { 0 };
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        Ok(deleted)
                    });
                    assert!(deleted.await.unwrap());
                })
            })
            .collect();
        // Somebody follows the list meanwhile.
        let (mut position, mut seen) = (0, Vec::new());
        while seen.len() < ids.len() {
            let new = read!(store, |unit| deletions::after(unit, position, 3).await).await.unwrap();
            for record in new {
                assert!(record.position > position);
                position = record.position;
                seen.push(record.account);
            }
            if deleting.iter().all(tokio::task::JoinHandle::is_finished) && seen.len() < ids.len() {
                let left = read!(store, |unit| deletions::after(unit, position, 99).await).await;
                seen.extend(left.unwrap().into_iter().map(|record| record.account));
                break;
            }
        }
        let by_text = |id: &AccountId| id.to_string();
        seen.sort_by_key(by_text);
        ids.sort_by_key(by_text);
        assert_eq!(seen, ids, "{engine:?}");
    }
}

#[tokio::test]
async fn what_is_rolled_back_is_not_listed() {
    for engine in ENGINES {
        let (_database, store) = migrated(engine).await;
        let id = add(&store, 0).await;
        let abandoned = transaction!(store, |unit| {
            unit.abandon();
            accounts::delete(unit, id).await
        });
        assert!(abandoned.await.unwrap());
        let listed = read!(store, |unit| deletions::after(unit, 0, 9).await).await.unwrap();
        assert_eq!(listed, [], "{engine:?}");
    }
}

#[tokio::test]
async fn old_deletions_go_but_for_the_newest() {
    for engine in ENGINES {
        let (_database, store) = migrated(engine).await;
        for name in 0..4 {
            let id = add(&store, name).await;
            transaction!(store, |unit| accounts::delete(unit, id).await).await.unwrap();
        }
        let all = read!(store, |unit| deletions::after(unit, 0, 9).await).await.unwrap();
        let prune = async |before| {
            assert!(!write_one!(store, |unit| deletions::prune(unit, before).await).await.unwrap());
            read!(store, |unit| deletions::after(unit, 0, 9).await).await.unwrap()
        };
        assert_eq!(prune(store.now() - TimeDelta::hours(1)).await, all, "{engine:?}");
        let left = prune(store.now() + TimeDelta::hours(1)).await;
        // Who has read all still stands somewhere, and positions go on from there.
        assert_eq!(left, all[3..], "{engine:?}");
        let known = |position, nonce: Vec<u8>| {
            let store = store.clone();
            async move {
                read!(store, |unit| deletions::is_known(unit, position, &nonce).await)
                    .await
                    .unwrap()
            }
        };
        assert!(known(4, all[3].nonce.clone()).await);
        assert!(!known(1, all[0].nonce.clone()).await && !known(4, all[0].nonce.clone()).await);
        let id = add(&store, 9).await;
        transaction!(store, |unit| accounts::delete(unit, id).await).await.unwrap();
        let newest = read!(store, |unit| deletions::after(unit, 4, 9).await).await.unwrap();
        assert_eq!((newest[0].position, newest[0].account), (5, id));
    }
}
