//! The list of revocations, followed in the background.

mod source;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use self::source::{FeedError, HttpSource, Source};
pub use self::source::{RevocationSource, revocations_beside};
use crate::back_off::{back_off, jitter};
use crate::fetch::{Access, UrlError};
use crate::revocation::RevocationList;

/// The bounds of the time between two looks at the list, so that whatever is revoked is known within 5 s,
/// with as much again for caches on the way.
const MIN_POLL: Duration = Duration::from_millis(500);
const MAX_POLL: Duration = Duration::from_millis(2500);

/// The time between two looks where the source does not say how long its answer holds.
const DEFAULT_POLL: Duration = Duration::from_secs(2);

/// The longest pause after a failure: when the source is back, the list is current within 5 s too.
const MAX_BACK_OFF: Duration = Duration::from_secs(3);

/// The longest pause where the list has no room: entries pass slowly, and every try may read all of them.
const MAX_WAIT_FOR_ROOM: Duration = Duration::from_secs(60);

/// More pages than a full list can have, at one time; a source that has still more is out of order.
const MAX_PAGES: usize = 1000;

/// What came of one request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedOutcome {
    /// A page.
    Page,
    /// Nothing has changed (status 304).
    Unchanged,
    /// There is no list (status 404).
    Missing,
    /// No answer, or none that can be used.
    Failed,
    /// A page that the list has no room for.
    Full,
}

impl FeedOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Page, Self::Unchanged, Self::Missing, Self::Failed, Self::Full];

    /// A name for metrics that does not change: snake_case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Unchanged => "unchanged",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Full => "full",
        }
    }
}

type Observer = Box<dyn Fn(FeedOutcome) + Send + Sync>;

/// Follows a list of revocations and fills a [`RevocationList`].
///
/// It asks again when the last answer's `max-age` is over, within 0.5 to 2.5 s (2 s where none is given), and
/// after 0.25 s growing to 3 s when the source fails, with jitter. Further pages are fetched at once. A request
/// takes at most 2 s and 4 MiB, takes status 200 and 304 only, and follows no redirect.
///
/// While the source is away, or answers something else than the list, what is known goes on counting, entry
/// by entry until its end. A 404 is the answer of an issuer that has no list: no revocations are known then but
/// those that were known before.
pub struct RevocationFeed {
    source: Source,
    list: RevocationList,
    observer: Option<Observer>,
}

