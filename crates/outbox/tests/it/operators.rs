//! The commands of operators.

use chrono::TimeDelta;
use outbox::{
    Outcome,
    command::{CommandError, command, run as run_command},
};
use test_kit::Engine;
use uuid::Uuid;

use crate::support::{Box, Receiver, eventually, fresh, on_both_engines, run};

on_both_engines!(
    entries_are_listed_the_oldest_first,
    all_or_some_are_made_due,
    some_or_all_are_discarded,
);

async fn call(here: &Box, arguments: &[&str]) -> Result<(), CommandError> {
    let line = [&["outbox"], arguments].concat();
    run_command(&here.outbox, &command("outbox", "").try_get_matches_from(line).unwrap()).await
}

/// Three entries whose next attempt is far away.
async fn three(here: &Box) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for payload in ["a", "b", "c"] {
        ids.push(here.add(payload).await);
    }
    let receiver = Receiver::new(|_| {
        Outcome::Retry(outbox::Retry {
            reason: "away".to_owned(),
            at_least: std::time::Duration::from_secs(3600),
            at_most: None,
        })
    });
    let task = run(&here.worker(&receiver));
    eventually("all have failed", async || {
        here.outbox.list(9).await.unwrap().iter().all(|entry| entry.last_error.is_some())
    })
    .await;
    task.abort();
    ids
}

async fn due(here: &Box) -> Vec<Uuid> {
    let soon = here.sql.clock().now() + TimeDelta::seconds(5);
    let entries = here.outbox.list(9).await.unwrap();
    entries.into_iter().filter(|entry| entry.due_at <= soon).map(|entry| entry.id).collect()
}

async fn entries_are_listed_the_oldest_first(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let ids = three(&here).await;
    let listed = here.outbox.list(2).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!(listed[0].attempts, 1);
    for arguments in [&["list"][..], &["list", "--json", "--limit", "1"]] {
        call(&here, arguments).await.unwrap();
    }
    assert!(command("outbox", "").try_get_matches_from(["outbox", "list", "x"]).is_err());
}

async fn all_or_some_are_made_due(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let ids = three(&here).await;
    assert!(due(&here).await.is_empty());
    call(&here, &["retry", &ids[1].to_string()]).await.unwrap();
    assert_eq!(due(&here).await, [ids[1]]);
    call(&here, &["retry"]).await.unwrap();
    assert_eq!(due(&here).await, ids);
    let unknown = call(&here, &["retry", &Uuid::nil().to_string()]).await.unwrap_err();
    assert!(matches!(unknown, CommandError::Unknown(_)));
}

async fn some_or_all_are_discarded(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let ids = three(&here).await;
    // To discard everything has to be asked for.
    for wrong in [&["discard"][..], &["discard", "x"], &["discard", "--all", &ids[0].to_string()]] {
        let line = [&["outbox"], wrong].concat();
        assert!(command("outbox", "").try_get_matches_from(line).is_err(), "{wrong:?}");
    }
    let unknown = Uuid::nil().to_string();
    let refused = call(&here, &["discard", &ids[0].to_string(), &unknown]).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("not in the outbox: {unknown}"));
    let left: Vec<_> = here.outbox.list(9).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(left, ids[1..]);
    call(&here, &["discard", "--all"]).await.unwrap();
    assert_eq!(here.depth().await, 0);
}
