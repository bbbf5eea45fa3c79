//! All rules of the auth service, by subject. The edges call them and add no rules of their own.

mod accounts;
pub mod admin;
mod caller;
mod cursor;
mod deletions;
mod emails;
pub mod events;
mod links;
mod login;
mod notices;
mod passwords;
mod registration;
mod revocations;
mod sessions;

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use service_kit::{client_address::Network, metrics::Metrics};
use sql_kit::read;

use self::sessions::{Refreshes, Sizes};
pub use self::{
    caller::Caller,
    deletions::DeletedAccounts,
    events::EventRules,
    links::{Mail, Verification},
    login::{Credentials, Issued, IssuedRefresh},
    registration::RegistrationRules,
    revocations::PAGE_BYTES as REVOCATIONS_PAGE_BYTES,
    sessions::outcome,
};
pub use crate::events::Requester;
use crate::{
    breached::BreachCheck,
    domain::PasswordRules,
    error::Error,
    hashing::Hashing,
    keys::KeyRing,
    password::{Scheme, Work},
    sessions::{RefreshTokenKey, SessionRules},
    store::{Store, StoreError, accounts as rows},
    throttle::{FailureLimits, NetworkLimit, Refusals, SubjectKey, Throttle},
    token::Issuer,
};

/// The auth service.
#[derive(Debug)]
pub struct Service {
    store: Store,
    hashing: Hashing,
    scheme: Scheme,
    issuer: Issuer,
    limits: Limits,
    refusals: Refusals,
    throttle: Arc<Throttle>,
    password_rules: PasswordRules,
    /// `None` if breached passwords are not looked up.
    breaches: Option<BreachCheck>,
    sessions: SessionRules,
    refreshes: Refreshes,
    sizes: Sizes,
    registration: RegistrationRules,
    /// `None` if no mail is sent.
    mail: Option<Mail>,
    /// Set once the database has been prepared, if there is a `KEY_ENCRYPTION_KEY`.
    refresh_tokens: OnceLock<RefreshTokenKey>,
    /// `None` until the keys have been loaded.
    keys: RwLock<Option<Arc<KeyRing>>>,
    prepared: AtomicBool,
    /// The work of a failing login; see [`Work`].
    work: RwLock<Arc<Work>>,
}

/// The limits on logins and registrations.
#[derive(Debug)]
pub struct Limits {
    /// The limits on failed logins per account.
    pub failures: FailureLimits,
    /// The limit on logins per network.
    pub logins: NetworkLimit,
    /// The limit on registrations per network.
    pub registrations: NetworkLimit,
}

/// The dependencies and rules of the service.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The pool of hashing threads.
    pub hashing: Hashing,
    /// How a new password is hashed.
    pub scheme: Scheme,
    /// Issues access tokens.
    pub issuer: Issuer,
    /// The limits on logins and registrations.
    pub limits: Limits,
    /// The rules for new passwords.
    pub password_rules: PasswordRules,
    /// `None` if breached passwords are not looked up.
    pub breaches: Option<BreachCheck>,
    /// The rules for sessions.
    pub sessions: SessionRules,
    /// Who may register, and whether addresses are confirmed.
    pub registration: RegistrationRules,
    /// `None` if no mail is sent.
    pub mail: Option<Mail>,
}

impl Service {
    /// Creates the service. It issues no tokens before [`Service::publish_keys`], and checks no
    /// passwords before [`Service::use_subject_key`].
    #[must_use]
    pub fn new(parts: Parts, metrics: &Metrics) -> Self {
        let Parts {
            store,
            hashing,
            scheme,
            issuer,
            limits,
            password_rules,
            breaches,
            sessions,
            registration,
            mail,
        } = parts;
        let refusals = Refusals::observed_by(metrics);
        let throttle = Arc::new(Throttle::new(
            store.clone(),
            limits.failures,
            refusals.clone(),
            hashing.timeout(),
        ));
        let work = RwLock::new(Arc::new(Work::new(scheme, [])));
        let keys = RwLock::new(None);
        Self {
            store,
            hashing,
            scheme,
            issuer,
            limits,
            refusals,
            throttle,
            password_rules,
            breaches,
            sessions,
            refreshes: Refreshes::observed_by(metrics),
            sizes: Sizes::observed_by(metrics),
            registration,
            mail,
            refresh_tokens: OnceLock::new(),
            keys,
            prepared: AtomicBool::new(false),
            work,
        }
    }

    /// The rules for new passwords.
    #[must_use]
    pub const fn password_rules(&self) -> &PasswordRules {
        &self.password_rules
    }

    /// Sets the key under which attempts are counted.
    pub fn use_subject_key(&self, key: SubjectKey) {
        self.throttle.use_key(key);
    }

    /// Sets the key of refresh tokens. Only the first call has an effect.
    pub fn use_refresh_token_key(&self, key: RefreshTokenKey) {
        let _ = self.refresh_tokens.set(key);
    }

    fn refresh_token_key(&self) -> Option<&RefreshTokenKey> {
        self.refresh_tokens.get()
    }

    /// Sets the current signing keys.
    pub fn publish_keys(&self, ring: KeyRing) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ring));
    }

    /// The current signing keys, if they have been loaded.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<KeyRing>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the schemes of the stored hashes, and adapts the work of logins to them.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
    pub async fn refresh_work(&self) -> Result<(), Error> {
        let stored = read!(self.store, |unit| rows::hash_schemes(unit).await).await?;
        let work = Work::new(self.scheme, stored.iter().filter_map(|scheme| scheme.parse().ok()));
        *self.work.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(work);
        Ok(())
    }

    /// Counts the sessions and the entries of the revocation feed, for the metrics.
    pub async fn count_rows(&self) {
        let sizes = async {
            Ok::<_, StoreError>((
                self.store.count_sessions().await?,
                self.store.count_revocations().await?,
                self.store.count_events().await?,
            ))
        };
        // If counting fails, the metric shows no value instead of an old one.
        self.sizes.set(sizes.await.ok());
    }

    /// Removes expired rows.
    pub async fn prune(&self) {
        let now = self.store.now();
        let pruned = async {
            self.store.prune_attempts(now).await?;
            self.store.prune_sessions(now).await?;
            self.store.prune_links(now).await?;
            self.store.prune_revocations(now - revocations::LEEWAY).await
        };
        if let Err(error) = pruned.await {
            error.note("cannot remove the rows that no longer count");
        }
        if let Err(error) = self.prune_deletions().await {
            error.note("cannot prune the list of deleted accounts");
        }
    }

    fn admit(&self, limit: &NetworkLimit, network: Network) -> Result<(), Error> {
        limit.admit(network, Instant::now()).map_err(|exhausted| {
            let policy = exhausted.policy;
            tracing::warn!(event = "request.throttled", policy, %network, "request throttled");
            self.refusals.count(&exhausted);
            Error::TooManyRequests(exhausted)
        })
    }

    /// Records that the database has been prepared, including the keys.
    pub fn set_prepared(&self) {
        self.prepared.store(true, Relaxed);
    }

    /// Whether the database has been prepared. Before that, the service only answers requests for
    /// its keys.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.prepared.load(Relaxed)
    }

    /// The signing keys, once the database has been prepared.
    fn loaded_keys(&self) -> Result<Arc<KeyRing>, Error> {
        self.keys().filter(|_| self.is_prepared()).ok_or(Error::DatabaseUnavailable)
    }
}
