//! The settings of the user service.

use std::{fs, path::PathBuf};

use service_kit::{
    admin,
    runtime::RuntimeSettings,
    server::Addresses,
    settings::{Secret, Setting, SettingsError, Source, address, parsed, seconds, text},
    tls::{Authorities, ClientTls},
};
use sql_kit::Database;
use token_verifier::{JwksCache, JwksError, Rules, VerificationKey};
use tonic::transport::Endpoint;

use crate::domain::EmailVisibility;

/// `HTTP_ADDR`.
pub const HTTP_ADDR: Setting =
    Setting::new("HTTP_ADDR", "0.0.0.0:4000", "The address of the REST edge");
/// `GRPC_ADDR`.
pub const GRPC_ADDR: Setting =
    Setting::new("GRPC_ADDR", "0.0.0.0:50052", "The address of the gRPC edge");
/// `ADMIN_ADDR`.
pub const ADMIN_ADDR: Setting = Setting {
    may_be_empty: true,
    ..Setting::new(
        "ADMIN_ADDR",
        "127.0.0.1:9465",
        "The address for operators: /metrics, /livez, /readyz, /health; empty or off: none",
    )
};
/// `DATABASE_URL`.
pub const DATABASE_URL: Setting = Setting {
    secret: true,
    ..Setting::new(
        "DATABASE_URL",
        "sqlite://data/user.db",
        "The database: postgres://user:password@host/name or sqlite://path",
    )
};
/// `JWKS_URL`.
pub const JWKS_URL: Setting = Setting::new(
    "JWKS_URL",
    "http://127.0.0.1:3000/.well-known/jwks.json",
    "Where the keys that tokens are signed with are published",
);
/// `JWT_PUBLIC_KEY_FILE`.
pub const JWT_PUBLIC_KEY_FILE: Setting = Setting::optional(
    "JWT_PUBLIC_KEY_FILE",
    "A PEM file with the public key that tokens are signed with, in place of JWKS_URL",
);
/// `JWT_SECRET`.
pub const JWT_SECRET: Setting = Setting::secret(
    "JWT_SECRET",
    "The shared secret of HS256, at least 32 bytes, in place of JWKS_URL: for a proof of concept \
     only",
);
/// `JWT_ISSUER`.
pub const JWT_ISSUER: Setting =
    Setting::optional("JWT_ISSUER", "The iss that tokens must have; unset: any");
/// `JWT_AUDIENCE`.
pub const JWT_AUDIENCE: Setting =
    Setting::optional("JWT_AUDIENCE", "The aud that tokens must have; unset: any");
/// `JWT_EXP_LEEWAY`.
pub const JWT_EXP_LEEWAY: Setting = Setting::new(
    "JWT_EXP_LEEWAY",
    "0",
    "How long after its end a token is still taken, in seconds, 0 to 300",
);
/// `JWT_CLOCK_SKEW`.
pub const JWT_CLOCK_SKEW: Setting = Setting::new(
    "JWT_CLOCK_SKEW",
    "60",
    "How far in the future a token may have been issued, in seconds, 0 to 300",
);
/// `PROFILE_EMAIL_VISIBILITY`.
pub const PROFILE_EMAIL_VISIBILITY: Setting = Setting::new(
    "PROFILE_EMAIL_VISIBILITY",
    "owner",
    "Who sees the email of a profile: owner, or members for every caller",
);
/// `AUTH_GRPC_URL`.
pub const AUTH_GRPC_URL: Setting = Setting::optional(
    "AUTH_GRPC_URL",
    "The gRPC edge of the auth service, such as http://auth:50051, which is told of deletions. \
     Unset: they wait",
);
/// `SERVICE_TOKEN`.
pub const SERVICE_TOKEN: Setting = Setting::secret(
    "SERVICE_TOKEN",
    "What is presented to the auth service: its SERVICE_TOKEN, at least 32 bytes of printable ASCII",
);

