//! The end of the process: in time, whatever hangs.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use test_kit::{Client, Engine, TestDatabase, process::Process};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::support::ENCRYPTION_KEY;

async fn start(database: &TestDatabase, more: &[(&str, &str)]) -> Process {
    let settings =
        [("DATABASE_URL", database.url.as_str()), ("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY)];
    let settings = [&settings, more].concat();
    let service = Process::start(env!("CARGO_BIN_EXE_auth-service"), database.folder(), &settings);
    let client = service.client().await;
    while client.get("/readyz").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service
}

fn signal(service: &Process) -> Instant {
    let process = service.child.id().to_string();
    Command::new("kill").args(["-TERM", &process]).status().unwrap();
    Instant::now()
}

async fn ended(mut service: Process) -> Option<i32> {
    tokio::task::spawn_blocking(move || service.child.wait().unwrap().code()).await.unwrap()
}

/// A request whose body never comes.
async fn unfinished_request(service: &Process) -> TcpStream {
    let listening = service.find(|line| line["message"] == "listening").await;
    let mut stream = TcpStream::connect(listening["http"].as_str().unwrap()).await.unwrap();
    let head = "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream
}

#[tokio::test]
async fn the_process_ends_within_the_grace_whatever_hangs() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    // A collector that takes everything and answers nothing.
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((stream, _)) = collector.accept().await {
            taken.push(stream);
        }
    });
    let settings = [("SHUTDOWN_GRACE", "2"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)];
    let service = start(&database, &settings).await;
    let _request = unfinished_request(&service).await;
    let asked = signal(&service);
    assert_eq!(ended(service).await, Some(0));
    assert!(asked.elapsed() < Duration::from_millis(2500), "{:?}", asked.elapsed());
    assert!(asked.elapsed() > Duration::from_secs(1), "the request had no grace");
    silent.abort();
}

#[tokio::test]
async fn for_the_delay_it_is_not_ready_and_serves_new_connections() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let settings = [("SHUTDOWN_DELAY", "2"), ("ADMIN_ADDR", "127.0.0.1:0")];
    let service = start(&database, &settings).await;
    let listening = service.find(|line| line["message"] == "listening").await;
    let (http, admin) = (listening["http"].as_str().unwrap(), listening["admin"].as_str().unwrap());
    let asked = signal(&service);
    tokio::time::sleep(Duration::from_millis(200)).await;
    while asked.elapsed() < Duration::from_millis(1500) {
        for address in [http, admin] {
            // Each client makes a connection of its own.
            let client = Client::new(address.parse().unwrap());
            assert_eq!(client.get("/readyz").await.status, 503, "{address}");
            assert_eq!(client.get("/livez").await.status, 200, "{address}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ended(service).await, Some(0));
    assert!(asked.elapsed() > Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let service = start(&database, &[]).await;
    let _request = unfinished_request(&service).await;
    signal(&service);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = signal(&service);
    assert_eq!(ended(service).await, Some(130));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn the_delay_is_a_part_of_the_grace() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("KEY_ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("SHUTDOWN_DELAY", "25"),
    ];
    let refused = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(database.folder())
        .env_clear()
        .envs(settings)
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains("SHUTDOWN_DELAY: must be less than SHUTDOWN_GRACE"), "{reason}");
}
