//! An outbox on a fresh database, and a receiver that does as it is told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox::{
    Backlog, Backoff, Deliver, Entry, NewEntry, Origin, Outbox, Outcome, Settings, Worker,
};
use service_kit::metrics::Metrics;
use sql_kit::{Migrations, Sql, migrator};
use test_kit::{Engine, TestDatabase};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) static TABLE: outbox::Table = outbox::table!(
    table: "outbox", id: "id", metrics: "test.outbox", event: "letter", what: "letters"
);

pub(crate) const SETTINGS: Settings = Settings {
    concurrency: 4,
    delivery_timeout: Duration::from_secs(2),
    poll_interval: Duration::from_millis(50),
    backoff: Backoff { first: Duration::from_millis(20), most: Duration::from_millis(100) },
};

/// Makes a test on each engine of each function named.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(test_kit::Engine::Sqlite).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(test_kit::Engine::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;

pub(crate) struct Box {
    pub(crate) sql: Sql,
    pub(crate) outbox: Outbox,
}

/// Opens the outbox of `database` as a replica of its own does.
pub(crate) async fn open(database: &TestDatabase) -> Box {
    let sql = Sql::open(&database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
    let migrations = Migrations {
        postgres: migrator(&[(1, "outbox", include_str!("../../src/table.postgres.sql"))]),
        sqlite: migrator(&[(1, "outbox", include_str!("../../src/table.sqlite.sql"))]),
    };
    sql.migrate(&migrations).await.unwrap();
    Box { outbox: Outbox::new(sql.clone(), &TABLE), sql }
}

pub(crate) async fn fresh(engine: Engine) -> (Box, TestDatabase) {
    let database = TestDatabase::create(engine).await;
    (open(&database).await, database)
}

impl Box {
    pub(crate) async fn add(&self, payload: &str) -> Uuid {
        self.add_with(payload, None, None).await
    }

    pub(crate) async fn add_with(
        &self,
        payload: &str,
        order_key: Option<&str>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Uuid {
        let id = Uuid::now_v7();
        let origin = Origin { request_id: "request-1".to_owned(), traceparent: String::new() };
        let payload = payload.as_bytes();
        let entry = NewEntry { id, order_key, payload, origin: &origin, expires_at };
        let added =
            sql_kit::transaction!(self.sql, |unit| self.outbox.add(unit, &entry).await).await;
        assert!(added.unwrap());
        self.outbox.wake();
        id
    }

    pub(crate) async fn depth(&self) -> i64 {
        self.outbox.backlog().await.unwrap().0
    }

    pub(crate) fn worker(&self, receiver: &Receiver) -> Arc<Worker<Receiver>> {
        self.worker_with(receiver, SETTINGS)
    }

    pub(crate) fn worker_with(
        &self,
        receiver: &Receiver,
        settings: Settings,
    ) -> Arc<Worker<Receiver>> {
        let backlog = Backlog::new(self.outbox.clone(), &Metrics::default());
        Arc::new(Worker::new(self.outbox.clone(), backlog, settings, receiver.clone()))
    }
}

/// Runs a worker until it is aborted.
pub(crate) fn run(worker: &Arc<Worker<Receiver>>) -> JoinHandle<()> {
    let worker = Arc::clone(worker);
    tokio::spawn(async move { worker.run().await })
}

type Answers = dyn Fn(&Entry) -> Outcome + Send + Sync;

/// Notes what it is given, and answers as it is told after a while.
#[derive(Clone)]
pub(crate) struct Receiver {
    answers: Arc<Answers>,
    takes: Duration,
    got: Arc<Mutex<Vec<String>>>,
    present: Arc<AtomicUsize>,
    pub(crate) most: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) fn new(answers: impl Fn(&Entry) -> Outcome + Send + Sync + 'static) -> Self {
        Self {
            answers: Arc::new(answers),
            takes: Duration::ZERO,
            got: Arc::default(),
            present: Arc::default(),
            most: Arc::default(),
        }
    }

    pub(crate) fn willing() -> Self {
        Self::new(|_| Outcome::Delivered)
    }

    pub(crate) fn slow(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    pub(crate) fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }
}

impl Deliver for Receiver {
    async fn deliver(&self, entry: &Entry) -> Outcome {
        self.got.lock().unwrap().push(String::from_utf8(entry.payload.clone()).unwrap());
        let present = self.present.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(present, SeqCst);
        tokio::time::sleep(self.takes).await;
        self.present.fetch_sub(1, SeqCst);
        (self.answers)(entry)
    }
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not in 15 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Long enough for several looks of a worker.
pub(crate) async fn a_while() {
    tokio::time::sleep(SETTINGS.poll_interval * 8).await;
}
