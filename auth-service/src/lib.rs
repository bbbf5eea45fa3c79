//! The auth service: registers accounts, checks passwords, issues access tokens, and manages the keys
//! that sign them. [`App`] is the whole service; `main.rs` and the `latchkey` crate run it.

pub mod blocklist;
pub mod breached;
pub mod calibrate;
pub mod code;
pub mod commands;
pub mod config;
pub mod domain;
pub mod edge;
mod error;
pub mod events;
pub mod field_code;
pub mod hashing;
pub mod import;
pub mod keys;
pub mod keys_command;
pub mod lanes;
pub mod mail;
mod operator;
pub mod pages;
pub mod password;
mod preparation;
pub mod resources;
mod root_secret;
pub mod service;
pub mod sessions;
pub mod store;
pub mod throttle;
pub mod token;
pub mod webhooks;

use std::{sync::Arc, time::Duration};

pub use error::Error;
use outbox::Outbox;
use service_kit::{
    clock::Clock,
    health::Check,
    metrics::{Metrics, Unit},
    otlp::{Otlp, OtlpError},
    server::{Plan, Server},
};
use sql_kit::{DatabaseSettings, Starting};
use tokio_util::sync::CancellationToken;

use crate::{
    breached::BreachCheck,
    config::{KeySource, MailConfig, Settings},
    hashing::Hashing,
    keys::{KeyRing, KeysError, ManagedKeys, Sealer},
    mail::Mailer,
    preparation::BackgroundTasks,
    root_secret::RootSecret,
    service::{Mail, Parts, Service},
    store::{Store, StoreError},
    throttle::{NetworkLimit, SubjectKey, policy},
};

/// The name of this service in logs and probes.
pub const NAME: &str = "auth-service";
/// The version of this service.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long the start waits for the database before the service listens anyway. A permanent error
/// within this time, such as a wrong encryption key, ends the start.
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
    /// The signing keys cannot be used.
    #[error("{0}")]
    Keys(KeysError),
    /// The settings were read without the signing keys.
    #[error("KEY_ENCRYPTION_KEY: is required for managed keys")]
    NoKeys,
    /// The `OTEL_*` variables cannot be used.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
}

impl From<KeysError> for BuildError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => Self::Store(error),
            error => Self::Keys(error),
        }
    }
}

impl BuildError {
    const fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// The service. It is bound to its addresses but does not accept connections yet.
#[derive(Debug)]
pub struct App {
    server: Server,
    preparation: Arc<BackgroundTasks>,
    starting: Starting<BuildError>,
}

impl App {
    /// Builds the service. The database does not have to be available: while it is not, the service is
    /// live but not ready, and answers 503.
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
        let store = if settings.webhooks.is_some() { store.with_webhooks() } else { store };
        let hashing = Hashing::start(
            settings.hash_workers,
            settings.hash_width,
            settings.hash_queue_timeout,
            settings.scheme.expected_time(),
            settings.hash_memory,
            &metrics,
        )
        .map_err(|error| BuildError::System(format!("HASH_WORKERS: {error}")))?;
        observe_connections(&store, settings.database.pool.max_connections, &metrics);
        let mail = settings.mail.map(|config| mail(&store, config));
        let links = mail.as_ref().map(|mail| (mail.links.clone(), mail.mailer.clone()));
        let post = mail.as_ref().map(|mail| mail.mailer.worker(&metrics));
        let webhooks = store.webhooks().zip(settings.webhooks).map(|(outbox, sender)| {
            webhooks::worker(outbox, sender, store.clock().clone(), &metrics)
        });
        let service = Arc::new(Service::new(
            Parts {
                store: store.clone(),
                hashing,
                scheme: settings.scheme,
                issuer: settings.issuer,
                limits: settings.limits,
                password_rules: settings.password_rules,
                breaches: settings.breaches.map(|breaches| BreachCheck::new(breaches, &metrics)),
                sessions: settings.sessions,
                registration: settings.registration,
                mail,
            },
            &metrics,
        ));
        let keys = keys(&store, settings.keys.ok_or(BuildError::NoKeys)?);
        if let Keys::Given(ring, _) = &keys {
            // These keys do not depend on the database, so they are published at once.
            service.publish_keys(ring.clone());
        }
        let preparation = Arc::new(BackgroundTasks {
            store: store.clone(),
            service: Arc::clone(&service),
            keys,
            sealer: settings.sealer,
            migrate: settings.database.pool.migrate_on_start,
            post,
            events: settings.events,
            webhooks,
        });
        let prepared = Arc::clone(&preparation);
        let mut starting = Starting::begin(
            move || {
                let preparation = Arc::clone(&prepared);
                async move { preparation.run().await }
            },
            BuildError::is_transient,
        );
        starting.wait(START_PATIENCE).await?;

        let plan = Plan {
            service: NAME,
            version: VERSION,
            addresses: settings.addresses,
            runtime: &settings.runtime,
            metrics,
            otlp,
            checks: vec![
                database_check(store.clone(), Arc::clone(&service)),
                schema_check(store.clone(), Arc::clone(&service)),
            ],
            successes: store.successes().clone(),
            grpc_services: edge::grpc::SERVICES,
            descriptors: edge::grpc::DESCRIPTORS,
        };
        let openers = settings.openers;
        let server = Server::bind(
            plan,
            |shared, health| edge::rest::router(shared, Arc::clone(&service), health),
            |routes| {
                edge::grpc::add_services(routes, Arc::clone(&service), openers);
            },
            shutdown,
        )
        .await
        .map_err(BuildError::System)?;
        if let Some((links, mailer)) = links {
            let is_tls = settings.runtime.tls.is_some();
            if let Some(base) = mail::own_url(is_tls, server.http_address()) {
                links.use_base(base);
            }
            if let Some(host) = links.host() {
                mailer.use_name(host);
            }
        }
        Ok(Self { server, preparation, starting })
    }

