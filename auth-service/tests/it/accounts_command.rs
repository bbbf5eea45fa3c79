//! `auth-service accounts import` and `export` as an operator runs them.

use std::{
    io::{self, BufReader, Read, Write as _},
    path::Path,
    process::Command,
};

use auth_service::{
    config,
    domain::Email,
    import::{self, Format, ImportError, Lines, Options, Refusal, Report, ReportFile, RowRules},
    store::{Store, accounts},
};
use serde_json::{Value, json};
use sql_kit::read;
use test_kit::{ENGINES, TestDatabase};

use crate::support::{PASSWORD, Running};

fn run(database: &TestDatabase, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(database.folder())
        .arg("accounts")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn store(database: &TestDatabase) -> Store {
    let store = Store::open(&database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
    store.migrate().await.unwrap();
    store
}

async fn count(store: &Store) -> usize {
    read!(store, |unit| accounts::page(unit, uuid::Uuid::nil(), 100_000).await).await.unwrap().len()
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

const HASH: &str = "$2y$04$2DZXpO2kTMrl92fT1g/vB.VZfF9fC49w/Lnw1JH52Bn7lI7dl/Nr.";
const ID: &str = "0198c5a0-0000-7000-8000-000000000001";

#[tokio::test]
async fn each_line_that_cannot_be_taken_is_told_by_number_and_costs_no_other() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let lines = [
            json!({"email": "A@Example.com", "password_hash": HASH, "id": ID,
                   "created_at": "2020-01-02T03:04:05.678+01:00", "email_verified": true}).to_string(),
            json!({"email": "b@example.com", "disabled": true}).to_string(),
            String::new(),
            "not json".to_owned(),
            json!({"email": "c@example.com", "name": "secret-name"}).to_string(),
            json!({"email": "nonsense"}).to_string(),
            json!({"password_hash": HASH}).to_string(),
            json!({"email": "d@example.com", "password_hash": "5f4dcc3b5aa765d61d8327deb882cf99"})
                .to_string(),
            json!({"email": "e@example.com", "password_hash": "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"})
                .to_string(),
            json!({"email": "a@example.com"}).to_string(),
            json!({"email": "f@example.com", "id": ID}).to_string(),
            json!({"email": "g@example.com", "id": "1"}).to_string(),
            json!({"email": "h@example.com", "created_at": "2999-01-01T00:00:00Z"}).to_string(),
            json!({"email": "i@example.com", "disabled": "secret-text"}).to_string(),
            r#"{"email": "j@example.com", "email": "k@example.com"}"#.to_owned(),
            format!(r#"{{"email": "l@example.com", "password_hash": "{}"}}"#, "x".repeat(70_000)),
            json!({"email": "z@example.com", "password_hash": HASH}).to_string(),
        ];
        write(database.folder(), "in.jsonl", &format!("\u{feff}{}", lines.join("\n")));

        let (status, printed, told) =
            run(&database, &["import", "in.jsonl", "--dry-run", "--json"]);
        assert_eq!(status, 3, "{engine:?} {told}");
        let dry: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(count(&store).await, 0);

        let arguments = ["import", "in.jsonl", "--json", "--report", "refused.jsonl"];
        let (status, printed, told) = run(&database, &arguments);
        assert_eq!(status, 3, "{engine:?} {told}");
        let summary: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(
            (&summary["imported"], &summary["refused"]),
            (&json!(3), &json!(13)),
            "{summary}"
        );
        assert_eq!((&dry["imported"], &dry["refused"]), (&json!(3), &json!(13)), "{dry}");
        let report = std::fs::read_to_string(database.folder().join("refused.jsonl")).unwrap();
        let refused: Vec<Value> =
            report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: Vec<_> = refused.iter().map(|entry| entry["line"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (4..=16).collect::<Vec<_>>(), "{report}");
        let reasons = [
            "is not one JSON object",
            "unknown member `name`",
            "email ",
            "has no email",
            "no form that is known",
            "cost is not from 4 to 16",
            "has an account already",
            "id is that of another account",
            "id is not a UUID",
            "created_at",
            "is not one JSON object",
            "duplicate member `email`",
            "is over 65536 bytes",
        ];
        for (entry, reason) in refused.iter().zip(reasons) {
            assert!(entry["reason"].as_str().unwrap().contains(reason), "{reason}: {entry}");
        }
        assert!(!report.contains("secret") && !report.contains("$2b$"), "{report}");

        let email = Email::parse("a@example.com").unwrap();
        let found = read!(store, |unit| accounts::by_email(unit, &email).await).await;
        let found = found.unwrap().unwrap();
        assert_eq!(found.id.to_string(), ID);
        assert_eq!(found.created_at.to_rfc3339(), "2020-01-02T02:04:05.678+00:00");
        assert!(found.email_verified && !found.disabled);

        // Again: everything is there. Passed over, it is no fault.
        write(database.folder(), "again.jsonl", &[&*lines[0], &lines[1], &lines[16]].join("\n"));
        let (status, _, told) = run(&database, &["import", "again.jsonl"]);
        assert_eq!(status, 3, "{told}");
        assert!(told.contains("line 1: email has an account already"), "{told}");
        let (status, printed, told) = run(&database, &["import", "again.jsonl", "--skip-existing"]);
        assert_eq!(status, 0, "{told}");
        assert!(printed.contains("0 imported, 3 passed over, 0 refused"), "{printed}");
    }
}

#[tokio::test]
async fn imported_accounts_log_in_unless_they_are_disabled() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &[(config::LOGINS_PER_MINUTE, "0")]).await;
        let mut csv = "email,disabled,password_hash\n".to_owned();
        let vectors = include_str!("../hashes/vectors.tsv");
        let hashes: Vec<_> =
            vectors.lines().filter_map(|line| line.split_once('\t')).skip(1).collect();
        for (number, (_, hash)) in hashes.iter().enumerate() {
            // Firebase's come without the parameters of their project.
            let firebase = hash.starts_with("$fbscrypt$").then(|| {
                let mut parts = hash.rsplit('$');
                let (hash, salt) = (parts.next().unwrap(), parts.next().unwrap());
                format!("$fbscrypt${salt}${hash}")
            });
            let hash = firebase.unwrap_or_else(|| (*hash).to_owned());
            csv.push_str(&format!("p{number}@example.com,,\"{hash}\"\n"));
        }
        csv.push_str(&format!("off@example.com,true,{HASH}\n"));
        csv.push_str("none@example.com,false,\n");
        write(service.database.folder(), "in.csv", &csv);
        let key = hashes.iter().find_map(|(_, hash)| hash.split_once("sk=")).unwrap().1;
        let arguments = [
            "import",
            "in.csv",
            "--firebase-signer-key",
            key.split('$').next().unwrap(),
            "--firebase-salt-separator",
            "Bw==",
            "--firebase-rounds",
            "8",
            "--firebase-mem-cost",
            "14",
        ];
        let (status, _, told) = run(&service.database, &arguments);
        assert_eq!(status, 0, "{engine:?} {told}");
        let login = async |email: &str, password: &str| {
            let credentials = json!({"email": email, "password": password});
            service.rest.post("/auth/login", &credentials).await.status
        };
        let right = "correct horse b\u{e4}ttery";
        for (number, (source, hash)) in hashes.iter().enumerate() {
            // Made with another mem_cost than the one of the project.
            let expected = if hash.contains("v=1,n=10,") { 401 } else { 200 };
            let email = format!("p{number}@example.com");
            assert_eq!(login(&email, right).await, expected, "{engine:?} {source}");
        }
        assert_eq!(login("off@example.com", right).await, 401);
        assert_eq!(login("none@example.com", right).await, 401);
        assert_eq!(login("none@example.com", "!").await, 401);
        assert_eq!(login("none@example.com", PASSWORD).await, 401);
    }
}

