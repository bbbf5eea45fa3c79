//! The connections to Postgres between operations. A pool of our own, since ours must know what sqlx's
//! does not tell: why there is no connection, when each was made and whether its server takes writes.
//! Giving one back costs no round trip.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use sqlx::Connection as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::{Connector, Session};
use super::{connect_error::ConnectError, primary::Primary};

/// A connection that has been idle for longer is tried before it is used. Under load none is, so
/// the round trip is only paid where it does not matter.
const TRUST_IDLE: Duration = Duration::from_secs(2);
/// How long that may take.
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How old a connection may become.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long a connection stays that nobody wants.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
/// How often those two are looked at.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);
/// How old a connection may become whose server took no writes: another one may be behind its name.
const READ_ONLY_LIFETIME: Duration = Duration::from_secs(1);
/// For how long it counts that the server has just been found to take no writes.
const READ_ONLY_MEMORY: Duration = Duration::from_millis(250);
/// How long to wait before another try to connect, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(300));

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For an operation that only reads, which a server that takes no writes can serve.
    Read,
    /// For one that writes.
    Write,
}

/// A pool. Clones share its connections.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: Connector,
    primary: Primary,
    acquire_timeout: Duration,
    size: usize,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that wait for work, the one that was used last at the end.
    idle: Vec<Session>,
    /// Connections of this time and before are not used any more: one of them was found dead, or to be
    /// to a server that takes no writes.
    distrusted: Option<Instant>,
    /// Connections that were last used by then are tried before they are used: an operation got no answer.
    doubted: Option<Instant>,
    /// When a server was last found to take no writes.
    read_only: Option<Instant>,
    is_tidied: bool,
}

/// A connection that is in use, and its place in the pool.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: Session,
    permit: OwnedSemaphorePermit,
}

impl Held {
    /// Ends the connection and frees its place.
    pub(super) fn discard(self) {
        self.session.close();
    }
}

