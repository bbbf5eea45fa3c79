//! Computes several bcrypt hashes at once on one thread. This takes a third of the time that one
//! after the other would take.
//!
//! The work on a password is a list of steps ([`Steps`]). `JobSlots` executes the lists of one thread
//! and computes the bcrypt hashes that they request in parallel lanes.

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

/// How many rounds are computed before the thread looks for new jobs: about half a millisecond.
const SLICE: u32 = 8;

/// A job of a thread. It delivers its result itself.
pub(crate) type Work = Box<dyn Steps<Result = ()> + Send>;

struct RunningJob {
    work: Work,
    /// The processor time of the thread when the job started.
    since: Duration,
}

/// The slots of a thread for running jobs.
pub(crate) struct JobSlots {
    taken: Vec<Option<RunningJob>>,
    lanes: Lanes<usize>,
    memory: Arc<Memory>,
}

impl JobSlots {
    /// Creates this many slots, [`WIDTH`] at most. A single slot does not use lanes.
    pub(crate) fn new(width: usize, memory: Arc<Memory>) -> Self {
        let taken = (0..width.clamp(1, WIDTH)).map(|_| None).collect();
        Self { taken, lanes: Lanes::new(), memory }
    }

    /// How many slots are taken.
    pub(crate) fn busy(&self) -> usize {
        self.taken.iter().flatten().count()
    }

    /// Whether a slot is free.
    pub(crate) fn has_room(&self) -> bool {
        self.busy() < self.taken.len()
    }

    /// Starts a job in a free slot. If it ends at once, returns the processor time that the thread
    /// spent on it.
    pub(crate) fn begin(&mut self, work: Work) -> Option<Duration> {
        let place = self.taken.iter().position(Option::is_none)?;
        self.taken[place] = Some(RunningJob { work, since: thread_time() });
        self.go_on(place, None)
    }

    /// Computes some rounds. If a job has ended, returns the processor time that the thread has
    /// spent since it started.
    pub(crate) fn advance(&mut self) -> Option<Duration> {
        let (place, output) = self.lanes.advance(SLICE)?;
        self.go_on(place, Some(output))
    }

    /// Continues the job in a slot until it needs a bcrypt hash, which goes into a lane, or ends. A
    /// panic ends it too; its receiver notices that the sender was dropped.
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

/// The processor time that this thread has used.
fn thread_time() -> Duration {
    ThreadTime::now().as_duration()
}
