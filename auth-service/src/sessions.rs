//! Sessions: a login with `offline_access` starts one, and its refresh tokens keep it alive.

mod refresh_token;
mod rule;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

pub use self::{
    refresh_token::{RefreshToken, RefreshTokenKey},
    rule::{Consumption, Position, Verdict, present},
};
use crate::throttle::NetworkLimit;

/// The longest `User-Agent` that is stored with a session, in characters.
const USER_AGENT_MAX: usize = 200;

/// The rules for sessions.
#[derive(Debug)]
pub struct SessionRules {
    /// Whether refresh tokens are issued.
    pub are_on: bool,
    /// How long a session lives without a refresh.
    pub idle_timeout: Duration,
    /// How long a session lives at most.
    pub lifetime: Duration,
    /// For how long after its use a refresh token still returns its successor.
    pub retry_window: Duration,
    /// The most sessions that an account can have; 0 means no limit.
    pub per_account: u32,
    /// The limit on refreshes per network.
    pub refreshes: NetworkLimit,
}

impl SessionRules {
    /// When a session that was started at `created_at` and used at `now` expires: at its idle timeout or
    /// at the end of its lifetime, whichever is earlier.
    #[must_use]
    pub fn expires_at(&self, created_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let after = |time: DateTime<Utc>, span| {
            let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
            time.checked_add_signed(span).unwrap_or(DateTime::<Utc>::MAX_UTC)
        };
        after(now, self.idle_timeout).min(after(created_at, self.lifetime))
    }
}

/// The `User-Agent` of the program that starts a session, truncated and without control characters.
#[must_use]
pub fn user_agent(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(USER_AGENT_MAX).collect()
}
