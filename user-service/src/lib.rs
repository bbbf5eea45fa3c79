//! The user service: owns profiles and validates access tokens locally. [`App`] is the whole
//! service; `main.rs` and the `latchkey` crate run it.

pub mod code;
pub mod commands;
pub mod config;
pub mod deletions;
pub mod domain;
pub mod edge;
mod error;
pub mod etag;
pub mod field_code;
pub mod page_token;
pub mod reads;
pub mod service;
pub mod store;
mod verification;

use std::{sync::Arc, time::Duration};

use clap::ArgMatches;
pub use error::Error;
use outbox::{Backlog, Worker};
use service_kit::{
    api_docs,
    health::Check,
    metrics::{Metrics, Unit},
    otlp::{Otlp, OtlpError},
    server::{Plan, Server},
    settings::Secret,
    trace::Traces,
};
use sql_kit::{DatabaseSettings, Starting};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{AuthGrpc, Settings},
    deletions::{Accounts, incoming::Follower, outgoing},
    service::Service,
    store::{Store, StoreError},
};

/// The name of this service in logs and probes.
pub const NAME: &str = "user-service";
/// The version of this service.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long the start waits for the database before the service listens anyway. A permanent error
/// within this time, such as a database of a newer version, ends the start.
const START_PATIENCE: Duration = Duration::from_secs(4);

/// Why the service does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An address cannot be bound, or a directory cannot be created.
    #[error("{0}")]
    System(String),
    /// This version cannot use the database.
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
    /// The `OTEL_*` variables cannot be used.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// A command failed.
    #[error(transparent)]
    Outbox(#[from] outbox::command::CommandError),
}

/// The service. It is bound to its addresses but does not accept connections yet.
#[derive(Debug)]
pub struct App {
    server: Server,
    background: Arc<Background>,
    starting: Starting<StoreError>,
}

impl App {
    /// Builds the service. Neither the database nor the auth service has to be available: while one of
    /// them is not, the service is live but not ready, and answers 503.
    ///
    /// # Errors
    ///
    /// Errors that a retry cannot fix, such as an address that is in use.
    pub async fn build(
        settings: Settings,
        shutdown: CancellationToken,
    ) -> Result<Self, BuildError> {
        let otlp = Otlp::start(NAME, VERSION)?;
        let metrics = Metrics::new(NAME, VERSION, &otlp);
        settings.database.note(NAME);
        let store = open_store(&settings.database, &metrics)?;
        let token_page_url = settings.token_page_url;
        let service = Arc::new(Service::new(store.clone(), settings.profiles.visibility()));
        observe_connections(&store, settings.database.pool.max_connections, &metrics);
        let accounts =
            accounts(settings.auth_grpc, settings.service_token.as_ref(), Traces::new(&otlp))?;
        let backlog = Backlog::new(store.outbox().clone(), &metrics);
        let background = Arc::new(Background {
            follower: accounts
                .clone()
                .map(|accounts| Follower::new(accounts, store.clone(), &metrics)),
            worker: accounts.map(|accounts| {
                Worker::new(store.outbox().clone(), backlog.clone(), outgoing::SETTINGS, accounts)
            }),
            backlog,
            store: store.clone(),
            service: Arc::clone(&service),
            migrate: settings.database.pool.migrate_on_start,
        });
        let prepared = Arc::clone(&background);
        let mut starting = Starting::begin(
            move || {
                let background = Arc::clone(&prepared);
                async move { background.prepare().await }
            },
            StoreError::is_transient,
        );
        starting.wait(START_PATIENCE).await?;

        let follows_revocations = settings.revocations.is_some();
        let verifier = verification::verifier(
            settings.keys,
            settings.revocations,
            settings.rules,
            &metrics,
            &shutdown,
        );
        let mut checks = verification::checks(&verifier, follows_revocations);
        checks.push(database_check(store.clone(), Arc::clone(&service)));
        checks.push(schema_check(store.clone(), Arc::clone(&service)));
        let plan = Plan {
            service: NAME,
            version: VERSION,
            addresses: settings.addresses,
            runtime: &settings.runtime,
            metrics,
            otlp,
            checks,
            successes: store.successes().clone(),
            grpc_services: edge::grpc::SERVICES,
            descriptors: edge::grpc::DESCRIPTORS,
        };
        let server = Server::bind(
            plan,
            |shared, health| {
                let url = token_page_url.as_deref().or_else(|| verifier.issuer());
                let page = api_docs::Page::of_tokens_from(url);
                edge::rest::router(shared, Arc::clone(&service), verifier.clone(), health, page)
            },
            |routes| edge::grpc::add_services(routes, Arc::clone(&service), verifier.clone()),
            shutdown,
        )
        .await
        .map_err(BuildError::System)?;
        Ok(Self { server, background, starting })
    }

    /// Its addresses and its health.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Serves until the shutdown that was given to [`App::build`], and then finishes the requests that
    /// were already accepted.
    ///
    /// # Errors
    ///
    /// If the database was unavailable at the start and then turns out to be one that this version
    /// cannot use.
    pub async fn run(self) -> Result<(), BuildError> {
        let Self { server, background, starting } = self;
        // Large futures, which are copied from frame to frame of the stack where nothing is optimised.
        let (work, close) = (Box::pin(background.run(starting)), Box::pin(background.close()));
        Ok(server.run(work, close).await?)
    }
}

