//! The settings of the auth service.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use service_kit::{
    admin,
    client_address::TrustedProxies,
    runtime::RuntimeSettings,
    server::Addresses,
    settings::{
        Secret, Setting, SettingsError, Source, address, boolean, integer, parsed, seconds, text,
    },
};
use sql_kit::Database;
use token_verifier::{Algorithm, VerificationKey};
use zeroize::Zeroizing;

use crate::{
    blocklist::Blocklist,
    domain::PasswordRules,
    keys::{Schedule, Sealer, SigningKey},
    lanes,
    password::Scheme,
    resources,
    service::Limits,
    throttle::{FailureLimits, NetworkLimit, policy},
    token::Issuer,
};

/// `HTTP_ADDR`.
pub const HTTP_ADDR: Setting =
    Setting::new("HTTP_ADDR", "0.0.0.0:3000", "The address of the REST edge");
/// `GRPC_ADDR`.
pub const GRPC_ADDR: Setting =
    Setting::new("GRPC_ADDR", "0.0.0.0:50051", "The address of the gRPC edge");
/// `ADMIN_ADDR`.
pub const ADMIN_ADDR: Setting = Setting {
    may_be_empty: true,
    ..Setting::new(
        "ADMIN_ADDR",
        "127.0.0.1:9464",
        "The address for operators: /metrics, /livez, /readyz, /health; empty or off: none",
    )
};
/// `DATABASE_URL`.
pub const DATABASE_URL: Setting = Setting {
    secret: true,
    ..Setting::new(
        "DATABASE_URL",
        "sqlite://data/auth.db",
        "The database: postgres://user:password@host/name or sqlite://path",
    )
};
/// `JWT_ISSUER`.
pub const JWT_ISSUER: Setting =
    Setting::new("JWT_ISSUER", "http://localhost:3000", "The iss of the tokens");
/// `JWT_AUDIENCE`.
pub const JWT_AUDIENCE: Setting = Setting::new("JWT_AUDIENCE", "latchkey", "The aud of the tokens");
/// `ACCESS_TOKEN_TTL`.
pub const ACCESS_TOKEN_TTL: Setting = Setting::new(
    "ACCESS_TOKEN_TTL",
    "3600",
    "How long an access token lives, in seconds, 60 to 3600",
);
/// `JWT_ALGORITHM`.
pub const JWT_ALGORITHM: Setting = Setting::optional(
    "JWT_ALGORITHM",
    "How tokens are signed: RS256, ES256, EdDSA or HS256 [default: RS256, or what the key in \
     JWT_SIGNING_KEY_FILE is for]",
);
/// `KEY_ENCRYPTION_KEY`.
pub const KEY_ENCRYPTION_KEY: Setting = Setting::secret(
    "KEY_ENCRYPTION_KEY",
    "Encrypts the signing keys in the database: 32 bytes in base64. Required unless \
     JWT_SIGNING_KEY_FILE or JWT_SECRET is given",
);
/// `KEY_ROTATION_PERIOD`.
pub const KEY_ROTATION_PERIOD: Setting = Setting::new(
    "KEY_ROTATION_PERIOD",
    "2592000",
    "How long a managed key signs, in seconds, 3600 to 31536000",
);
/// `JWT_SIGNING_KEY_FILE`.
pub const JWT_SIGNING_KEY_FILE: Setting = Setting::optional(
    "JWT_SIGNING_KEY_FILE",
    "A PEM file with the private key that signs, in place of managed keys",
);
/// `JWT_RETIRED_KEY_FILES`.
pub const JWT_RETIRED_KEY_FILES: Setting = Setting::optional(
    "JWT_RETIRED_KEY_FILES",
    "PEM files with public keys that are still published, separated by commas",
);
/// `JWT_SECRET`.
pub const JWT_SECRET: Setting = Setting::secret(
    "JWT_SECRET",
    "The shared secret of HS256, at least 32 bytes: for a proof of concept only",
);
/// `PASSWORD_MIN_LENGTH`.
pub const PASSWORD_MIN_LENGTH: Setting = Setting::new(
    "PASSWORD_MIN_LENGTH",
    "8",
    "The least length of a new password, in Unicode code points, 8 to 128",
);
/// `PASSWORD_BLOCKLIST_FILE`.
pub const PASSWORD_BLOCKLIST_FILE: Setting = Setting::optional(
    "PASSWORD_BLOCKLIST_FILE",
    "A file with passwords to refuse beside the embedded list of common ones, one a line",
);
/// `PASSWORD_HASH`.
pub const PASSWORD_HASH: Setting =
    Setting::new("PASSWORD_HASH", "bcrypt", "How passwords are hashed: bcrypt or argon2id");
