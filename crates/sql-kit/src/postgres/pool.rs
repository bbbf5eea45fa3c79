//! The pool of connections to Postgres. It replaces sqlx's, which does not expose what is needed here: why
//! there is no connection, when each was opened, and whether its server accepts writes. Returning a
//! connection costs no round trip.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use sqlx::Connection as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::{Connector, Session};
use super::{connect_error::ConnectError, primary::Primary};

/// A connection that has been idle for longer is tested before use. Under load connections are never idle
/// for that long, so the extra round trip only occurs when it does not matter.
const TRUST_IDLE: Duration = Duration::from_secs(2);
/// The timeout of that test.
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum age of a connection.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long an unused connection is kept.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);
/// The interval at which these two limits are enforced.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);
/// The maximum age of a connection to a read-only server, because another server may take over its host
/// name.
const READ_ONLY_LIFETIME: Duration = Duration::from_secs(1);
/// For how long a read-only result is remembered.
const READ_ONLY_MEMORY: Duration = Duration::from_millis(250);
/// The initial and the longest delay before another attempt to connect (backoff).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(300));

/// The kind of operation that needs a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The operation only reads, so a read-only server is sufficient.
    Read,
    /// The operation writes.
    Write,
}

/// A connection pool. Clones share its connections.
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
    /// Idle connections, the most recently used one last.
    idle: Vec<Session>,
    /// Connections that were opened at or before this time are not used any more: one of them was dead, or
    /// its server was read-only.
    distrusted: Option<Instant>,
    /// Connections that were last used at or before this time are tested before use, because an operation
    /// got no answer.
    doubted: Option<Instant>,
    /// When a server was last found to be read-only.
    read_only: Option<Instant>,
    is_tidied: bool,
}

/// A connection in use, with its permit.
#[derive(Debug)]
pub(super) struct PooledConnection {
    pub(super) session: Session,
    permit: OwnedSemaphorePermit,
}

impl PooledConnection {
    /// Closes the connection and releases its permit.
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

    /// Takes an idle connection or opens a new one. Callers are served in order of arrival.
    pub(super) async fn acquire(&self, purpose: Purpose) -> Result<PooledConnection, sqlx::Error> {
        let mut last = None;
        let acquired = async {
            let permit = Arc::clone(&self.0.permits).acquire_owned().await;
            let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
            while let Some(mut session) = self.take(purpose) {
                if !self.must_be_tried(&session) || is_alive(&mut session).await {
                    return Ok(PooledConnection { session, permit });
                }
                self.distrust();
            }
            Ok(PooledConnection { session: self.connect(purpose, &mut last).await?, permit })
        };
        match tokio::time::timeout(self.0.acquire_timeout, acquired).await {
            Ok(result) => result,
            Err(_) => Err(last.map_or(sqlx::Error::PoolTimedOut, sqlx::Error::from)),
        }
    }

    /// Connects, with retries if they may succeed within the time limit. `last` is the last error.
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
                    // Keep it for readers.
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

    /// The most recently used connection that is still usable.
    fn take(&self, purpose: Purpose) -> Option<Session> {
        let mut unusable = Vec::new();
        let mut state = self.lock();
        let found = loop {
            match state.idle.pop() {
                Some(session) if !self.is_usable(&state, &session) => unusable.push(session),
                // It is too young to be replaced, but useless for a write.
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

    /// Whether a server was found to be read-only a moment ago.
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

    /// Whether a connection that is kept outside the pool may still be used.
    pub(super) fn trusts(&self, session: &Session) -> bool {
        let state = self.lock();
        self.is_usable(&state, session)
            && state.read_only.is_none_or(|read_only| session.began > read_only)
    }

    /// Records that a connection was dead: connections that were opened before are no longer used, and a
    /// search for the primary starts. A successful connection to the same server does not refute that,
    /// because it may be a former primary that has come back.
    pub(super) fn distrust(&self) {
        self.retire();
        self.0.primary.doubt();
    }

    /// Stops using all connections that were opened before now.
    pub(super) fn retire(&self) {
        let dead = {
            let mut state = self.lock();
            state.distrusted = Some(Instant::now());
            std::mem::take(&mut state.idle)
        };
        dead.into_iter().for_each(Session::close);
    }

    /// Records that an operation got no answer, so that connections are tested before use.
    pub(super) fn doubt(&self) {
        self.lock().doubted = Some(Instant::now());
    }

    /// Returns a connection after a successful operation.
    pub(super) fn give_back(&self, held: PooledConnection) {
        let PooledConnection { mut session, permit } = held;
        session.used = Instant::now();
        self.keep(session);
        // Release the permit only after the connection is in the list, so that the next caller finds it.
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

    /// The number of idle connections and the number of permits in use.
    pub(super) fn count(&self) -> (usize, usize) {
        let used = match self.0.permits.is_closed() {
            true => 0,
            false => self.0.size.saturating_sub(self.0.permits.available_permits()),
        };
        (self.lock().idle.len(), used)
    }

    /// Closes all idle connections and refuses new operations.
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

/// Closes connections that are too old or have been idle for too long, for as long as the pool exists.
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
