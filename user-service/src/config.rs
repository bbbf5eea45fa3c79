//! The settings of the user service, by concern. Each is declared once, in its group.

mod auth;
mod database;
mod keys;
mod listeners;
mod profiles;
mod revocations;

use service_kit::{
    runtime::{self, RuntimeSettings},
    server::Addresses,
    settings::{Group, Secret, SettingsError, Source},
};
use sql_kit::DatabaseSettings;
use token_verifier::Rules;

pub use self::{
    auth::{
        AUTH_GRPC_URL, AuthGrpc, AuthSettings, DNS_SERVERS, DiscoverySettings, GrpcUrl,
        SERVICE_TOKEN, TLS_CA_FILE, TLS_CLIENT_CERT_FILE, TLS_CLIENT_KEY_FILE, TlsClientSettings,
    },
    database::{DATABASE_URL, UrlSettings},
    keys::{
        JWKS_URL, JWT_AUDIENCE, JWT_CLOCK_SKEW, JWT_EXP_LEEWAY, JWT_ISSUER, JWT_PUBLIC_KEY_FILE,
        JWT_SECRET, KeySettings, KeySource, RuleSettings,
    },
    listeners::{ADMIN_ADDR, GRPC_ADDR, HTTP_ADDR, ListenerSettings},
    profiles::{PROFILE_EMAIL_VISIBILITY, PROFILE_VISIBILITY, ProfileSettings},
    revocations::{REVOCATIONS_MAX_AGE, REVOCATIONS_URL, RevocationSettings, Revocations},
};

/// Every setting of the user service.
pub const GROUPS: &[Group] = &[
    ListenerSettings::GROUP,
    runtime::EdgeSettings::GROUP,
    service_kit::tls::TlsSettings::GROUP,
    UrlSettings::GROUP,
    sql_kit::settings::PoolSettings::GROUP,
    KeySettings::GROUP,
    RuleSettings::GROUP,
    RevocationSettings::GROUP,
    ProfileSettings::GROUP,
    AuthSettings::GROUP,
    DiscoverySettings::GROUP,
    TlsClientSettings::GROUP,
    runtime::LogSettings::GROUP,
];

/// The settings of the user service, valid.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub addresses: Addresses,
    /// The database.
    pub database: DatabaseSettings,
    /// Where the keys come from.
    pub keys: KeySource,
    /// Which of the tokens that the keys have signed are revoked; `None` where nobody asks.
    pub revocations: Option<Revocations>,
    /// What a token must have beside a good signature.
    pub rules: Rules,
    /// What is shown of profiles.
    pub profiles: ProfileSettings,
    /// The gRPC edge of the auth service.
    pub auth_grpc: Option<AuthGrpc>,
    /// What is presented there.
    pub service_token: Option<Secret>,
    /// What every service has.
    pub runtime: RuntimeSettings,
}

impl Settings {
    /// Reads and validates everything.
    ///
    /// # Errors
    ///
    /// All faults at once.
    pub fn read(source: &mut Source) -> Result<Self, SettingsError> {
        let addresses = ListenerSettings::read(source).into();
        let database = DatabaseSettings::read(&DATABASE_URL, source);
        let resolver = DiscoverySettings::read(source).resolver.unwrap_or_default();
        let access = auth::access(&resolver, source);
        let keys = keys::keys(&access, source);
        let revocations = revocations::revocations(&access, source);
        let rules = RuleSettings::read(source).into();
        let profiles = ProfileSettings::read(source);
        let AuthSettings { url, service_token } = AuthSettings::read(source);
        let auth_grpc = auth::auth_grpc(url, resolver, source);
        let runtime = RuntimeSettings::read(source);
        source.finish()?;
        Ok(Self {
            addresses,
            database,
            // Without a fault there is a source.
            keys: keys.ok_or_else(SettingsError::default)?,
            revocations,
            rules,
            profiles,
            auth_grpc,
            service_token,
            runtime,
        })
    }
}
