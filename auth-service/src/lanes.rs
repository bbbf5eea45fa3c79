//! bcrypt for a thread that has several passwords to hash: those that come together are computed
//! together, which takes a third of the time of one after the other.
//!
//! A password is a list of steps ([`Steps`]). `Seats` goes through the lists of one thread and
//! computes the bcrypt hashes that they ask for in lanes of their own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bcrypt_lanes::{Lanes, Output};
use cpu_time::ThreadTime;

use crate::password::{Memory, Step, Steps};

/// How many hashes a thread computes at once.
pub const WIDTH: usize = bcrypt_lanes::WIDTH;

/// Rounds between two looks for new work: about half a millisecond.
const SLICE: u32 = 8;

/// The work of a thread, which hands its result on by itself.
pub(crate) type Work = Box<dyn Steps<Result = ()> + Send>;

struct Taken {
    work: Work,
    /// The processor time of the thread when the work began.
    since: Duration,
}

/// The places of a thread for work under way.
pub(crate) struct Seats {
    taken: Vec<Option<Taken>>,
    lanes: Lanes<usize>,
    memory: Arc<Memory>,
}

impl Seats {
    /// So many places, [`WIDTH`] at most. A single one needs no lanes.
    pub(crate) fn new(width: usize, memory: Arc<Memory>) -> Self {
        let taken = (0..width.clamp(1, WIDTH)).map(|_| None).collect();
        Self { taken, lanes: Lanes::new(), memory }
    }

    /// How many are taken.
    pub(crate) fn busy(&self) -> usize {
        self.taken.iter().flatten().count()
    }

    /// Whether one is free.
    pub(crate) fn has_room(&self) -> bool {
        self.busy() < self.taken.len()
    }

    /// Begins work in a free place. Returns the processor time that the thread
    /// has had meanwhile, if that was all of it.
    pub(crate) fn begin(&mut self, work: Work) -> Option<Duration> {
        let place = self.taken.iter().position(Option::is_none)?;
        self.taken[place] = Some(Taken { work, since: thread_time() });
        self.go_on(place, None)
    }

    /// Computes a little. Returns, where a piece of work has ended, the processor time that the
    /// thread has had since it began.
    pub(crate) fn advance(&mut self) -> Option<Duration> {
        let (place, output) = self.lanes.advance(SLICE)?;
        self.go_on(place, Some(output))
    }

    /// Goes on with the work at a place until it asks for a bcrypt hash that others can be computed
    /// with, or ends. A panic ends it too: whoever waits for it is told by its absence.
    fn go_on(&mut self, place: usize, mut computed: Option<Output>) -> Option<Duration> {
        let alone = self.taken.len() == 1;
        let taken = self.taken[place].as_mut()?;
        loop {
            let next = AssertUnwindSafe(|| taken.work.next(computed.take(), &self.memory));
            let Ok(Step::Bcrypt(request)) = catch_unwind(next) else {
                break;
            };
            if alone {
                computed = Some(request.compute());
            } else if let (Ok(job), Some(lane)) = (request.job(), self.lanes.vacant()) {
                lane.start(&job, place);
                return None;
            } else {
                break;
            }
        }
        self.taken[place].take().map(|taken| thread_time().saturating_sub(taken.since))
    }
}

/// The processor time that this thread has had.
fn thread_time() -> Duration {
    ThreadTime::now().as_duration()
}
