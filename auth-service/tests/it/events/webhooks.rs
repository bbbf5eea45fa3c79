//! Webhooks: signed, at least once, in order for each account, and never in anybody's way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use auth_service::{
    config::{self, Settings},
    webhooks::{SigningKey, signature},
};
use axum::{
    Router,
    body::{Body, Bytes},
    http::HeaderMap,
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use service_kit::{clock::machine_time, settings::Setting};
use test_kit::{Client, ENGINES, Engine, TestDatabase};

use super::{all, connect};
use crate::support::{PASSWORD, Running, settings};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What the receiver answers.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Status(u16),
    Redirect,
    /// The head never comes.
    Stall,
    /// Success, with a body that never ends.
    Endless,
}

/// A webhook that has come.
#[derive(Debug, Clone)]
struct Told {
    id: String,
    timestamp: i64,
    signature: String,
    raw: Bytes,
    body: Value,
}

impl Told {
    fn account(&self) -> &str {
        self.body["data"]["account"].as_str().unwrap_or_default()
    }
}

/// A receiver on this machine.
#[derive(Clone)]
struct Receiver {
    url: String,
    told: Arc<Mutex<Vec<Told>>>,
    answer: Arc<Mutex<Answer>>,
    /// Answers for single accounts.
    of_accounts: Arc<Mutex<HashMap<String, Answer>>>,
    redirected: Arc<Mutex<u32>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}/hook?token=secret-token", listener.local_addr().unwrap()),
            told: Arc::default(),
            answer: Arc::new(Mutex::new(Answer::Status(204))),
            of_accounts: Arc::default(),
            redirected: Arc::default(),
        };
        let (hook, elsewhere) = (receiver.clone(), receiver.clone());
        let router = Router::new()
            .route(
                "/hook",
                axum::routing::post(move |headers: HeaderMap, body: Bytes| async move {
                    hook.take(&headers, body).await
                }),
            )
            .fallback(move || async move { *elsewhere.redirected.lock().unwrap() += 1 });
        tokio::spawn(async { axum::serve(listener, router).await });
        receiver
    }

    async fn take(&self, headers: &HeaderMap, raw: Bytes) -> Response {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/json");
        let told = Told {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp").parse().unwrap(),
            signature: header("webhook-signature"),
            body: serde_json::from_slice(&raw).unwrap(),
            raw,
        };
        let answer = *self
            .of_accounts
            .lock()
            .unwrap()
            .get(told.account())
            .unwrap_or(&*self.answer.lock().unwrap());
        self.told.lock().unwrap().push(told);
        match answer {
            Answer::Status(status) => {
                Response::builder().status(status).body(Body::empty()).unwrap()
            }
            Answer::Redirect => Response::builder()
                .status(307)
                .header("location", "/elsewhere")
                .body(Body::empty())
                .unwrap(),
            Answer::Stall => std::future::pending().await,
            Answer::Endless => {
                let text =
                    futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(999)));
                Response::new(Body::from_stream(text))
            }
        }
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn answer_for(&self, account: &str, answer: Option<Answer>) {
        let mut of_accounts = self.of_accounts.lock().unwrap();
        match answer {
            Some(answer) => of_accounts.insert(account.to_owned(), answer),
            None => of_accounts.remove(account),
        };
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until so many have come.
    async fn wait(&self, number: usize) -> Vec<Told> {
        for _ in 0..400 {
            if self.told().len() >= number {
                return self.told();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{number} wanted, but {:?}", self.told());
    }

    fn settings(&self) -> [(Setting, &str); 2] {
        [(config::WEBHOOK_URL, &self.url), (config::WEBHOOK_SECRET, SECRET)]
    }
}

fn types<'a>(told: impl IntoIterator<Item = &'a Told>) -> Vec<&'a str> {
    told.into_iter().map(|told| told.body["type"].as_str().unwrap()).collect()
}

async fn offline_login(service: &Running, email: &str) {
    let body = json!({"email": email, "password": PASSWORD, "offline_access": true});
    assert_eq!(service.rest.post("/auth/login", &body).await.status, 200);
}

