//! The table: transactions, order, anonymity, age and size.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use auth_service::{
    domain::AccountId,
    events::{Actor, Cause, Event, SessionEnd},
    store::Store,
};
use chrono::TimeDelta;
use outbox::Origin;
use sql_kit::{transaction, write_one};
use test_kit::{ENGINES, Engine, TestDatabase};
use uuid::Uuid;

use super::{after, all, connect, names};

fn origin() -> Origin {
    Origin { request_id: "request-1".to_owned(), traceparent: String::new() }
}

fn cause(origin: &Origin) -> Cause<'_> {
    let network = service_kit::client_address::Network::of("192.0.2.7".parse().unwrap());
    Cause { actor: Actor::Account, network: Some(network), origin }
}

async fn record(store: &Store, event: Event, account: Option<AccountId>) {
    let origin = origin();
    let done =
        transaction!(store, |unit| store.record(unit, &event, account, &cause(&origin)).await);
    done.await.unwrap();
}

#[tokio::test]
async fn an_event_is_there_only_if_its_transaction_commits() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let (origin, account) = (origin(), AccountId::generate());
        let abandoned = transaction!(store, |unit| {
            store.record(unit, &Event::PasswordReset, Some(account), &cause(&origin)).await?;
            unit.abandon();
            Ok(())
        });
        abandoned.await.unwrap();
        let failed = transaction!(store, |unit| {
            store.record(unit, &Event::EmailChanged, Some(account), &cause(&origin)).await?;
            Err::<(), _>(sql_kit::SqlError::RowNotFound)
        });
        failed.await.unwrap_err();
        record(&store, Event::PasswordChanged, Some(account)).await;

        let events = all(&store).await;
        assert_eq!(names(&events), ["password.changed"], "{engine:?}");
        let event = &events[0];
        assert_eq!(event.account, Some(account));
        assert_eq!(event.actor, "account");
        assert_eq!(event.network.as_deref(), Some("192.0.2.7"));
        assert_eq!(event.request_id.as_deref(), Some("request-1"));
        assert!(event.data.is_empty());
        assert!((event.occurred_at - store.now()).abs() < TimeDelta::seconds(60));
        // There is no receiver, so nothing waits for one.
        let waiting = write_one!(store, |unit| unit.execute("DELETE FROM webhooks", &[]).await);
        assert_eq!(waiting.await, Ok(0));
    }
}

/// Transactions that write events commit in any order; a reader that goes on from where it was sees each
/// event once all the same.
#[tokio::test]
async fn a_reader_passes_over_no_event_however_transactions_end() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let reader = {
            let (store, ended) = (store.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                let (mut position, mut seen) = (0, Vec::new());
                loop {
                    let is_last = ended.load(Relaxed);
                    for event in after(&store, position).await {
                        assert!(event.position > position);
                        position = event.position;
                        seen.push(event.data["session"].as_str().unwrap().to_owned());
                    }
                    if is_last {
                        return seen;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        };
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.push(tokio::spawn(async move {
                let mut written = Vec::new();
                for number in 0..EACH {
                    let session = Uuid::new_v4();
                    let event = Event::SessionBegun { session };
                    let origin = origin();
                    // Some take longer, and some are given up.
                    let pause = Duration::from_millis((writer * 7 + number * 3) % 11);
                    let is_abandoned = number % 5 == writer % 5;
                    let done = transaction!(store, |unit| {
                        store.record(unit, &event, None, &cause(&origin)).await?;
                        tokio::time::sleep(pause).await;
                        if is_abandoned {
                            unit.abandon();
                        }
                        Ok(())
                    });
                    done.await.unwrap();
                    if !is_abandoned {
                        written.push(session.to_string());
                    }
                }
                written
            }));
        }
        let mut written = Vec::new();
        for writer in writers {
            written.extend(writer.await.unwrap());
        }
        ended.store(true, Relaxed);
        let mut seen = reader.await.unwrap();
        written.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, written, "{engine:?}");
    }
}

/// Nobody waits for a transaction that has written an event and does not end.
#[tokio::test]
async fn a_transaction_that_stands_still_holds_up_no_other_and_hides_what_comes_after() {
    let database = TestDatabase::create(Engine::Postgres).await;
    let store = connect(&database);
    store.migrate().await.unwrap();
    record(&store, Event::AccountCreated, None).await;
    let (origin, other) = (origin(), store.clone());
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (end, may_end) = tokio::sync::oneshot::channel::<()>();
    let (begun, may_end) = (std::sync::Mutex::new(Some(begun)), tokio::sync::Mutex::new(may_end));
    let slow = tokio::spawn(async move {
        transaction!(other, |unit| {
            other.record(unit, &Event::AccountDisabled, None, &cause(&origin)).await?;
            if let Some(begun) = begun.lock().unwrap().take() {
                begun.send(()).unwrap();
            }
            let _ = (&mut *may_end.lock().await).await;
            Ok(())
        })
        .await
    });
    has_begun.await.unwrap();
    record(&store, Event::AccountEnabled, None).await;
    assert_eq!(names(&all(&store).await), ["account.created"]);
    end.send(()).unwrap();
    slow.await.unwrap().unwrap();
    let events = all(&store).await;
    assert_eq!(names(&events), ["account.created", "account.disabled", "account.enabled"]);
}

