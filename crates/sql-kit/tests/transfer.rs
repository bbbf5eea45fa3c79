//! Moving a database into another one, of every engine into every engine.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{panic::AssertUnwindSafe, sync::LazyLock, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use sql_kit::{
    Database, MigrationSource, Migrations, Sql, Statement, migrator, read, transaction,
    transfer::{Progress, Step, Transfer, TransferError},
    values,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};
use test_kit::{ENGINES, Engine, TestDatabase};
use uuid::Uuid;

/// What the service of these tests calls itself.
const APPLICATION: &str = "test";
/// More than two batches.
const PARENTS: i64 = 1_203;

const POSTGRES: [MigrationSource; 2] = [
    (
        1,
        "tables",
        "CREATE TABLE parents (
             id uuid PRIMARY KEY, name text NOT NULL, note text, flag boolean NOT NULL,
             at timestamptz NOT NULL, small integer, big bigint, data bytea
         );
         CREATE TABLE a_children (
             parent uuid NOT NULL REFERENCES parents (id), \"order\" bigint NOT NULL,
             PRIMARY KEY (parent, \"order\")
         );
         CREATE TABLE words (word text PRIMARY KEY, leased_until timestamptz);
         CREATE TABLE single (id bytea NOT NULL);
         INSERT INTO single (id) VALUES (uuid_send(gen_random_uuid()));
         CREATE TABLE seeded (name text PRIMARY KEY, value text);
         INSERT INTO seeded (name) VALUES ('cursor')",
    ),
    (
        2,
        "numbers",
        "CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);
         CREATE SEQUENCE counted_position;
         CREATE TABLE counted (position bigint PRIMARY KEY)",
    ),
];
const SQLITE: [MigrationSource; 2] = [
    (
        1,
        "tables",
        "CREATE TABLE parents (
             id BLOB PRIMARY KEY NOT NULL, name TEXT NOT NULL, note TEXT, flag INTEGER NOT NULL,
             at INTEGER NOT NULL, small INTEGER, big INTEGER, data BLOB
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE a_children (
             parent BLOB NOT NULL REFERENCES parents (id), \"order\" INTEGER NOT NULL,
             PRIMARY KEY (parent, \"order\")
         ) STRICT;
         CREATE TABLE words (word TEXT PRIMARY KEY NOT NULL, leased_until INTEGER) STRICT;
         CREATE TABLE single (id BLOB NOT NULL) STRICT;
         INSERT INTO single (id) VALUES (randomblob(16));
         CREATE TABLE seeded (name TEXT PRIMARY KEY NOT NULL, value TEXT) STRICT;
         INSERT INTO seeded (name) VALUES ('cursor')",
    ),
    (
        2,
        "numbers",
        "CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, text TEXT NOT NULL) STRICT;
         CREATE TABLE counted (position INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL) STRICT",
    ),
];

static MIGRATIONS: LazyLock<Migrations> =
    LazyLock::new(|| Migrations { postgres: migrator(&POSTGRES), sqlite: migrator(&SQLITE) });

fn database(of: &TestDatabase) -> Database {
    of.url.parse().unwrap()
}

fn open(of: &TestDatabase) -> Sql {
    Sql::open(&database(of), test_kit::pool_options()).unwrap()
}

async fn prepare(from: &TestDatabase, to: &TestDatabase) -> Result<Transfer, TransferError> {
    Transfer::prepare(APPLICATION, &database(from), &database(to), &MIGRATIONS).await
}

/// Moves everything and returns how many rows were compared and copied.
async fn move_all(from: &TestDatabase, to: &TestDatabase) -> Result<(u64, u64), TransferError> {
    let mut transfer = prepare(from, to).await?;
    let moved = transfer.run(&mut |_| {}).await;
    transfer.close().await;
    let moved = moved?;
    Ok((moved.iter().map(|table| table.rows).sum(), moved.iter().map(|table| table.copied).sum()))
}

/// Executes statements without a store.
async fn execute(of: &TestDatabase, statements: &str) {
    if of.url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(&of.url).await.unwrap();
        connection.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = PgConnection::connect(&of.url).await.unwrap();
        connection.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    }
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

/// Ids and values that are as awkward as they come.
struct Parent {
    id: Uuid,
    name: String,
    note: Option<String>,
    flag: bool,
    at: DateTime<Utc>,
    small: Option<i64>,
    big: Option<i64>,
    data: Option<Vec<u8>>,
}

fn parent(number: i64) -> Parent {
    let some = |wanted: i64| number % 7 != wanted;
    Parent {
        // In no order of theirs.
        id: Uuid::from_u64_pair((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15), number as u64),
        name: match number % 5 {
            0 => String::new(),
            1 => "\u{e9}\u{65}\u{301}\u{1f600}\u{fffd}\u{10ffff}'\"\\%_\n\t\r".repeat(3),
            2 => "x".repeat(4_000),
            3 => format!("NULL {number}"),
            _ => "\u{1}\u{7f}\u{feff}".to_owned(),
        },
        note: some(0).then(|| format!("note {number}")),
        flag: number % 2 == 0,
        at: match number % 4 {
            // The first and the last time of RFC 3339, one before 1970, and one with microseconds.
            0 => time(-62_135_596_800_000_000),
            1 => time(253_402_300_799_999_999),
            2 => time(-1),
            _ => time(1_700_000_000_123_457 + number),
        },
        small: some(1).then_some(if number % 3 == 0 { i64::from(i32::MIN) } else { number }),
        big: some(2).then_some(if number % 3 == 0 { i64::MAX } else { i64::MIN + number }),
        data: some(3).then(|| {
            let length = usize::try_from(number % 300).unwrap();
            (0..length).map(|byte| u8::try_from(byte % 256).unwrap()).collect()
        }),
    }
}

/// Words that collations order in other ways than bytes.
const WORDS: [&str; 12] =
    ["", "a", "B", "b", "A", "\u{e4}", "Z", "_", "a b", "ab", "\u{1f600}", "\u{ffff}"];

/// Makes a database with data in every table.
async fn filled(engine: Engine) -> TestDatabase {
    let database = TestDatabase::create(engine).await;
    let sql = open(&database);
    sql.migrate(&MIGRATIONS).await.unwrap();
    for start in (0..PARENTS).step_by(200) {
        transaction!(sql, |unit| {
            for number in start..(start + 200).min(PARENTS) {
                let row = parent(number);
                unit.execute(
                    "INSERT INTO parents (id, name, note, flag, at, small, big, data)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                    values![
                        row.id,
                        &row.name,
                        row.note.as_deref(),
                        row.flag,
                        row.at,
                        row.small,
                        row.big,
                        row.data.as_deref()
                    ],
                )
                .await?;
            }
            Ok(())
        })
        .await
        .unwrap();
    }
    transaction!(sql, |unit| {
        for order in 0..3_i64 {
            let statement = "INSERT INTO a_children (parent, \"order\") VALUES ($1, $2)";
            unit.execute(statement, values![parent(order).id, -order]).await?;
        }
        for word in WORDS {
            let statement = "INSERT INTO words (word, leased_until) VALUES ($1, $2)";
            unit.execute(statement, values![word, time(5)]).await?;
        }
        for _ in 0..5 {
            unit.execute("INSERT INTO numbered (text) VALUES ('x')", values![]).await?;
            unit.execute(COUNT, values![]).await?;
        }
        unit.execute("DELETE FROM counted WHERE position > 3", values![]).await?;
        // Its number is not given out again.
        unit.execute("DELETE FROM numbered WHERE id = 5", values![]).await?;
        unit.execute("UPDATE seeded SET value = 'far'", values![]).await?;
        Ok(())
    })
    .await
    .unwrap();
    sql.close().await;
    database
}

