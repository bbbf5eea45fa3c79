//! Every rule of the auth service, once, by subject. The edges call it and add nothing of their own.

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
    /// Nothing where breached passwords are not looked up.
    breaches: Option<BreachCheck>,
    sessions: SessionRules,
    refreshes: Refreshes,
    sizes: Sizes,
    registration: RegistrationRules,
    /// Nothing where no mail is sent.
    mail: Option<Mail>,
    /// Known once the database has been seen, if there is a `KEY_ENCRYPTION_KEY`.
    refresh_tokens: OnceLock<RefreshTokenKey>,
    /// Nothing until they have been loaded.
    keys: RwLock<Option<Arc<KeyRing>>>,
    prepared: AtomicBool,
    /// What a failing login costs; see [`Work`].
    work: RwLock<Arc<Work>>,
}

/// The limits on logins and registrations.
#[derive(Debug)]
pub struct Limits {
    /// On failed logins per account.
    pub failures: FailureLimits,
    /// On logins per network.
    pub logins: NetworkLimit,
    /// On registrations per network.
    pub registrations: NetworkLimit,
}

/// What the service is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where accounts, sessions and the rest are.
    pub store: Store,
    /// Where passwords are hashed.
    pub hashing: Hashing,
    /// How a new password is hashed.
    pub scheme: Scheme,
    /// What issues access tokens.
    pub issuer: Issuer,
    /// The limits on logins and registrations.
    pub limits: Limits,
    /// What a new password must be.
    pub password_rules: PasswordRules,
    /// Nothing where breached passwords are not looked up.
    pub breaches: Option<BreachCheck>,
    /// What sessions are allowed.
    pub sessions: SessionRules,
    /// Who may register, and what follows.
    pub registration: RegistrationRules,
    /// Nothing where no mail is sent.
    pub mail: Option<Mail>,
}

impl Service {
    /// The service of `parts`. It issues no token before [`Service::publish_keys`], and checks no
    /// password before [`Service::use_subject_key`].
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

    /// What a new password must be.
    #[must_use]
    pub const fn password_rules(&self) -> &PasswordRules {
        &self.password_rules
    }

    /// Takes up the key under which attempts are counted.
    pub fn use_subject_key(&self, key: SubjectKey) {
        self.throttle.use_key(key);
    }

    /// Takes up the key of the refresh tokens. The first one stays.
    pub fn use_refresh_token_key(&self, key: RefreshTokenKey) {
        let _ = self.refresh_tokens.set(key);
    }

    fn refresh_token_key(&self) -> Option<&RefreshTokenKey> {
        self.refresh_tokens.get()
    }

    /// Takes up the present signing keys.
    pub fn publish_keys(&self, ring: KeyRing) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ring));
    }

    /// The present signing keys, if they have been loaded.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<KeyRing>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up which schemes the stored hashes have.
    ///
    /// # Errors
    ///
    /// Where the database is away.
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
        // A count that is not known is not shown, rather than the last one.
        self.sizes.set(sizes.await.ok());
    }

    /// Removes the rows that no longer count.
    pub async fn prune(&self) {
        let now = self.store.now();
        let pruned = async {
            self.store.prune_attempts(now).await?;
            self.store.prune_sessions(now).await?;
            self.store.prune_links(now).await?;
            self.store.prune_revocations(now - revocations::LEEWAY).await
        };
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "cannot remove the rows that no longer count");
        }
        if let Err(error) = self.prune_deletions().await {
            tracing::warn!(%error, "cannot prune the list of deleted accounts");
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

    /// Notes that the database has been prepared, keys included.
    pub fn set_prepared(&self) {
        self.prepared.store(true, Relaxed);
    }

    /// Whether the database has been prepared. Before that only the keys can be asked for.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.prepared.load(Relaxed)
    }

    /// The signing keys, once the database has been prepared.
    fn loaded_keys(&self) -> Result<Arc<KeyRing>, Error> {
        self.keys().filter(|_| self.is_prepared()).ok_or(Error::DatabaseUnavailable)
    }
}
