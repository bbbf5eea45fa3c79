//! Runs a service as a separate process, for tests of its log and its exit.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;

use crate::Client;

/// A running service. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    /// The process.
    pub child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts `binary` in `folder` with only these settings, on free ports and with a log in JSON.
    ///
    /// # Panics
    ///
    /// If the binary does not exist.
    #[must_use]
    pub fn start(binary: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary)
            .current_dir(folder)
            .env_clear()
            .envs([("HTTP_ADDR", "127.0.0.1:0"), ("GRPC_ADDR", "127.0.0.1:0")])
            .envs([("ADMIN_ADDR", ""), ("LOG_FORMAT", "json")])
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary of the service");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                writer.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, lines }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The output so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits for a matching line in the log.
    ///
    /// # Panics
    ///
    /// If none is logged within 20 s, or if a line is not JSON.
    pub async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &String| serde_json::from_str::<Value>(line).expect("a line of JSON");
        let look = async {
            loop {
                if let Some(line) = self.lines().iter().map(parse).find(|line| wanted(line)) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look)
            .await
            .expect("the line that is waited for")
    }

    /// A client of its REST edge.
    pub async fn client(&self) -> Client {
        let listening = self.find(|line| line["message"] == "listening").await;
        Client::new(
            listening["http"].as_str().and_then(|text| text.parse().ok()).expect("an address"),
        )
    }
}