/// Adds a row with the next number of a sequence that belongs to no column.
const COUNT: Statement = Statement::per_engine(
    "INSERT INTO counted (position) VALUES (nextval('counted_position'))",
    "INSERT INTO counted DEFAULT VALUES",
);

/// Everything in a database, as text.
async fn dump(of: &TestDatabase) -> Vec<String> {
    let sql = open(of);
    let dumped = read!(sql, |unit| {
        let mut lines = Vec::new();
        for row in unit.fetch_all("SELECT * FROM parents ORDER BY id", values![]).await? {
            let (id, name): (Uuid, String) = (row.get("id")?, row.get("name")?);
            let (note, flag): (Option<String>, bool) = (row.get("note")?, row.get("flag")?);
            let at: DateTime<Utc> = row.get("at")?;
            let (small, big): (Option<i64>, Option<i64>) = (row.get("small")?, row.get("big")?);
            let data: Option<Vec<u8>> = row.get("data")?;
            lines.push(format!("{id} {name:?} {note:?} {flag} {at:?} {small:?} {big:?} {data:?}"));
        }
        for row in unit.fetch_all("SELECT * FROM a_children ORDER BY parent", values![]).await? {
            lines.push(format!("{} {}", row.get::<Uuid>("parent")?, row.get::<i64>("order")?));
        }
        let mut words = Vec::new();
        for row in unit.fetch_all("SELECT * FROM words", values![]).await? {
            let lease: Option<DateTime<Utc>> = row.get("leased_until")?;
            words.push(format!("{:?} {}", row.get::<String>("word")?, lease.is_some()));
        }
        words.sort_unstable();
        lines.extend(words);
        for row in unit.fetch_all("SELECT * FROM single", values![]).await? {
            lines.push(format!("{:?}", row.get::<Vec<u8>>("id")?));
        }
        for row in unit.fetch_all("SELECT * FROM seeded", values![]).await? {
            lines.push(format!(
                "{} {:?}",
                row.get::<String>("name")?,
                row.get::<Option<String>>("value")?
            ));
        }
        for row in unit.fetch_all("SELECT * FROM numbered ORDER BY id", values![]).await? {
            lines.push(format!("{} {}", row.get::<i64>("id")?, row.get::<String>("text")?));
        }
        for row in unit.fetch_all("SELECT * FROM counted ORDER BY position", values![]).await? {
            lines.push(row.get::<i64>("position")?.to_string());
        }
        Ok(lines)
    })
    .await
    .unwrap();
    sql.close().await;
    dumped
}

