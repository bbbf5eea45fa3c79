//! Health: one state, measured in the background, that the probes of both edges report.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    time::{Duration, Instant},
};

use crate::metrics::{Metrics, Unit};
use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use futures_util::{Stream, StreamExt as _, stream};
use http::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::HealthServer,
};

/// How often everything is checked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often before the first success: a start should be noticed when it happens.
const START_INTERVAL: Duration = Duration::from_millis(25);
/// How long one check may take. With [`INTERVAL`] it bounds how old the truth can be.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1500);

type Probe = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Something the service cannot work without.
pub struct Check {
    name: &'static str,
    probe: Probe,
}

impl Check {
    /// `probe` says whether it works at this moment. It may hang: it is given up after 1.5 s.
    pub fn new<F, P>(name: &'static str, probe: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = bool> + Send + 'static,
    {
        Self { name, probe: Box::new(move || Box::pin(probe())) }
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
    /// It does not, or has not been checked yet, or the service is stopping.
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
    /// Whether the service can do its work.
    pub status: Status,
    /// The service's name.
    pub service: &'static str,
    /// The service's version.
    pub version: &'static str,
    /// Each check by name.
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// The last result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CheckReport {
    /// Whether it worked.
    pub status: Status,
    /// How long it took, in milliseconds.
    pub latency_ms: f64,
}

/// The state of a service's health.
#[derive(Debug, Clone)]
pub struct Health {
    report: watch::Receiver<Report>,
}

impl Health {
    /// Starts to check: often until everything works, then every second. From `shutdown` on the service is not ready.
    #[must_use]
    pub fn start(
        service: &'static str,
        version: &'static str,
        checks: Vec<Check>,
        shutdown: CancellationToken,
    ) -> Self {
        let unavailable = CheckReport { status: Status::Unavailable, latency_ms: 0.0 };
        let (sender, report) = watch::channel(Report {
            status: Status::Unavailable,
            service,
            version,
            checks: checks.iter().map(|check| (check.name, unavailable)).collect(),
        });
        tokio::spawn(async move {
            let draining = async {
                shutdown.cancelled().await;
                sender.send_modify(|report| report.status = Status::Unavailable);
            };
            tokio::select! {
                biased;
                () = draining => {}
                () = check_forever(service, &checks, &sender) => {}
            }
            // Keeps the last report readable until nobody is left to read it.
            sender.closed().await;
        });
        Self { report }
    }

    /// The present state.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Whether the service can do its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.report.borrow().status == Status::Ok
    }

    /// Waits until the service can do its work.
    pub async fn ready(&self) {
        // An error means that checking has ended, which it only does with the process.
        let _ = self.report.clone().wait_for(|report| report.status == Status::Ok).await;
    }

    /// Shows the checks in `metrics`.
    pub(crate) fn observe(&self, metrics: &Metrics) {
        let health = self.clone();
        metrics.gauge_by(
            "health.check.status",
            "Whether what the service needs works: 1 or 0",
            Unit::Count,
            "check",
            move || {
                let report = health.report.borrow();
                let works = |check: &CheckReport| f64::from(u8::from(check.status == Status::Ok));
                report.checks.iter().map(|(name, check)| (*name, works(check))).collect()
            },
        );
    }

    /// The probes: `/livez`, `/readyz` and `/health`.
    pub fn routes(&self) -> Router {
        let live = self.report();
        Router::new()
            .route("/readyz", get(ready))
            .route("/health", get(ready))
            .with_state(self.clone())
            .route(
                "/livez",
                get(move || async move {
                    let Report { service, version, .. } = live;
                    Json(Live { status: Status::Ok, service, version })
                }),
            )
    }

    /// The gRPC health service (`grpc.health.v1.Health`) with the same state for `""` and each of
    /// `services`.
    #[must_use]
    pub fn grpc_server(&self, services: &'static [&'static str]) -> HealthServer<HealthApi> {
        HealthServer::new(HealthApi { report: self.report.clone(), services })
    }
}

