//! The settings of the auth service, by concern. Each is declared once, in its group.

mod database;
mod events;
mod keys;
mod listeners;
mod mail;
mod passwords;
mod services;
mod sessions;
mod throttle;

use std::{sync::Arc, time::Duration};

use service_kit::{
    runtime::{self, RuntimeSettings},
    server::Addresses,
    settings::{Group, SettingsError, Source},
};
use sql_kit::DatabaseSettings;

pub use self::{
    database::{DATABASE_URL, UrlSettings},
    events::{
        EVENTS_MAX_ROWS, EVENTS_RETENTION, EventSettings, WEBHOOK_CA_FILE, WEBHOOK_SECRET,
        WEBHOOK_SECRET_PREVIOUS, WEBHOOK_URL, has_webhooks,
    },
    keys::{
        ACCESS_TOKEN_TTL, JWT_ALGORITHM, JWT_AUDIENCE, JWT_ISSUER, JWT_RETIRED_KEY_FILES,
        JWT_SECRET, JWT_SIGNING_KEY_FILE, KEY_ENCRYPTION_KEY, KEY_ROTATION_PERIOD, KeySettings,
        KeySource, TokenSettings,
    },
    listeners::{ADMIN_ADDR, GRPC_ADDR, HTTP_ADDR, ListenerSettings},
    mail::{
        EMAIL_VERIFICATION, EMAIL_VERIFICATION_TTL, EMAIL_VERIFICATION_URL, MAIL_DIR, MAIL_FROM,
        MAIL_TEMPLATES_DIR, MAILS_PER_MINUTE, MailConfig, MailSettings, PASSWORD_RESET_TTL,
        PASSWORD_RESET_URL, PUBLIC_URL, REGISTRATION, RESETS_PER_HOUR, RegistrationSettings,
        SMTP_CA_FILE, SMTP_URL,
    },
    passwords::{
        ARGON2_ITERATIONS, ARGON2_MEMORY_KIB, ARGON2_PARALLELISM, BCRYPT_COST, BCRYPT_INTERLEAVE,
        HASH_QUEUE_TIMEOUT, HASH_WORKERS, PASSWORD_BLOCKLIST_FILE, PASSWORD_BREACH_FILE,
        PASSWORD_BREACH_URL, PASSWORD_HASH, PASSWORD_MIN_LENGTH, PasswordSettings,
    },
    services::{
        ADMIN_CERT_NAMES, ADMIN_TOKEN, AdminSettings, SERVICE_TOKEN, SERVICE_TOKEN_PREVIOUS,
        ServiceSettings,
    },
    sessions::{
        REFRESH_RETRY_WINDOW, REFRESH_TOKENS, REFRESHES_PER_MINUTE, SESSION_IDLE_TIMEOUT,
        SESSION_LIFETIME, SESSIONS_PER_ACCOUNT, SessionSettings,
    },
    throttle::{
        LOGIN_FAILURE_WINDOW, LOGIN_FAILURES_PER_ACCOUNT, LOGIN_FAILURES_PER_PAIR,
        LOGINS_PER_MINUTE, LimitSettings, REGISTRATIONS_PER_MINUTE,
    },
};
use crate::{
    breached::Breaches,
    domain::PasswordRules,
    edge::grpc::ServiceCredentials,
    keys::Sealer,
    password::{Memory, Scheme},
    resources,
    service::{EventRules, Limits, RegistrationRules},
    sessions::SessionRules,
    token::Issuer,
    webhooks,
};

/// Every setting of the auth service.
pub const GROUPS: &[Group] = &[
    ListenerSettings::GROUP,
    runtime::EdgeSettings::GROUP,
    service_kit::tls::TlsSettings::GROUP,
    UrlSettings::GROUP,
    sql_kit::settings::PoolSettings::GROUP,
    KeySettings::GROUP,
    TokenSettings::GROUP,
    PasswordSettings::GROUP,
    LimitSettings::GROUP,
    RegistrationSettings::GROUP,
    MailSettings::GROUP,
    SessionSettings::GROUP,
    ServiceSettings::GROUP,
    AdminSettings::GROUP,
    EventSettings::GROUP,
    runtime::LogSettings::GROUP,
];