/// `BCRYPT_COST`.
pub const BCRYPT_COST: Setting =
    Setting::new("BCRYPT_COST", "12", "The cost of bcrypt, 10 to 16; each step doubles the time");
/// `ARGON2_MEMORY_KIB`.
pub const ARGON2_MEMORY_KIB: Setting = Setting::new(
    "ARGON2_MEMORY_KIB",
    "19456",
    "The memory of one Argon2id hash, in KiB, 7168 to 4194304",
);
/// `ARGON2_ITERATIONS`.
pub const ARGON2_ITERATIONS: Setting =
    Setting::new("ARGON2_ITERATIONS", "2", "The passes of Argon2id over its memory, 1 to 64");
/// `ARGON2_PARALLELISM`.
pub const ARGON2_PARALLELISM: Setting =
    Setting::new("ARGON2_PARALLELISM", "1", "The lanes of Argon2id, 1 to 16");
/// `HASH_WORKERS`.
pub const HASH_WORKERS: Setting = Setting::optional(
    "HASH_WORKERS",
    "The threads that hash passwords, 1 to 256 [default: the cores that the process may use; for \
     argon2id no more than fit into half of its memory]",
);
/// `BCRYPT_INTERLEAVE`.
pub const BCRYPT_INTERLEAVE: Setting = Setting::new(
    "BCRYPT_INTERLEAVE",
    "true",
    "Whether a thread computes up to four bcrypt hashes at once while more wait than there are \
     threads: true, or false for one after the other with the bcrypt crate",
);
/// `HASH_QUEUE_TIMEOUT`.
pub const HASH_QUEUE_TIMEOUT: Setting = Setting::new(
    "HASH_QUEUE_TIMEOUT",
    "5",
    "How long a password may wait to be hashed, in seconds, 1 to 60; past it: 503",
);
/// `SERVICE_TOKEN`.
pub const SERVICE_TOKEN: Setting = Setting::secret(
    "SERVICE_TOKEN",
    "What other services present to introspect tokens and delete accounts, at least 32 bytes. \
     Unset: those calls are refused",
);

/// `LOGIN_FAILURES_PER_PAIR`.
pub const LOGIN_FAILURES_PER_PAIR: Setting = Setting::new(
    "LOGIN_FAILURES_PER_PAIR",
    "10",
    "How many failed logins an account bears from one network in a window, 0 to 1000000; 0: any",
);
/// `LOGIN_FAILURES_PER_ACCOUNT`.
pub const LOGIN_FAILURES_PER_ACCOUNT: Setting = Setting::new(
    "LOGIN_FAILURES_PER_ACCOUNT",
    "100",
    "How many failed logins an account bears from all networks in a window, 0 to 1000000; 0: any",
);
/// `LOGIN_FAILURE_WINDOW`.
pub const LOGIN_FAILURE_WINDOW: Setting = Setting::new(
    "LOGIN_FAILURE_WINDOW",
    "900",
    "The window in which failed logins are counted, in seconds, 1 to 86400",
);
/// `LOGINS_PER_MINUTE`.
pub const LOGINS_PER_MINUTE: Setting = Setting::new(
    "LOGINS_PER_MINUTE",
    "60",
    "How many logins a network may try each minute, 0 to 1000000; 0: any",
);
/// `REGISTRATIONS_PER_MINUTE`.
pub const REGISTRATIONS_PER_MINUTE: Setting = Setting::new(
    "REGISTRATIONS_PER_MINUTE",
    "60",
    "How many accounts a network may register each minute, 0 to 1000000; 0: any",
);
/// `TRUSTED_PROXIES`.
pub const TRUSTED_PROXIES: Setting = Setting::new(
    "TRUSTED_PROXIES",
    "",
    "The proxies whose X-Forwarded-For or Forwarded counts: networks in CIDR notation, separated by \
     commas",
);

