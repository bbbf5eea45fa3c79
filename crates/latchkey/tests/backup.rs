//! Backup and restore by the commands of docs/operations.md, as they stand there, on both engines.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod services;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use http::Method;
use serde_json::json;
use services::{Databases, PASSWORD, Services};
use test_kit::{Engine, send};

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// The commands that follow a mark in the docs.
fn documented(mark: &str) -> String {
    let start = OPERATIONS.find(&format!("<!-- {mark} -->")).unwrap_or_else(|| panic!("{mark}"));
    let (_, block) = OPERATIONS[start..].split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Runs commands in a folder in which the two services are programs. They are the ones that `latchkey` has.
fn run(folder: &Path, databases: &Databases, commands: &str) -> (bool, String) {
    let programs = folder.join("bin");
    fs::create_dir_all(&programs).unwrap();
    for (name, prefix) in [("auth", "AUTH"), ("user", "USER")] {
        let program = programs.join(format!("{name}-service"));
        let latchkey = env!("CARGO_BIN_EXE_latchkey");
        let text = format!(
            "#!/bin/sh\n{prefix}_DATABASE_URL=$DATABASE_URL exec '{latchkey}' {name} \"$@\"\n"
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "no setting of a service")]
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)));
    let output = Command::new("bash")
        .args(["-euc", commands])
        .current_dir(folder)
        .env_clear()
        .env("PATH", path.unwrap())
        .env("AUTH_DATABASE_URL", &databases.auth.url)
        .env("USER_DATABASE_URL", &databases.user.url)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn must_run(folder: &Path, databases: &Databases, commands: &str) {
    let (is_done, told) = run(folder, databases, commands);
    assert!(is_done, "{commands}\n{told}");
}

/// The commands for one of the two databases.
fn only<'c>(commands: &'c str, what: &str) -> String {
    let lines: Vec<&'c str> = commands.lines().filter(|line| line.contains(what)).collect();
    assert!(!lines.is_empty(), "{commands}");
    lines.join("\n")
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(15), wait).await.is_ok(), "{what}");
}