    /// The service layer, for callers in the same process.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.preparation.service
    }

    /// The clock of the database, which the service uses.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.preparation.store.clock()
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
        let Self { server, preparation, starting } = self;
        let close = async {
            if let Some((worker, _)) = &preparation.post {
                worker.release().await;
            }
            if let Some((worker, _)) = &preparation.webhooks {
                worker.release().await;
            }
            preparation.store.close().await;
        };
        // Large futures, which are copied from frame to frame of the stack where nothing is optimised.
        server.run(Box::pin(preparation.keep(starting)), Box::pin(close)).await
    }
}

/// Runs the `outbox` or the `webhooks` subcommand, which lists, retries or discards the entries of an
/// outbox.
///
/// # Errors
///
/// If the database is unavailable or not migrated.
pub async fn outbox_command(
    settings: &DatabaseSettings,
    table: &'static outbox::Table,
    flags: &clap::ArgMatches,
) -> Result<(), commands::Failure> {
    let store = opened(settings).await?;
    let outbox = Outbox::new(sql_kit::Sql::clone(&store), table);
    outbox::command::run(&outbox, flags).await?;
    store.close().await;
    Ok(())
}

/// The keys in the database, for the `keys` subcommand; `None` if the settings give the keys.
///
/// # Errors
///
/// If the database is unavailable or not migrated.
pub async fn managed_keys(settings: Settings) -> Result<Option<ManagedKeys>, BuildError> {
    let store = existing_store(&settings.database).await?;
    Ok(match keys(&store, settings.keys.ok_or(BuildError::NoKeys)?) {
        Keys::Managed(keys) => Some(keys),
        Keys::Given(..) => None,
    })
}

/// Opens a database that must already exist: a command that reads or changes it must not create it.
async fn opened(settings: &DatabaseSettings) -> Result<Store, BuildError> {
    let told = |why: String| BuildError::System(format!("DATABASE_URL: {why}"));
    settings.database.must_exist().map_err(told)?;
    let store = open_store(settings, &Metrics::default())?;
    store.reach().await.map_err(told)?;
    store.check_migrated().await?;
    Ok(store)
}

/// Opens a database that must already exist, to change it.
async fn existing_store(settings: &DatabaseSettings) -> Result<Store, BuildError> {
    let store = opened(settings).await?;
    // The ping sets the clock of the store to that of the database.
    store.ping().await?;
    store.align_positions().await?;
    Ok(store)
}

fn open_store(settings: &DatabaseSettings, metrics: &Metrics) -> Result<Store, BuildError> {
    let options = sql_kit::PoolOptions::new(NAME, &settings.pool, metrics);
    Store::open(&settings.database, options)
        .map_err(|error| BuildError::System(format!("DATABASE_URL: {error}")))
}

fn mail(store: &Store, config: MailConfig) -> Mail {
    if config.is_plaintext {
        tracing::warn!(
            service = NAME,
            "SMTP_URL has tls=none: mail, and the password of the mail server, go unencrypted"
        );
    }
    let sql = sql_kit::Sql::clone(store);
    Mail {
        mailer: Mailer::new(sql, config.templates, config.sender),
        links: config.links,
        reset_ttl: config.reset_ttl,
        verification_ttl: config.verification_ttl,
        per_hour: config.per_hour,
        per_network: NetworkLimit::new(policy::MAILS, config.per_minute),
    }
}

#[derive(Debug)]
enum Keys {
    Managed(ManagedKeys),
    Given(KeyRing, RootSecret),
}

fn keys(store: &Store, source: KeySource) -> Keys {
    match source {
        KeySource::Managed { sealer, algorithm, schedule } => {
            Keys::Managed(ManagedKeys::new(store.clone(), sealer, algorithm, schedule))
        }
        KeySource::Given { key, retired, secret } => {
            if key.kid().is_none() {
                tracing::warn!(
                    service = NAME,
                    "JWT_ALGORITHM=HS256: whoever can verify a token can forge one; for a proof of \
                     concept only"
                );
            }
            Keys::Given(KeyRing::of_one(*key, retired), RootSecret::of(&secret))
        }
    }
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
    let (clock, keys) = (store.clone(), Arc::clone(&service));
    Check::new("database", move || {
        let (store, service) = (store.clone(), Arc::clone(&service));
        async move { service.is_prepared() && store.ping().await.is_ok() }
    })
    .with_note(move || {
        let early = keys.keys().is_some_and(|ring| ring.is_early(clock.now()));
        early.then_some("by the database's clock no signing key is active yet: the earliest signs")
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

/// Derives the keys for attempts and mail, and passes them to the service.
fn use_root(service: &Service, root: &RootSecret) -> Result<(), KeysError> {
    service.use_subject_key(SubjectKey::new(&root.derive("subjects of attempts")[..]));
    if let Ok(mail) = service.mail() {
        mail.mailer.use_sealer(Sealer::derived(&root.derive("mail"))?);
    }
    Ok(())
}
