//! The command: settings of both services, and their subcommands.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{path::Path, process::Command};

fn run(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .env("LOG_FORMAT", "json")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

#[test]
fn every_fault_is_told_once_by_the_variable_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("AUTH_HTTP_ADDR", "nowhere"),
        ("DATABASE_MAX_CONNECTIONS", "0"),
        ("USER_SHUTDOWN_GRACE", "x"),
        ("BCRYPT_COST", "9"),
        ("JWKS_URL", "nowhere"),
        ("TLS_KEY_FILE", "/nowhere/hunter2"),
        ("AUTH_SERVICE_TOKEN", "hunter2"),
        ("DATABASE_URL", "hunter2"),
    ];
    let (status, told) = run(folder.path(), &[], &settings);
    assert_eq!(status, Some(1));
    for fault in [
        "AUTH_HTTP_ADDR: is not an address",
        "DATABASE_MAX_CONNECTIONS: is not an integer",
        "USER_SHUTDOWN_GRACE: is not an integer",
        "BCRYPT_COST: is not an integer",
        "JWKS_URL: ",
        "AUTH_SERVICE_TOKEN: is under 32 bytes",
        "TLS_CERT_FILE: must be given together with TLS_KEY_FILE",
    ] {
        assert_eq!(told.matches(&format!("\n  {fault}")).count(), 1, "{fault}: {told}");
    }
    let noted = "DATABASE_URL is ignored here: set AUTH_DATABASE_URL and USER_DATABASE_URL";
    assert!(told.contains(noted), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn the_subcommands_of_both_services_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = run(folder.path(), &["migrate"], &[]);
    assert_eq!(status, Some(0), "{told}");
    for file in ["auth.db", "user.db"] {
        assert!(folder.path().join("data").join(file).exists(), "{file}: {told}");
    }
    let (status, told) = run(folder.path(), &["user", "outbox", "list"], &[]);
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("request id"), "{told}");
    // Nothing listens on these ports.
    let admin = [("AUTH_ADMIN_ADDR", "127.0.0.1:1"), ("USER_ADMIN_ADDR", "127.0.0.1:2")];
    let (status, told) = run(folder.path(), &["healthcheck"], &admin);
    assert_eq!(status, Some(1));
    assert!(
        told.contains("auth service: 127.0.0.1:1") && told.contains("user service: 127.0.0.1:2")
    );
    let (status, told) = run(folder.path(), &["user", "healthcheck", "--live"], &admin);
    assert_eq!(status, Some(1));
    assert!(told.contains("127.0.0.1:2") && !told.contains("127.0.0.1:1:"), "{told}");
    for service in ["auth", "user"] {
        let url = format!("{}_DATABASE_URL", service.to_uppercase());
        let (status, told) =
            run(folder.path(), &[service, "migrate"], &[(&url, "sqlite:///dev/null/all.db")]);
        assert_eq!(status, Some(1));
        assert!(told.contains(&format!("error: {url}: ")), "{told}");
    }
}

#[test]
fn a_command_that_only_looks_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = run(folder.path(), &["auth", "keys", "list"], &[]);
    assert_eq!(status, Some(1));
    assert!(told.contains("there is no database at data/auth.db"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_command_ends_with_the_status_that_it_has_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = run(folder.path(), &["migrate"], &[]);
    assert_eq!(status, Some(0), "{told}");
    std::fs::write(folder.path().join("in.jsonl"), "{\"email\": \"nonsense\"}\n").unwrap();
    for (arguments, expected) in [
        (["auth", "accounts", "import", "in.jsonl"].as_slice(), 3),
        (&["auth", "accounts", "show", "a@b.com"], 4),
        (&["auth", "accounts", "show", "nobody"], 2),
        (&["auth", "accounts", "list"], 0),
    ] {
        let (status, told) = run(folder.path(), arguments, &[]);
        assert_eq!(status, Some(expected), "{arguments:?}: {told}");
    }
}

#[test]
fn a_database_of_the_other_service_is_refused_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = run(folder.path(), &["auth", "migrate"], &[]);
    assert_eq!(status, Some(0), "{told}");
    let settings = [("USER_DATABASE_URL", "sqlite://data/auth.db")];
    for arguments in [["user", "migrate"].as_slice(), &["user", "migrate", "status"], &["user"]] {
        let (status, told) = run(folder.path(), arguments, &settings);
        assert_eq!(status, Some(1), "{arguments:?}: {told}");
        let error = told.lines().last().unwrap();
        assert!(error.starts_with("error: USER_DATABASE_URL: "), "{arguments:?}: {told}");
        assert!(error.contains("is that of another service"), "{arguments:?}: {told}");
    }
}

#[test]
fn a_lost_or_damaged_key_is_named_by_its_file_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = run(folder.path(), &["auth", "migrate"], &[]);
    assert_eq!(status, Some(0), "{told}");
    let key = folder.path().join("data/key-encryption-key");
    std::fs::write(&key, "damaged").unwrap();
    let (status, told) = run(folder.path(), &["auth"], &[]);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("data/key-encryption-key: is not 32 bytes in base64"), "{told}");
    std::fs::remove_file(&key).unwrap();
    let (status, told) = run(folder.path(), &["auth"], &[]);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("data/key-encryption-key is missing"), "{told}");
    assert!(!key.exists());
}

#[test]
fn a_reader_that_has_read_enough_ends_a_command_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let (status, told) = run(folder.path(), &["auth", "migrate"], &[]);
    assert_eq!(status, Some(0), "{told}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .current_dir(folder.path())
        .args(["auth", "migrate", "status"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(command.stdout.take());
    let output = command.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