async fn who_was_deleted_stays_deleted(engine: Engine, name: &str) {
    let (backup, restore) =
        (documented(&format!("{name}: back up")), documented(&format!("{name}: restore")));
    let databases = Databases::create(engine).await;
    let folder = tempfile::tempdir().unwrap();
    let services = Services::start(&databases).await;
    let mut people = Vec::new();
    for email in ["stays@example.com", "leaves@example.com", "goes@example.com"] {
        let id = services.register(email).await;
        let session = services.login(email).await.json;
        let access = &session["access_token"];
        assert_eq!(services.users(Method::GET, "/users/me", access, None).await.status, 200);
        people.push((id, session));
    }
    let reader = people[0].1["access_token"].clone();

    // The services write meanwhile.
    let is_over = AtomicBool::new(false);
    let writing = async {
        let mut number = 0_u32;
        while !is_over.load(Relaxed) {
            services.register(&format!("more{number}@example.com")).await;
            number += 1;
        }
    };
    let place = folder.path().to_owned();
    let shared = Databases { auth: databases.auth.clone(), user: databases.user.clone() };
    let backing_up = async {
        let commands = move || must_run(&place, &shared, &backup);
        tokio::task::spawn_blocking(commands).await.unwrap();
        is_over.store(true, Relaxed);
    };
    tokio::join!(backing_up, writing);

    // After the backup one leaves at the user service, one at the auth service, and one comes.
    let access = &people[1].1["access_token"];
    assert_eq!(services.users(Method::DELETE, "/users/me", access, None).await.status, 204);
    eventually("the account goes with its profile", async || {
        services.login("leaves@example.com").await.status == 401
    })
    .await;
    let delete = services.auth.request(Method::POST, "/auth/account/delete");
    let delete = delete.bearer_auth(people[2].1["access_token"].as_str().unwrap());
    let deleted = send(delete.json(&json!({"current_password": PASSWORD}))).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    let profile = format!("/users/{}", people[2].0);
    eventually("the profile goes with its account", async || {
        services.users(Method::GET, &profile, &reader, None).await.status == 404
    })
    .await;
    services.register("new@example.com").await;
    if engine == Engine::Sqlite {
        let (is_done, told) = run(folder.path(), &databases, &only(&restore, "auth"));
        assert!(!is_done && told.contains("is in use: stop the service first"), "{told}");
    }
    services.stop().await;

    // The auth service's database is as it was; the user service tells it again of who was deleted since.
    must_run(folder.path(), &databases, &only(&restore, "auth"));
    let services = Services::start(&databases).await;
    assert_eq!(services.login("new@example.com").await.status, 401);
    assert_eq!(services.login("stays@example.com").await.status, 200);
    assert_eq!(services.refresh(&people[0].1["refresh_token"]).await.status, 200);
    for email in ["leaves@example.com", "goes@example.com"] {
        let is_gone = async || services.login(email).await.status == 401;
        eventually("who was deleted is deleted again", is_gone).await;
    }
    let me = services.users(Method::GET, "/users/me", &reader, None).await;
    assert_eq!(me.status, 200, "{}", me.text);
    services.stop().await;

    // The user service's database is as it was; it reads again who was deleted since.
    must_run(folder.path(), &databases, &only(&restore, "user"));
    let services = Services::start(&databases).await;
    for (id, _) in &people[1..] {
        let profile = format!("/users/{id}");
        eventually("the profiles go again", async || {
            services.users(Method::GET, &profile, &reader, None).await.status == 404
        })
        .await;
    }
    let me = services.users(Method::GET, "/users/me", &reader, None).await;
    assert_eq!(me.status, 200, "{}", me.text);
    services.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_is_backed_up_while_it_is_written_and_restored() {
    who_was_deleted_stays_deleted(Engine::Sqlite, "SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_is_backed_up_while_it_is_written_and_restored() {
    who_was_deleted_stays_deleted(Engine::Postgres, "Postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backup_is_not_restored_and_nothing_is_replaced() {
    let databases = Databases::create(Engine::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let refuses = |commands: &str, part: &str| {
        let (is_done, told) = run(folder.path(), &databases, commands);
        assert!(!is_done && told.contains(part), "{commands}: {told}");
    };
    let auth = "DATABASE_URL=$AUTH_DATABASE_URL auth-service";
    let user = "DATABASE_URL=$USER_DATABASE_URL user-service";
    refuses(&format!("{auth} backup a.backup"), "there is no database at");
    must_run(folder.path(), &databases, &format!("{auth} migrate; {user} migrate"));
    must_run(folder.path(), &databases, &format!("{auth} backup a.backup; {user} backup u.backup"));
    let mode = fs::metadata(folder.path().join("a.backup")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    refuses(&format!("{auth} backup a.backup"), "a.backup exists");
    refuses(&format!("{auth} backup nowhere/a.backup"), "No such file");
    refuses(&format!("{auth} restore none"), "none: ");
    refuses(&format!("{auth} restore u.backup"), "not a database of this service");
    refuses(&format!("echo text > text; {auth} restore text"), "no SQLite database");
    refuses(&format!("head -c 8000 a.backup > half; {auth} restore half"), "");
    refuses(&format!("cp a.backup raw; echo x > raw-wal; {auth} restore raw"), "it is no backup");
    must_run(folder.path(), &databases, &format!("{auth} restore a.backup"));
    refuses(&format!("{auth} restore a.backup"), "from an earlier restore");
    // A damaged database is replaced, with the log of changes beside it.
    let file = databases.auth.url.trim_start_matches("sqlite://").to_owned();
    fs::remove_file(format!("{file}.before-restore")).unwrap();
    fs::write(&file, "damaged").unwrap();
    fs::write(format!("{file}-wal"), "damaged too").unwrap();
    must_run(folder.path(), &databases, &format!("{auth} restore a.backup; {auth} migrate status"));
    assert_eq!(fs::read_to_string(format!("{file}.before-restore")).unwrap(), "damaged");
    assert!(!Path::new(&format!("{file}.restoring")).exists());
}

#[tokio::test]
async fn postgres_has_tools_of_its_own() {
    let databases = Databases::create(Engine::Postgres).await;
    let folder = tempfile::tempdir().unwrap();
    let commands = "DATABASE_URL=$AUTH_DATABASE_URL auth-service backup a.backup";
    let (is_done, told) = run(folder.path(), &databases, commands);
    assert!(!is_done && told.contains("use pg_dump"), "{told}");
}