#[tokio::test]
async fn everything_arrives_in_every_direction_and_again_is_only_checked() {
    for (one, other) in ENGINES.iter().flat_map(|one| ENGINES.map(|other| (*one, other))) {
        let (from, to) = (filled(one).await, TestDatabase::create(other).await);
        let rows = u64::try_from(PARENTS).unwrap() + 3 + 12 + 1 + 1 + 4 + 3;
        assert_eq!(move_all(&from, &to).await, Ok((rows, rows)), "{one:?} to {other:?}");
        let mut expected = dump(&from).await;
        // No worker holds what it has not taken.
        for line in &mut expected {
            if WORDS.iter().any(|word| *line == format!("{word:?} true")) {
                *line = line.replace(" true", " false");
            }
        }
        assert!(dump(&to).await == expected, "{one:?} to {other:?}");
        assert_eq!(move_all(&from, &to).await, Ok((rows, 0)), "{one:?} to {other:?}");

        // Numbers that were given out once are not given out again.
        let sql = open(&to);
        transaction!(sql, |unit| {
            unit.execute("INSERT INTO numbered (text) VALUES ('new')", values![]).await?;
            unit.execute(COUNT, values![]).await
        })
        .await
        .unwrap();
        let next = read!(sql, |unit| {
            let row = unit.fetch_one("SELECT max(id) AS id FROM numbered", values![]).await?;
            let other =
                unit.fetch_one("SELECT max(position) AS at FROM counted", values![]).await?;
            Ok((row.get::<i64>("id")?, other.get::<i64>("at")?))
        });
        assert_eq!(next.await, Ok((6, 6)), "{one:?} to {other:?}");
        sql.close().await;

        // The destination is used by now, and the source is never written over it.
        let before = dump(&to).await;
        let refused = move_all(&from, &to).await.unwrap_err();
        assert!(matches!(refused, TransferError::OtherData(_)), "{refused}");
        assert!(refused.to_string().contains("table counted"), "{refused}");
        assert_eq!(dump(&to).await, before);
    }
}

