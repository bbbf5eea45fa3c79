//! What sessions are allowed.

use std::time::Duration;

use service_kit::settings::{Source, boolean, number, seconds};

use super::KEY_ENCRYPTION_KEY;
use crate::{
    sessions::SessionRules,
    throttle::{NetworkLimit, policy},
};

/// Ten years, in seconds: longer than any session should live.
const DECADE: u64 = 315_360_000;

service_kit::settings! {
    "Sessions"
    /// What sessions are allowed.
    pub struct SessionSettings {
        /// Whether a login may ask for a refresh token, with offline_access: true or false. Unset: true
        /// with a KEY_ENCRYPTION_KEY, else false.
        refresh_tokens: Option<bool> = optional REFRESH_TOKENS(boolean);
        /// How long a refresh token that was used is still answered, with the same successor, in
        /// seconds, 0 to 300.
        retry_window: Duration = value REFRESH_RETRY_WINDOW("30", seconds(0, 300));
        /// How long a session lives without a refresh, in seconds, 1 to 315360000.
        idle_timeout: Duration = value SESSION_IDLE_TIMEOUT("1209600", seconds(1, DECADE));
        /// How long a session lives at most, in seconds, 1 to 315360000.
        lifetime: Duration = value SESSION_LIFETIME("2592000", seconds(1, DECADE));
        /// How many sessions an account has at most, 0 to 100000; past it the one that was unused for
        /// longest ends; 0: no limit.
        per_account: u32 = value SESSIONS_PER_ACCOUNT("50", number(0, 100_000));
        /// How many refreshes one network may try in a minute, 0 to 1000000; 0: no limit.
        refreshes: u32 = value REFRESHES_PER_MINUTE("300", number(0, 1_000_000));
    }
}

impl SessionSettings {
    /// The rules for sessions. `has_key` is whether `KEY_ENCRYPTION_KEY` is set.
    pub(super) fn rules(self, has_key: bool, source: &mut Source) -> SessionRules {
        let are_on = self.refresh_tokens.unwrap_or(has_key);
        if are_on && !has_key && !source.is_set(&KEY_ENCRYPTION_KEY) {
            let fault = "needs a KEY_ENCRYPTION_KEY, under which the key of refresh tokens is kept";
            source.fault(&REFRESH_TOKENS, fault);
        }
        SessionRules {
            are_on,
            idle_timeout: self.idle_timeout,
            lifetime: self.lifetime,
            retry_window: self.retry_window,
            per_account: self.per_account,
            refreshes: NetworkLimit::new(policy::REFRESHES, self.refreshes),
        }
    }
}
