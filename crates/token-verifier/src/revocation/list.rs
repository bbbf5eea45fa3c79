//! The known revocations. There is one writer, and readers never wait.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::table::{EVERY_GENERATION, Entry, Table};
use super::{RevocationDigest, RevocationEntry, RevocationError, RevocationPage};
use crate::claims::Claims;
use crate::clock::{Clock, unix_now};

/// The most entries of a list. They take about 32 MB, and twice that while a new list replaces them.
pub const MAX_REVOCATIONS: usize = 1_000_000;

/// The entries that tokens are checked against.
#[derive(Clone, Default)]
struct Known {
    sessions: Table,
    accounts: Table,
}

impl Known {
    fn len(&self) -> usize {
        self.sessions.len() + self.accounts.len()
    }

    fn prune(&mut self, now: i64) {
        self.sessions.prune(now);
        self.accounts.prune(now);
    }

    fn extend(&mut self, entries: &[RevocationEntry]) {
        let (mut sessions, mut accounts) = (Vec::new(), Vec::new());
        for entry in entries {
            match *entry {
                RevocationEntry::Session { session, until } => {
                    sessions.push(Entry { key: session.key(), below: EVERY_GENERATION, until });
                }
                RevocationEntry::Account { account, generation, until } => {
                    accounts.push(Entry { key: account.key(), below: generation, until });
                }
            }
        }
        self.sessions.extend(sessions);
        self.accounts.extend(accounts);
    }
}

/// State that only the writer needs.
#[derive(Default)]
struct Progress {
    cursor: Option<String>,
    /// The new list that replaces the known entries when its last page has arrived.
    incoming: Option<Known>,
}

struct Shared {
    known: ArcSwap<Known>,
    progress: Mutex<Progress>,
    made: Instant,
    /// When the list was last known to be complete, in milliseconds after `made`; initially [`NEVER`].
    completed: AtomicU64,
    /// Whether the source has been queried once, whatever the outcome.
    asked: AtomicBool,
    /// For how many seconds after its `until` an entry may still matter: the longest leeway of a verifier
    /// that uses this list.
    leeway: AtomicI64,
    clock: Clock,
}

const NEVER: u64 = u64::MAX;

/// The revocations that a verifier knows. Clones share them.
///
/// Usually a `RevocationFeed` fills it in the background. Code that gets the pages in another way passes
/// them to [`RevocationList::apply`] in order.
///
/// It stores at most [`MAX_REVOCATIONS`] entries and refuses a page that would exceed them. The known
/// entries then stay in effect, the list ages as if its source were unavailable, and the page is accepted
/// once enough entries have expired.
#[derive(Clone)]
pub struct RevocationList {
    shared: Arc<Shared>,
}

impl Default for RevocationList {
    fn default() -> Self {
        Self::new()
    }
}

