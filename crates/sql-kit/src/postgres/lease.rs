//! Connections that are borrowed for one operation.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sqlx::{Executor as _, Postgres as Engine, pool::PoolConnection, postgres::PgConnection};

use crate::OPERATION_TIMEOUT;

/// How long a connection stays on the shelf until it goes back to the pool.
const LINGER: Duration = Duration::from_millis(100);
/// How long a connection may stay away from the pool, which looks at its age and its server.
const AWAY: Duration = Duration::from_secs(1);

/// Connections between two operations that follow each other closely. On its way back to the pool
/// sqlx tries each connection, which costs a round trip and wakes a server process; under load that
/// is a good part of what a short query costs.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    borrowed: Vec<Borrowed>,
    /// How many wait for the pool, which must get what they wait for.
    waiting: usize,
    is_tidied: bool,
}

#[derive(Debug)]
pub(super) struct Borrowed {
    connection: PoolConnection<Engine>,
    /// When it left the pool, and when it was last used.
    since: Instant,
    used: Instant,
}

impl Borrowed {
    pub(super) fn new(connection: PoolConnection<Engine>) -> Self {
        let now = Instant::now();
        Self { connection, since: now, used: now }
    }

    /// How long it has been away from the pool.
    pub(super) fn away(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether it has to go back to the pool.
    pub(super) fn is_due(&self) -> bool {
        self.used.elapsed() >= LINGER || self.away() >= AWAY
    }

    /// Has the pool try it and take it back. sqlx has no limit for that: a connection to a server that
    /// has fallen silent would keep its place in the pool for ever.
    pub(super) async fn give_back(mut self, is_open: bool) {
        if is_open {
            let rollback = self.connection.execute("ROLLBACK");
            let rolled_back = tokio::time::timeout(OPERATION_TIMEOUT, rollback).await;
            if !matches!(rolled_back, Ok(Ok(_))) {
                drop(self.connection.detach());
                return;
            }
        }
        let _ = tokio::time::timeout(OPERATION_TIMEOUT, self.connection.return_to_pool()).await;
    }
}

/// Somebody who waits for the pool.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Shelf);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Shelf {
    /// The connection that was used last; or, without any, the note that somebody waits for the pool.
    pub(super) fn take(&self) -> Result<Borrowed, Waiting<'_>> {
        let mut kept = self.lock();
        kept.borrowed.pop().ok_or_else(|| {
            kept.waiting += 1;
            Waiting(self)
        })
    }

    /// Keeps a connection for the next operation, unless it is somebody else's turn; hands it back then.
    fn keep(&self, mut borrowed: Borrowed) -> Option<Borrowed> {
        let mut kept = self.lock();
        if kept.waiting > 0 || borrowed.away() >= AWAY {
            return Some(borrowed);
        }
        borrowed.used = Instant::now();
        kept.borrowed.push(borrowed);
        if !kept.is_tidied {
            tokio::spawn(self.clone().tidy());
            kept.is_tidied = true;
        }
        None
    }

    /// Gives back what nobody has wanted for a while, until nothing is left.
    async fn tidy(self) {
        let mut is_over = false;
        while !is_over {
            tokio::time::sleep(LINGER).await;
            let due: Vec<Borrowed> = {
                let mut kept = self.lock();
                let all = mem::take(&mut kept.borrowed);
                let (due, rest) = all.into_iter().partition(Borrowed::is_due);
                kept.borrowed = rest;
                is_over = kept.borrowed.is_empty();
                kept.is_tidied = !is_over;
                due
            };
            for borrowed in due {
                // A silent server takes its time for each.
                tokio::spawn(borrowed.give_back(false));
            }
        }
    }

    /// Gives all back.
    pub(super) async fn clear(&self) {
        let all = mem::take(&mut self.lock().borrowed);
        join_all(all.into_iter().map(|borrowed| borrowed.give_back(false))).await;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().borrowed.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    /// The pool would spawn a task for each of them, for which there may be no runtime any more.
    fn drop(&mut self) {
        for borrowed in mem::take(&mut self.borrowed) {
            drop(borrowed.connection.detach());
        }
    }
}

/// A borrowed connection. One that is dropped after its deadline hangs in the middle of something:
/// it is cut off instead of going back to the pool, where it would fail the next operation too.
#[derive(Debug)]
pub struct Lease {
    borrowed: Option<Borrowed>,
    shelf: Shelf,
    deadline: Instant,
    /// Whether a transaction has begun.
    pub(super) is_open: bool,
    /// Whether every statement was carried out to its end.
    is_done: bool,
    is_pooled: bool,
}

impl Lease {
    pub(super) fn new(
        borrowed: Borrowed,
        shelf: Shelf,
        deadline: Instant,
        is_pooled: bool,
    ) -> Self {
        let borrowed = Some(borrowed);
        Self { borrowed, shelf, deadline, is_open: false, is_done: false, is_pooled }
    }

    /// Whether a proxy that pools by transaction is in between: what is prepared there ends up with
    /// somebody else.
    pub(crate) const fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    pub(super) async fn begin(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        // Given up half-way, it may have begun.
        self.is_open = true;
        self.execute(statement).await?;
        Ok(())
    }

    /// Ends an operation that has only read, and has read all that it asked for. The connection is
    /// then good for the next one at once; of a lease that is merely dropped that is not known.
    pub fn done(mut self) {
        self.is_done = true;
    }

    /// Makes what was written durable, and ends the operation. Without a transaction it is already.
    ///
    /// # Errors
    ///
    /// Where the server refuses, or is gone; what was written may then be there or not.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.is_open {
            self.execute("COMMIT").await?;
            self.is_open = false;
        }
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(borrowed) = self.borrowed.take() else {
            return;
        };
        if Instant::now() >= self.deadline {
            drop(borrowed.connection.detach());
            return;
        }
        let is_open = self.is_open;
        let not_kept =
            if self.is_done && !is_open { self.shelf.keep(borrowed) } else { Some(borrowed) };
        if let Some(borrowed) = not_kept {
            tokio::spawn(borrowed.give_back(is_open));
        }
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        &self.borrowed.as_ref().expect("a lease holds a connection").connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        &mut self.borrowed.as_mut().expect("a lease holds a connection").connection
    }
}
