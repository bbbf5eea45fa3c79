//! The list of tokens that were revoked.

use std::time::Duration;

use service_kit::settings::{Source, seconds, text};
use token_verifier::{Access, RevocationFeed, UrlError, revocations_beside};

use super::{JWKS_URL, JWT_PUBLIC_KEY_FILE, JWT_SECRET};

service_kit::settings! {
    "Verification of tokens"
    /// The list of revoked tokens.
    pub struct RevocationSettings {
        /// Where the list of revoked tokens is published, a URL as JWKS_URL is, or off. Unset: by the name revocations beside
        /// JWKS_URL, and off where keys do not come from there.
        url: Option<String> = optional REVOCATIONS_URL(text);
        /// How old the list of revoked tokens may become before no token is taken, in seconds, 0 to 86400.
        /// It is renewed every 2 s. 0: no limit.
        max_age: Duration = value REVOCATIONS_MAX_AGE("0", seconds(0, 86_400));
    }
}

/// Where the list of revoked tokens comes from, and how old it may become.
#[derive(Debug)]
pub struct Revocations {
    /// Where the list comes from.
    pub feed: RevocationFeed,
    /// The age above which no token is accepted any more.
    pub max_age: Option<Duration>,
}

/// Reads where the list is published. By default it is next to `JWKS_URL`, because both come from the issuer of the
/// keys. A key that is given in a file or as a secret does not name its issuer, so there is no default for it.
pub(super) fn revocations(access: &Access, source: &mut Source) -> Option<Revocations> {
    let RevocationSettings { url, max_age } = RevocationSettings::read(source);
    let max_age = Some(max_age).filter(|limit| !limit.is_zero());
    let feed = |url: &str| RevocationFeed::with_access(url, access);
    let feed = match url.as_deref() {
        Some("off") => None,
        Some(url) => match feed(url) {
            Ok(feed) => Some(feed),
            // This fault belongs to `TLS_CA_FILE` and is reported where the keys are read.
            Err(UrlError::Authorities) => return None,
            Err(error) => {
                source.fault(&REVOCATIONS_URL, error);
                return None;
            }
        },
        None if source.is_set(&JWT_PUBLIC_KEY_FILE) || source.is_set(&JWT_SECRET) => None,
        // A fault in `JWKS_URL` is reported where the keys are read.
        None => source.value(&JWKS_URL, |url| Ok(feed(&revocations_beside(url)).ok())),
    };
    if feed.is_none() && max_age.is_some() {
        source.fault(&REVOCATIONS_MAX_AGE, "is given, but no list of revoked tokens is followed");
    }
    feed.map(|feed| Revocations { feed, max_age })
}
