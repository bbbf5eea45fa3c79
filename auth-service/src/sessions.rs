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

/// The longest `User-Agent` that a session remembers, in characters.
const USER_AGENT_MAX: usize = 200;

/// What sessions are allowed.
#[derive(Debug)]
pub struct SessionRules {
    /// Whether there are refresh tokens at all.
    pub are_on: bool,
    /// How long a session lives without a refresh.
    pub idle_timeout: Duration,
    /// How long a session lives at most.
    pub lifetime: Duration,
    /// How long a refresh token that was consumed still gets its successor again.
    pub retry_window: Duration,
    /// How many sessions an account has at most; 0: any number.
    pub per_account: u32,
    /// The limit on refreshes per network.
    pub refreshes: NetworkLimit,
}

impl SessionRules {
    /// When a session ends that was begun at `created_at` and used `now`: the nearer of the idle and the
    /// absolute end.
    #[must_use]
    pub fn expires_at(&self, created_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let after = |time: DateTime<Utc>, span| {
            let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
            time.checked_add_signed(span).unwrap_or(DateTime::<Utc>::MAX_UTC)
        };
        after(now, self.idle_timeout).min(after(created_at, self.lifetime))
    }
}

/// What a session remembers of the program that began it: its `User-Agent`, cut, without control
/// characters.
#[must_use]
pub fn user_agent(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(USER_AGENT_MAX).collect()
}