/// Lists, retries or discards deletions: the `outbox` subcommand.
///
/// # Errors
///
/// If the database is unavailable or not migrated, or if the entry does not exist.
pub async fn outbox_command(
    settings: &DatabaseSettings,
    flags: &ArgMatches,
) -> Result<(), BuildError> {
    let store = existing_store(settings).await?;
    outbox::command::run(store.outbox(), flags).await?;
    store.close().await;
    Ok(())
}

/// Opens a database that must already exist: a command that reads or changes it must not create it.
async fn existing_store(settings: &DatabaseSettings) -> Result<Store, BuildError> {
    let told = |why: String| BuildError::System(format!("DATABASE_URL: {why}"));
    settings.database.must_exist().map_err(told)?;
    let store = open_store(settings, &Metrics::default())?;
    store.reach().await.map_err(told)?;
    store.check_migrated().await?;
    Ok(store)
}

fn open_store(settings: &DatabaseSettings, metrics: &Metrics) -> Result<Store, BuildError> {
    let options = sql_kit::PoolOptions::new(NAME, &settings.pool, metrics);
    Store::open(&settings.database, options)
        .map_err(|error| BuildError::System(format!("DATABASE_URL: {error}")))
}

fn accounts(
    auth: Option<AuthGrpc>,
    token: Option<&Secret>,
    traces: Traces,
) -> Result<Option<Accounts>, BuildError> {
    // The auth service identifies this service by its token or, over TLS, by its client certificate.
    // Without either there is nothing to deliver to.
    let Some(auth) = auth.filter(|auth| token.is_some() || auth.has_identity()) else {
        tracing::warn!(
            service = NAME,
            "AUTH_GRPC_URL or SERVICE_TOKEN is not set: the auth service is not told of deletions, \
             which wait in the outbox, and does not tell of accounts that are deleted there"
        );
        return Ok(None);
    };
    Accounts::new(auth, token, traces)
        .map(Some)
        .map_err(|_| BuildError::System("SERVICE_TOKEN: cannot be sent".to_owned()))
}

fn observe_connections(store: &Store, most: u32, metrics: &Metrics) {
    let help = "The most connections to the database";
    metrics.gauge("db.client.connection.max", help, Unit::Count, move || Some(f64::from(most)));
    let store = store.clone();
    metrics.gauge_by(
        "db.client.connection.count",
        "Connections to the database",
        Unit::Count,
        "db.client.connection.state",
        move || store.connections().by_state(),
    );
}

fn database_check(store: Store, service: Arc<Service>) -> Check {
    Check::new("database", move || {
        let (store, service) = (store.clone(), Arc::clone(&service));
        // A read-only database is enough to be ready, since reads are still answered.
        async move {
            service.is_prepared()
                && matches!(store.ping().await, Ok(()) | Err(StoreError::ReadOnly))
        }
    })
}

/// Whether the tables exist. A newer version of the service may have added more of them; this version
/// stays ready until it is replaced.
fn schema_check(store: Store, service: Arc<Service>) -> Check {
    Check::new("schema", move || {
        let (store, service) = (store.clone(), Arc::clone(&service));
        async move {
            service.is_prepared()
                && matches!(store.check_migrated().await, Ok(()) | Err(StoreError::Newer(_)))
        }
    })
}

/// Prepares the database before the first request, and then delivers deletions.
#[derive(Debug)]
struct Background {
    backlog: Backlog,
    store: Store,
    service: Arc<Service>,
    worker: Option<Worker<Accounts>>,
    follower: Option<Follower>,
    migrate: bool,
}

impl Background {
    async fn prepare(&self) -> Result<(), StoreError> {
        // The ping sets the clock. A read-only database is enough for that.
        match self.store.ping().await {
            Ok(()) | Err(StoreError::ReadOnly) => {}
            Err(error) => return Err(error),
        }
        if self.migrate {
            self.store.migrate().await?;
        } else {
            self.store.check_migrated().await?;
        }
        self.service.prepare().await
    }

    /// Prepares the database unless that is done, and then delivers. Returns only on an error that a
    /// retry cannot fix.
    async fn run(&self, starting: Starting<StoreError>) -> StoreError {
        if let Err(error) = starting.finish().await {
            return error;
        }
        let deliver = async {
            if let Some(worker) = &self.worker {
                // Entries that failed permanently may succeed now, because the settings may have
                // changed.
                let _ = self.store.outbox().retry_all().await;
                worker.run().await;
            }
        };
        let follow = async {
            if let Some(follower) = &self.follower {
                follower.run().await;
            }
        };
        tokio::join!(deliver, follow, self.backlog.watch());
        std::future::pending().await
    }

    /// Releases the entries that were being delivered, and closes the database.
    async fn close(&self) {
        if let Some(worker) = &self.worker {
            worker.release().await;
        }
        self.store.close().await;
    }
}