impl RevocationFeed {
    /// Follows the list at an `http` or `https` URL, or at one of an SRV name (`srv+http`, `srv+https`).
    /// Certificates are checked against the system's roots. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL cannot be used, or if it is `https` and the system has no roots.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Self::with_access(url, &Access::default())
    }

    /// As [`RevocationFeed::new`], with other authorities or name servers.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL cannot be used, or the authorities of `access` cannot.
    pub fn with_access(url: &str, access: &Access) -> Result<Self, UrlError> {
        Ok(Self::of(Source::Http(Box::new(HttpSource::new(url, access)?))))
    }

    /// Follows a list without HTTP, where the issuer is in the same process.
    #[must_use]
    pub fn from_source(source: Arc<dyn RevocationSource>) -> Self {
        Self::of(Source::Own(source))
    }

    fn of(source: Source) -> Self {
        Self { source, list: RevocationList::new(), observer: None }
    }

    /// Tells what came of each request, for metrics.
    #[must_use]
    pub fn with_observer(self, observer: impl Fn(FeedOutcome) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// The list that is filled: what a verifier is given.
    #[must_use]
    pub fn list(&self) -> RevocationList {
        self.list.clone()
    }

    /// Follows until `shutdown` completes, which also ends a request that is under way.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = shutdown => {}
            () = self.follow() => {}
        }
    }

    async fn follow(mut self) {
        let mut failures = 0_u32;
        let mut outage = None;
        loop {
            let pause = match self.catch_up().await {
                Ok(fresh_for) => {
                    if outage.take().is_some() {
                        let url = self.source.name();
                        tracing::info!(url, "the list of revocations can be read again");
                    }
                    failures = 0;
                    poll_after(fresh_for, jitter())
                }
                Err(error) => {
                    self.report(&error, &mut outage);
                    failures = failures.saturating_add(1);
                    let most = if error.is_full() { MAX_WAIT_FOR_ROOM } else { MAX_BACK_OFF };
                    back_off(failures, most, jitter())
                }
            };
            self.list.asked();
            sleep(pause).await;
        }
    }

    /// Reads pages until there is none left, and returns for how long the last answer holds.
    async fn catch_up(&mut self) -> Result<Option<Duration>, FeedError> {
        for _ in 0..MAX_PAGES {
            let outcome = self.next_page().await;
            if let Some(observer) = &self.observer {
                observer(match &outcome {
                    Ok(Step::Unchanged(_)) => FeedOutcome::Unchanged,
                    Ok(_) => FeedOutcome::Page,
                    Err(FeedError::Missing) => FeedOutcome::Missing,
                    Err(error) if error.is_full() => FeedOutcome::Full,
                    Err(_) => FeedOutcome::Failed,
                });
            }
            match outcome? {
                Step::More => {}
                Step::Last(fresh_for) | Step::Unchanged(fresh_for) => return Ok(fresh_for),
            }
        }
        Err(FeedError::Endless)
    }

    async fn next_page(&mut self) -> Result<Step, FeedError> {
        let cursor = self.list.cursor();
        let fetched = self.source.page(cursor.as_deref()).await?;
        let Some(page) = fetched.page else {
            self.list.confirm();
            return Ok(Step::Unchanged(fetched.fresh_for));
        };
        let more = page.more;
        // Such a page would be asked for again and again.
        if more && Some(&page.cursor) == cursor.as_ref() {
            return Err(FeedError::Endless);
        }
        if let Err(error) = self.list.apply(page) {
            self.source.forget();
            return Err(error.into());
        }
        Ok(if more { Step::More } else { Step::Last(fetched.fresh_for) })
    }

    /// Says once for each outage what is wrong: the retries that follow would only say the same.
    fn report(&self, error: &FeedError, outage: &mut Option<String>) {
        let url = self.source.name();
        let kind = error.to_string();
        if outage.as_ref().is_some_and(|known| *known == kind) {
            tracing::debug!(url, %error, "the list of revocations still cannot be read");
        } else if matches!(error, FeedError::Missing) {
            tracing::info!(
                url,
                "the issuer has no list of revocations (status 404): tokens count until they expire"
            );
            *outage = Some(kind);
        } else {
            let known = self.list.len();
            if outage.is_none() {
                tracing::warn!(
                    url, %error, known,
                    "the list of revocations cannot be read: what is known goes on counting"
                );
            }
            *outage = Some(kind);
        }
    }
}

impl fmt::Debug for RevocationFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationFeed")
            .field("source", &self.source.name())
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

/// What one page leads to.
enum Step {
    More,
    Last(Option<Duration>),
    Unchanged(Option<Duration>),
}

/// Nine tenths to all of the lifetime, within the bounds.
fn poll_after(fresh_for: Option<Duration>, jitter: f64) -> Duration {
    let pause = fresh_for.unwrap_or(DEFAULT_POLL).clamp(MIN_POLL, MAX_POLL);
    pause.mul_f64(1.0 - 0.1 * jitter)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::poll_after;

    #[test]
    fn the_list_is_looked_at_every_two_seconds_whatever_the_source_says() {
        let after = |seconds| poll_after(Some(Duration::from_secs(seconds)), 0.0).as_millis();
        assert_eq!([after(0), after(1), after(2), after(60)], [500, 1000, 2000, 2500]);
        assert_eq!(poll_after(None, 0.0), Duration::from_secs(2));
        assert_eq!(poll_after(None, 1.0), Duration::from_millis(1800));
    }
}