/// The gRPC health service. tonic-health's own answers a `Watch` of an unknown service with an
/// error, where health.proto wants SERVICE_UNKNOWN and an open stream.
#[derive(Debug)]
pub struct HealthApi {
    report: watch::Receiver<Report>,
    services: &'static [&'static str],
}

impl HealthApi {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

fn serving(status: Status) -> HealthCheckResponse {
    let status = match status {
        Status::Ok => ServingStatus::Serving,
        Status::Unavailable => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}

type WatchStream =
    Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, tonic::Status>> + Send + 'static>>;

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for HealthApi {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(tonic::Status::not_found("unknown service"));
        }
        Ok(tonic::Response::new(serving(self.report.borrow().status)))
    }

    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<WatchStream>, tonic::Status> {
        if !self.knows(&request.get_ref().service) {
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            let once = stream::once(async move { Ok(unknown) });
            // Services do not come and go here, so nothing else will follow.
            return Ok(tonic::Response::new(Box::pin(once.chain(stream::pending()))));
        }
        // The present state, then each change of it; not every check.
        let changes =
            stream::unfold((self.report.clone(), None), |(mut report, last)| async move {
                let status = match last {
                    None => report.borrow_and_update().status,
                    Some(last) => {
                        report.wait_for(|report| report.status != last).await.ok()?.status
                    }
                };
                Some((Ok(serving(status)), (report, Some(status))))
            });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}

#[derive(Serialize)]
struct Live {
    status: Status,
    service: &'static str,
    version: &'static str,
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let report = health.report();
    let status = match report.status {
        Status::Ok => StatusCode::OK,
        Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Verbatim, [(http::header::CACHE_CONTROL, "no-store")], Json(report))
}

/// Marks an answer whose body is right although its status is an error's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verbatim;

impl axum::response::IntoResponseParts for Verbatim {
    type Error = std::convert::Infallible;

    fn into_response_parts(
        self,
        mut parts: axum::response::ResponseParts,
    ) -> Result<axum::response::ResponseParts, Self::Error> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

async fn check_forever(service: &'static str, checks: &[Check], sender: &watch::Sender<Report>) {
    let mut started = false;
    loop {
        let results = futures_util::future::join_all(checks.iter().map(run)).await;
        sender.send_modify(|report| {
            for (name, result) in &results {
                let before = report.checks.insert(name, *result).map(|check| check.status);
                if before != Some(result.status) {
                    log_change(service, name, result.status);
                }
            }
            report.status = results.iter().all(|(_, check)| check.status == Status::Ok).into();
            started |= report.status == Status::Ok;
        });
        tokio::time::sleep(if started { INTERVAL } else { START_INTERVAL }).await;
    }
}

async fn run(check: &Check) -> (&'static str, CheckReport) {
    let started = Instant::now();
    let works = tokio::time::timeout(CHECK_TIMEOUT, (check.probe)()).await.unwrap_or(false);
    let latency_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    (check.name, CheckReport { status: works.into(), latency_ms })
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
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    fn passing(name: &'static str) -> Check {
        Check::new(name, || async { true })
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
        let health = Health::start("s", "1", vec![check, other], CancellationToken::new());
        assert!(!health.is_ready(), "ready before the first check");
        health.ready().await;

        hangs.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let report = health.report();
        assert_eq!(report.status, Status::Unavailable);
        assert_eq!(report.checks["database"].status, Status::Unavailable);
        assert_eq!(report.checks["other"].status, Status::Ok);

        hangs.store(false, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_secs(4), health.ready()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_service_is_not_ready() {
        let shutdown = CancellationToken::new();
        let health = Health::start("s", "1", vec![passing("database")], shutdown.clone());
        health.ready().await;
        shutdown.cancel();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!health.is_ready());
    }
}
