//! bcrypt for a thread that has several passwords to hash: those that come together are computed
//! together, which takes a third of the time of one after the other.
//!
//! What a password needs is written as a future that asks [`Bcrypt`] for one hash after the other.
//! `Seats` polls the futures of one thread and computes what they ask for in lanes of their own.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bcrypt_lanes::{Job, Lanes, Output};
use zeroize::Zeroizing;

use crate::password::HashError;

/// How many hashes a thread computes at once.
pub const WIDTH: usize = bcrypt_lanes::WIDTH;

/// bcrypt reads this many bytes of a password, the NUL at its end included.
const KEY_BYTES: usize = 72;
/// Rounds between two looks for new work: about half a millisecond.
const SLICE: u32 = 8;

/// Computes bcrypt.
#[derive(Debug, Clone)]
pub enum Bcrypt {
    /// At once, with the `bcrypt` crate.
    Plain,
    /// Together with the other work of the thread.
    Seat(Seat),
}

impl Bcrypt {
    /// The raw hash of a password, of which bcrypt reads the first 72 bytes.
    ///
    /// # Errors
    ///
    /// Where the cost is not from 4 to 31.
    pub async fn raw(
        &self,
        cost: u32,
        salt: [u8; 16],
        password: &[u8],
    ) -> Result<Output, HashError> {
        let job = Job::new(cost, salt, password).map_err(|_| HashError)?;
        match self {
            Self::Plain => {
                let mut key = Zeroizing::new(password.to_vec());
                key.push(0);
                key.truncate(KEY_BYTES);
                Ok(bcrypt::bcrypt(cost, salt, &key))
            }
            Self::Seat(seat) => {
                seat.0.job.set(Some(job));
                Ok(std::future::poll_fn(|_| {
                    seat.0.output.take().map_or(Poll::Pending, Poll::Ready)
                })
                .await)
            }
        }
    }
}

/// Where a future leaves what it wants to have computed, and finds the result.
#[derive(Clone, Default)]
pub struct Seat(Rc<Exchange>);

#[derive(Default)]
struct Exchange {
    job: Cell<Option<Job>>,
    output: Cell<Option<Output>>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Seat")
    }
}

/// The work of a thread.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Taken {
    work: Work,
    seat: Seat,
    since: Instant,
}

/// The places of a thread for work under way.
pub(crate) struct Seats {
    taken: Vec<Option<Taken>>,
    lanes: Lanes<usize>,
}

impl Seats {
    /// So many places, [`WIDTH`] at most. A single one needs no lanes.
    pub(crate) fn new(width: usize) -> Self {
        let taken = (0..width.clamp(1, WIDTH)).map(|_| None).collect();
        Self { taken, lanes: Lanes::new() }
    }

    /// How many are taken.
    pub(crate) fn busy(&self) -> usize {
        self.taken.iter().flatten().count()
    }

    /// Whether one is free.
    pub(crate) fn has_room(&self) -> bool {
        self.busy() < self.taken.len()
    }

    /// Begins work in a free place. Returns how long it took if that was all of it.
    pub(crate) fn begin(&mut self, begin: impl FnOnce(Bcrypt) -> Option<Work>) -> Option<Duration> {
        let place = self.taken.iter().position(Option::is_none)?;
        let (seat, since) = (Seat::default(), Instant::now());
        let alone = self.taken.len() == 1;
        let bcrypt = if alone { Bcrypt::Plain } else { Bcrypt::Seat(seat.clone()) };
        let work = begin(bcrypt)?;
        self.taken[place] = Some(Taken { work, seat, since });
        self.go_on(place)
    }

    /// Computes a little. Returns how long a piece of work took that has ended.
    pub(crate) fn advance(&mut self) -> Option<Duration> {
        let (place, output) = self.lanes.advance(SLICE)?;
        self.taken[place].as_ref()?.seat.0.output.set(Some(output));
        self.go_on(place)
    }

    /// Polls the work at a place until it asks for a hash or ends. A panic ends it too: whoever waits
    /// for it is told by its absence.
    fn go_on(&mut self, place: usize) -> Option<Duration> {
        let taken = self.taken[place].as_mut()?;
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| taken.work.as_mut().poll(&mut context)));
        if matches!(polled, Ok(Poll::Pending))
            && let Some(job) = taken.seat.0.job.take()
            && let Some(lane) = self.lanes.vacant()
        {
            lane.start(&job, place);
            return None;
        }
        self.taken[place].take().map(|taken| taken.since.elapsed())
    }
}
