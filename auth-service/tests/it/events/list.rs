//! `auth-service accounts events` as an operator runs it.

use std::process::Command;

use auth_service::{
    domain::AccountId,
    events::{Actor, Cause, Event},
    service::events,
    store::Store,
};
use outbox::Origin;
use serde_json::{Value, json};
use sql_kit::{transaction, write_one};
use test_kit::{ENGINES, TestDatabase};

use super::connect;
use crate::support::Running;

fn run(database: &TestDatabase, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(database.folder())
        .args(["accounts", "events"])
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_listed_for_an_account_by_id_or_email_and_from_a_cursor_on() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        let id = service.register("a@b.com").await;
        service.register("other@b.com").await;
        service.login("a@b.com").await;
        let database = service.stop().await;

        let (status, printed, told) = run(&database, &["--json"]);
        assert_eq!(status, 0, "{told}");
        let all = lines(&printed);
        let wanted = ["account.registered", "account.registered", "login.new_network"];
        assert_eq!(types(&all), wanted, "{engine:?}");
        let mut first = all[0].clone();
        for member in ["id", "timestamp", "request_id", "cursor"] {
            let text = first[member].take();
            assert!(text.as_str().is_some_and(|text| text.len() > 20), "{member}: {text}");
        }
        let known = json!({
            "id": null, "timestamp": null, "request_id": null, "cursor": null,
            "type": "account.registered", "account": id, "actor": "anonymous",
            "network": "127.0.0.1", "data": {"email_verified": false}
        });
        assert_eq!(first, known);
        for account in [&*id, "A@b.com"] {
            let (_, printed, _) = run(&database, &[account, "--json"]);
            let own = lines(&printed);
            assert_eq!(types(&own), ["account.registered", "login.new_network"], "{account}");
            assert_eq!(own, [all[0].clone(), all[2].clone()]);
        }
        let (_, printed, _) = run(&database, &["--json", "--limit", "1"]);
        assert_eq!(lines(&printed), all[..1]);
        let after = all[0]["cursor"].as_str().unwrap();
        let (_, printed, _) = run(&database, &["--json", &format!("--after={after}")]);
        assert_eq!(lines(&printed), all[1..]);
        let last = all[2]["cursor"].as_str().unwrap();
        assert_eq!(run(&database, &["--json", &format!("--after={last}")]).1, "");

        let (status, printed, _) = run(&database, &[&id]);
        assert_eq!(status, 0);
        let line = printed.lines().next().unwrap();
        assert!(line.contains("account.registered") && line.contains("127.0.0.1"), "{line}");
        for (arguments, wanted, said) in [
            (vec!["nobody@b.com"], 4, "there is no account with this id or email"),
            (vec!["nonsense"], 2, "must be an email, or a UUID"),
            (vec!["--after", "nonsense"], 1, "does not know the cursor"),
            (vec!["--after=-nonsense"], 1, "does not know the cursor"),
        ] {
            let (status, printed, told) = run(&database, &arguments);
            assert_eq!((status, printed.as_str()), (wanted, ""), "{told}");
            assert!(told.contains(said), "{told}");
        }
    }
}

async fn record(store: &Store, account: AccountId) {
    let origin = Origin { request_id: String::new(), traceparent: String::new() };
    let cause = Cause { actor: Actor::Operator, network: None, origin: &origin };
    let done = transaction!(store, |unit| {
        store.record(unit, &Event::AccountCreated, Some(account), &cause).await
    });
    done.await.unwrap();
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended_whatever_was_removed_meanwhile() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = connect(&database);
        store.migrate().await.unwrap();
        let (account, other) = (AccountId::generate(), AccountId::generate());
        let empty = events::list(&store, None, "", 10).await.unwrap();
        assert!(empty.events.is_empty() && !empty.more && !empty.is_behind);
        for number in 0..10 {
            record(&store, if number % 2 == 0 { account } else { other }).await;
        }
        // What was the beginning still is.
        let first = events::list(&store, None, &empty.next_cursor, 4).await.unwrap();
        assert_eq!(first.events.len(), 4);
        assert!(first.more);
        let own = events::list(&store, Some(account), &first.next_cursor, 2).await.unwrap();
        assert!(own.more);
        let rest = events::list(&store, Some(account), &own.next_cursor, 2).await.unwrap();
        assert_eq!((own.events.len(), rest.events.len(), rest.more), (2, 1, false));

        // The place of the first page is gone; what is left after it comes, and that some is missing is told.
        store.prune_events(store.now() + chrono::TimeDelta::days(1), 0).await.unwrap();
        let late = events::list(&store, None, &first.next_cursor, 100).await.unwrap();
        assert_eq!((late.events.len(), late.is_behind), (1, true), "{engine:?}");
        let current = events::list(&store, None, &late.next_cursor, 100).await.unwrap();
        assert!(current.events.is_empty() && !current.is_behind);

        // After a backup was restored, another event has the place.
        let restored = write_one!(store, |unit| {
            let text = "UPDATE events SET id = $1";
            unit.execute(text, sql_kit::values![uuid::Uuid::new_v4()]).await
        });
        restored.await.unwrap();
        let unknown = events::list(&store, None, &late.next_cursor, 100).await.unwrap_err();
        assert!(matches!(unknown, auth_service::Error::InvalidPageToken), "{engine:?}");
    }
}
