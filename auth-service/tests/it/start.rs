//! How the binary starts, or does not: its settings from flags, environment, `.env` and files.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use service_kit::settings::Setting;
use test_kit::{Engine, TestDatabase, process::Process};

use crate::support::{ENCRYPTION_KEY, PASSWORD, Running, SERVICE_TOKEN};

fn run(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> (bool, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn what_is_wrong_with_the_environment_file_is_told_and_its_text_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    let cases: [(&[u8], &str); 4] = [
        (b"JWT_ISSUER=x\nhunter2\n", ".env: line 2: has no ="),
        (b"JWT_ISSUER='hunter2\n", ".env: line 1: a quote is not closed"),
        (b"JWT_SECRET=hunter2 # x\n", ".env: line 1: has a # after a space"),
        (b"# x\nJWT_ISSUER=hunter\xff2\n", ".env: line 2 is not UTF-8"),
    ];
    for (text, expected) in cases {
        fs::write(&file, text).unwrap();
        let (started, told) = run(folder.path(), &[], &[("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY)]);
        assert!(!started && told.contains(expected), "{expected}: {told}");
        assert!(!told.contains("hunter"), "{told}");
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let (started, told) = run(folder.path(), &[], &[("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY)]);
    assert!(!started && told.contains(".env: cannot be read: "), "{told}");
}

#[tokio::test]
async fn values_of_the_environment_file_are_taken_as_written() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let text = "\u{feff}JWT_ISSUER=pa$$word\r\nJWT_AUDIENCE=\"a ${HOME} b\"\r\nDATABSE_URL=x\r\n";
    fs::write(database.folder().join(".env"), text).unwrap();
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("BCRYPT_COST", "10"),
        ("BCRYPT_ROUNDS", "10"),
    ];
    let service = Process::start(env!("CARGO_BIN_EXE_auth-service"), database.folder(), &settings);
    let rest = service.client().await;
    let credentials = json!({"email": "a@b.com", "password": PASSWORD});
    rest.post("/auth/register", &credentials).await;
    let issued = rest.post("/auth/login", &credentials).await;
    let token = issued.json["access_token"].as_str().unwrap().to_owned();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("pa$$word"), &json!("a ${HOME} b")));

    let noted = service.find(|line| line["name"] == "DATABSE_URL").await;
    assert_eq!(noted["message"], "DATABSE_URL is no setting: is DATABASE_URL meant?");
    let noted = service.find(|line| line["name"] == "BCRYPT_ROUNDS").await;
    assert_eq!(noted["level"], "WARN");
    let noted = service.output().matches("setting.unknown").count();
    assert_eq!(noted, 2, "{}", service.output());
}

#[tokio::test]
async fn a_migration_needs_the_database_and_no_other_secret() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let settings = [("DATABASE_URL", database.url.as_str()), ("SERVICE_TOKEN", "short")];
    let (done, told) = run(database.folder(), &["migrate"], &settings);
    assert!(done, "{told}");
}

#[test]
fn a_line_of_the_help_documents_each_setting_after_the_flags_of_the_subcommand_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (_, help) = run(folder.path(), &["keys", "import", "--help"], &[]);
    let settings = auth_service::config::GROUPS.iter().flat_map(|group| group.settings);
    for Setting { var, default, .. } in settings {
        let mentions =
            |line: &&str| [" ", "]"].iter().any(|end| line.contains(&format!("[env: {var}{end}")));
        let line = help.lines().find(mentions).unwrap_or_else(|| panic!("{var} is not in {help}"));
        let default = default.filter(|default| !default.is_empty());
        assert!(default.is_none_or(|text| line.contains(&format!("[default: {text}]"))), "{line}");
        assert!(line.trim_start().starts_with("--"), "{line}");
    }
    let place = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text} is not in {help}"));
    assert!(place("--now") < place("Addresses:") && place("Addresses:") < place("Passwords:"));
}

#[tokio::test]
async fn a_list_of_passwords_is_read_as_any_text_file() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    fs::write(&list, "\u{feff}zebra-crossing-9\r\n  second-password\t\r\n").unwrap();
    let list = list.to_str().unwrap();
    let setting = auth_service::config::PASSWORD_BLOCKLIST_FILE;
    let service = Running::start_with(Engine::Sqlite, &[(setting, list)]).await;
    for password in ["zebra-crossing-9", "second-password", "Second-Password"] {
        let body = json!({"email": "a@b.com", "password": password});
        assert_eq!(service.rest.post("/auth/register", &body).await.status, 400, "{password}");
    }
}

#[test]
fn a_service_token_is_checked_by_one_rule() {
    use auth_service::config::{SERVICE_TOKEN as CURRENT, SERVICE_TOKEN_PREVIOUS, Settings};

    let spaced = "token with spaces that no call can carry";
    let accented = "tökens-of-more-than-thirty-two-bytes";
    let faults = |setting: Setting, value: &str| {
        let given = [(CURRENT, SERVICE_TOKEN), (setting, value)];
        let mut source = crate::support::settings("sqlite::memory:", &given);
        Settings::read(&mut source).map(drop).map_err(|error| error.to_string())
    };
    for setting in [CURRENT, SERVICE_TOKEN_PREVIOUS] {
        for value in ["short", spaced, accented] {
            let told = faults(setting, value).unwrap_err();
            assert!(
                told.contains(&format!("{}: ", setting.var)) && !told.contains(value),
                "{told}"
            );
        }
    }
    assert_eq!(
        faults(SERVICE_TOKEN_PREVIOUS, &SERVICE_TOKEN.replace("service", "earlier")),
        Ok(())
    );
}