/// `TLS_CA_FILE`.
pub const TLS_CA_FILE: Setting = Setting::optional(
    "TLS_CA_FILE",
    "The authorities, in PEM, that JWKS_URL and AUTH_GRPC_URL are checked with where they are \
     https. Unset: the system's",
);
/// `TLS_CLIENT_CERT_FILE`.
pub const TLS_CLIENT_CERT_FILE: Setting = Setting::optional(
    "TLS_CLIENT_CERT_FILE",
    "The client certificate that is presented at AUTH_GRPC_URL (mutual TLS), in PEM",
);
/// `TLS_CLIENT_KEY_FILE`.
pub const TLS_CLIENT_KEY_FILE: Setting =
    Setting::optional("TLS_CLIENT_KEY_FILE", "The private key of TLS_CLIENT_CERT_FILE, in PEM");

/// Every setting that the user service has of its own. [`service_kit::runtime::SETTINGS`] come on top.
pub const SETTINGS: &[Setting] = &[
    HTTP_ADDR,
    GRPC_ADDR,
    ADMIN_ADDR,
    DATABASE_URL,
    JWKS_URL,
    JWT_PUBLIC_KEY_FILE,
    JWT_SECRET,
    JWT_ISSUER,
    JWT_AUDIENCE,
    JWT_EXP_LEEWAY,
    JWT_CLOCK_SKEW,
    PROFILE_EMAIL_VISIBILITY,
    AUTH_GRPC_URL,
    SERVICE_TOKEN,
    TLS_CA_FILE,
    TLS_CLIENT_CERT_FILE,
    TLS_CLIENT_KEY_FILE,
];

const MIN_TOKEN_BYTES: usize = 32;

/// Where the keys that tokens are signed with come from.
#[derive(Debug)]
pub enum KeySource {
    /// Published by the auth service.
    Jwks(JwksCache),
    /// Given in the settings.
    Given(VerificationKey),
}

/// How the auth service is reached.
#[derive(Debug)]
pub struct AuthGrpc {
    /// Where it is.
    pub endpoint: Endpoint,
    /// TLS on the way there.
    pub tls: Option<ClientTls>,
}

impl AuthGrpc {
    /// Whether a client certificate is presented there.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.tls.as_ref().is_some_and(ClientTls::has_identity)
    }
}

/// The settings of the user service, valid.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub addresses: Addresses,
    /// The database.
    pub database: Database,
    /// Where the keys come from.
    pub keys: KeySource,
    /// What a token must have beside a good signature.
    pub rules: Rules,
    /// Who sees the email of a profile.
    pub email_visibility: EmailVisibility,
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
        let keys = keys(source);
        let service_token = source.secret(&SERVICE_TOKEN);
        if let Some(fault) = service_token.as_ref().and_then(|token| token_fault(token.expose())) {
            source.fault(&SERVICE_TOKEN, fault);
        }
        let rules = Rules {
            issuer: source.optional(&JWT_ISSUER, text),
            audience: source.optional(&JWT_AUDIENCE, text),
            exp_leeway: source.value(&JWT_EXP_LEEWAY, seconds(0, 300)),
            clock_skew: source.value(&JWT_CLOCK_SKEW, seconds(0, 300)),
        };
        let addresses = Addresses {
            http: source.value(&HTTP_ADDR, address),
            grpc: source.value(&GRPC_ADDR, address),
            admin: source.value(&ADMIN_ADDR, admin::address),
        };
        let database = source.value(&DATABASE_URL, |url| url.parse());
        let email_visibility = source.value(&PROFILE_EMAIL_VISIBILITY, parsed("owner or members"));
        let auth_grpc = auth_grpc(source);
        let runtime = RuntimeSettings::read(source);
        source.finish()?;
        Ok(Self {
            addresses,
            database,
            // Without a fault there is a source.
            keys: keys.ok_or_else(SettingsError::default)?,
            rules,
            email_visibility,
            auth_grpc,
            service_token,
            runtime,
        })
    }
}

