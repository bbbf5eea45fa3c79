//! What is known to be revoked. One writer, and readers that never wait.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::table::{EVERY_GENERATION, Entry, Table};
use super::{RevocationDigest, RevocationEntry, RevocationError, RevocationPage};
use crate::claims::Claims;
use crate::clock::{Clock, unix_now};

/// The most entries that a list holds; they take some 32 MB, and twice that while a new list replaces
/// them.
pub const MAX_REVOCATIONS: usize = 1_000_000;

/// What tokens are judged by.
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

/// What only the writer needs.
#[derive(Default)]
struct Progress {
    cursor: Option<String>,
    /// What takes the place of all that is known when its last page has come.
    incoming: Option<Known>,
}

struct Shared {
    known: ArcSwap<Known>,
    progress: Mutex<Progress>,
    made: Instant,
    /// When the list was last known to be complete, in milliseconds after `made`; [`NEVER`] at first.
    completed: AtomicU64,
    /// Whether the source has been asked once, whatever came of it.
    asked: AtomicBool,
    /// How long after its `until` an entry may still matter, in seconds: the longest leeway of a
    /// verifier that reads this list.
    leeway: AtomicI64,
    clock: Clock,
}

const NEVER: u64 = u64::MAX;

/// The revocations that a verifier knows. Clones share them.
///
/// A service has it filled in the background by a `RevocationFeed`. Whoever gets the pages in another way
/// hands them to [`RevocationList::apply`] in their order.
///
/// It holds at most [`MAX_REVOCATIONS`]. A page that leads beyond them is not taken: what is known goes on
/// counting, the list grows old as if its source were away, and it takes the page when enough entries
/// have passed.
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

    /// As [`RevocationList::new`], with another clock than the system's, for tests. It tells seconds
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

    /// Takes the next page. The pages from one with `reset` to one without `more` replace what is
    /// known, all at once when the last has come; every other page adds to it.
    ///
    /// # Errors
    ///
    /// [`RevocationError::TooMany`]: the page is not taken, and a replacement has to begin anew.
    pub fn apply(&self, page: RevocationPage) -> Result<(), RevocationError> {
        self.apply_up_to(page, MAX_REVOCATIONS)
    }

    fn apply_up_to(&self, page: RevocationPage, most: usize) -> Result<(), RevocationError> {
        let mut progress = self.progress();
        let incoming = progress.incoming.take();
        let replaces = page.reset || incoming.is_some();
        let mut next = match incoming {
            // A page with `reset` amid a replacement adds to it as well: to know too much until it
            // passes is safer than to lose the pages before.
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

    /// Notes that the source has nothing newer than what is known.
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

    /// Where the next page starts; `None` for the first one.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        self.progress().cursor.clone()
    }

    /// How many entries are known. Some of them may have passed already.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.known.load().len()
    }

    /// Whether no entry is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long ago the list was last known to be complete; `None` if it never was.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        match self.shared.completed.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(self.shared.made.elapsed().saturating_sub(Duration::from_millis(at))),
        }
    }

    /// Whether a token with these claims is revoked: its session is listed, or its account with a
    /// generation above the token's.
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

    /// Keeps entries for so many seconds longer: a verifier takes tokens for that long after their
    /// `exp`.
    pub(crate) fn keep_for(&self, leeway: i64) {
        self.shared.leeway.fetch_max(leeway, Ordering::AcqRel);
    }

    /// Notes that the source has been asked, whatever came of it.
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

    /// Entries up to this `until` matter to nobody any more.
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

/// What a list is asked about a token: computed once for each token that is remembered.
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
