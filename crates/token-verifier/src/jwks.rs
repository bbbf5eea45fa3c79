//! Keys from a JWKS URL, which are refreshed in the background.
//!
//! A single loop fetches, and everybody else reads what it last published. Requests never fetch by themselves:
//! each takes a ticket, and the next fetch of the loop serves all tickets at once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::back_off::{back_off, jitter};
use crate::fetch::{Access, FetchError, Fetcher, Limits, UrlError};
use crate::key::{KeyError, VerificationKey};
use crate::key_set::KeySet;

/// The shortest time between two fetches that are caused by an unknown `kid`. A key must be published for
/// longer before it signs, because anybody can send an unknown `kid`.
pub const REFETCH_COOLDOWN: Duration = Duration::from_secs(10);

/// The limits of the time between two successful fetches.
const MIN_REFRESH: Duration = Duration::from_secs(5);
const MAX_REFRESH: Duration = Duration::from_secs(60 * 60);

/// The time between two fetches if the response has no `max-age`.
const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// The longest delay after a failed fetch.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);

/// How many retries use the shortest delay while there are no keys yet.
const EAGER_RETRIES: u32 = 40;

/// The limits of a fetch.
const LIMITS: Limits =
    Limits { timeout: Duration::from_secs(5), body_bytes: 256 * 1024, idle: None };

/// Why the keys could not be fetched. The text is meant for the log.
#[derive(Debug, Error)]
enum JwksError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The state that the loop publishes.
#[derive(Default)]
struct State {
    keys: Option<KeySet>,
    fetched_at: Option<Instant>,
    /// The last ticket that a finished fetch has served.
    served: u64,
    running: bool,
    /// Whether a fetch is running.
    fetching: bool,
    /// How many fetches have finished.
    finished: u64,
    /// Whether the last document exceeded the size limit, so that there may be keys that are unknown here.
    too_large: bool,
}

/// The requests for a fetch, which the loop serves.
#[derive(Default)]
struct Wanted {
    ticket: u64,
    last: Option<Instant>,
}

struct Shared {
    fetcher: Fetcher,
    state: watch::Sender<State>,
    wanted: Mutex<Wanted>,
    wake: Notify,
}

/// The keys of a JWKS URL (RFC 7517 section 5). Clones share the keys.
///
/// [`JwksCache::run`] must run on exactly one clone. Known keys are kept while the source is unavailable. A
/// document without usable keys is accepted and withdraws the earlier keys.
#[derive(Clone)]
pub struct JwksCache {
    shared: Arc<Shared>,
    cooldown: Duration,
}

