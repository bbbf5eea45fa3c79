//! Every rule of the auth service, once. Both edges call it and add nothing of their own.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use service_kit::client_address::Network;
use token_verifier::{Claims, Rules};

use crate::{
    domain::{AccountId, Email, Password, PasswordRules, Registration},
    error::Error,
    hashing::Hashing,
    keys::KeyRing,
    lanes::Bcrypt,
    password::{Scheme, Work},
    reservation::Reservation,
    store::{AccountRecord, Attempt, Outcome, Store},
    throttle::{Exhausted, FailureLimits, NetworkLimit, Refusals, Subject, policy},
    token::Issuer,
};

/// The auth service.
#[derive(Debug)]
pub struct Service {
    store: Arc<dyn Store>,
    hashing: Hashing,
    scheme: Scheme,
    issuer: Issuer,
    limits: Limits,
    refusals: Refusals,
    password_rules: PasswordRules,
    /// Nothing until they have been loaded.
    keys: RwLock<Option<Arc<KeyRing>>>,
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

/// How long a login waits before it asks again whether it may be tried: at first, and at most.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
const MAX_BUSY_INTERVAL: Duration = Duration::from_millis(400);

/// An access token and its lifetime.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub access_token: String,
    /// Its lifetime, in seconds.
    pub expires_in: u64,
}

