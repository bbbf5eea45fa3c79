//! The keys that tokens are verified with, and what a token must have.

use std::time::Duration;

use service_kit::settings::{Secret, Setting, Source, read_bytes, seconds, text};
use token_verifier::{Access, JwksCache, MAX_EXP_LEEWAY, Rules, UrlError, VerificationKey};

use super::TLS_CA_FILE;

service_kit::settings! {
    "Verification of tokens"
    /// The keys.
    pub struct KeySettings {
        /// Where the keys that tokens are signed with are published: http or https, or by an SRV name
        /// srv+http or srv+https.
        jwks_url: String = value JWKS_URL("http://127.0.0.1:3000/.well-known/jwks.json", text);
        /// A PEM file with the public key that tokens are signed with, in place of JWKS_URL.
        public_key: Option<VerificationKey> = optional JWT_PUBLIC_KEY_FILE(public_key);
        /// The shared secret of HS256, at least 32 bytes, in place of JWKS_URL: for a proof of concept
        /// only.
        secret: Option<Secret> = secret JWT_SECRET(|_| Ok(()));
    }
}

service_kit::settings! {
    "Verification of tokens"
    /// What a token must have beside a good signature.
    pub struct RuleSettings {
        /// The iss that tokens must have. Unset: any.
        issuer: Option<String> = optional JWT_ISSUER(text);
        /// The aud that tokens must have. Unset: any.
        audience: Option<String> = optional JWT_AUDIENCE(text);
        /// How long after its end a token is still taken, in seconds, 0 to 300.
        exp_leeway: Duration = value JWT_EXP_LEEWAY("0", seconds(0, MAX_EXP_LEEWAY.as_secs()));
        /// How far in the future a token may have been issued, in seconds, 0 to 300.
        clock_skew: Duration = value JWT_CLOCK_SKEW("60", seconds(0, 300));
    }
}

impl From<RuleSettings> for Rules {
    fn from(settings: RuleSettings) -> Self {
        let RuleSettings { issuer, audience, exp_leeway, clock_skew } = settings;
        let mut rules = Self::default().exp_leeway(exp_leeway).clock_skew(clock_skew);
        rules.issuer = issuer;
        rules.audience = audience;
        rules
    }
}

/// Where the keys that tokens are signed with come from.
#[derive(Debug)]
pub enum KeySource {
    /// The JWKS that the auth service publishes.
    Jwks(JwksCache),
    /// One key from the settings.
    Given(VerificationKey),
}

/// Reads the three sources of keys, of which at most one may be set. If `None` is returned, a fault
/// was recorded.
pub(super) fn keys(access: &Access, source: &mut Source) -> Option<KeySource> {
    let settings = KeySettings::read(source);
    let given: Vec<Setting> = [JWKS_URL, JWT_PUBLIC_KEY_FILE, JWT_SECRET]
        .into_iter()
        .filter(|setting| source.is_set(setting))
        .collect();
    if let [first, others @ ..] = &given[..] {
        for other in others {
            source.fault(other, format!("cannot be given together with {}", first.var));
        }
    }
    if let Some(secret) = settings.secret {
        return match VerificationKey::from_secret(secret.expose().as_bytes()) {
            Ok(key) => Some(KeySource::Given(key)),
            Err(error) => {
                source.fault(&JWT_SECRET, error);
                None
            }
        };
    }
    if source.is_set(&JWT_PUBLIC_KEY_FILE) {
        return settings.public_key.map(KeySource::Given);
    }
    let made = source.value(&JWKS_URL, |url| {
        let made = JwksCache::with_access(url, access);
        match made {
            // This fault belongs to `TLS_CA_FILE` and is reported there.
            Err(UrlError::Authorities) => Ok(None),
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
    VerificationKey::from_public_pem(&read_bytes(path)?).map_err(|error| error.to_string())
}