#[tokio::test]
async fn a_csv_that_names_no_email_or_an_unknown_column_is_not_begun() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    for head in ["id,disabled", "email,name", "email,email"] {
        write(database.folder(), "in.csv", &format!("{head}\na@example.com,x\n"));
        let (status, _, told) = run(&database, &["import", "in.csv"]);
        assert_eq!(status, 1, "{head}: {told}");
    }
    write(database.folder(), "in.csv", "email,disabled\na@b.com,maybe\nb@b.com\nc@b.com,false\n");
    let (status, _, told) = run(&database, &["import", "in.csv"]);
    assert_eq!(status, 3);
    assert!(
        told.contains("line 2: disabled") && told.contains("line 3: has not as many"),
        "{told}"
    );
    assert_eq!(count(&store).await, 1);
    let (status, _, told) = run(&database, &["import", "nowhere.jsonl"]);
    assert!(status == 1 && told.contains("nowhere.jsonl"), "{told}");
}

/// A file that cannot be read any further after so many bytes.
struct Breaks<'a>(&'a [u8]);

impl Read for Breaks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("interrupted")),
            length => Ok(length),
        }
    }
}

#[tokio::test]
async fn an_interrupted_import_goes_on_where_it_stopped() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let mut text = String::new();
        for number in 1..=2000 {
            text.push_str(&match number % 100 {
                0 => "not json\n".to_owned(),
                _ => format!("{{\"email\":\"p{number}@example.com\"}}\n"),
            });
        }
        let options = Options { digest: Some(vec![7; 32]), ..Options::default() };
        let path = database.folder().join("refused.jsonl");
        write(database.folder(), "refused.jsonl", "what was there before is replaced\n");
        let import = async |reader: &mut dyn io::BufRead| {
            let lines = Lines::new(reader, Format::JsonLines).unwrap();
            let mut file = std::fs::File::options();
            let mut report = ReportFile::new(file.read(true).write(true).open(&path).unwrap());
            let mut rules = RowRules::new(None, []);
            import::run(&store, lines, &mut rules, &options, &mut report, |_| {}).await
        };
        let reported = || -> Vec<u64> {
            let report = std::fs::read_to_string(&path).unwrap();
            let entries = report.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            entries.map(|entry| entry["line"].as_u64().unwrap()).collect()
        };
        let cut = &text.as_bytes()[..text.len() / 2];
        let stopped = import(&mut BufReader::new(Breaks(cut))).await.unwrap_err();
        assert!(matches!(stopped, ImportError::Io(_)), "{stopped}");
        let before = count(&store).await;
        assert!((400..1600).contains(&before), "{before}");
        assert_eq!(reported(), [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);

        // A batch was reported whose commit was interrupted, and the report broke off in an entry.
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"line\":1100,\"reason\":\"x\"}\n{\"line\":1200,\"rea").unwrap();
        let kept = std::fs::read(&path).unwrap();
        write(
            database.folder(),
            "refused.jsonl",
            "{\"line\":3,\"reason\":\"of another import\"}\n",
        );
        let refused = import(&mut text.as_bytes()).await.unwrap_err();
        assert!(refused.to_string().contains("not that of the interrupted import"), "{refused}");
        std::fs::write(&path, kept).unwrap();

        let summary = import(&mut text.as_bytes()).await.unwrap();
        assert_eq!((summary.imported, summary.refused, summary.lines), (1980, 20, 2000));
        assert_eq!(summary.resumed_after, 1000);
        assert_eq!(reported(), (1..=20).map(|hundreds| hundreds * 100).collect::<Vec<_>>());
        assert_eq!(count(&store).await, 1980, "{engine:?}");

        // Once it is done, the same file is an import like any other.
        assert_eq!(import(&mut text.as_bytes()).await.unwrap().refused, 2000);
        assert_eq!(reported(), (1..=2000).collect::<Vec<_>>());
    }
}

