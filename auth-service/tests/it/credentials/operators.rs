//! What operators do with accounts, by the commands as they run them beside the service.

use std::process::Command;

use auth_service::{config, store::EventRecord};
use serde_json::{Value, json};
use service_kit::settings::Setting;
use test_kit::{ENGINES, Engine, TestDatabase};

use super::{OTHER_PASSWORD, Service, assert_refused};
use crate::{
    events::{all, connect},
    support::{ENCRYPTION_KEY, PASSWORD},
};

const EMAIL: &str = "a@b.com";
const ID: &str = "0198c5a0-0000-7000-8000-000000000001";
/// What gives the command mail: it only writes to the outbox, from which the service sends.
const MAIL: [(&str, &str); 3] = [
    ("SMTP_URL", "smtp://127.0.0.1:1?tls=none"),
    ("MAIL_FROM", "no-reply@example.com"),
    ("PUBLIC_URL", "https://auth.example.com"),
];

/// Runs `accounts` with the service's database and key.
fn accounts(
    database: &TestDatabase,
    arguments: &[&str],
    settings: &[(&str, &str)],
) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(database.folder())
        .arg("accounts")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .env("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

impl Service {
    fn accounts(&self, arguments: &[&str]) -> (i32, String, String) {
        accounts(&self.running.database, arguments, &MAIL)
    }

    /// Runs a command that has to do what it is asked for, and returns its answer.
    #[track_caller]
    fn does(&self, arguments: &[&str]) -> Value {
        let (status, printed, told) = self.accounts(&[arguments, &["--json"]].concat());
        assert_eq!(status, 0, "{arguments:?}: {told}");
        serde_json::from_str(&printed).unwrap()
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], status: i32, code: &str) {
        let (found, printed, told) = self.accounts(arguments);
        assert_eq!(found, status, "{arguments:?}: {printed} {told}");
        assert!(told.contains(code), "{arguments:?}: {told}");
    }
}

async fn start(engine: Engine, overrides: &[(Setting, &str)]) -> Service {
    let mut all = vec![(config::LOGINS_PER_MINUTE, "0")];
    all.extend(overrides);
    Service::start(engine, &all).await
}