#[tokio::test]
async fn an_interrupted_move_goes_on_where_it_stopped() {
    for (one, other) in [(Engine::Sqlite, Engine::Postgres), (Engine::Postgres, Engine::Sqlite)] {
        let (from, to) = (filled(one).await, TestDatabase::create(other).await);
        for interrupted_at in [1, 2] {
            let mut transfer = prepare(&from, &to).await.unwrap();
            let mut batches = 0;
            // A panic ends it right after a batch, which nothing else does so exactly. As at the end of a
            // process, nothing is closed.
            let mut progress = |progress: Progress<'_>| {
                batches += u32::from(progress.step == Step::Copying && progress.table == "parents");
                if batches == interrupted_at {
                    panic!("interrupted");
                }
            };
            let interrupted = AssertUnwindSafe(transfer.run(&mut progress)).catch_unwind().await;
            assert!(interrupted.is_err());
        }
        let (rows, copied) = move_all(&from, &to).await.unwrap();
        assert!(copied > 0 && copied < rows, "{copied} of {rows}");
        assert_eq!(move_all(&from, &to).await, Ok((rows, 0)));
        assert_eq!(dump(&to).await.len(), dump(&from).await.len());
    }
}

#[tokio::test]
async fn a_database_that_a_service_uses_is_refused_and_waits_for_the_end_of_the_move() {
    for (one, other) in [(Engine::Sqlite, Engine::Postgres), (Engine::Postgres, Engine::Sqlite)] {
        let (from, to) = (filled(one).await, TestDatabase::create(other).await);
        let in_use = |result: Result<Transfer, TransferError>| {
            let told = result.unwrap_err().to_string();
            assert!(told.contains("it is in use"), "{told}");
            assert!(!told.contains("://"), "{told}");
        };
        // Two replicas, of which one stops.
        let (service, replica) = (open(&from), open(&from));
        service.ping().await.unwrap();
        replica.ping().await.unwrap();
        in_use(prepare(&from, &to).await);
        service.close().await;
        in_use(prepare(&from, &to).await);
        replica.close().await;

        let service = open(&to);
        service.ping().await.unwrap();
        in_use(prepare(&from, &to).await);
        service.close().await;

        let mut transfer = prepare(&from, &to).await.unwrap();
        for used in [&from, &to] {
            let service = open(used);
            let refused = service.ping().await.unwrap_err();
            assert!(refused.is_transient(), "{refused}");
            service.close().await;
        }
        in_use(prepare(&from, &to).await);
        transfer.run(&mut |_| {}).await.unwrap();
        transfer.close().await;
        let service = open(&to);
        service.ping().await.unwrap();
        service.close().await;
    }
}