/// A report that cannot be written.
struct Full;

impl Report for Full {
    fn go_on_after(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn batch(&mut self, _: &[(u64, &Refusal)]) -> io::Result<()> {
        Err(io::Error::other("the disk is full"))
    }

    fn committed(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_is_imported_whose_refusals_cannot_be_reported() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let text = "{\"email\":\"a@example.com\"}\nnot json\n";
        let lines = Lines::new(text.as_bytes(), Format::JsonLines).unwrap();
        let mut rules = RowRules::new(None, []);
        let options = Options::default();
        let ended = import::run(&store, lines, &mut rules, &options, &mut Full, |_| {}).await;
        assert!(matches!(ended.unwrap_err(), ImportError::Report(_)));
        assert_eq!(count(&store).await, 0, "{engine:?}");
    }
}

#[tokio::test]
async fn a_report_never_overwrites_the_accounts() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let text = "{\"email\":\"a@example.com\"}\nnot json\n";
    write(database.folder(), "in.jsonl", text);
    std::fs::hard_link(database.folder().join("in.jsonl"), database.folder().join("link")).unwrap();
    let of = |file: &str, report: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
            .current_dir(database.folder())
            .args(["accounts", "import", file, "--report", report])
            .env_clear()
            .env("DATABASE_URL", &database.url)
            .stdin(std::fs::File::open(database.folder().join("in.jsonl")).unwrap())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (file, report) in [("in.jsonl", "./in.jsonl"), ("in.jsonl", "link"), ("-", "link")] {
        let (status, told) = of(file, report);
        assert_eq!(status, Some(1), "{told}");
        assert!(told.contains("--report names the file of the accounts"), "{told}");
        assert_eq!(std::fs::read_to_string(database.folder().join("in.jsonl")).unwrap(), text);
    }
    assert_eq!(count(&store).await, 0);
    // A pipe can be read only once, and as a report it takes every refused line.
    let script = "cat in.jsonl | \"$0\" accounts import /dev/stdin --report /dev/stderr";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_auth-service")])
        .current_dir(database.folder())
        .env("DATABASE_URL", &database.url)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("{\"line\":2,\"reason\":"), "{told}");
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    for engine in ENGINES {
        let (from, to) = (TestDatabase::create(engine).await, TestDatabase::create(engine).await);
        let (source, target) = (store(&from).await, store(&to).await);
        let argon2id =
            "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let lines = [
            json!({"email": "a@example.com", "password_hash": argon2id, "email_verified": true}),
            json!({"email": "b@example.com", "password_hash": HASH, "disabled": true}),
            json!({"email": "c@example.com", "created_at": "2001-02-03T04:05:06.000007Z"}),
        ];
        let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
        write(from.folder(), "in.jsonl", &lines.join("\n"));
        assert_eq!(run(&from, &["import", "in.jsonl"]).0, 0);
        for (name, imported) in [("out.jsonl", true), ("out.csv", false)] {
            let path = to.folder().join(name);
            let path = path.to_str().unwrap();
            let (status, _, told) = run(&from, &["export", path]);
            assert_eq!(status, 0, "{told}");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
            }
            let expected =
                if imported { "3 imported, 0 passed over" } else { "0 imported, 3 passed over" };
            let (status, printed, told) = run(&to, &["import", path, "--skip-existing"]);
            assert!(status == 0 && printed.contains(expected), "{printed} {told}");
        }
        let all = async |store: &Store| {
            read!(store, |unit| accounts::page(unit, uuid::Uuid::nil(), 10).await).await.unwrap()
        };
        assert_eq!(all(&source).await, all(&target).await, "{engine:?}");
    }
}