/// Reads the three kinds of keys, of which one may be given. Every `None` comes with a fault.
fn keys(source: &mut Source) -> Option<KeySource> {
    let given: Vec<Setting> = [JWKS_URL, JWT_PUBLIC_KEY_FILE, JWT_SECRET]
        .into_iter()
        .filter(|setting| source.is_set(setting))
        .collect();
    if let [first, others @ ..] = &given[..] {
        for other in others {
            source.fault(other, format!("cannot be given together with {}", first.var));
        }
    }
    if let Some(secret) = source.secret(&JWT_SECRET) {
        return match VerificationKey::from_secret(secret.expose().as_bytes()) {
            Ok(key) => Some(KeySource::Given(key)),
            Err(error) => {
                source.fault(&JWT_SECRET, error);
                None
            }
        };
    }
    if source.is_set(&JWT_PUBLIC_KEY_FILE) {
        return source.optional(&JWT_PUBLIC_KEY_FILE, public_key).map(KeySource::Given);
    }
    let authorities = source.optional(&TLS_CA_FILE, |path| {
        fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))
    });
    let made = source.value(&JWKS_URL, |url| {
        let made = match &authorities {
            Some(pem) => JwksCache::trusting(url, pem),
            None => JwksCache::new(url),
        };
        match made {
            // Of another setting.
            Err(JwksError::Authorities) => Ok(None),
            Err(error) => Err(error.to_string()),
            Ok(cache) => Ok(Some(cache)),
        }
    });
    if made.is_none() {
        source.fault(&TLS_CA_FILE, "holds no certificate of an authority in PEM");
    }
    made.map(KeySource::Jwks)
}

fn public_key(path: &str) -> Result<VerificationKey, String> {
    let path = PathBuf::from(path);
    let pem =
        fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    VerificationKey::from_public_pem(&pem).map_err(|error| error.to_string())
}

fn token_fault(token: &str) -> Option<&'static str> {
    if token.len() < MIN_TOKEN_BYTES {
        Some("is under 32 bytes")
    } else if !token.bytes().all(|b| b.is_ascii_graphic()) {
        // It travels in a header field.
        Some("is not printable ASCII without spaces")
    } else {
        None
    }
}

/// Reads where the auth service is. Every `None` of a given URL comes with a fault.
fn auth_grpc(source: &mut Source) -> Option<AuthGrpc> {
    let cert = source.optional(&TLS_CLIENT_CERT_FILE, text);
    let key = source.optional(&TLS_CLIENT_KEY_FILE, text);
    let ca = source.optional(&TLS_CA_FILE, text);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some([(TLS_CLIENT_CERT_FILE, cert), (TLS_CLIENT_KEY_FILE, key)]),
        (None, None) => None,
        _ => {
            source.fault(&TLS_CLIENT_CERT_FILE, "must be given together with TLS_CLIENT_KEY_FILE");
            None
        }
    };
    let (endpoint, is_tls) = source.optional(&AUTH_GRPC_URL, endpoint)?;
    if !is_tls {
        if identity.is_some() {
            source.fault(&TLS_CLIENT_CERT_FILE, "is only for an AUTH_GRPC_URL that is https");
        }
        return Some(AuthGrpc { endpoint, tls: None });
    }
    let authorities = ca.map_or(Authorities::System, |path| Authorities::File(TLS_CA_FILE, path));
    match ClientTls::load(authorities, identity) {
        Ok(tls) => Some(AuthGrpc { endpoint, tls: Some(tls) }),
        Err((setting, what)) => {
            source.fault(&setting, what);
            None
        }
    }
}

/// Reads a URL of scheme and authority alone, and whether it asks for TLS.
fn endpoint(url: &str) -> Result<(Endpoint, bool), String> {
    let fault = || "is not a URL such as http://auth:50051".to_owned();
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| fault())?;
    let uri = endpoint.uri();
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(fault()),
    };
    let plain = uri.host().is_some_and(|host| !host.is_empty())
        && uri.path().trim_start_matches('/').is_empty()
        && !url.contains('@');
    let authority = uri.authority().filter(|_| plain).ok_or_else(fault)?;
    if !is_tls {
        return Ok((endpoint, false));
    }
    // tonic would add TLS of its own to an https URL; ours comes with the connector.
    let below = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| fault())?;
    Ok((below.origin(uri.clone()), true))
}