#[tokio::test]
async fn a_disabled_account_is_as_if_its_password_were_wrong_and_all_it_had_ends() {
    for engine in ENGINES {
        let service = start(engine, &[]).await;
        let id = service.register(EMAIL, PASSWORD).await.json["id"].as_str().unwrap().to_owned();
        let (token, refresh) = service.session(EMAIL, PASSWORD).await;
        service.forgot(EMAIL).await;
        let link = service.mailbox.next("password_reset", EMAIL).await.token();

        let told = service.does(&["disable", &id]);
        assert_eq!((&told["id"], &told["disabled"]), (&json!(id), &json!(true)));
        let right = service.login(EMAIL, PASSWORD).await;
        let wrong = service.login(EMAIL, "wrong").await;
        assert_refused(&right, 401, "invalid_credentials");
        let without_id = |answer: &test_kit::Answer| {
            let mut json = answer.json.clone();
            json["request_id"] = Value::Null;
            json
        };
        assert_eq!(without_id(&right), without_id(&wrong));
        assert_eq!(right.header("www-authenticate"), wrong.header("www-authenticate"));
        assert_refused(&service.refresh(&refresh).await, 401, "invalid_refresh_token");
        assert!(!service.takes(&token).await);
        let change = service.change_password(&token, PASSWORD, OTHER_PASSWORD).await;
        assert_refused(&change, 401, "token_revoked");
        assert_refused(&service.reset(&link, OTHER_PASSWORD).await, 400, "invalid_link");
        let feed = service.running.rest.get("/.well-known/revocations").await.json;
        assert_eq!(feed["entries"][0]["generation"], 1, "{feed}");

        // No link leads to it: not one that is asked for now, nor one of an operator.
        for answer in [service.forgot(EMAIL).await, service.resend(EMAIL).await] {
            assert_eq!(answer.status, 202);
        }
        service.refuses(&["send-reset", EMAIL], 3, "account_disabled");
        // Again, and by its email: it stays as it is.
        service.does(&["disable", "A@B.com"]);
        let feed = service.running.rest.get("/.well-known/revocations").await.json;
        assert_eq!(feed["entries"].as_array().unwrap().len(), 1, "{feed}");
        let found = service.does(&["show", EMAIL]);
        assert_eq!((&found["disabled"], &found["sessions"]), (&json!(true), &json!([])));
        assert_eq!(service.does(&["list", "--disabled"])["accounts"][0]["id"], id);

        let told = service.does(&["enable", EMAIL]);
        assert_eq!(told["disabled"], false);
        assert_eq!(service.login(EMAIL, PASSWORD).await.status, 200);
        assert_refused(&service.refresh(&refresh).await, 401, "invalid_refresh_token");
        assert!(!service.takes(&token).await);
        assert_refused(&service.reset(&link, OTHER_PASSWORD).await, 400, "invalid_link");
        assert_eq!(service.does(&["list", "--disabled"])["accounts"], json!([]));
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
}

/// The right password of a disabled account counts as a failure, like a wrong one.
#[tokio::test]
async fn logins_to_a_disabled_account_are_throttled_like_wrong_passwords() {
    for engine in ENGINES {
        let service = start(engine, &[(config::LOGIN_FAILURES_PER_PAIR, "3")]).await;
        let line = json!({"email": EMAIL, "disabled": true, "password_hash":
            "$2b$04$2DZXpO2kTMrl92fT1g/vB.VZfF9fC49w/Lnw1JH52Bn7lI7dl/Nr."});
        let file = service.running.database.folder().join("in.jsonl");
        std::fs::write(&file, line.to_string()).unwrap();
        service.does(&["import", file.to_str().unwrap()]);
        // What an import has disabled is disabled.
        service.forgot(EMAIL).await;
        for _ in 0..3 {
            let answer = service.login(EMAIL, "correct horse b\u{e4}ttery").await;
            assert_refused(&answer, 401, "invalid_credentials");
        }
        let answer = service.login(EMAIL, "correct horse b\u{e4}ttery").await;
        assert_refused(&answer, 429, "too_many_attempts");
        service.does(&["unlock", EMAIL]);
        service.does(&["enable", EMAIL]);
        assert_eq!(service.login(EMAIL, "correct horse b\u{e4}ttery").await.status, 200);
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
}

/// However a login and the disabling of its account meet, no session is left.
#[tokio::test]
async fn no_login_that_is_under_way_outlives_the_disabling_of_its_account() {
    for engine in ENGINES {
        let service = start(engine, &[(config::LOGIN_FAILURES_PER_PAIR, "0")]).await;
        service.register(EMAIL, PASSWORD).await;
        let body = json!({"email": EMAIL, "password": PASSWORD, "offline_access": true});
        let logins = futures_util::future::join_all(
            (0..24).map(|_| service.running.rest.post("/auth/login", &body)),
        );
        let (database, disabled) = (service.running.database.clone(), async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        });
        let disable = async {
            disabled.await;
            tokio::task::spawn_blocking(move || accounts(&database, &["disable", EMAIL], &MAIL))
                .await
                .unwrap()
        };
        let (answers, (status, ..)) = tokio::join!(logins, disable);
        assert_eq!(status, 0);
        let found = service.does(&["show", EMAIL]);
        assert_eq!(found["sessions"], json!([]), "{engine:?}");
        for answer in answers.iter().filter(|answer| answer.status == 200) {
            assert!(!service.takes(answer.json["access_token"].as_str().unwrap()).await);
        }
    }
}

#[tokio::test]
async fn whoever_is_locked_out_need_not_wait() {
    for engine in ENGINES {
        let service = start(engine, &[(config::LOGIN_FAILURES_PER_PAIR, "3")]).await;
        service.register(EMAIL, PASSWORD).await;
        assert_eq!(service.login(EMAIL, PASSWORD).await.status, 200);
        for _ in 0..3 {
            service.login(EMAIL, "wrong").await;
        }
        assert_refused(&service.login(EMAIL, PASSWORD).await, 429, "too_many_attempts");
        let arguments = ["show", EMAIL, "--json"];
        let limits = [MAIL.as_slice(), &[("LOGIN_FAILURES_PER_PAIR", "3")]].concat();
        let (_, printed, _) = accounts(&service.running.database, &arguments, &limits);
        let found: Value = serde_json::from_str(&printed).unwrap();
        let locked: Vec<_> = found["failed_logins"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["network"].as_str(), one["failures"].as_u64(), one["locked"].as_bool()))
            .collect();
        let expected = [(None, Some(3), Some(false)), (Some("127.0.0.1"), Some(3), Some(true))];
        assert_eq!(locked, expected, "{found}");
        assert_eq!(found["networks"][0]["network"], "127.0.0.1");

        service.does(&["unlock", EMAIL]);
        assert_eq!(service.does(&["show", EMAIL])["failed_logins"], json!([]));
        // The networks stay known: they are not what has locked it.
        assert_eq!(service.does(&["show", EMAIL])["networks"][0]["network"], "127.0.0.1");
        assert_eq!(service.login(EMAIL, PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn ending_the_sessions_of_an_account_is_out_everywhere() {
    for engine in ENGINES {
        let service = start(engine, &[]).await;
        service.register(EMAIL, PASSWORD).await;
        let (token, refresh) = service.session(EMAIL, PASSWORD).await;
        service.forgot(EMAIL).await;
        let link = service.mailbox.next("password_reset", EMAIL).await.token();
        let shown = service.does(&["show", EMAIL]);
        assert_eq!(shown["sessions"][0]["network"], "127.0.0.1", "{shown}");
        service.does(&["end-sessions", EMAIL]);
        assert!(!service.takes(&token).await);
        assert_refused(&service.refresh(&refresh).await, 401, "invalid_refresh_token");
        assert_refused(&service.reset(&link, OTHER_PASSWORD).await, 400, "invalid_link");
        let token = service.running.login(EMAIL).await;
        assert!(service.takes(&token).await);
    }
}

#[tokio::test]
async fn an_operator_starts_a_reset_and_the_owner_ends_it() {
    for engine in ENGINES {
        let service = start(engine, &[(config::RESETS_PER_HOUR, "1")]).await;
        service.register(EMAIL, PASSWORD).await;
        for _ in 0..2 {
            // What strangers may ask for is limited; this is not.
            assert_eq!(service.does(&["send-reset", EMAIL])["link_sent"], true);
        }
        let mail = service.mailbox.next("password_reset", EMAIL).await;
        assert!(mail.text.contains("https://auth.example.com/account/reset-password#token="));
        // Until then the old one is good.
        assert_eq!(service.login(EMAIL, PASSWORD).await.status, 200);
        assert_eq!(service.reset(&mail.token(), OTHER_PASSWORD).await.status, 204);
        assert_eq!(service.login(EMAIL, OTHER_PASSWORD).await.status, 200);
        let database = &service.running.database;
        let (status, _, told) = accounts(database, &["send-reset", EMAIL], &[]);
        assert!(status == 3 && told.contains("mail_disabled"), "{status} {told}");
    }
}

#[tokio::test]
async fn an_account_that_an_operator_creates_gets_its_password_from_its_owner() {
    for engine in ENGINES {
        let required = (config::EMAIL_VERIFICATION, "required");
        let service = start(engine, &[required, (config::REGISTRATION, "closed")]).await;
        let told = service.does(&["create", "A@B.com"]);
        assert_eq!((&told["email"], &told["link_sent"]), (&json!(EMAIL), &json!(true)));
        assert_eq!(told["password_scheme"], Value::Null);
        for password in ["", "!", PASSWORD] {
            assert_refused(&service.login(EMAIL, password).await, 401, "invalid_credentials");
        }
        service.refuses(&["create", EMAIL], 3, "email_already_registered");
        let mail = service.mailbox.next("account_created", EMAIL).await;
        assert_eq!(service.reset(&mail.token(), PASSWORD).await.status, 204);
        assert_eq!(service.login(EMAIL, PASSWORD).await.status, 200);
        let found = service.does(&["show", EMAIL]);
        assert_eq!(found["id"], told["id"]);
        assert_eq!(found["email_verified"], true);
        service.mailbox.next("password_was_reset", EMAIL).await;

        // A hash from elsewhere is taken; a password is not, whatever it is called.
        let hash = "$2b$04$2DZXpO2kTMrl92fT1g/vB.VZfF9fC49w/Lnw1JH52Bn7lI7dl/Nr.";
        let arguments = ["create", "c@b.com", "--verified", "--hash", hash];
        let told = service.does(&arguments);
        assert_eq!((&told["email_verified"], &told["link_sent"]), (&json!(true), &json!(false)));
        assert_eq!(service.login("c@b.com", "correct horse b\u{e4}ttery").await.status, 200);
        let arguments = ["create", "d@b.com", "--hash", "a password"];
        service.refuses(&arguments, 3, "password_hash cannot be used");
        let (_, _, told) = service.accounts(&arguments);
        assert!(!told.contains("a password"), "{told}");

        // With mail off it says how the person gets in.
        let database = &service.running.database;
        let (status, printed, _) = accounts(database, &["create", "e@b.com"], &[]);
        assert!(status == 0 && printed.contains("mail is off"), "{printed}");
        let sent = service.does(&["create", "f@b.com", "--no-link"])["link_sent"].clone();
        assert_eq!(sent, false);
        service.mailbox.settle().await;
        service.mailbox.assert_empty();
    }
}

#[tokio::test]
async fn registrations_that_wait_end_with_the_creation_of_their_account() {
    for engine in ENGINES {
        let service = start(engine, &[(config::EMAIL_VERIFICATION, "required")]).await;
        service.register(EMAIL, PASSWORD).await;
        let link = service.mailbox.next("email_verification", EMAIL).await.token();
        service.does(&["create", EMAIL]);
        assert_refused(&service.verify(&link).await, 400, "invalid_link");
        assert_refused(&service.login(EMAIL, PASSWORD).await, 401, "invalid_credentials");
        let link = service.mailbox.next("account_created", EMAIL).await.token();
        assert_eq!(service.reset(&link, OTHER_PASSWORD).await.status, 204);
        assert_eq!(service.login(EMAIL, OTHER_PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_who_is_not_there_is_told_by_the_exit_status() {
    for engine in ENGINES {
        let service = start(engine, &[]).await;
        let id = service.register(EMAIL, PASSWORD).await.json["id"].as_str().unwrap().to_owned();
        let (token, _) = service.session(EMAIL, PASSWORD).await;
        assert_eq!(service.does(&["delete", EMAIL]), json!({"id": id, "deleted": true}));
        assert_refused(&service.login(EMAIL, PASSWORD).await, 401, "invalid_credentials");
        assert!(!service.takes(&token).await);
        for act in ["show", "disable", "enable", "unlock", "end-sessions", "send-reset", "delete"] {
            for account in [EMAIL, id.as_str(), ID] {
                service.refuses(&[act, account], 4, "account_not_found");
            }
            // What is neither an id nor an email is a fault of the command line.
            service.refuses(&[act, "nobody"], 2, "must be an email, or a UUID");
        }
        assert_eq!(service.register(EMAIL, PASSWORD).await.status, 201);
    }
}

#[tokio::test]
async fn each_act_is_an_event_of_the_operator() {
    for engine in ENGINES {
        let service = start(engine, &[]).await;
        let id = service.does(&["create", EMAIL])["id"].as_str().unwrap().to_owned();
        let acts = [
            ("unlock", "account.unlocked"),
            ("end-sessions", "session.all_ended"),
            ("send-reset", "password.reset_requested"),
            ("disable", "account.disabled"),
            // What changes nothing is none.
            ("disable", ""),
            ("enable", "account.enabled"),
            ("enable", ""),
        ];
        for (act, _) in acts {
            service.does(&[act, EMAIL]);
        }
        let store = connect(&service.running.database);
        let of_account = |events: Vec<EventRecord>| {
            let told = |event: EventRecord| {
                assert_eq!((event.actor.as_str(), &event.network), ("operator", &None));
                (event.name, event.account.map(|account| account.to_string()))
            };
            events.into_iter().map(told).collect::<Vec<_>>()
        };
        let expected = std::iter::once("account.created")
            .chain(acts.map(|(_, event)| event).into_iter().filter(|event| !event.is_empty()))
            .map(|event| (event.to_owned(), Some(id.clone())))
            .collect::<Vec<_>>();
        assert_eq!(of_account(all(&store).await), expected, "{engine:?}");
        service.does(&["delete", &id]);
        let anonymous = expected.into_iter().map(|(event, _)| (event, None));
        let expected: Vec<_> = anonymous.chain([("account.deleted".to_owned(), None)]).collect();
        assert_eq!(of_account(all(&store).await), expected, "{engine:?}");
    }
}

#[tokio::test]
async fn accounts_are_listed_page_by_page() {
    for engine in ENGINES {
        let service = start(engine, &[]).await;
        // Their order is that of creation, not that of the ids.
        let lines: Vec<_> = (0..7)
            .map(|number| {
                let id = format!("0198c5a0-0000-4000-8000-00000000000{}", 9 - number);
                let created_at = format!("2020-01-0{}T00:00:00Z", number / 2 + 1);
                let email = format!("{}{number}@example.com", ["x", "y"][number % 2]);
                json!({"id": id, "email": email, "created_at": created_at}).to_string()
            })
            .collect();
        let file = service.running.database.folder().join("in.jsonl");
        std::fs::write(&file, lines.join("\n")).unwrap();
        service.does(&["import", file.to_str().unwrap()]);

        let walk = |arguments: &[&str]| {
            let (mut emails, mut token) = (Vec::new(), String::new());
            loop {
                let place = format!("--page-token={token}");
                let page = ["list", "--page-size", "3", &place];
                let page = service.does(&[page.as_slice(), arguments].concat());
                let accounts = page["accounts"].as_array().unwrap().clone();
                assert!(accounts.len() <= 3);
                let email = |one: &Value| one["email"].as_str().unwrap().to_owned();
                emails.extend(accounts.iter().map(email));
                page["next_page_token"].as_str().unwrap().clone_into(&mut token);
                if token.is_empty() {
                    return emails;
                }
            }
        };
        let expected = ["y1", "x0", "y3", "x2", "y5", "x4", "x6"];
        assert_eq!(walk(&[]), expected.map(|name| format!("{name}@example.com")), "{engine:?}");
        let expected = ["x0", "x2", "x4", "x6"];
        let found = walk(&["--email-prefix", "X"]);
        assert_eq!(found, expected.map(|name| format!("{name}@example.com")), "{engine:?}");
        assert_eq!(walk(&["--email-prefix", "x2@"]), ["x2@example.com"]);
        for none in ["--email-prefix=z", "--email-prefix=-z"] {
            assert!(walk(&[none]).is_empty());
        }

        // A token is good for its own list only.
        let token = service.does(&["list", "--page-size", "1"])["next_page_token"].clone();
        let token = token.as_str().unwrap();
        service.refuses(
            &["list", "--disabled", &format!("--page-token={token}")],
            1,
            "invalid_page_token",
        );
        for wrong in [&token[1..], "-token"] {
            let wrong = format!("--page-token={wrong}");
            service.refuses(&["list", &wrong], 1, "invalid_page_token");
        }
        let (status, printed, _) = service.accounts(&["list", "--all", "--json"]);
        assert_eq!((status, printed.lines().count()), (0, 7));
        // It needs the database and no other setting.
        let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
            .args(["accounts", "list", "--page-size", "3"])
            .env_clear()
            .env("DATABASE_URL", &service.running.database.url)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && printed.contains("there are more"), "{printed}");
    }
}

/// The guide for operators names no command that does not exist.
#[tokio::test]
async fn every_command_of_the_guide_can_be_run() {
    let service = start(Engine::Sqlite, &[]).await;
    let guide = include_str!("../../../../docs/operators.md");
    let blocks = guide.lines().filter_map(|line| line.strip_prefix("auth-service "));
    // In the text, with an account or of a list; an even part is outside of `…`.
    let in_text = guide.split('`').skip(1).step_by(2).filter(|text| {
        text.starts_with("accounts ") && (text.contains('@') || text.contains(" list "))
    });
    let commands: Vec<_> = blocks.chain(in_text).collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let (command, _) = command.split_once(" > ").unwrap_or((command, ""));
        let token = service.does(&["list"])["next_page_token"].as_str().unwrap().to_owned();
        let command = command.replace("--page-token=TOKEN", &format!("--page-token={token}"));
        let words: Vec<_> = command.split_whitespace().skip(1).collect();
        let (status, _, told) = service.accounts(&words);
        assert!([0, 3, 4].contains(&status), "{command}: {status} {told}");
    }
}

/// Whoever gets an address after somebody else must not inherit the networks that were known for it.
#[tokio::test]
async fn known_networks_follow_the_account_to_its_new_address() {
    for engine in ENGINES {
        let service = start(engine, &[]).await;
        service.register(EMAIL, PASSWORD).await;
        let token = service.running.login(EMAIL).await;
        service.change_email(&token, "new@b.com", PASSWORD).await;
        let link = service.mailbox.next("email_change", "new@b.com").await.token();
        assert_eq!(service.verify(&link).await.status, 204);
        service.register(EMAIL, OTHER_PASSWORD).await;
        assert_eq!(service.does(&["show", EMAIL])["networks"], json!([]), "{engine:?}");
        let kept = service.does(&["show", "new@b.com"]);
        assert_eq!(kept["networks"][0]["network"], "127.0.0.1", "{engine:?}");
    }
}

/// Other services refuse a deleted account for good, so its id cannot come back.
#[tokio::test]
async fn the_id_of_a_deleted_account_is_not_imported() {
    for engine in ENGINES {
        let service = start(engine, &[]).await;
        let line = json!({"email": EMAIL, "id": ID}).to_string();
        std::fs::write(service.running.database.folder().join("in.jsonl"), line).unwrap();
        assert_eq!(service.does(&["import", "in.jsonl"])["imported"], 1, "{engine:?}");
        service.does(&["delete", EMAIL]);
        for arguments in [["import", "in.jsonl"].as_slice(), &["import", "in.jsonl", "--dry-run"]] {
            let (status, _, told) = service.accounts(arguments);
            assert_eq!(status, 3, "{told}");
            assert!(told.contains("line 1: id is that of a deleted account"), "{told}");
        }
        service.refuses(&["show", EMAIL], 4, "account_not_found");
    }
}