impl RevocationList {
    /// A list without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(unix_now)
    }

    /// Like [`RevocationList::new`], with another clock than the system's, for tests. It returns seconds
    /// since the Unix epoch.
    #[must_use]
    pub fn with_clock(clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        let shared = Shared {
            known: ArcSwap::default(),
            progress: Mutex::default(),
            made: Instant::now(),
            completed: AtomicU64::new(NEVER),
            asked: AtomicBool::new(false),
            leeway: AtomicI64::new(0),
            clock: Arc::new(clock),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Applies the next page. The pages from one with `reset` up to one without `more` replace all known
    /// entries at once, when the last of them has arrived. Every other page adds to the known entries.
    ///
    /// # Errors
    ///
    /// [`RevocationError::TooMany`]: the page is not applied, and a replacement has to start from the
    /// beginning.
    pub fn apply(&self, page: RevocationPage) -> Result<(), RevocationError> {
        self.apply_up_to(page, MAX_REVOCATIONS)
    }

    fn apply_up_to(&self, page: RevocationPage, most: usize) -> Result<(), RevocationError> {
        let mut progress = self.progress();
        let incoming = progress.incoming.take();
        let replaces = page.reset || incoming.is_some();
        let mut next = match incoming {
            // Another page with `reset` during a replacement adds to it as well: surplus entries until
            // they expire are safer than losing the earlier pages.
            Some(incoming) => incoming,
            None if page.reset => Known::default(),
            None => Known::clone(&self.shared.known.load()),
        };
        next.prune(self.passed());
        next.extend(&page.entries);
        if next.len() > most {
            if replaces {
                progress.cursor = None;
            }
            return Err(RevocationError::TooMany);
        }
        progress.cursor = Some(page.cursor).filter(|cursor| !cursor.is_empty());
        if replaces && page.more {
            progress.incoming = Some(next);
        } else {
            self.shared.known.store(Arc::new(next));
        }
        if !page.more {
            self.complete();
        }
        Ok(())
    }

    /// Records that the source has nothing newer.
    pub fn confirm(&self) {
        let _alone = self.progress();
        let known = self.shared.known.load();
        let mut next = Known::clone(&known);
        next.prune(self.passed());
        if next.len() < known.len() {
            self.shared.known.store(Arc::new(next));
        }
        self.complete();
    }

    /// The cursor of the next page; `None` for the first one.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        self.progress().cursor.clone()
    }

    /// The number of known entries. Some of them may have expired already.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.known.load().len()
    }

    /// Whether no entry is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time since the list was last known to be complete; `None` if it never was.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        match self.shared.completed.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(self.shared.made.elapsed().saturating_sub(Duration::from_millis(at))),
        }
    }

    /// Whether a token with these claims is revoked: either its session is listed, or its account is
    /// listed with a higher generation than the token's.
    #[must_use]
    pub fn revokes(&self, claims: &Claims) -> bool {
        self.revokes_at(&RevocationKeys::of(claims), (self.shared.clock)(), 0)
    }

    pub(crate) fn revokes_at(&self, token: &RevocationKeys, now: i64, leeway: i64) -> bool {
        let known = self.shared.known.load();
        let revokes = |entry: &Entry| {
            token.generation < entry.below && entry.until.saturating_add(leeway) > now
        };
        token.session.is_some_and(|key| known.sessions.get(key).is_some_and(revokes))
            || known.accounts.get(token.account).is_some_and(revokes)
    }

    /// Keeps entries this many seconds longer, because a verifier accepts tokens for that long after their
    /// `exp`.
    pub(crate) fn keep_for(&self, leeway: i64) {
        self.shared.leeway.fetch_max(leeway, Ordering::AcqRel);
    }

    /// Records that the source has been queried, whatever the outcome.
    pub(crate) fn asked(&self) {
        self.shared.asked.store(true, Ordering::Release);
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.shared.asked.load(Ordering::Acquire)
    }

    fn complete(&self) {
        let at = u64::try_from(self.shared.made.elapsed().as_millis()).unwrap_or(NEVER - 1);
        self.shared.completed.store(at, Ordering::Release);
        self.asked();
    }

    /// Entries up to this `until` no longer matter.
    fn passed(&self) -> i64 {
        (self.shared.clock)().saturating_sub(self.shared.leeway.load(Ordering::Acquire))
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("len", &self.len())
            .field("age", &self.age())
            .finish_non_exhaustive()
    }
}

/// The keys for looking up a token in the list. They are computed once per remembered token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RevocationKeys {
    session: Option<u128>,
    account: u128,
    generation: u64,
}

impl RevocationKeys {
    pub(crate) fn of(claims: &Claims) -> Self {
        Self {
            session: claims.sid.map(|sid| RevocationDigest::of(sid).key()),
            account: RevocationDigest::of(claims.sub).key(),
            generation: claims.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn sessions(ids: std::ops::Range<u128>, until: i64) -> Vec<RevocationEntry> {
        ids.map(|id| RevocationEntry::session(Uuid::from_u128(id), until)).collect()
    }

    #[test]
    fn a_page_beyond_the_bound_waits_until_enough_entries_have_passed() {
        let now = Arc::new(AtomicI64::new(0));
        let time = Arc::clone(&now);
        let list = RevocationList::with_clock(move || time.load(Ordering::SeqCst));
        list.apply_up_to(RevocationPage::new(true, false, "a", sessions(0..3, 10)), 4).unwrap();
        let page = RevocationPage::new(false, false, "b", sessions(3..5, 20));
        assert_eq!(list.apply_up_to(page.clone(), 4), Err(RevocationError::TooMany));
        assert_eq!((list.len(), list.cursor().as_deref()), (3, Some("a")));
        now.store(10, Ordering::SeqCst);
        list.apply_up_to(page, 4).unwrap();
        assert_eq!((list.len(), list.cursor().as_deref()), (2, Some("b")));
    }

    #[test]
    fn a_replacement_beyond_the_bound_is_given_up_whole_and_begins_anew() {
        let list = RevocationList::with_clock(|| 0);
        list.apply_up_to(RevocationPage::new(true, false, "a", sessions(0..3, 10)), 4).unwrap();
        list.apply_up_to(RevocationPage::new(true, true, "b", sessions(3..6, 10)), 4).unwrap();
        let page = RevocationPage::new(false, false, "c", sessions(6..9, 10));
        assert_eq!(list.apply_up_to(page, 4), Err(RevocationError::TooMany));
        assert_eq!((list.len(), list.cursor()), (3, None));
        list.apply_up_to(RevocationPage::new(true, false, "d", sessions(8..9, 10)), 4).unwrap();
        assert_eq!((list.len(), list.cursor().as_deref()), (1, Some("d")));
    }
}
