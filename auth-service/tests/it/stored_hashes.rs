//! Logins to accounts whose password hashes were made elsewhere, or cannot be used at all.

use auth_service::{
    config,
    domain::{AccountId, Email},
    password::PasswordHash,
    store::{AccountRecord, Store, accounts},
};
use serde_json::json;
use service_kit::clock::machine_time;
use sql_kit::{read, write_one};
use test_kit::{ENGINES, Engine, TestDatabase, process::Process};

use crate::{
    process::start,
    support::{ENCRYPTION_KEY, Running},
};

async fn store(database: &TestDatabase) -> Store {
    let store = Store::open(&database.url.parse().unwrap(), test_kit::pool_options()).unwrap();
    store.migrate().await.unwrap();
    store
}

async fn add(store: &Store, email: &str, hash: &str) {
    let account = AccountRecord {
        id: AccountId::generate(),
        email: Email::parse(email).unwrap(),
        password_hash: PasswordHash::stored(hash.to_owned()),
        created_at: machine_time(),
        generation: 0,
        email_verified: false,
        disabled: false,
    };
    assert!(write_one!(store, |unit| accounts::insert(unit, &account).await).await.unwrap());
}

#[tokio::test]
async fn a_hash_that_cannot_be_used_is_a_wrong_password_and_an_event() {
    let digest = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let hashes = [
        "$2x$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
        format!("$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ${digest}"),
        "5f4dcc3b5aa765d61d8327deb882cf99".to_owned(),
        String::new(),
    ];
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        for (number, hash) in hashes.iter().enumerate() {
            add(&store, &format!("p{number}@example.com"), hash).await;
        }
        let service = start(&database, "info");
        let rest = service.client().await;
        let login = async |email: &str| {
            let credentials = json!({"email": email, "password": "password"});
            let mut answer = rest.post("/auth/login", &credentials).await;
            let json = answer.json.as_object_mut().unwrap();
            json.remove("request_id");
            (answer.status, answer.json)
        };
        let unknown = login("unknown@example.com").await;
        assert_eq!(unknown.0, 401);
        for (number, hash) in hashes.iter().enumerate() {
            let email = format!("p{number}@example.com");
            assert_eq!(login(&email).await, unknown, "{engine:?} {hash}");
            let email = Email::parse(&email).unwrap();
            let found = read!(store, |unit| accounts::by_email(unit, &email).await).await;
            let id = found.unwrap().unwrap().id.to_string();
            let line = service
                .find(|line| line["event"] == "password_hash.unusable" && line["account"] == *id)
                .await;
            assert_eq!(line["level"], "ERROR");
            assert!(line["reason"].is_string(), "{line}");
        }
        assert!(!service.output().contains(digest));
    }
}

#[tokio::test]
async fn an_account_with_an_imported_hash_logs_in_and_gets_one_of_ours() {
    let vectors = include_str!("../hashes/vectors.tsv");
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let lines = vectors.lines().filter(|line| line.contains("libpass"));
        let hashes: Vec<_> = lines.map(|line| line.split_once('\t').unwrap().1).collect();
        for (number, hash) in hashes.iter().enumerate() {
            add(&store, &format!("p{number}@example.com"), hash).await;
        }
        let overrides = [(config::LOGINS_PER_MINUTE, "0"), (config::BCRYPT_COST, "10")];
        let service = Running::start_on(database, &overrides).await;
        for (number, hash) in hashes.iter().enumerate() {
            let email = format!("p{number}@example.com");
            let login = async |password: &str| {
                let credentials = json!({"email": email, "password": password});
                service.rest.post("/auth/login", &credentials).await.status
            };
            assert_eq!(login("correct horse battery").await, 401, "{engine:?} {hash}");
            assert_eq!(login("correct horse b\u{e4}ttery").await, 200, "{engine:?} {hash}");
            let email = Email::parse(&email).unwrap();
            let found = read!(store, |unit| accounts::by_email(unit, &email).await).await;
            assert_eq!(found.unwrap().unwrap().password_hash.scheme_name(), "bcrypt:10");
        }
        assert_eq!(
            read!(store, |unit| accounts::hash_schemes(unit).await).await,
            Ok(vec!["bcrypt:10".to_owned()])
        );
    }
}

/// More threads than cores must not take more memory than the cores have use for.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_is_bounded_by_what_stored_hashes_take() {
    const MIB: usize = 1024;
    let database = TestDatabase::create(Engine::Sqlite).await;
    let store = store(&database).await;
    let hash =
        "$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    add(&store, "p@example.com", hash).await;
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("BCRYPT_COST", "10"),
        ("HASH_WORKERS", "8"),
        ("HASH_QUEUE_TIMEOUT", "60"),
        ("JWT_ALGORITHM", "ES256"),
    ];
    let binary = env!("CARGO_BIN_EXE_auth-service");
    let service = Process::start(binary, database.folder(), &settings);
    let rest = service.client().await;
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let before = peak();
    let logins = (0..24).map(|number| {
        let rest = rest.clone();
        let credentials =
            json!({"email": format!("x{number}@example.com"), "password": "password"});
        async move { rest.post("/auth/login", &credentials).await.status }
    });
    let statuses = futures_util::future::join_all(logins).await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    let cores = std::thread::available_parallelism().unwrap().get();
    let (took, most) = (peak() - before, (cores.min(8) * 64 + 48) * MIB);
    assert!((64 * MIB..=most).contains(&took), "{took} KiB, on {cores} cores");
}