/// Every setting that the auth service has of its own. [`service_kit::runtime::SETTINGS`] come on top.
pub const SETTINGS: &[Setting] = &[
    HTTP_ADDR,
    GRPC_ADDR,
    ADMIN_ADDR,
    DATABASE_URL,
    KEY_ENCRYPTION_KEY,
    KEY_ROTATION_PERIOD,
    JWT_ALGORITHM,
    JWT_SIGNING_KEY_FILE,
    JWT_RETIRED_KEY_FILES,
    JWT_SECRET,
    JWT_ISSUER,
    JWT_AUDIENCE,
    ACCESS_TOKEN_TTL,
    PASSWORD_MIN_LENGTH,
    PASSWORD_BLOCKLIST_FILE,
    PASSWORD_HASH,
    BCRYPT_COST,
    ARGON2_MEMORY_KIB,
    ARGON2_ITERATIONS,
    ARGON2_PARALLELISM,
    HASH_WORKERS,
    BCRYPT_INTERLEAVE,
    HASH_QUEUE_TIMEOUT,
    LOGIN_FAILURES_PER_PAIR,
    LOGIN_FAILURES_PER_ACCOUNT,
    LOGIN_FAILURE_WINDOW,
    LOGINS_PER_MINUTE,
    REGISTRATIONS_PER_MINUTE,
    TRUSTED_PROXIES,
    SERVICE_TOKEN,
];

/// The least length of a shared secret, in bytes (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Where the signing keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// Generated here, kept in the database.
    Managed {
        /// Encrypts them.
        sealer: Arc<Sealer>,
        /// What they are for.
        algorithm: Algorithm,
        /// When they change.
        schedule: Schedule,
    },
    /// Given in the settings.
    Given {
        /// The one that signs.
        key: Box<SigningKey>,
        /// Others that still verify.
        retired: Vec<VerificationKey>,
        /// The private key or shared secret itself, from which other keys may be derived.
        secret: Zeroizing<Vec<u8>>,
    },
}

/// The settings of the auth service, valid.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub addresses: Addresses,
    /// The database.
    pub database: Database,
    /// Where the signing keys come from.
    pub keys: KeySource,
    /// Encrypts secrets in the database, if there is a `KEY_ENCRYPTION_KEY`.
    pub sealer: Option<Arc<Sealer>>,
    /// What goes into every token.
    pub issuer: Issuer,
    /// What a new password must be.
    pub password_rules: PasswordRules,
    /// How new passwords are hashed.
    pub scheme: Scheme,
    /// The threads that hash.
    pub hash_workers: usize,
    /// How many passwords each of them hashes at once.
    pub hash_width: usize,
    /// How long a password may wait to be hashed.
    pub hash_queue_timeout: Duration,
    /// The limits on logins and registrations.
    pub limits: Limits,
    /// The proxies whose word on the client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// What other services present.
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
        let sealer = sealer(source);
        let keys = keys(source, sealer.as_ref());
        let service_token = source.secret(&SERVICE_TOKEN);
        if service_token.as_ref().is_some_and(|token| token.expose().len() < MIN_SECRET_BYTES) {
            source.fault(&SERVICE_TOKEN, "is under 32 bytes");
        }
        let scheme = scheme(source);
        let hash_workers = hash_workers(source, scheme, resources::memory_limit());
        // Argon2id is bound by memory: two at once take as long as one after the other.
        let hash_width = match (source.value(&BCRYPT_INTERLEAVE, boolean), scheme) {
            (true, Scheme::Bcrypt { .. }) => lanes::WIDTH,
            _ => 1,
        };
        let settings = (
            addresses(source),
            source.value(&DATABASE_URL, database),
            Issuer {
                issuer: source.value(&JWT_ISSUER, text),
                audience: source.value(&JWT_AUDIENCE, text),
                ttl: source.value(&ACCESS_TOKEN_TTL, seconds(60, 3600)),
            },
            PasswordRules {
                min_length: index(source.value(&PASSWORD_MIN_LENGTH, integer(8, 128))),
                blocklist: source.optional(&PASSWORD_BLOCKLIST_FILE, blocklist).unwrap_or_default(),
            },
            source.value(&HASH_QUEUE_TIMEOUT, seconds(1, 60)),
            limits(source),
            source.value(&TRUSTED_PROXIES, str::parse),
            RuntimeSettings::read(source),
        );
        source.finish()?;
        let (addresses, database, issuer, rules, queue, limits, trusted, runtime) = settings;
        // Without a fault there are keys.
        let keys = keys.ok_or_else(SettingsError::default)?;
        Ok(Self {
            addresses,
            database,
            keys,
            sealer,
            issuer,
            password_rules: rules,
            scheme,
            hash_workers,
            hash_width,
            hash_queue_timeout: queue,
            limits,
            trusted_proxies: trusted,
            service_token,
            runtime,
        })
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn addresses(source: &mut Source) -> Addresses {
    Addresses {
        http: source.value(&HTTP_ADDR, address),
        grpc: source.value(&GRPC_ADDR, address),
        admin: source.value(&ADMIN_ADDR, admin::address),
    }
}