#[tokio::test]
async fn a_service_of_an_older_version_is_seen_by_its_sessions() {
    let (from, to) = (filled(Engine::Postgres).await, TestDatabase::create(Engine::Sqlite).await);
    let separator = if from.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}application_name={APPLICATION}", from.url);
    let session = PgConnection::connect(&url).await.unwrap();
    let told = prepare(&from, &to).await.unwrap_err().to_string();
    assert!(told.contains("test has 1 sessions there"), "{told}");
    session.close().await.unwrap();
    let ended = async {
        while let Err(error) = move_all(&from, &to).await {
            assert!(error.to_string().contains("sessions there"), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}

#[tokio::test]
async fn a_destination_with_rows_of_its_own_is_refused_and_stays_as_it_is() {
    for engine in ENGINES {
        let from = filled(Engine::Sqlite).await;
        let to = TestDatabase::create(engine).await;
        let sql = open(&to);
        sql.migrate(&MIGRATIONS).await.unwrap();
        sql.close().await;
        // Migrated and never used: as good as empty.
        assert!(prepare(&from, &to).await.unwrap().run(&mut |_| {}).await.is_ok());

        let to = TestDatabase::create(engine).await;
        let sql = open(&to);
        sql.migrate(&MIGRATIONS).await.unwrap();
        sql.close().await;
        execute(&to, "INSERT INTO words (word) VALUES ('theirs')").await;
        let before = dump(&to).await;
        let refused = move_all(&from, &to).await.unwrap_err();
        assert!(matches!(refused, TransferError::OtherData(_)), "{refused}");
        assert_eq!(dump(&to).await, before);

        // A value that differs is as good as a row.
        let to = TestDatabase::create(engine).await;
        move_all(&from, &to).await.unwrap();
        execute(&to, "UPDATE parents SET note = 'theirs' WHERE note = 'note 8'").await;
        let refused = move_all(&from, &to).await.unwrap_err().to_string();
        assert!(refused.contains("the first in column note"), "{refused}");
        assert!(!refused.contains("theirs"), "{refused}");
    }
}

#[tokio::test]
async fn databases_of_other_versions_and_services_are_told_apart() {
    static OLD: LazyLock<Migrations> = LazyLock::new(|| Migrations {
        postgres: migrator(&POSTGRES[..1]),
        sqlite: migrator(&SQLITE[..1]),
    });
    static OTHER: LazyLock<Migrations> = LazyLock::new(|| {
        let renamed = |[(number, _, text), _]: [MigrationSource; 2]| [(number, "other", text)];
        Migrations { postgres: migrator(&renamed(POSTGRES)), sqlite: migrator(&renamed(SQLITE)) }
    });
    static NEW: LazyLock<Migrations> = LazyLock::new(|| {
        let more = |known: [MigrationSource; 2]| {
            [known[0], known[1], (3, "more", "CREATE TABLE more (id integer)")]
        };
        Migrations { postgres: migrator(&more(POSTGRES)), sqlite: migrator(&more(SQLITE)) }
    });
    let filled = filled(Engine::Sqlite).await;
    for engine in ENGINES {
        let made = async |migrations: &Migrations| {
            let database = TestDatabase::create(engine).await;
            let sql = open(&database);
            sql.migrate(migrations).await.unwrap();
            sql.close().await;
            database
        };
        let told = async |from: &TestDatabase, to: &TestDatabase| {
            prepare(from, to).await.unwrap_err().to_string()
        };
        let empty = TestDatabase::create(engine).await;
        let old = made(&OLD).await;
        assert!(told(&old, &empty).await.contains("lacks migration 2"));
        assert!(told(&made(&OTHER).await, &empty).await.contains("not a database of this service"));
        assert!(
            told(&filled, &made(&OTHER).await).await.contains("not a database of this service")
        );
        assert!(told(&made(&NEW).await, &empty).await.contains("has migration 3"));
        assert!(told(&filled, &made(&NEW).await).await.contains("has migration 3"));
        let nothing = told(&TestDatabase::create(engine).await, &empty).await;
        assert!(
            nothing.contains("there is nothing in it") || nothing.contains("there is no such file"),
            "{nothing}"
        );
        assert!(told(&filled, &filled).await.contains("the same database"));

        // An older destination is brought to the present where it holds nothing, and left alone where it does.
        execute(&old, "INSERT INTO words (word) VALUES ('theirs')").await;
        assert!(told(&filled, &old).await.contains("table words has rows"));
        execute(&old, "DELETE FROM words").await;
        assert!(move_all(&filled, &old).await.is_ok());

        let wider = made(&MIGRATIONS).await;
        execute(&wider, "ALTER TABLE parents ADD COLUMN theirs integer").await;
        assert!(told(&filled, &wider).await.contains("table parents has a column theirs"));
        let narrower = made(&MIGRATIONS).await;
        execute(&narrower, "ALTER TABLE parents DROP COLUMN note").await;
        assert!(told(&filled, &narrower).await.contains("table parents has no column note"));
    }
    let (source, memory) = (database(&filled), "sqlite::memory:".parse().unwrap());
    let memory = Transfer::prepare(APPLICATION, &source, &memory, &MIGRATIONS);
    assert!(memory.await.unwrap_err().to_string().contains("in memory"));
}

#[tokio::test]
async fn what_the_other_engine_cannot_keep_is_told_by_its_column() {
    let from = filled(Engine::Sqlite).await;
    execute(&from, "UPDATE parents SET note = 'a' || char(0) WHERE note = 'note 9'").await;
    let to = TestDatabase::create(Engine::Postgres).await;
    let told = move_all(&from, &to).await.unwrap_err().to_string();
    assert!(told.contains("column note of table parents cannot be kept"), "{told}");
    execute(&from, "UPDATE parents SET note = 'a' WHERE note LIKE 'a%'").await;
    assert!(move_all(&from, &to).await.is_ok());
}