/// The validated settings of the auth service.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub addresses: Addresses,
    /// The database.
    pub database: DatabaseSettings,
    /// Where the signing keys come from. Absent only after [`Settings::read_without_keys`].
    pub keys: Option<KeySource>,
    /// Encrypts secrets in the database, if there is a `KEY_ENCRYPTION_KEY`.
    pub sealer: Option<Arc<Sealer>>,
    /// The issuer of access tokens, with the claims that all of them have.
    pub issuer: Issuer,
    /// The rules for new passwords.
    pub password_rules: PasswordRules,
    /// The source of breached passwords, if new passwords are checked against one.
    pub breaches: Option<Breaches>,
    /// How new passwords are hashed.
    pub scheme: Scheme,
    /// The number of hashing threads.
    pub hash_workers: usize,
    /// How many passwords each thread hashes at once.
    pub hash_width: usize,
    /// The memory that all hashes share.
    pub hash_memory: Memory,
    /// How long a password may wait in the queue.
    pub hash_queue_timeout: Duration,
    /// The limits on logins and registrations.
    pub limits: Limits,
    /// The rules for sessions.
    pub sessions: SessionRules,
    /// Who may register.
    pub registration: RegistrationRules,
    /// How mail is sent, if a mail server is set.
    pub mail: Option<MailConfig>,
    /// The credentials of other services and of operators.
    pub openers: ServiceCredentials,
    /// How long events are kept.
    pub events: EventRules,
    /// Sends events to the webhook receiver, if there is one.
    pub webhooks: Option<webhooks::Sender>,
    /// The settings that all services have in common.
    pub runtime: RuntimeSettings,
}

impl Settings {
    /// Reads and validates everything.
    ///
    /// # Errors
    ///
    /// All invalid settings at once, not only the first.
    pub fn read(source: &mut Source) -> Result<Self, SettingsError> {
        Self::read_with(source, true)
    }

    /// Reads the settings for a command that signs nothing, so signing keys are not required.
    ///
    /// # Errors
    ///
    /// All invalid settings at once, not only the first.
    pub fn read_without_keys(source: &mut Source) -> Result<Self, SettingsError> {
        Self::read_with(source, false)
    }

    fn read_with(source: &mut Source, needs_keys: bool) -> Result<Self, SettingsError> {
        let addresses = ListenerSettings::read(source).into();
        let database = DatabaseSettings::read(&DATABASE_URL, source);
        let keys = KeySettings::read(source);
        let sealer = keys.sealer.clone();
        let keys = if needs_keys || keys.is_given() { keys.source(source) } else { None };
        let issuer = TokenSettings::read(source).into();
        let mut passwords = PasswordSettings::read(source);
        let breaches = passwords.breaches(source);
        let hash_workers = passwords.workers(resources::memory_limit(), source);
        passwords.check(source);
        let limits = LimitSettings::read(source).into();
        let sessions = SessionSettings::read(source).rules(sealer.is_some(), source);
        let registration = RegistrationSettings::read(source);
        let registration = RegistrationRules {
            is_open: registration.is_open,
            verification: registration.verification,
        };
        let mail =
            MailSettings::read(source).config(registration.verification, sealer.is_some(), source);
        let admin = AdminSettings::read(source);
        let openers = ServiceSettings::read(source).openers(admin, source);
        let events = EventSettings::read(source);
        let (event_rules, webhooks) = (events.rules(), events.sender(source));
        let runtime = RuntimeSettings::read(source);
        source.finish()?;
        Ok(Self {
            addresses,
            database,
            keys,
            sealer,
            issuer,
            scheme: passwords.scheme(),
            hash_workers,
            hash_width: passwords.width(),
            hash_memory: passwords.memory(resources::memory_limit()),
            hash_queue_timeout: passwords.queue_timeout,
            breaches,
            password_rules: passwords.rules(),
            limits,
            sessions,
            registration,
            mail,
            openers,
            events: event_rules,
            webhooks,
            runtime,
        })
    }
}