/// As many threads as cores, and with Argon2id no more than fit into half of the memory. More can be
/// set, but not more than fit at all.
fn hash_workers(source: &mut Source, scheme: Scheme, memory: Option<u64>) -> usize {
    let memory = memory.unwrap_or(u64::MAX);
    let fitting = index((memory / 2 / scheme.memory()).max(1));
    let default = resources::cores().min(fitting);
    let workers = source.optional(&HASH_WORKERS, integer(1, 256)).map_or(default, index);
    let needed = scheme.memory().saturating_mul(workers as u64);
    if needed > memory {
        source.fault(
            &HASH_WORKERS,
            format!(
                "{workers} threads hashing with ARGON2_MEMORY_KIB each need {needed} bytes, but the \
                 process may use {memory}"
            ),
        );
    }
    workers
}

fn blocklist(path: &str) -> Result<Blocklist, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(Blocklist::with_own(&text))
}

fn limits(source: &mut Source) -> Limits {
    let mut quota =
        |setting| u32::try_from(source.value(setting, integer(0, 1_000_000))).unwrap_or(u32::MAX);
    let (per_pair, per_account) =
        (quota(&LOGIN_FAILURES_PER_PAIR), quota(&LOGIN_FAILURES_PER_ACCOUNT));
    let (logins, registrations) = (quota(&LOGINS_PER_MINUTE), quota(&REGISTRATIONS_PER_MINUTE));
    let window = source.value(&LOGIN_FAILURE_WINDOW, seconds(1, 86_400));
    Limits {
        failures: FailureLimits { per_pair, per_account, window },
        logins: NetworkLimit::new(policy::LOGINS, logins),
        registrations: NetworkLimit::new(policy::REGISTRATIONS, registrations),
    }
}

/// Reads `DATABASE_URL`.
fn database(url: &str) -> Result<Database, String> {
    url.parse()
}

fn scheme(source: &mut Source) -> Scheme {
    let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    let bcrypt = Scheme::Bcrypt { cost: number(source.value(&BCRYPT_COST, integer(10, 16))) };
    let argon2id = Scheme::Argon2id {
        memory_kib: number(source.value(&ARGON2_MEMORY_KIB, integer(7168, 4_194_304))),
        iterations: number(source.value(&ARGON2_ITERATIONS, integer(1, 64))),
        parallelism: number(source.value(&ARGON2_PARALLELISM, integer(1, 16))),
    };
    source.value(&PASSWORD_HASH, |name| match name {
        "bcrypt" => Ok(bcrypt),
        "argon2id" => Ok(argon2id),
        _ => Err("is neither bcrypt nor argon2id".to_owned()),
    })
}