impl Pool {
    pub(super) fn new(
        connector: Connector,
        primary: Primary,
        size: u32,
        acquire_timeout: Duration,
    ) -> Self {
        let size = usize::try_from(size).unwrap_or(1);
        Self(Arc::new(Shared {
            connector,
            primary,
            acquire_timeout,
            size,
            permits: Arc::new(Semaphore::new(size)),
            state: Mutex::default(),
        }))
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    /// Takes a connection, or makes one. Whoever has waited longest comes first.
    pub(super) async fn acquire(&self, purpose: Purpose) -> Result<Held, sqlx::Error> {
        let mut last = None;
        let acquired = async {
            let permit = Arc::clone(&self.0.permits).acquire_owned().await;
            let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
            while let Some(mut session) = self.take(purpose) {
                if !self.must_be_tried(&session) || is_alive(&mut session).await {
                    return Ok(Held { session, permit });
                }
                self.distrust();
            }
            Ok(Held { session: self.connect(purpose, &mut last).await?, permit })
        };
        match tokio::time::timeout(self.0.acquire_timeout, acquired).await {
            Ok(result) => result,
            Err(_) => Err(last.map_or(sqlx::Error::PoolTimedOut, sqlx::Error::from)),
        }
    }

    /// Connects; again, where that may help within the time there is. `last` has the last error.
    async fn connect(
        &self,
        purpose: Purpose,
        last: &mut Option<ConnectError>,
    ) -> Result<Session, sqlx::Error> {
        let mut backoff = BACKOFF.0;
        loop {
            if purpose == Purpose::Write && self.is_read_only() {
                return Err(self.0.connector.read_only().into());
            }
            match self.0.connector.connect().await {
                Ok(session) if session.is_read_only => {
                    self.lock().read_only = Some(Instant::now());
                    if purpose == Purpose::Read {
                        return Ok(session);
                    }
                    // Good for somebody who reads.
                    self.keep(session);
                }
                Ok(session) => return Ok(session),
                Err(error) if error.is_momentary() => *last = Some(error),
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// The connection that was used last, of those that can still be used.
    fn take(&self, purpose: Purpose) -> Option<Session> {
        let mut unusable = Vec::new();
        let mut state = self.lock();
        let found = loop {
            match state.idle.pop() {
                Some(session) if !self.is_usable(&state, &session) => unusable.push(session),
                // Too young to be renewed, and of no use for a write.
                Some(session) if session.is_read_only && purpose == Purpose::Write => {
                    unusable.push(session);
                }
                other => break other,
            }
        };
        drop(state);
        unusable.into_iter().for_each(Session::close);
        found
    }

    /// Whether a server has been found to take no writes a moment ago.
    fn is_read_only(&self) -> bool {
        self.lock().read_only.is_some_and(|seen| seen.elapsed() < READ_ONLY_MEMORY)
    }

    fn is_usable(&self, state: &State, session: &Session) -> bool {
        let age = session.began.elapsed();
        let limit = if session.is_read_only { READ_ONLY_LIFETIME } else { MAX_LIFETIME };
        session.server == self.0.connector.present()
            && state.distrusted.is_none_or(|distrusted| session.began > distrusted)
            && age < limit
    }

    fn must_be_tried(&self, session: &Session) -> bool {
        session.used.elapsed() >= TRUST_IDLE
            || self.lock().doubted.is_some_and(|doubted| session.used <= doubted)
    }

    /// Whether the connection, which is kept elsewhere, is good for another use.
    pub(super) fn trusts(&self, session: &Session) -> bool {
        let state = self.lock();
        self.is_usable(&state, session)
            && state.read_only.is_none_or(|read_only| session.began > read_only)
    }

    /// Notes that a connection was found dead: those that were made before are not used any more, and the
    /// primary is looked for. Another connection to the same server may well succeed, and says nothing:
    /// it may be a former primary that has come back.
    pub(super) fn distrust(&self) {
        self.retire();
        self.0.primary.doubt();
    }

    /// Has the connections that were made before not be used any more.
    pub(super) fn retire(&self) {
        let dead = {
            let mut state = self.lock();
            state.distrusted = Some(Instant::now());
            std::mem::take(&mut state.idle)
        };
        dead.into_iter().for_each(Session::close);
    }

    /// Notes that an operation got no answer: connections are tried before they are used.
    pub(super) fn doubt(&self) {
        self.lock().doubted = Some(Instant::now());
    }

    /// Takes a connection back after an operation that ended well.
    pub(super) fn give_back(&self, held: Held) {
        let Held { mut session, permit } = held;
        session.used = Instant::now();
        self.keep(session);
        // Only now may the next one look for it.
        drop(permit);
    }

    fn keep(&self, session: Session) {
        let mut state = self.lock();
        if self.0.permits.is_closed() || !self.is_usable(&state, &session) {
            drop(state);
            return session.close();
        }
        state.idle.push(session);
        if !state.is_tidied {
            state.is_tidied = true;
            tokio::spawn(tidy(Arc::downgrade(&self.0)));
        }
    }

    /// How many connections wait for work, and how many places are taken by work.
    pub(super) fn count(&self) -> (usize, usize) {
        let used = match self.0.permits.is_closed() {
            true => 0,
            false => self.0.size.saturating_sub(self.0.permits.available_permits()),
        };
        (self.lock().idle.len(), used)
    }

    /// Ends all connections that wait for work, and refuses further work.
    pub(super) async fn close(&self) {
        self.0.permits.close();
        let idle = std::mem::take(&mut self.lock().idle);
        let closing = idle.into_iter().map(|session| session.connection.close());
        let closing = futures_util::future::join_all(closing);
        let _ = tokio::time::timeout(TEST_TIMEOUT, closing).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server answers on this connection.
async fn is_alive(session: &mut Session) -> bool {
    let ping = tokio::time::timeout(TEST_TIMEOUT, session.connection.ping()).await;
    matches!(ping, Ok(Ok(())))
}

/// Ends connections that are too old or that nobody has wanted for long, as long as there is the pool.
async fn tidy(pool: Weak<Shared>) {
    loop {
        tokio::time::sleep(TIDY_INTERVAL).await;
        let Some(pool) = pool.upgrade().map(Pool) else { return };
        let due: Vec<Session> = {
            let mut state = pool.lock();
            let idle = std::mem::take(&mut state.idle);
            let (kept, due) = idle.into_iter().partition(|session| {
                session.used.elapsed() < MAX_IDLE && pool.is_usable(&state, session)
            });
            state.idle = kept;
            due
        };
        due.into_iter().for_each(Session::close);
    }
}