/// How many attempts had this outcome.
async fn attempts(service: &Running, outcome: &str) -> u64 {
    let metrics = Client::new(service.admin.unwrap()).get("/metrics").await.text;
    let name = format!("auth_webhook_outbox_attempts_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_event_is_told_once_signed_and_in_order() {
    for engine in ENGINES {
        let receiver = Receiver::start().await;
        let service = Running::start_with(engine, &receiver.settings()).await;
        let id = service.register("a@b.com").await;
        offline_login(&service, "a@b.com").await;
        receiver.wait(3).await;
        service.delete_account(&id).await;
        let told = receiver.wait(4).await;
        let wanted =
            ["account.registered", "login.new_network", "session.begun", "account.deleted"];
        assert_eq!(types(&told), wanted, "{engine:?}");

        let events = all(&connect(&service.database)).await;
        let key: SigningKey = SECRET.parse().unwrap();
        for (told, event) in told.iter().zip(&events) {
            assert_eq!(told.id, event.id.to_string());
            let right = signature(std::slice::from_ref(&key), &told.id, told.timestamp, &told.raw);
            assert_eq!(told.signature, right);
            assert!((told.timestamp - machine_time().timestamp()).abs() < 60);
            let members: Vec<_> = told.body.as_object().unwrap().keys().collect();
            assert_eq!(members, ["data", "timestamp", "type"]);
            let time: DateTime<Utc> = told.body["timestamp"].as_str().unwrap().parse().unwrap();
            assert_eq!(time, event.occurred_at);
            let text = told.body.to_string();
            assert!(!text.contains('@') && !text.contains(PASSWORD), "{text}");
        }
        assert_eq!(told[0].account(), id);
        assert_eq!(told[0].body["data"]["network"], "127.0.0.1");
        assert_eq!(told[0].body["data"]["actor"], "anonymous");
        // A receiver has to be told which account is gone, and nothing else.
        let gone = json!({"account": id, "actor": "service", "network": null, "request_id": null});
        assert_eq!(told[3].body["data"], gone, "{engine:?}");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(receiver.told().len(), 4, "none comes twice without need");
        assert_eq!(attempts(&service, "delivered").await, 4);
    }
}

#[tokio::test]
async fn what_fails_comes_again_with_its_id_and_holds_up_its_account_alone() {
    for engine in ENGINES {
        let receiver = Receiver::start().await;
        let service = Running::start_with(engine, &receiver.settings()).await;
        let slow = service.register("slow@b.com").await;
        receiver.wait(1).await;
        receiver.answer_for(&slow, Some(Answer::Status(500)));
        offline_login(&service, "slow@b.com").await;
        receiver.wait(2).await;
        let other = service.register("other@b.com").await;
        offline_login(&service, "other@b.com").await;
        let told = receiver.wait(5).await;
        let others: Vec<_> = told.iter().filter(|told| told.account() == other).collect();
        let wanted = ["account.registered", "login.new_network", "session.begun"];
        assert_eq!(types(others), wanted, "{engine:?}");

        // Neither comes its second event before its first one has.
        let failed = |told: &[Told]| {
            let of_slow: Vec<_> =
                told.iter().filter(|told| told.account() == slow).cloned().collect();
            of_slow[1..].to_vec()
        };
        service.advance_clock(TimeDelta::seconds(6));
        receiver.wait(6).await;
        receiver.answer_for(&slow, None);
        service.advance_clock(TimeDelta::seconds(11));
        let told = receiver.wait(8).await;
        let told = failed(&told);
        let wanted =
            ["login.new_network", "login.new_network", "login.new_network", "session.begun"];
        assert_eq!(types(&told), wanted, "{engine:?}");
        assert_eq!((&told[1].id, &told[2].id), (&told[0].id, &told[0].id));
        assert_eq!(told[0].raw, told[2].raw);
        // Its time is that of the attempt, so that its signature is another one.
        assert!(told[1].timestamp >= told[0].timestamp + 6);
        assert_ne!(told[1].signature, told[0].signature);
        assert_ne!(told[3].id, told[0].id);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_take_it_slows_nobody_and_gets_it_later() {
    for engine in ENGINES {
        let receiver = Receiver::start().await;
        let service = Running::start_with(engine, &receiver.settings()).await;
        let mut wanted = 0;
        for (number, answer) in
            [Answer::Redirect, Answer::Status(410), Answer::Status(400), Answer::Stall]
                .into_iter()
                .enumerate()
        {
            receiver.answer(answer);
            let begun = Instant::now();
            for more in 0..5 {
                service.register(&format!("a{number}-{more}@b.com")).await;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{answer:?}");
            wanted += 5;
            receiver.wait(wanted).await;
        }
        assert_eq!(*receiver.redirected.lock().unwrap(), 0, "a redirect is followed");
        assert_eq!(attempts(&service, "delivered").await, 0);
        // The process ends while the receiver stalls; whoever comes next goes on.
        let database = service.stop().await;
        receiver.answer(Answer::Endless);
        let before = receiver.told().len();
        let service = Running::start_on(database, &receiver.settings()).await;
        service.advance_clock(TimeDelta::seconds(700));
        let ids = |told: &[Told]| {
            let mut ids: Vec<_> = told.iter().map(|told| told.id.clone()).collect();
            ids.sort();
            ids.dedup();
            ids
        };
        // The jump of the clock ends the leases of what is being sent, which is then sent once more.
        for _ in 0..400 {
            if attempts(&service, "delivered").await >= 20
                && ids(&receiver.told()[before..]).len() == 20
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(attempts(&service, "delivered").await >= 20, "{engine:?}");
        let told = receiver.told();
        let later = ids(&told[before..]);
        assert_eq!(later.len(), 20, "{engine:?}");
        // Each came with the id that it had.
        assert!(ids(&told[..before]).iter().all(|id| later.contains(id)), "{engine:?}");
    }
}

#[tokio::test]
async fn a_secret_can_be_changed_without_a_receiver_that_refuses() {
    let receiver = Receiver::start().await;
    let [url, _] = receiver.settings();
    let secrets =
        [url, (config::WEBHOOK_SECRET, OTHER_SECRET), (config::WEBHOOK_SECRET_PREVIOUS, SECRET)];
    let service = Running::start_with(Engine::Sqlite, &secrets).await;
    service.register("a@b.com").await;
    let told = receiver.wait(1).await.swap_remove(0);
    let by =
        |secret: &str| signature(&[secret.parse().unwrap()], &told.id, told.timestamp, &told.raw);
    let both: Vec<_> = told.signature.split(' ').collect();
    assert_eq!(both, [by(OTHER_SECRET), by(SECRET)]);
}

#[tokio::test]
async fn settings_that_cannot_work_or_are_not_safe_end_the_start_and_are_not_quoted() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let url = "https://example.com/hook";
    for (overrides, named) in [
        (vec![(config::WEBHOOK_URL, url)], "WEBHOOK_SECRET: is required"),
        (
            vec![(config::WEBHOOK_URL, "http://example.com/x7"), (config::WEBHOOK_SECRET, SECRET)],
            "WEBHOOK_URL: ",
        ),
        (
            vec![(config::WEBHOOK_URL, "ftp://example.com/x7"), (config::WEBHOOK_SECRET, SECRET)],
            "WEBHOOK_URL: ",
        ),
        (
            vec![(config::WEBHOOK_URL, url), (config::WEBHOOK_SECRET, "whsec_x7x7")],
            "WEBHOOK_SECRET: ",
        ),
        (
            vec![
                (config::WEBHOOK_URL, url),
                (config::WEBHOOK_SECRET, SECRET),
                (config::WEBHOOK_SECRET_PREVIOUS, "x7x7"),
            ],
            "WEBHOOK_SECRET_PREVIOUS: ",
        ),
        (
            vec![
                (config::WEBHOOK_URL, url),
                (config::WEBHOOK_SECRET, SECRET),
                (config::WEBHOOK_CA_FILE, "/nonexistent"),
            ],
            "WEBHOOK_CA_FILE: ",
        ),
        (vec![(config::EVENTS_RETENTION, "0")], "EVENTS_RETENTION: "),
    ] {
        let faults = Settings::read(&mut settings(&database.url, &overrides)).unwrap_err();
        let text = faults.to_string();
        assert!(text.contains(named), "{text}");
        assert!(!text.contains("x7"), "{text}");
    }
    for url in [url, "http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:8080/x"] {
        let overrides = [(config::WEBHOOK_URL, url), (config::WEBHOOK_SECRET, SECRET)];
        Settings::read(&mut settings(&database.url, &overrides)).unwrap();
    }
}
