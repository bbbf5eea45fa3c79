//! The service as a process of its own, for what belongs to a process: its log and its end.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use test_kit::{Client, ENGINES, Engine, TestDatabase};

use crate::support::{ENCRYPTION_KEY, SERVICE_TOKEN};

pub(crate) struct Process {
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
    pub(crate) fn start(database: &TestDatabase, level: &str) -> Self {
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

    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn parsed(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Value {
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

    pub(crate) async fn client(&self) -> Client {
        let listening = self.find(|line| line["message"] == "listening").await;
        Client::new(listening["http"].as_str().unwrap().parse().unwrap())
    }
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

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let credentials =
            |round: u32| json!({"email": format!("p{round}@b.com"), "password": "S3cureP@ss"});
        for round in 0..5 {
            let mut service = Process::start(&database, "info");
            let rest = service.client().await;
            if round > 0 {
                let before = rest.post("/auth/login", &credentials(round - 1)).await;
                assert_eq!(before.status, 200, "{engine:?}, round {round}: {}", before.text);
            }
            let registered = rest.post("/auth/register", &credentials(round)).await;
            service.child.kill().unwrap();
            assert_eq!(registered.status, 201, "{}", registered.text);
        }
    }
}
