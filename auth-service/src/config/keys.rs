//! The keys that sign tokens, and what is in every token.

use std::{sync::Arc, time::Duration};

use service_kit::settings::{Secret, Source, read_bytes, seconds, text};
use token_verifier::{Algorithm, VerificationKey};
use zeroize::Zeroizing;

use crate::{
    keys::{MOST_KEYS, Schedule, Sealer, SigningKey},
    token::Issuer,
};

service_kit::settings! {
    "Access tokens"
    /// What is in every token.
    pub struct TokenSettings {
        /// The iss of the tokens.
        issuer: String = value JWT_ISSUER("http://localhost:3000", text);
        /// The aud of the tokens.
        audience: String = value JWT_AUDIENCE("latchkey", text);
        /// How long an access token lives, in seconds, 60 to 3600.
        ttl: Duration = value ACCESS_TOKEN_TTL("3600", seconds(60, 3600));
    }
}

impl From<TokenSettings> for Issuer {
    fn from(TokenSettings { issuer, audience, ttl }: TokenSettings) -> Self {
        Self { issuer, audience, ttl }
    }
}

service_kit::settings! {
    "Signing keys"
    /// The signing keys.
    pub struct KeySettings {
        /// Encrypts the signing keys in the database: 32 bytes in base64. Required unless
        /// JWT_SIGNING_KEY_FILE or JWT_SECRET is given.
        sealer: Option<Arc<Sealer>> = secret_as KEY_ENCRYPTION_KEY(sealer);
        /// How long a managed key signs, in seconds, 3600 to 31536000.
        rotation_period: Duration = value KEY_ROTATION_PERIOD("2592000", seconds(3600, 31_536_000));
        /// How tokens are signed: RS256, ES256, EdDSA or HS256. Unset: RS256, or what the key in
        /// JWT_SIGNING_KEY_FILE is for.
        algorithm: Option<Algorithm> = optional JWT_ALGORITHM(algorithm);
        /// A PEM file with the private key that signs, in place of managed keys.
        signing_key_file: Option<String> = optional JWT_SIGNING_KEY_FILE(text);
        /// PEM files with public keys that are still published, separated by commas.
        retired_key_files: Option<String> = optional JWT_RETIRED_KEY_FILES(text);
        /// The shared secret of HS256, at least 32 bytes: for a proof of concept only.
        secret: Option<Secret> = secret JWT_SECRET(|_| Ok(()));
    }
}

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

impl KeySettings {
    /// Whether any of them says where keys come from.
    pub(super) const fn is_given(&self) -> bool {
        self.sealer.is_some() || self.signing_key_file.is_some() || self.secret.is_some()
    }

    /// Reads the three kinds of keys. Every `None` comes with a fault.
    pub(super) fn source(self, source: &mut Source) -> Option<KeySource> {
        let Self { sealer, algorithm, rotation_period, secret, signing_key_file: file, .. } = self;
        let retired = retired_keys(&self.retired_key_files.unwrap_or_default(), source);
        if file.is_none() && source.is_set(&JWT_RETIRED_KEY_FILES) {
            source.fault(&JWT_RETIRED_KEY_FILES, "is only for keys given in JWT_SIGNING_KEY_FILE");
        }
        if retired.len() >= MOST_KEYS {
            let what = format!(
                "are {} keys, but verifiers take no more than {MOST_KEYS} in all",
                retired.len()
            );
            source.fault(&JWT_RETIRED_KEY_FILES, what);
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
            if secret.expose().trim_start().starts_with("-----BEGIN ") {
                source.fault(
                    &JWT_SECRET,
                    "is a PEM file, not a shared secret: give a private key in \
                     JWT_SIGNING_KEY_FILE, without JWT_ALGORITHM=HS256",
                );
                return None;
            }
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
            sealer,
            algorithm: algorithm.unwrap_or(Algorithm::Rs256),
            schedule: Schedule { rotation_period },
        })
    }
}

fn sealer(key: &str) -> Result<Arc<Sealer>, String> {
    Sealer::from_base64(key).map(Arc::new).map_err(|error| error.to_string())
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256]
        .into_iter()
        .find(|algorithm| algorithm.as_str() == name)
        .ok_or_else(|| "is not RS256, ES256, EdDSA or HS256".to_owned())
}

fn read_key(source: &mut Source, path: &str) -> Option<SigningKey> {
    let key = read_bytes(path)
        .and_then(|pem| SigningKey::from_pem(&pem).map_err(|error| error.to_string()));
    key.map_err(|what| source.fault(&JWT_SIGNING_KEY_FILE, what)).ok()
}

fn retired_keys(paths: &str, source: &mut Source) -> Vec<VerificationKey> {
    let mut keys = Vec::new();
    for path in paths.split(',').map(str::trim).filter(|path| !path.is_empty()) {
        let key = read_bytes(path).and_then(|pem| {
            VerificationKey::from_public_pem(&pem).map_err(|error| format!("{path}: {error}"))
        });
        match key {
            Ok(key) => keys.push(key),
            Err(what) => source.fault(&JWT_RETIRED_KEY_FILES, what),
        }
    }
    keys
}
