//! Nothing secret is logged, at whatever level. The service runs as a process of its own here, since
//! a log belongs to a process.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use test_kit::{Client, ENGINES, Engine, TestDatabase};

use crate::support::{ENCRYPTION_KEY, SERVICE_TOKEN};

struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(database: &TestDatabase, level: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_auth-service"))
            .current_dir(database.folder())
            .env_clear()
            .envs([
                ("DATABASE_URL", database.url.as_str()),
                ("HTTP_ADDR", "127.0.0.1:0"),
                ("GRPC_ADDR", "127.0.0.1:0"),
                ("METRICS_ADDR", ""),
                ("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY),
                ("SERVICE_TOKEN", SERVICE_TOKEN),
                ("BCRYPT_COST", "10"),
                ("LOG_FORMAT", "json"),
                ("LOG_LEVEL", level),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                writer.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    fn parsed(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                if let Some(line) = self.parsed().into_iter().find(|line| wanted(line)) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look).await.unwrap()
    }

    async fn client(&self) -> Client {
        let listening = self.find(|line| line["message"] == "listening").await;
        Client::new(listening["http"].as_str().unwrap().parse().unwrap())
    }
}

#[tokio::test]
async fn nothing_secret_is_logged() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let service = Process::start(&database, "trace");
        let rest = service.client().await;
        let credentials =
            json!({"email": "sentinel.person@example.com", "password": "SentinelPass1"});
        let register = rest.request(http::Method::POST, "/auth/register").json(&credentials);
        let registered = test_kit::send(register.bearer_auth("sentinel-bearer")).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        let issued = rest.post("/auth/login", &credentials).await;
        let token = issued.json["access_token"].as_str().unwrap().to_owned();
        let wrong = json!({"email": "sentinel.person@example.com", "password": "SentinelWrong"});
        assert_eq!(rest.post("/auth/login", &wrong).await.status, 401);
        service.find(|line| line["status"] == 401).await;

        let logged = service.lines.lock().unwrap().join("\n");
        let signature = token.rsplit('.').next().unwrap();
        for secret in [
            "sentinel.person",
            "SentinelPass1",
            "SentinelWrong",
            "sentinel-bearer",
            signature,
            ENCRYPTION_KEY,
            SERVICE_TOKEN,
            "$2b$",
        ] {
            assert!(!logged.contains(secret), "{engine:?}: {secret} was logged");
        }
    }
}

#[tokio::test]
async fn the_access_line_has_the_documented_members() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let service = Process::start(&database, "info");
    let rest = service.client().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = rest
        .request(http::Method::GET, "/.well-known/jwks.json")
        .header("x-request-id", "mine")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    test_kit::send(request).await;
    let line = service.find(|line| line["request_id"] == "mine").await;
    assert_eq!(line["endpoint"], "/.well-known/jwks.json");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["status"], 200);
    assert_eq!(line["service"], "auth-service");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["trace_id"], trace);
    assert!(line["latency_ms"].is_number() && line["timestamp"].is_string(), "{line}");
}

#[tokio::test]
async fn the_stop_signal_lets_a_login_finish() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let mut service = Process::start(&database, "info");
    let rest = service.client().await;
    let credentials = json!({"email": "a@b.com", "password": "S3cureP@ss"});
    assert_eq!(rest.post("/auth/register", &credentials).await.status, 201);
    let login = tokio::spawn({
        let rest = rest.clone();
        async move { rest.post("/auth/login", &credentials).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let process = service.child.id().to_string();
    Command::new("kill").args(["-TERM", &process]).status().unwrap();
    assert_eq!(login.await.unwrap().status, 200);
    let ended = tokio::task::spawn_blocking(move || service.child.wait().unwrap().code());
    assert_eq!(ended.await.unwrap(), Some(0));
}
