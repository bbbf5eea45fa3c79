//! What a worker does with entries.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use outbox::{Backlog, Backoff, NewEntry, Origin, Outcome, Retry, Settings};
use service_kit::metrics::Metrics;
use sql_kit::values;
use test_kit::Engine;
use uuid::Uuid;

use crate::support::{Receiver, SETTINGS, a_while, eventually, fresh, on_both_engines, open, run};

on_both_engines!(
    an_entry_is_delivered_once_and_goes,
    what_is_rolled_back_is_not_delivered,
    an_id_is_added_once,
    replicas_share_the_work,
    no_more_than_the_slots_are_under_way,
    a_slow_delivery_holds_nobody_up,
    a_failed_attempt_is_repeated_later,
    a_receiver_may_say_when,
    an_attempt_ends_in_time,
    what_can_never_arrive_is_discarded,
    a_lease_ends_with_its_worker,
    a_lease_ends_soon_however_long_an_attempt_may_take,
    a_lease_is_renewed_while_the_attempt_goes_on,
    a_stopped_worker_gives_back_what_it_held,
    a_late_failure_does_not_touch_the_next_lease,
    entries_of_one_key_keep_their_order,
    what_has_expired_goes_undelivered,
    metrics_do_not_show_what_is_not_known,
);

async fn an_entry_is_delivered_once_and_goes(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let receiver = Receiver::willing();
    let rare = Settings { poll_interval: Duration::from_secs(60), ..SETTINGS };
    let _run = run(&here.worker_with(&receiver, rare));
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The worker is woken: it does not look by itself for a minute.
    here.add("one").await;
    eventually("it is gone", async || here.depth().await == 0).await;
    a_while().await;
    assert_eq!(receiver.got(), ["one"]);
}

async fn what_is_rolled_back_is_not_delivered(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let origin = Origin { request_id: String::new(), traceparent: String::new() };
    let id = Uuid::now_v7();
    let entry = NewEntry { id, order_key: None, payload: b"", origin: &origin, expires_at: None };
    let abandoned = sql_kit::transaction!(here.sql, |unit| {
        unit.abandon();
        here.outbox.add(unit, &entry).await
    });
    assert!(abandoned.await.unwrap());
    assert_eq!(here.depth().await, 0);
}

async fn an_id_is_added_once(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let id = here.add("one").await;
    let origin = Origin { request_id: String::new(), traceparent: String::new() };
    let entry =
        NewEntry { id, order_key: None, payload: b"two", origin: &origin, expires_at: None };
    assert!(
        !sql_kit::transaction!(here.sql, |unit| here.outbox.add(unit, &entry).await).await.unwrap()
    );
    assert_eq!(here.outbox.list(9).await.unwrap()[0].payload, b"one");
}

async fn replicas_share_the_work(engine: Engine) {
    let (here, database) = fresh(engine).await;
    let there = open(&database).await;
    let receiver = Receiver::willing().slow(Duration::from_millis(5));
    let mut all: Vec<String> = (0..60).map(|number| format!("{number:02}")).collect();
    for payload in &all {
        here.add(payload).await;
    }
    let _runs = [run(&here.worker(&receiver)), run(&there.worker(&receiver))];
    eventually("all are gone", async || here.depth().await == 0).await;
    let mut got = receiver.got();
    got.sort();
    all.sort();
    assert_eq!(got, all);
}

async fn no_more_than_the_slots_are_under_way(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let receiver = Receiver::willing().slow(Duration::from_millis(30));
    for _ in 0..24 {
        here.add("one").await;
    }
    let _run = run(&here.worker(&receiver));
    eventually("all are gone", async || here.depth().await == 0).await;
    assert_eq!(receiver.most.load(SeqCst), 4);
}

async fn a_slow_delivery_holds_nobody_up(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let receiver = Receiver::willing().slow(Duration::from_millis(1500));
    let _run = run(&here.worker(&receiver));
    here.add("first").await;
    eventually("the first is under way", async || receiver.got().len() == 1).await;
    let started = Instant::now();
    here.add("second").await;
    eventually("the second is under way", async || receiver.got().len() == 2).await;
    assert!(started.elapsed() < Duration::from_millis(1000), "{:?}", started.elapsed());
}

async fn a_failed_attempt_is_repeated_later(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let receiver = Receiver::new(|entry| match entry.attempts {
        1..=3 => Outcome::retry(format!("refused {}", entry.attempts)),
        _ => Outcome::Delivered,
    });
    let worker = here.worker(&receiver);
    here.add("one").await;
    let _run = run(&worker);
    eventually("a reason is kept", async || {
        here.outbox.list(1).await.unwrap().first().is_some_and(|entry| {
            entry.last_error.as_deref() == Some("refused 2") && entry.leased_until.is_none()
        })
    })
    .await;
    eventually("it is gone", async || here.depth().await == 0).await;
    assert_eq!(receiver.got().len(), 4);
}

