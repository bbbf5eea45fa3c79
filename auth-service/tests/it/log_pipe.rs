//! A log that nobody reads holds up neither requests nor the end.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use test_kit::{Client, Engine, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_neither_requests_nor_the_end() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("KEY_ENCRYPTION_KEY", crate::support::ENCRYPTION_KEY),
        ("HTTP_ADDR", "127.0.0.1:0"),
        ("GRPC_ADDR", "127.0.0.1:0"),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
        ("SHUTDOWN_GRACE", "3"),
    ];
    let mut service = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(database.folder())
        .env_clear()
        .envs(settings)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Read up to the addresses, and then no more: the pipe is kept open and runs full.
    let mut log = BufReader::with_capacity(1, service.stdout.take().unwrap());
    let listening = loop {
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "listening" {
            break line;
        }
    };
    let client = |of: &str| Client::new(listening[of].as_str().unwrap().parse().unwrap());
    let (rest, admin) = (client("http"), client("admin"));
    let long = "x".repeat(128);
    let dropped = loop {
        for _ in 0..500 {
            let request = rest.request(http::Method::GET, "/nothing").header("x-request-id", &long);
            let answer =
                tokio::time::timeout(Duration::from_secs(5), test_kit::send(request)).await;
            assert_eq!(answer.expect("an answer").status, 404);
        }
        let metrics = admin.get("/metrics").await.text;
        let line = metrics.lines().find(|line| line.starts_with("log_lines_dropped_total "));
        let dropped: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        if dropped > 0 {
            break dropped;
        }
    };
    assert!(dropped > 0);
    assert_eq!(admin.get("/livez").await.status, 200);

    let asked = Instant::now();
    Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap();
    let ended = tokio::task::spawn_blocking(move || service.wait().unwrap());
    let ended =
        tokio::time::timeout(Duration::from_secs(8), ended).await.expect("the end").unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