impl JwksCache {
    /// A cache without keys for an `http` or `https` URL, or for an SRV name (`srv+http`, `srv+https`).
    /// Certificates are verified with the system's root certificates. Nothing is fetched before
    /// [`JwksCache::run`].
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL cannot be used, or if it is `https` and the system has no root certificates.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Self::with_access(url, &Access::default())
    }

    /// Like [`JwksCache::new`], with other authorities or name servers.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL or the authorities in `access` cannot be used.
    pub fn with_access(url: &str, access: &Access) -> Result<Self, UrlError> {
        Self::with(Fetcher::new(url, access, LIMITS)?)
    }

    fn with(fetcher: Fetcher) -> Result<Self, UrlError> {
        let shared = Shared {
            fetcher,
            state: watch::Sender::new(State::default()),
            wanted: Mutex::default(),
            wake: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared), cooldown: REFETCH_COOLDOWN })
    }

    /// Replaces the default of 10 s for the shortest time between two fetches that are caused by an unknown
    /// `kid`. Applies to this clone and to those made from it.
    #[must_use]
    pub fn with_refetch_cooldown(self, cooldown: Duration) -> Self {
        Self { cooldown, ..self }
    }

    /// The keys of the last successful fetch; `None` if there was none.
    #[must_use]
    pub fn keys(&self) -> Option<KeySet> {
        self.shared.state.borrow().keys.clone()
    }

    /// The time since the last successful fetch; `None` if there was none.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.shared.state.borrow().fetched_at.map(|at| at.elapsed())
    }

    /// Fetches at once and then whenever the keys are due, until `shutdown` completes, which also cancels a
    /// running fetch.
    ///
    /// After a success the next fetch follows at 80 % of the response's `max-age` (RFC 9111 section 5.2.2.1),
    /// limited to 5 s to 1 h, or after 300 s if there is none. After a failure it follows with backoff from
    /// 0.25 s to 10 s, with jitter. A token with an unknown key triggers it earlier.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        // Dropped however this ends, so that no request waits for a loop that no longer runs.
        let _running = Running::new(&self.shared);
        tokio::select! {
            () = shutdown => {}
            () = self.keep_fresh() => {}
        }
    }

    async fn keep_fresh(&self) {
        let mut failures = 0_u32;
        let mut outage = false;
        loop {
            let ticket = self.wanted().ticket;
            self.shared.state.send_modify(|state| state.fetching = true);
            let wanted = ticket > self.shared.state.borrow().served;
            let outcome = self.fetch(wanted).await;
            let too_large = matches!(outcome, Err(JwksError::Fetch(FetchError::TooLarge(_))));
            let fresh_for = match outcome {
                Ok((keys, fresh_for)) => {
                    self.publish(keys, outage);
                    outage = false;
                    fresh_for
                }
                Err(error) => {
                    self.report(&error, outage);
                    outage = true;
                    None
                }
            };
            let has_keys = self.keys().is_some_and(|keys| !keys.is_empty());
            // A document without keys is retried as soon as a failed fetch.
            let pause = if outage || !has_keys {
                failures = failures.saturating_add(1);
                // Services often start together, so that the issuer is ready a few seconds later.
                let eager = if has_keys { 0 } else { EAGER_RETRIES };
                back_off(failures.saturating_sub(eager), MAX_BACK_OFF, jitter())
            } else {
                failures = 0;
                refresh_after(fresh_for, jitter())
            };
            self.shared.state.send_modify(|state| {
                state.served = ticket;
                state.fetching = false;
                state.finished += 1;
                state.too_large = too_large;
            });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted_again() => {}
            }
        }
    }

    /// Fetches the document. After an unknown `kid`, caches on the way must revalidate (RFC 9111 section
    /// 5.2.1.4), because they would only return the keys that are already known.
    async fn fetch(&self, wanted: bool) -> Result<(KeySet, Option<Duration>), JwksError> {
        let fields = [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
        let fields = if wanted { &fields[..] } else { &[] };
        let answer = self.shared.fetcher.get("", fields).await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status).into());
        }
        Ok((KeySet::from_jwks(&answer.body)?, answer.fresh_for()))
    }

    /// Logs a warning once per outage, because the retries would only repeat it.
    fn report(&self, error: &JwksError, known: bool) {
        if known {
            tracing::debug!(%error, "the signing keys still cannot be fetched");
        } else {
            let has_keys = self.keys().is_some();
            let url = self.shared.fetcher.name();
            tracing::warn!(url, %error, has_keys, "the signing keys cannot be fetched, trying again");
        }
    }

    fn publish(&self, keys: KeySet, recovered: bool) {
        let url = self.shared.fetcher.name();
        let before = self.keys();
        let changed = before.as_ref().map(KeySet::to_jwks) != Some(keys.to_jwks());
        if changed {
            let kids: Vec<_> = keys.iter().filter_map(VerificationKey::kid).collect();
            if kids.is_empty() {
                tracing::warn!(url, "the JWKS document has no usable key");
            } else {
                tracing::info!(url, ?kids, "signing keys changed");
            }
        } else if recovered {
            tracing::info!(url, "the signing keys can be fetched again");
        }
        self.shared.state.send_modify(|state| {
            // Unchanged keys stay the same set, so that remembered verifications stay valid.
            state.keys = before.filter(|_| !changed).or(Some(keys));
            state.fetched_at = Some(Instant::now());
        });
    }

    /// Completes when there is a ticket that no fetch has served.
    async fn wanted_again(&self) {
        // The notification may come from a ticket that the last fetch has already served.
        while self.wanted().ticket <= self.shared.state.borrow().served {
            self.shared.wake.notified().await;
        }
    }

    /// Requests a fetch and returns the ticket to wait for. `None` if the last request is too recent or no
    /// loop runs. If a request is still pending, returns its ticket.
    pub(crate) fn request_refetch(&self) -> Option<u64> {
        let mut wanted = self.wanted();
        let (served, running) = {
            let state = self.shared.state.borrow();
            (state.served, state.running)
        };
        if !running {
            return None;
        }
        if wanted.ticket <= served {
            if wanted.last.is_some_and(|last| last.elapsed() < self.cooldown) {
                return None;
            }
            wanted.ticket += 1;
            wanted.last = Some(Instant::now());
            self.shared.wake.notify_one();
        }
        Some(wanted.ticket)
    }

    /// The published keys if they differ from `seen`. Waits for a fetch if one can be requested.
    pub(crate) async fn newer_than(&self, seen: &KeySet) -> Option<KeySet> {
        let newer = || self.keys().filter(|keys| !keys.is_same(seen));
        // A fetch for another request may have finished since the caller looked.
        if let Some(keys) = newer() {
            return Some(keys);
        }
        let mut state = self.shared.state.subscribe();
        let (fetching, finished) = {
            let state = state.borrow();
            (state.fetching, state.finished)
        };
        // A request waits no longer than the time limit of one fetch.
        if let Some(ticket) = self.request_refetch() {
            let served = state.wait_for(|state| state.served >= ticket || !state.running);
            let _ = timeout(LIMITS.timeout, served).await;
        } else if fetching {
            // It is too early to request a fetch, but one that is running may bring the key.
            let ended = state.wait_for(|state| state.finished > finished || !state.running);
            let _ = timeout(LIMITS.timeout, ended).await;
        }
        newer()
    }

    /// Whether the document exceeded the size limit, so that an unknown key may be genuine.
    pub(crate) fn may_miss_keys(&self) -> bool {
        self.shared.state.borrow().too_large
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for JwksCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksCache")
            .field("url", &self.shared.fetcher.name())
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.state.send_modify(|state| state.running = true);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| {
            state.running = false;
            state.fetching = false;
        });
    }
}

/// 72 to 80 % of the freshness lifetime, within the limits.
fn refresh_after(fresh_for: Option<Duration>, jitter: f64) -> Duration {
    let pause = match fresh_for {
        // A year exceeds every limit, and avoids an overflow in the product.
        Some(lifetime) => lifetime.min(Duration::from_secs(31_536_000)).mul_f64(0.8),
        None => DEFAULT_REFRESH,
    };
    pause.mul_f64(1.0 - 0.1 * jitter).clamp(MIN_REFRESH, MAX_REFRESH)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::refresh_after;

    #[test]
    fn a_refresh_comes_before_the_answer_is_stale_and_within_bounds() {
        let after = |seconds| refresh_after(Some(Duration::from_secs(seconds)), 0.0).as_secs();
        assert_eq!([after(0), after(6), after(300), after(86_400)], [5, 5, 240, 3600]);
        assert_eq!(after(u64::MAX), 3600);
        assert_eq!(refresh_after(None, 0.0), Duration::from_secs(300));
        assert_eq!(refresh_after(Some(Duration::from_secs(300)), 1.0), Duration::from_secs(216));
    }
}