async fn a_receiver_may_say_when(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let receiver = Receiver::new(|_| {
        Outcome::Retry(Retry {
            reason: "busy".to_owned(),
            at_least: Duration::from_secs(3600),
            at_most: None,
        })
    });
    here.add("one").await;
    let _run = run(&here.worker(&receiver));
    eventually("it waits", async || {
        let entry = here.outbox.list(1).await.unwrap().remove(0);
        entry.due_at - entry.created_at >= TimeDelta::seconds(3600)
    })
    .await;
    a_while().await;
    assert_eq!(receiver.got().len(), 1);
}

async fn an_attempt_ends_in_time(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let receiver = Receiver::willing().slow(Duration::from_secs(3600));
    let short = Settings { delivery_timeout: Duration::from_millis(100), ..SETTINGS };
    here.add("one").await;
    let _run = run(&here.worker_with(&receiver, short));
    eventually("it is tried again", async || receiver.got().len() >= 2).await;
    let entry = here.outbox.list(1).await.unwrap().remove(0);
    assert_eq!(entry.last_error.as_deref(), Some("no answer in time"));
}

async fn what_can_never_arrive_is_discarded(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let receiver = Receiver::new(|_| Outcome::Discard("no such address".to_owned()));
    let metrics = Metrics::default();
    let backlog = Backlog::new(here.outbox.clone(), &metrics);
    let worker = outbox::Worker::new(here.outbox.clone(), backlog, SETTINGS, receiver.clone());
    here.add("one").await;
    let _run = run(&Arc::new(worker));
    eventually("it is gone", async || here.depth().await == 0).await;
    assert_eq!(receiver.got().len(), 1);
    let text = metrics.render();
    assert!(text.contains("test_outbox_attempts_total{outcome=\"discarded\"} 1"), "{text}");
    assert!(text.contains("test_outbox_attempts_total{outcome=\"delivered\"} 0"), "{text}");
}

async fn a_lease_ends_with_its_worker(engine: Engine) {
    let (here, database) = fresh(engine).await;
    let dead = Receiver::willing().slow(Duration::from_secs(3600));
    here.add("one").await;
    let killed = run(&here.worker(&dead));
    eventually("it is taken", async || dead.got().len() == 1).await;
    killed.abort();

    let there = open(&database).await;
    let alive = Receiver::willing();
    let _run = run(&there.worker(&alive));
    // A start, and a hand on the outbox, leave the leases of others alone.
    there.outbox.retry_all().await.unwrap();
    a_while().await;
    assert_eq!(alive.got().len(), 0);
    there.sql.clock().advance(TimeDelta::seconds(8));
    eventually("it is delivered", async || here.depth().await == 0).await;
    assert_eq!(alive.got(), ["one"]);
}

async fn a_lease_ends_soon_however_long_an_attempt_may_take(engine: Engine) {
    let (here, database) = fresh(engine).await;
    let dead = Receiver::willing().slow(Duration::from_secs(3600));
    let patient = Settings { delivery_timeout: Duration::from_secs(60), ..SETTINGS };
    here.add("one").await;
    let killed = run(&here.worker_with(&dead, patient));
    eventually("it is taken", async || dead.got().len() == 1).await;
    killed.abort();

    let there = open(&database).await;
    let alive = Receiver::willing();
    let started = Instant::now();
    let _run = run(&there.worker_with(&alive, patient));
    eventually("it is delivered", async || here.depth().await == 0).await;
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
}

async fn a_lease_is_renewed_while_the_attempt_goes_on(engine: Engine) {
    let (here, database) = fresh(engine).await;
    let slow = Receiver::willing().slow(Duration::from_secs(6));
    let patient = Settings { delivery_timeout: Duration::from_secs(60), ..SETTINGS };
    here.add("one").await;
    let _run = run(&here.worker_with(&slow, patient));
    eventually("it is taken", async || slow.got().len() == 1).await;

    let there = open(&database).await;
    let other = Receiver::willing();
    let _other = run(&there.worker(&other));
    eventually("it is gone", async || here.depth().await == 0).await;
    assert_eq!((slow.got().len(), other.got().len()), (1, 0));
}

async fn a_stopped_worker_gives_back_what_it_held(engine: Engine) {
    let (here, database) = fresh(engine).await;
    let stopped = Receiver::willing().slow(Duration::from_secs(3600));
    here.add("one").await;
    let worker = here.worker(&stopped);
    let task = run(&worker);
    eventually("it is taken", async || stopped.got().len() == 1).await;
    task.abort();
    let _ = task.await;
    worker.release().await;

    let there = open(&database).await;
    let alive = Receiver::willing();
    let _run = run(&there.worker(&alive));
    eventually("it is delivered", async || here.depth().await == 0).await;
    assert_eq!(alive.got(), ["one"]);
}