impl Service {
    /// The service on `store`. It issues no token before [`Service::publish_keys`].
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        hashing: Hashing,
        scheme: Scheme,
        issuer: Issuer,
        limits: Limits,
        refusals: Refusals,
        password_rules: PasswordRules,
    ) -> Self {
        let work = RwLock::new(Arc::new(Work::new(scheme, [])));
        let keys = RwLock::new(None);
        Self { store, hashing, scheme, issuer, limits, refusals, password_rules, keys, work }
    }

    /// What a new password must be.
    #[must_use]
    pub const fn password_rules(&self) -> &PasswordRules {
        &self.password_rules
    }

    /// Takes up the present signing keys.
    pub fn publish_keys(&self, ring: KeyRing) {
        *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(Arc::new(ring));
    }

    /// The present signing keys, if they have been loaded.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<KeyRing>> {
        self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Takes up which schemes the stored hashes have.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn refresh_work(&self) -> Result<(), Error> {
        let stored = self.store.hash_schemes().await?;
        let work = Work::new(self.scheme, stored.iter().filter_map(|scheme| scheme.parse().ok()));
        *self.work.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(work);
        Ok(())
    }

    /// Creates an account.
    ///
    /// # Errors
    ///
    /// [`Error::EmailAlreadyRegistered`], throttling, overload, or the database.
    pub async fn register(
        &self,
        registration: Registration,
        network: Network,
    ) -> Result<AccountRecord, Error> {
        self.loaded_keys()?;
        self.admit(&self.limits.registrations, network)?;
        let Registration { email, password } = registration;
        // Spares the hash where the answer is known already; the insertion decides.
        if self.store.account_by_email(&email).await?.is_some() {
            return Err(Error::EmailAlreadyRegistered);
        }
        let scheme = self.scheme;
        let hash = async move |bcrypt: Bcrypt| scheme.hash(&password, &bcrypt).await;
        let password_hash = self.hashing.run(hash).await??;
        let account = AccountRecord {
            id: AccountId::generate(),
            email,
            password_hash,
            hash_scheme: scheme.to_string(),
            created_at: sql_kit::now(),
        };
        if !self.store.create_account(&account).await? {
            return Err(Error::EmailAlreadyRegistered);
        }
        tracing::info!(event = "account.registered", account = %account.id, "account registered");
        Ok(account)
    }

    /// Checks an email and a password, as they came, and issues an access token.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCredentials`] for whatever is wrong with either, after the same work;
    /// throttling, overload, or the database.
    pub async fn login(
        &self,
        email: &str,
        password: &str,
        network: Network,
    ) -> Result<Issued, Error> {
        let ring = self.loaded_keys()?;
        self.admit(&self.limits.logins, network)?;
        let reservation = self.reserve(Subject::of(email), network).await?;
        let account = self.authenticate(email, Password::normalize(password)).await;
        if let (Some(reservation), Ok(account)) = (reservation, &account) {
            let outcome = if account.is_some() { Outcome::Succeeded } else { Outcome::Failed };
            reservation.settle(outcome).await?;
        }
        let now = sql_kit::now();
        let Some(account) = account? else {
            tracing::info!(event = "login.failed", %network, "login failed");
            return Err(Error::InvalidCredentials);
        };
        let key = ring.active(now).ok_or(Error::DatabaseUnavailable)?;
        let access_token =
            self.issuer.issue(account.id, &account.email, key, now).map_err(|error| {
                tracing::error!(%error, "signing failed");
                Error::Internal
            })?;
        tracing::info!(event = "login.ok", account = %account.id, "login ok");
        Ok(Issued { access_token, expires_in: self.issuer.ttl.as_secs() })
    }

    fn admit(&self, limit: &NetworkLimit, network: Network) -> Result<(), Error> {
        limit.admit(network, Instant::now()).map_err(|exhausted| {
            let policy = exhausted.policy;
            tracing::warn!(event = "request.throttled", policy, %network, "request throttled");
            self.refusals.count(&exhausted);
            Error::TooManyRequests(exhausted)
        })
    }

    /// Reserves an attempt, unless the account has had its share. While others under way may use up
    /// what is left of it, this waits.
    async fn reserve(
        &self,
        subject: Subject,
        network: Network,
    ) -> Result<Option<Reservation>, Error> {
        let limits = self.limits.failures;
        if limits.per_pair == 0 && limits.per_account == 0 {
            return Ok(None);
        }
        let (started, mut pause) = (Instant::now(), BUSY_INTERVAL);
        loop {
            let now = sql_kit::now();
            let (policy, quota, until) =
                match self.store.count_attempt(subject, network, limits, now).await? {
                    Attempt::Counted => {
                        let store = Arc::clone(&self.store);
                        return Ok(Some(Reservation::new(store, subject, network, limits)));
                    }
                    Attempt::Busy if started.elapsed() > self.hashing.timeout() => {
                        return Err(Error::Overloaded(BUSY_INTERVAL));
                    }
                    Attempt::Busy => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(MAX_BUSY_INTERVAL);
                        continue;
                    }
                    Attempt::PairExhausted { until } => {
                        (policy::FAILURES_PER_PAIR, limits.per_pair, until)
                    }
                    Attempt::AccountExhausted { until } => {
                        (policy::FAILURES_PER_ACCOUNT, limits.per_account, until)
                    }
                };
            tracing::warn!(event = "login.throttled", policy, %network, "login throttled");
            let retry_after = (until - now).to_std().unwrap_or_default();
            let exhausted = Exhausted { policy, quota, window: limits.window, retry_after };
            self.refusals.count(&exhausted);
            return Err(Error::TooManyAttempts(exhausted));
        }
    }

    /// The account with this email, if the password is its own.
    async fn authenticate(
        &self,
        email: &str,
        password: Password,
    ) -> Result<Option<AccountRecord>, Error> {
        let account = match Email::parse(email) {
            Ok(email) => self.store.account_by_email(&email).await?,
            Err(_) => None,
        };
        self.check(account, password).await
    }

    /// Removes the throttle's rows that no longer count.
    pub async fn prune(&self) {
        if let Err(error) = self.store.prune_attempts(sql_kit::now()).await {
            tracing::warn!(%error, "cannot prune the counted attempts");
        }
    }

    /// The account, if the password is its own. An outdated hash is replaced on the way.
    async fn check(
        &self,
        account: Option<AccountRecord>,
        password: Password,
    ) -> Result<Option<AccountRecord>, Error> {
        let work = Arc::clone(&self.work.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        let scheme = self.scheme;
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let (right, replacement) = self
            .hashing
            .run(async move |bcrypt| {
                let right = work.check(&password, stored.as_deref(), &bcrypt).await?;
                let outdated = right
                    && stored
                        .as_deref()
                        .and_then(Scheme::of)
                        .is_none_or(|used| used.is_outdated(scheme));
                let replacement = match outdated {
                    true => Some(scheme.hash(&password, &bcrypt).await?),
                    false => None,
                };
                Ok::<_, crate::password::HashError>((right, replacement))
            })
            .await??;
        let Some(account) = account.filter(|_| right) else {
            return Ok(None);
        };
        if let Some(after) = replacement {
            let before = &account.password_hash;
            let name = scheme.to_string();
            // A failure only postpones it to the next login.
            match self.store.replace_password_hash(account.id, before, &after, &name).await {
                Ok(true) => tracing::info!(
                    event = "password_hash.replaced", account = %account.id, "password hash replaced"
                ),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot replace a password hash"),
            }
        }
        Ok(Some(account))
    }

    /// The claims of a token if it is active (RFC 7662, section 2.2): valid now, and of an account
    /// that exists.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn introspect(&self, token: &str) -> Result<Option<Claims>, Error> {
        let ring = self.loaded_keys()?;
        let rules = Rules {
            issuer: Some(self.issuer.issuer.clone()),
            audience: Some(self.issuer.audience.clone()),
            ..Rules::default()
        };
        let now = sql_kit::now().timestamp();
        let Ok(claims) = token_verifier::verify(token, ring.verification(), &rules, now) else {
            return Ok(None);
        };
        let exists = self.store.account_exists(AccountId(claims.sub)).await?;
        Ok(exists.then_some(claims))
    }

    /// Deletes an account; one that does not exist is as good as deleted.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn delete_account(&self, id: AccountId) -> Result<(), Error> {
        self.loaded_keys()?;
        if let Some(email) = self.store.delete_account(id).await? {
            self.store.forget_attempts(Subject::of(email.as_str())).await?;
            tracing::info!(event = "account.deleted", account = %id, "account deleted");
        }
        Ok(())
    }

    /// Before the keys have been loaded the database has not been migrated either.
    fn loaded_keys(&self) -> Result<Arc<KeyRing>, Error> {
        self.keys().ok_or(Error::DatabaseUnavailable)
    }
}
