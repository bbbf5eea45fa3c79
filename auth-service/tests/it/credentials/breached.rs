//! New passwords are looked up among breached ones: at a server of ranges, or in a file.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use auth_service::config;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::json;
use test_kit::{Client, ENGINES, Engine, TestDatabase};

use super::{OTHER_PASSWORD, Service};
use crate::support::{PASSWORD, settings};

const BREACHED: &str = "Tr0ub4dor&3 and more";

/// The SHA-1 of a password in upper-case digits.
fn sha1(password: &str) -> String {
    let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    sum.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// An answer of the server of ranges.
#[derive(Debug, Clone)]
enum Behaviour {
    Body(String),
    Status(u16),
    Redirect(String),
    Endless,
    Slow,
}

/// A server of ranges on this machine.
struct Ranges {
    base: String,
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Ranges {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/range/", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(Behaviour::Body(String::new())));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (how, paths) = (Arc::clone(&behaviour), Arc::clone(&asked));
        let router = Router::new().fallback(move |request: Request| {
            let padding = request.headers().get("add-padding").map(|value| value.to_str().unwrap());
            assert_eq!(padding, Some("true"));
            paths.lock().unwrap().push(request.uri().to_string());
            answer(how.lock().unwrap().clone())
        });
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { base, behaviour, asked }
    }

    fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Answers as for a password that is listed so often, with others around it.
    fn list(&self, password: &str, count: u32) {
        let suffix = sha1(password).split_off(5);
        let (low, high) = ("0".repeat(35), "F".repeat(35));
        self.set(Behaviour::Body(format!("{low}:1\r\n{suffix}:{count}\r\n{high}:0\r\n")));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn answer(behaviour: Behaviour) -> Response {
    let of = |status: u16| Response::builder().status(status);
    match behaviour {
        Behaviour::Body(text) => of(200).body(Body::from(text)),
        Behaviour::Status(status) => of(status).body(Body::from("0".repeat(35) + ":1")),
        Behaviour::Redirect(place) => of(302).header("location", place).body(Body::empty()),
        Behaviour::Endless => {
            let line = "0".repeat(35) + ":1\r\n";
            let stream = futures_util::stream::repeat_with(move || {
                Ok::<_, std::io::Error>(line.repeat(100))
            });
            of(200).body(Body::from_stream(stream))
        }
        Behaviour::Slow => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            of(200).body(Body::empty())
        }
    }
    .unwrap()
}

async fn checks(service: &Service, outcome: &str) -> u64 {
    let metrics = Client::new(service.running.admin.unwrap()).get("/metrics").await.text;
    let name = format!("auth_breach_checks_total{{outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn a_breached_password_is_refused_wherever_one_is_set_and_taken_at_login() {
    for engine in ENGINES {
        let ranges = Ranges::start().await;
        let base = ranges.base.clone();
        let service = Service::start(engine, &[(config::PASSWORD_BREACH_URL, &base)]).await;
        ranges.list(BREACHED, 3);

        let refused = service.register("a@b.com", BREACHED).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (400, "validation_failed"));
        assert_eq!(refused.json["errors"][0]["pointer"], "/password");
        assert_eq!(refused.json["errors"][0]["code"], "password_breached");
        // Five digits are told and no more.
        assert_eq!(ranges.asked(), [format!("/range/{}", &sha1(BREACHED)[..5])]);

        // A cheaper rule is told first, and nobody is asked.
        assert_eq!(service.register("a@b.com", "short").await.status, 400);
        assert_eq!(service.register("a@b.com", "password123").await.status, 400);
        assert!(ranges.asked().is_empty());

        assert_eq!(service.register("a@b.com", PASSWORD).await.status, 201);
        assert_eq!(ranges.asked().len(), 1);
        let (token, _) = service.session("a@b.com", PASSWORD).await;
        assert!(ranges.asked().is_empty(), "nothing is looked up at a login");

        // Before the current password is looked at.
        let body = json!({"current_password": "wrong", "new_password": BREACHED});
        let refused = service.call(Method::PUT, "/auth/password", &token, body).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert_eq!(refused.json["errors"][0]["pointer"], "/new_password");
        assert_eq!(refused.json["errors"][0]["code"], "password_breached");

        assert_eq!(service.forgot("a@b.com").await.status, 202);
        let link = service.mailbox.next("password_reset", "a@b.com").await.token();
        // Before the link is, which stays good.
        for token in ["unknown", &link] {
            let refused = service.reset(token, BREACHED).await;
            assert_eq!(refused.status, 400, "{}", refused.text);
            assert_eq!(refused.json["errors"][0]["code"], "password_breached");
        }
        assert_eq!(service.reset(&link, OTHER_PASSWORD).await.status, 204);
        assert_eq!(service.login("a@b.com", OTHER_PASSWORD).await.status, 200);
        assert_eq!(checks(&service, "breached").await, 4);
        assert_eq!(checks(&service, "clean").await, 2);
        assert_eq!(checks(&service, "failed").await, 0);
        service.stop().await;
    }
}

#[tokio::test]
async fn padding_does_not_count_and_letter_case_does_not_matter() {
    let ranges = Ranges::start().await;
    let base = ranges.base.clone();
    let service = Service::start(Engine::Sqlite, &[(config::PASSWORD_BREACH_URL, &base)]).await;
    ranges.list(BREACHED, 0);
    assert_eq!(service.register("a@b.com", BREACHED).await.status, 201);
    ranges.set(Behaviour::Body(format!("{}:7", sha1(BREACHED).split_off(5).to_lowercase())));
    assert_eq!(service.register("b@b.com", BREACHED).await.status, 400);
    // The form of the password in which it is stored is the one that is looked up.
    ranges.list("caf\u{e9} 1234567", 1);
    assert_eq!(service.register("c@b.com", "cafe\u{301} 1234567").await.status, 400);
    service.stop().await;
}

#[tokio::test]
async fn a_server_that_fails_refuses_nobody() {
    let ranges = Ranges::start().await;
    let base = ranges.base.clone();
    let service = Service::start(Engine::Sqlite, &[(config::PASSWORD_BREACH_URL, &base)]).await;
    let elsewhere = Ranges::start().await;
    elsewhere.list(BREACHED, 1);
    let failures = [
        Behaviour::Status(500),
        Behaviour::Status(404),
        Behaviour::Status(204),
        Behaviour::Redirect(format!("{}{}", elsewhere.base, &sha1(BREACHED)[..5])),
        Behaviour::Body("<html>hello</html>".to_owned()),
        Behaviour::Endless,
    ];
    for (number, behaviour) in failures.into_iter().enumerate() {
        ranges.set(behaviour.clone());
        let answer = service.register(&format!("a{number}@b.com"), BREACHED).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{behaviour:?}: {}", answer.text);
    }
    assert!(elsewhere.asked().is_empty(), "a redirect is not followed");
    assert_eq!(checks(&service, "failed").await, 6);
    service.stop().await;
}

#[tokio::test]
async fn a_server_that_hangs_or_is_away_holds_nobody_up() {
    let ranges = Ranges::start().await;
    let base = ranges.base.clone();
    let overrides =
        [(config::PASSWORD_BREACH_URL, base.as_str()), (config::REGISTRATIONS_PER_MINUTE, "0")];
    let service = Service::start(Engine::Sqlite, &overrides).await;
    ranges.list(BREACHED, 1);
    assert_eq!(service.register("first@b.com", PASSWORD).await.status, 201);
    ranges.set(Behaviour::Slow);
    let began = Instant::now();
    // More than are looked up at a time.
    let slow = futures_util::future::join_all((0..40).map(|number| {
        let service = &service;
        async move { service.register(&format!("a{number}@b.com"), BREACHED).await }
    }));
    let other = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        assert_eq!(service.login("first@b.com", PASSWORD).await.status, 200);
        assert_eq!(service.running.rest.get("/health").await.status, 200);
        began.elapsed()
    };
    let (answers, took) = tokio::join!(slow, other);
    assert!(answers.iter().all(|answer| answer.status == 201));
    assert!(took < Duration::from_millis(1500), "{took:?}");
    // Two seconds, and the hashes of forty passwords.
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(checks(&service, "failed").await, 40);
    service.stop().await;

    // Nobody listens at the address of a listener that is gone.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let base = format!("http://{gone}/range/");
    let service = Service::start(Engine::Sqlite, &[(config::PASSWORD_BREACH_URL, &base)]).await;
    assert_eq!(service.register("a@b.com", BREACHED).await.status, 201);
    assert_eq!(checks(&service, "failed").await, 1);
    service.stop().await;
}

#[tokio::test]
async fn a_file_is_searched_and_a_newer_one_counts_at_once() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let path = database.folder().join("breached.txt");
    let write = |passwords: &[&str]| {
        let mut lines: Vec<String> =
            passwords.iter().map(|password| sha1(password) + ":2\r\n").collect();
        lines.extend((1..200).map(|n| format!("{:02X}{:038X}:1\r\n", n % 256, n)));
        lines.sort_unstable();
        let mut file = tempfile::NamedTempFile::new_in(database.folder()).unwrap();
        file.write_all(lines.concat().as_bytes()).unwrap();
        file.persist(&path).unwrap();
    };
    write(&[BREACHED]);
    let text = path.display().to_string();
    let service =
        Service::start_on(database.clone(), &[(config::PASSWORD_BREACH_FILE, &text)]).await;
    let refused = service.register("a@b.com", BREACHED).await;
    assert_eq!(refused.json["errors"][0]["code"], "password_breached", "{}", refused.text);
    assert_eq!(service.register("a@b.com", OTHER_PASSWORD).await.status, 201);
    write(&[BREACHED, PASSWORD]);
    assert_eq!(service.register("b@b.com", PASSWORD).await.status, 400);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(service.register("b@b.com", PASSWORD).await.status, 201);
    assert_eq!(checks(&service, "failed").await, 1);
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_looked_up_in_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let unsorted = folder.path().join("unsorted");
    let lines = format!("{}:1\n{}:1\n", "B".repeat(40), "A".repeat(40));
    std::fs::write(&unsorted, lines).unwrap();
    let unsorted = unsorted.display().to_string();
    for (setting, value, part) in [
        (config::PASSWORD_BREACH_FILE, unsorted.as_str(), "not sorted"),
        (config::PASSWORD_BREACH_FILE, "/nowhere/at-all", "No such file"),
        (config::PASSWORD_BREACH_URL, "http://example.com/range/", "must be https"),
        (config::PASSWORD_BREACH_URL, "https://me:hunter2@example.com/", "user name"),
        (config::PASSWORD_BREACH_URL, "range", "URL"),
    ] {
        let mut source = settings("sqlite::memory:", &[(setting, value)]);
        let told = config::Settings::read(&mut source).unwrap_err().to_string();
        assert!(told.contains(setting.var) && told.contains(part), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