#[tokio::test]
async fn a_deletion_makes_the_events_of_its_account_anonymous_and_no_others() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database).with_webhooks();
        store.migrate().await.unwrap();
        let (account, other) = (AccountId::generate(), AccountId::generate());
        let session = Uuid::new_v4();
        for account in [account, other] {
            record(&store, Event::SessionBegun { session }, Some(account)).await;
            let ended = Event::SessionEnded { session, by: SessionEnd::Owner };
            record(&store, ended, Some(account)).await;
        }
        store.prepare_to_erase_events(account).await.unwrap();
        let origin = origin();
        let erased =
            transaction!(store, |unit| store.erase_events(unit, account, &cause(&origin)).await);
        erased.await.unwrap();

        let events = all(&store).await;
        assert_eq!(events.len(), 5);
        for event in &events {
            if event.account == Some(other) {
                assert!(event.network.is_some() && event.data.contains_key("session"));
                continue;
            }
            assert_eq!((event.account, &event.network, &event.request_id), (None, &None, &None));
            assert!(event.data.is_empty() && event.actor == "account", "{engine:?} {event:?}");
        }
        let anonymous: Vec<_> = events.iter().filter(|event| event.account.is_none()).collect();
        assert_eq!(anonymous.len(), 3);
        assert_eq!(anonymous[2].name, "account.deleted");

        // What waits to be told is as anonymous, but that the account is gone is told with its id.
        let waiting = store.webhooks().unwrap().list(100).await.unwrap();
        assert_eq!(waiting.len(), 5);
        for entry in waiting {
            let told: serde_json::Value = serde_json::from_slice(&entry.payload).unwrap();
            let data = &told["data"];
            if entry.order_key.as_deref() == Some(&*other.to_string()) {
                assert_eq!(data["account"], other.to_string());
                continue;
            }
            let is_deletion = told["type"] == "account.deleted";
            let named = is_deletion.then(|| account.to_string());
            assert_eq!(data["account"], serde_json::json!(named), "{engine:?}");
            assert!(data["network"].is_null() && data["request_id"].is_null());
            assert!(data.get("session").is_none() && told["timestamp"].is_string());
            assert_eq!(data["actor"], "account");
            assert_eq!(entry.origin.request_id.is_empty(), !is_deletion);
        }
    }
}

#[tokio::test]
async fn an_account_with_very_many_events_is_made_anonymous_all_the_same() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let account = AccountId::generate();
        fill(&store, engine, account, 25_000).await;
        store.prepare_to_erase_events(account).await.unwrap();
        let named = all(&store).await.iter().filter(|event| event.account.is_some()).count();
        assert_eq!(named, 10_000, "{engine:?}");
        assert_eq!(all(&store).await.len(), 25_000);
    }
}

/// Adds events by another program, as a migration of the data does.
async fn fill(store: &Store, engine: Engine, account: AccountId, number: i64) {
    let text = match engine {
        Engine::Postgres => {
            "INSERT INTO events (position, id, type, occurred_at, actor, account_id, network, data)
             SELECT n, gen_random_uuid(), 'login.new_network',
                    $3 + n * interval '1 second', 'account', $1, '192.0.2.1', '{}'
             FROM generate_series(1, $2) AS n"
        }
        Engine::Sqlite => {
            "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < $2)
             INSERT INTO events (position, id, type, occurred_at, actor, account_id, network, data)
             SELECT n, randomblob(16), 'login.new_network', $3 + n * 1000000, 'account', $1,
                    '192.0.2.1', '{}' FROM series"
        }
    };
    let begin = store.now() - TimeDelta::seconds(number);
    let filled = write_one!(store, |unit| {
        unit.execute(text, sql_kit::values![account.0, number, begin]).await
    });
    filled.await.unwrap();
    store.align_positions().await.unwrap();
}

#[tokio::test]
async fn positions_go_on_after_those_that_another_program_has_written() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        fill(&store, engine, AccountId::generate(), 100).await;
        for _ in 0..2 {
            // Whoever aligns again changes nothing.
            store.align_positions().await.unwrap();
            record(&store, Event::AccountCreated, None).await;
        }
        let positions: Vec<_> = after(&store, 100).await.iter().map(|e| e.position).collect();
        assert_eq!(positions, [101, 102], "{engine:?}");
    }
}

#[tokio::test]
async fn old_and_surplus_events_go_and_the_newest_stays() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        // One each second, the last one now.
        fill(&store, engine, AccountId::generate(), 25_000).await;
        let now = store.now();
        let left = async || all(&store).await.iter().map(|e| e.position).collect::<Vec<_>>();

        let none = store.prune_events(now - TimeDelta::seconds(30_000), 0).await;
        assert_eq!(none, Ok(0), "{engine:?}");
        let by_age = store.prune_events(now - TimeDelta::seconds(2_000), 0).await.unwrap();
        assert!((22_900..=23_000).contains(&by_age), "{engine:?}: {by_age}");
        let by_number = store.prune_events(now - TimeDelta::seconds(2_000), 500).await.unwrap();
        assert!(by_number >= 1_400, "{engine:?}: {by_number}");
        assert_eq!(left().await, (24_501..=25_000).collect::<Vec<_>>(), "{engine:?}");
        store.prune_events(now + TimeDelta::days(1), 1).await.unwrap();
        assert_eq!(left().await, [25_000], "{engine:?}");
    }
}