/// Reads the three kinds of keys. Every `None` comes with a fault.
fn keys(source: &mut Source, sealer: Option<&Arc<Sealer>>) -> Option<KeySource> {
    let algorithm = source.optional(&JWT_ALGORITHM, algorithm);
    let retired = retired_keys(source);
    let secret = source.secret(&JWT_SECRET);
    let file = source.optional(&JWT_SIGNING_KEY_FILE, parsed::<PathBuf>("a path"));
    let rotation_period = source.value(&KEY_ROTATION_PERIOD, seconds(3600, 31_536_000));

    if file.is_none() && source.is_set(&JWT_RETIRED_KEY_FILES) {
        source.fault(&JWT_RETIRED_KEY_FILES, "is only for keys given in JWT_SIGNING_KEY_FILE");
    }
    if let Some(path) = file {
        if secret.is_some() {
            source.fault(&JWT_SECRET, "cannot be given together with JWT_SIGNING_KEY_FILE");
        }
        let key = read_key(source, &path)?;
        let found = key.verification_key().algorithm();
        if let Some(wanted) = algorithm.filter(|wanted| *wanted != found) {
            let (wanted, found) = (wanted.as_str(), found.as_str());
            source.fault(
                &JWT_ALGORITHM,
                format!("is {wanted}, but the key in JWT_SIGNING_KEY_FILE is for {found}"),
            );
            return None;
        }
        let secret = Zeroizing::new(key.pkcs8().unwrap_or_default().to_vec());
        return Some(KeySource::Given { key: Box::new(key), retired, secret });
    }
    if algorithm == Some(Algorithm::Hs256) {
        let Some(secret) = secret else {
            source.fault(&JWT_SECRET, "is required with JWT_ALGORITHM=HS256");
            return None;
        };
        return match SigningKey::from_secret(secret.expose().as_bytes()) {
            Ok(key) => {
                let secret = Zeroizing::new(secret.expose().as_bytes().to_vec());
                Some(KeySource::Given { key: Box::new(key), retired, secret })
            }
            Err(_) => {
                source.fault(&JWT_SECRET, "is under 32 bytes");
                None
            }
        };
    }
    if secret.is_some() {
        source.fault(&JWT_SECRET, "is only for JWT_ALGORITHM=HS256");
        return None;
    }
    let Some(sealer) = sealer else {
        if !source.is_set(&KEY_ENCRYPTION_KEY) {
            source.fault(
                &KEY_ENCRYPTION_KEY,
                "is required for managed keys: 32 bytes in base64 (make them with: openssl rand \
                 -base64 32)",
            );
        }
        return None;
    };
    Some(KeySource::Managed {
        sealer: Arc::clone(sealer),
        algorithm: algorithm.unwrap_or(Algorithm::Rs256),
        schedule: Schedule { rotation_period },
    })
}

fn sealer(source: &mut Source) -> Option<Arc<Sealer>> {
    let key = source.secret(&KEY_ENCRYPTION_KEY)?;
    let sealer = Sealer::from_base64(key.expose());
    sealer.map(Arc::new).map_err(|error| source.fault(&KEY_ENCRYPTION_KEY, error)).ok()
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256]
        .into_iter()
        .find(|algorithm| algorithm.as_str() == name)
        .ok_or_else(|| "is not RS256, ES256, EdDSA or HS256".to_owned())
}

fn read_key(source: &mut Source, path: &PathBuf) -> Option<SigningKey> {
    let key = fs::read(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
        .and_then(|pem| SigningKey::from_pem(&pem).map_err(|error| error.to_string()));
    key.map_err(|what| source.fault(&JWT_SIGNING_KEY_FILE, what)).ok()
}

fn retired_keys(source: &mut Source) -> Vec<VerificationKey> {
    let paths = source.optional(&JWT_RETIRED_KEY_FILES, text).unwrap_or_default();
    let mut keys = Vec::new();
    for path in paths.split(',').map(str::trim).filter(|path| !path.is_empty()) {
        let key = fs::read(path).map_err(|error| format!("cannot read {path}: {error}")).and_then(
            |pem| {
                VerificationKey::from_public_pem(&pem).map_err(|error| format!("{path}: {error}"))
            },
        );
        match key {
            Ok(key) => keys.push(key),
            Err(what) => source.fault(&JWT_RETIRED_KEY_FILES, what),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_threads_must_fit_into_the_memory() {
        let scheme = Scheme::Argon2id { memory_kib: 1024 * 1024, iterations: 1, parallelism: 1 };
        let gib = |number: u64| Some(number << 30);
        let mut source = Source::default();
        assert_eq!(hash_workers(&mut source, scheme, gib(2)), 1);
        assert!(source.finish().is_ok());
        source.set(&HASH_WORKERS, "3");
        assert_eq!(hash_workers(&mut source, scheme, gib(3)), 3);
        assert!(source.finish().is_ok());
        hash_workers(&mut source, scheme, gib(2));
        let told = source.finish().unwrap_err().to_string();
        assert!(told.contains("HASH_WORKERS: 3 threads"), "{told}");
    }
}
