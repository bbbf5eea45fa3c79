//! Health: a single state, which is measured in the background and reported by the probes of both edges.

mod grpc;
mod probes;
mod successes;

pub use self::grpc::HealthApi;
pub(crate) use self::probes::Verbatim;
pub use self::successes::Successes;

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Unit};

/// The interval of the checks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The interval before the first success. It is short, so that the service is ready as soon as possible.
const START_INTERVAL: Duration = Duration::from_millis(25);
/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1500);
/// After how many failures in a row a check counts as failed. A single failure may be a short load peak,
/// which often affects all replicas at the same time. With the times above, a hanging dependency is noticed
/// within 7.5 seconds, and a failing one within 3.
const FAILURES: u32 = 3;

type Note = Box<dyn Fn() -> Option<&'static str> + Send + Sync>;
type Probe = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A check of something that the service cannot work without.
pub struct Check {
    name: &'static str,
    probe: Probe,
    note: Option<Note>,
}

impl Check {
    /// `probe` returns whether it works at present. It is aborted if it takes more than 1.5 s.
    pub fn new<F, P>(name: &'static str, probe: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = bool> + Send + 'static,
    {
        Self { name, probe: Box::new(move || Box::pin(probe())), note: None }
    }

    /// `note` returns a remark to report although the check passes.
    #[must_use]
    pub fn with_note(
        self,
        note: impl Fn() -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        Self { note: Some(Box::new(note)), ..self }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `ok` or `unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It works.
    Ok,
    /// It does not work, has not been checked yet, or the service is stopping.
    Unavailable,
}

impl From<bool> for Status {
    fn from(works: bool) -> Self {
        if works { Self::Ok } else { Self::Unavailable }
    }
}

/// The body of `/health` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether the service is ready.
    pub status: Status,
    /// The service's name.
    pub service: &'static str,
    /// The service's version.
    pub version: &'static str,
    /// The checks by name.
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CheckReport {
    /// Whether it works: the last result or, if it worked before, the combination of the last three.
    pub status: Status,
    /// The duration of the last check, in milliseconds.
    pub latency_ms: f64,
    /// A remark, although the check passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// The results of a round of checks.
#[derive(Debug, Clone)]
struct Results {
    round: u64,
    report: Report,
}

impl Results {
    fn is_ok(&self) -> bool {
        self.report.status == Status::Ok
    }
}

/// The state of a service's health.
#[derive(Debug, Clone)]
pub struct Health {
    results: watch::Receiver<Results>,
    successes: Successes,
}

impl Health {
    /// Starts the checks: frequently until all pass, then every second, and immediately if a success is
    /// recorded while a check counts as failed. After `shutdown` the service is not ready.
    #[must_use]
    pub fn start(
        service: &'static str,
        version: &'static str,
        checks: Vec<Check>,
        successes: Successes,
        shutdown: CancellationToken,
    ) -> Self {
        let unavailable = CheckReport { status: Status::Unavailable, latency_ms: 0.0, note: None };
        let report = Report {
            status: Status::Unavailable,
            service,
            version,
            checks: checks.iter().map(|check| (check.name, unavailable)).collect(),
        };
        let (sender, results) = watch::channel(Results { round: 0, report });
        let noted = successes.clone();
        tokio::spawn(async move {
            let draining = async {
                shutdown.cancelled().await;
                sender.send_modify(|results| {
                    results.report.status = Status::Unavailable;
                    // No further results will follow.
                    results.round = u64::MAX;
                });
            };
            tokio::select! {
                biased;
                () = draining => {}
                () = check_forever(service, &checks, &sender, &noted) => {}
            }
            // Keep the last report readable for as long as there are readers.
            sender.closed().await;
        });
        Self { results, successes }
    }

    /// The current state.
    #[must_use]
    pub fn report(&self) -> Report {
        self.results.borrow().report.clone()
    }

    /// The state for a probe. If the service is not ready but something has succeeded since, this waits for
    /// the next checks: at most 1.5 s, and only milliseconds if they pass.
    pub async fn current(&self) -> Report {
        let mut results = self.results.clone();
        if !results.borrow().is_ok()
            && let Some(round) = self.successes.awaited_round()
        {
            let known = results.wait_for(|results| results.is_ok() || results.round >= round);
            // After the wait, or its timeout, the latest state counts.
            let _ = tokio::time::timeout(CHECK_TIMEOUT, known).await;
        }
        self.report()
    }

    /// Whether the service is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.results.borrow().is_ok()
    }

    /// Waits until the service is ready.
    pub async fn ready(&self) {
        // An error means that the checks have ended, which only happens at the end of the process.
        let _ = self.results.clone().wait_for(Results::is_ok).await;
    }

    /// Publishes the checks in `metrics`.
    pub(crate) fn observe(&self, metrics: &Metrics) {
        let health = self.clone();
        metrics.gauge_by(
            "health.check.status",
            "Whether what the service needs works: 1 or 0",
            Unit::Count,
            "check",
            move || {
                let report = &health.results.borrow().report;
                let works = |check: &CheckReport| f64::from(u8::from(check.status == Status::Ok));
                report.checks.iter().map(|(name, check)| (*name, works(check))).collect()
            },
        );
    }
}

async fn check_forever(
    service: &'static str,
    checks: &[Check],
    sender: &watch::Sender<Results>,
    successes: &Successes,
) {
    let mut started = false;
    let mut failures = vec![0; checks.len()];
    loop {
        let (round, follows_success) = successes.begin_round();
        let all = futures_util::future::join_all(checks.iter().map(run));
        let was_ready = sender.borrow().is_ok();
        // If a check hangs but something else has succeeded in the meantime, the checks are restarted once.
        let results = tokio::select! {
            results = all => results,
            () = successes.wait(), if !was_ready && !follows_success => continue,
        };
        let mut is_ready = false;
        sender.send_modify(|Results { round: of, report }| {
            for ((name, result), failures) in results.into_iter().zip(&mut failures) {
                *failures = if result.status == Status::Ok { 0 } else { *failures + 1 };
                let before = report.checks.get(name).map(|check| check.status);
                // A check that has worked counts as working until it has failed several times in a row.
                let doubted = before == Some(Status::Ok) && *failures < FAILURES;
                let status = if doubted { Status::Ok } else { result.status };
                report.checks.insert(name, CheckReport { status, ..result });
                if before != Some(status) {
                    log_change(service, name, status);
                }
            }
            is_ready = report.checks.values().all(|check| check.status == Status::Ok);
            report.status = is_ready.into();
            *of = round;
        });
        successes.end_round();
        started |= is_ready;
        tokio::time::sleep(START_INTERVAL).await;
        if started {
            let rest = tokio::time::sleep(INTERVAL - START_INTERVAL);
            tokio::select! {
                () = rest => {}
                () = successes.wait(), if !is_ready => {}
            }
        }
    }
}

async fn run(check: &Check) -> (&'static str, CheckReport) {
    let started = Instant::now();
    let works = tokio::time::timeout(CHECK_TIMEOUT, (check.probe)()).await.unwrap_or(false);
    let latency_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let note = check.note.as_ref().and_then(|note| note());
    (check.name, CheckReport { status: works.into(), latency_ms, note })
}

fn log_change(service: &'static str, check: &'static str, status: Status) {
    match status {
        Status::Ok => tracing::info!(service, check, "check passes"),
        Status::Unavailable => tracing::warn!(service, check, "check fails"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    };

    use super::*;

    fn passing(name: &'static str) -> Check {
        Check::new(name, || async { true })
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_works_may_have_a_note() {
        let check = passing("database").with_note(|| Some("look here"));
        let checks = vec![check, passing("schema")];
        let health =
            Health::start("s", "1", checks, Successes::default(), CancellationToken::new());
        health.ready().await;
        let report = serde_json::to_value(health.report()).unwrap();
        assert_eq!(report["checks"]["database"]["note"], "look here");
        assert!(report["checks"]["schema"].get("note").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_check_is_given_up_and_recovers_by_itself() {
        let hangs = Arc::new(AtomicBool::new(false));
        let probe = Arc::clone(&hangs);
        let check = Check::new("database", move || {
            let hangs = probe.load(Ordering::Relaxed);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                true
            }
        });
        let other = passing("other");
        let health = Health::start(
            "s",
            "1",
            vec![check, other],
            Successes::default(),
            CancellationToken::new(),
        );
        assert!(!health.is_ready(), "ready before the first check");
        health.ready().await;

        hangs.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(health.is_ready(), "two failures are not believed yet");
        tokio::time::sleep(Duration::from_millis(4500)).await;
        let report = health.report();
        assert_eq!(report.status, Status::Unavailable);
        assert_eq!(report.checks["database"].status, Status::Unavailable);
        assert_eq!(report.checks["other"].status, Status::Ok);

        hangs.store(false, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_secs(4), health.ready()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn single_failures_between_successes_are_not_believed() {
        let round = Arc::new(AtomicU32::new(0));
        let rounds = Arc::clone(&round);
        let check = Check::new("database", move || {
            // One of three checks succeeds.
            let works = rounds.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
            async move { works }
        });
        let health =
            Health::start("s", "1", vec![check], Successes::default(), CancellationToken::new());
        health.ready().await;
        let looks = async {
            while round.load(Ordering::Relaxed) < 30 {
                assert!(health.is_ready());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looks).await.unwrap();
    }

    /// Returns a switch for the result of a check, and a health state that was ready and is not any more,
    /// because the check fails.
    async fn failed() -> (Arc<AtomicBool>, Successes, Health) {
        let works = Arc::new(AtomicBool::new(true));
        let probe = Arc::clone(&works);
        let check = Check::new("database", move || {
            let works = probe.load(Ordering::Relaxed);
            async move {
                if !works {
                    std::future::pending::<()>().await;
                }
                true
            }
        });
        let successes = Successes::default();
        let shutdown = CancellationToken::new();
        let health = Health::start("s", "1", vec![check], successes.clone(), shutdown);
        health.ready().await;
        successes.note();
        works.store(false, Ordering::Relaxed);
        let fails = health.results.clone().wait_for(|results| !results.is_ok()).await.is_ok();
        assert!(fails);
        (works, successes, health)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_had_a_success_is_not_told_that_there_can_be_none() {
        // Try times both between two rounds of checks and within one.
        for wait in (0..3000).step_by(50) {
            let (works, successes, health) = failed().await;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            assert_eq!(health.current().await.status, Status::Unavailable);
            works.store(true, Ordering::Relaxed);
            successes.note();
            let asked = tokio::time::Instant::now();
            assert_eq!(health.current().await.status, Status::Ok, "after {wait} ms");
            assert!(asked.elapsed() <= Duration::from_millis(50), "{:?}", asked.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn successes_that_need_less_make_nothing_ready_and_no_probe_wait_for_long() {
        let (_, successes, health) = failed().await;
        let rounds = health.results.borrow().round;
        for _ in 0..100 {
            successes.note();
            let asked = tokio::time::Instant::now();
            assert_eq!(health.current().await.status, Status::Unavailable);
            assert!(asked.elapsed() <= CHECK_TIMEOUT, "{:?}", asked.elapsed());
        }
        let rounds = health.results.borrow().round - rounds;
        assert!(rounds <= 250, "{rounds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_service_is_not_ready() {
        let shutdown = CancellationToken::new();
        let health = Health::start(
            "s",
            "1",
            vec![passing("database")],
            Successes::default(),
            shutdown.clone(),
        );
        health.ready().await;
        shutdown.cancel();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!health.is_ready());
    }
}
