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

/// The validated settings of the user service.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub addresses: Addresses,
    /// The database.
    pub database: DatabaseSettings,
    /// Where the verification keys come from.
    pub keys: KeySource,
    /// Where the list of revoked tokens comes from; `None` if revocation is not checked.
    pub revocations: Option<Revocations>,
    /// The claims that a token must have, in addition to a valid signature.
    pub rules: Rules,
    /// Who can see profiles and emails.
    pub profiles: ProfileSettings,
    /// The gRPC edge of the auth service.
    pub auth_grpc: Option<AuthGrpc>,
    /// The bearer token that is sent to the auth service.
    pub service_token: Option<Secret>,
    /// The URL of the service that issues tokens, to which `/docs` leads. `None`: the issuer.
    pub token_page_url: Option<String>,
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
            // `keys` is `None` only if a fault was recorded, so this error never hides the reason.
            keys: keys.ok_or_else(SettingsError::default)?,
            revocations,
            rules,
            profiles,
            auth_grpc,
            service_token,
            token_page_url: None,
            runtime,
        })
    }
}