async fn a_late_failure_does_not_touch_the_next_lease(engine: Engine) {
    let (here, database) = fresh(engine).await;
    let late = Receiver::new(|_| Outcome::retry("too late")).slow(Duration::from_millis(600));
    here.add("one").await;
    let _late = run(&here.worker(&late));
    eventually("it is taken", async || late.got().len() == 1).await;

    let there = open(&database).await;
    let present = Receiver::willing().slow(Duration::from_millis(1200));
    let _present = run(&there.worker(&present));
    a_while().await;
    there.sql.clock().advance(TimeDelta::seconds(8));
    eventually("the other one has it", async || present.got().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let entry = here.outbox.list(1).await.unwrap().remove(0);
    assert_eq!((entry.attempts, entry.last_error), (2, None));
    assert!(entry.leased_until.is_some());
    eventually("it is gone", async || here.depth().await == 0).await;
    assert_eq!((late.got().len(), present.got().len()), (1, 1));
}

async fn entries_of_one_key_keep_their_order(engine: Engine) {
    let (here, database) = fresh(engine).await;
    let there = open(&database).await;
    let delivered: Arc<Mutex<Vec<String>>> = Arc::default();
    let done = Arc::clone(&delivered);
    // Every second attempt of one key fails, and so does the first of all.
    let receiver = Receiver::new(move |entry| {
        if entry.attempts == 1 && entry.order_key.as_deref() == Some("a") {
            return Outcome::retry("not yet");
        }
        done.lock().unwrap().push(String::from_utf8(entry.payload.clone()).unwrap());
        Outcome::Delivered
    });
    for number in 0..6 {
        here.add_with(&format!("a{number}"), Some("a"), None).await;
        there.add_with(&format!("b{number}"), Some("b"), None).await;
        here.add_with(&format!("free{number}"), None, None).await;
    }
    let quick = Settings {
        backoff: Backoff { first: Duration::from_millis(1), most: Duration::from_millis(1) },
        ..SETTINGS
    };
    let _runs =
        [run(&here.worker_with(&receiver, quick)), run(&there.worker_with(&receiver, quick))];
    eventually("all are gone", async || here.depth().await == 0).await;
    let all = delivered.lock().unwrap().clone();
    assert_eq!(all.len(), 18);
    for key in ["a", "b"] {
        let of_key: Vec<_> = all.iter().filter(|payload| payload.starts_with(key)).collect();
        let expected: Vec<_> = (0..6).map(|number| format!("{key}{number}")).collect();
        assert_eq!(of_key, expected.iter().collect::<Vec<_>>());
    }
}

async fn what_has_expired_goes_undelivered(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let metrics = Metrics::default();
    let backlog = Backlog::new(here.outbox.clone(), &metrics);
    let receiver = Receiver::willing();
    let now = here.sql.clock().now();
    here.add_with("old", None, Some(now - TimeDelta::seconds(1))).await;
    let kept = here.add_with("new", None, Some(now + TimeDelta::hours(1))).await;
    backlog.look().await;
    let left = here.outbox.list(9).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.id).collect::<Vec<_>>(), [kept]);
    here.add_with("old", None, Some(now - TimeDelta::seconds(1))).await;
    let _run = run(&here.worker(&receiver));
    eventually("the new one is gone", async || here.depth().await == 1).await;
    a_while().await;
    assert_eq!(receiver.got(), ["new"]);
    let text = metrics.render();
    assert!(text.contains("test_outbox_attempts_total{outcome=\"expired\"} 1"), "{text}");
}

async fn metrics_do_not_show_what_is_not_known(engine: Engine) {
    let (here, _database) = fresh(engine).await;
    let metrics = Metrics::default();
    let backlog = Backlog::new(here.outbox.clone(), &metrics);
    assert!(!metrics.render().contains("test_outbox_depth"));
    backlog.look().await;
    assert!(metrics.render().contains("test_outbox_depth 0.0"));
    assert!(metrics.render().contains("test_outbox_age_seconds 0.0"));
    here.add("one").await;
    backlog.look().await;
    assert!(metrics.render().contains("test_outbox_depth 1.0"));
    sql_kit::write_one!(here.sql, |unit| unit.execute("DROP TABLE outbox", values![]).await)
        .await
        .unwrap();
    backlog.look().await;
    let text = metrics.render();
    assert!(!text.contains("test_outbox_depth") && !text.contains("test_outbox_age"), "{text}");
}
