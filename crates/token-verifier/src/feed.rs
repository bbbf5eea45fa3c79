//! A client that follows the list of revocations in the background.

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

/// The limits of the polling interval. They ensure that a revocation is known within 5 s, of which caches on
/// the way may take half.
const MIN_POLL: Duration = Duration::from_millis(500);
const MAX_POLL: Duration = Duration::from_millis(2500);

/// The polling interval if the response has no `max-age`.
const DEFAULT_POLL: Duration = Duration::from_secs(2);

/// The longest delay after a failure. It is short, so that the list is current within 5 s after the source has
/// recovered.
const MAX_BACK_OFF: Duration = Duration::from_secs(3);

/// The longest delay while the list is full. Entries expire slowly, and every attempt may read all pages.
const MAX_WAIT_FOR_ROOM: Duration = Duration::from_secs(60);

/// The most pages that are read in a row. A full list has fewer, so a source with more is faulty.
const MAX_PAGES: usize = 1000;

/// The outcome of one request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedOutcome {
    /// A page.
    Page,
    /// Nothing has changed (status 304).
    Unchanged,
    /// There is no list (status 404).
    Missing,
    /// There was no response, or an invalid one.
    Failed,
    /// The list has no room for the page.
    Full,
}

impl FeedOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Page, Self::Unchanged, Self::Missing, Self::Failed, Self::Full];

    /// A stable name for metrics, in snake_case.
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

/// Follows a list of revocations and keeps a [`RevocationList`] up to date.
///
/// It polls when the `max-age` of the last response is over, limited to 0.5 to 2.5 s (2 s if there is none).
/// After a failure it retries with backoff from 0.25 s to 3 s, with jitter. Further pages are fetched at once.
/// A request takes at most 2 s and 4 MiB, accepts only status 200 and 304, and follows no redirects.
///
/// While the source is unavailable or returns something invalid, the known entries stay in effect until each of
/// them expires. A 404 means that the issuer has no list: then only the entries that are already known count.
pub struct RevocationFeed {
    source: Source,
    list: RevocationList,
    observer: Option<Observer>,
}

impl RevocationFeed {
    /// Follows the list at an `http` or `https` URL, or at an SRV name (`srv+http`, `srv+https`). Certificates
    /// are verified with the system's root certificates. Nothing is fetched before [`RevocationFeed::run`].
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL cannot be used, or if it is `https` and the system has no root certificates.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Self::with_access(url, &Access::default())
    }

    /// Like [`RevocationFeed::new`], with other authorities or name servers.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if the URL or the authorities in `access` cannot be used.
    pub fn with_access(url: &str, access: &Access) -> Result<Self, UrlError> {
        Ok(Self::of(Source::Http(Box::new(HttpSource::new(url, access)?))))
    }

    /// Follows a list without HTTP, for an issuer in the same process.
    #[must_use]
    pub fn from_source(source: Arc<dyn RevocationSource>) -> Self {
        Self::of(Source::Own(source))
    }

    fn of(source: Source) -> Self {
        Self { source, list: RevocationList::new(), observer: None }
    }

    /// Calls `observer` with the outcome of each request, for metrics.
    #[must_use]
    pub fn with_observer(self, observer: impl Fn(FeedOutcome) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// The list that this fills. Pass it to a verifier.
    #[must_use]
    pub fn list(&self) -> RevocationList {
        self.list.clone()
    }

    /// Follows the list until `shutdown` completes, which also cancels a running request.
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

    /// Reads pages until there are no more. Returns how long the last response is fresh.
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
        // Such a page would be requested again and again.
        if more && Some(&page.cursor) == cursor.as_ref() {
            return Err(FeedError::Endless);
        }
        if let Err(error) = self.list.apply(page) {
            self.source.forget();
            return Err(error.into());
        }
        Ok(if more { Step::More } else { Step::Last(fetched.fresh_for) })
    }

    /// Logs an error once per outage, because the retries would only repeat it.
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

/// What to do after a page.
enum Step {
    More,
    Last(Option<Duration>),
    Unchanged(Option<Duration>),
}

/// 90 to 100 % of the freshness lifetime, within the limits.
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
