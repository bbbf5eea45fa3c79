//! The assignment of jobs to lanes.

use std::{fmt, iter};

use crate::{Job, Output, WIDTH, blowfish, blowfish::Lane};

/// How many rounds [`Lanes::run`] computes before it looks for new jobs: about a millisecond.
const SLICE: u32 = 16;

/// [`WIDTH`] lanes, each of which computes one bcrypt hash. A ticket is passed in with each job and
/// returned with its result.
///
/// The state is wiped when a job ends and when this is dropped.
pub struct Lanes<T> {
    /// The busy lanes come first, in the order of `tickets`. Boxed, so that the values never move.
    lanes: Box<[Lane; WIDTH]>,
    tickets: Vec<T>,
}

/// A free lane. Ask for one before taking a job from a queue.
pub struct Vacant<'a, T> {
    lane: &'a mut Lane,
    tickets: &'a mut Vec<T>,
}

impl<T> Lanes<T> {
    /// Creates free lanes. They take 17 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { lanes: Box::new([Lane::FREE; WIDTH]), tickets: Vec::with_capacity(WIDTH) }
    }

    /// How many lanes are busy.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.tickets.len()
    }

    /// A free lane, if there is one.
    pub fn vacant(&mut self) -> Option<Vacant<'_, T>> {
        let lane = self.lanes.get_mut(self.tickets.len())?;
        Some(Vacant { lane, tickets: &mut self.tickets })
    }

    /// Advances all running jobs by this many rounds, or by fewer if one of them ends, whose result
    /// is then returned. A job of cost c has 2^c rounds.
    ///
    /// A new job may have to wait for a free lane for as long as the time between two calls.
    pub fn advance(&mut self, rounds: u32) -> Option<(T, Output)> {
        let busy = &mut self.lanes[..self.tickets.len()];
        let rounds = busy.iter().map(|lane| lane.rounds).min()?.min(rounds);
        advance(busy, rounds);

        let done = busy.iter().position(|lane| lane.rounds == 0)?;
        let output = busy[done].output();
        // The last busy lane moves into the freed place.
        if let Some((last, others)) = busy.split_last_mut() {
            if let Some(free) = others.get_mut(done) {
                free.copy_from(last);
            }
            last.wipe();
        }
        Some((self.tickets.swap_remove(done), output))
    }

    /// Does all jobs, including those that are already running, and returns each result as soon as
    /// it is ready.
    ///
    /// A free lane asks `jobs` for the next one, and asks again about every millisecond, even after
    /// `None`. So `jobs` may poll a queue that other threads fill: `iter::from_fn(||
    /// queue.try_recv().ok())`. The iterator ends when no job is running and `jobs` returns `None`.
    pub fn run(
        &mut self,
        jobs: impl IntoIterator<Item = (Job, T)>,
    ) -> impl Iterator<Item = (T, Output)> {
        let mut jobs = jobs.into_iter();
        iter::from_fn(move || {
            loop {
                while let Some(lane) = self.vacant()
                    && let Some((job, ticket)) = jobs.next()
                {
                    lane.start(&job, ticket);
                }
                if self.busy() == 0 {
                    return None;
                }
                let done = self.advance(SLICE);
                if done.is_some() {
                    return done;
                }
            }
        })
    }
}

impl<T> Vacant<'_, T> {
    /// Starts a job in this lane.
    pub fn start(self, job: &Job, ticket: T) {
        self.lane.start(job);
        self.tickets.push(ticket);
    }
}

fn advance(lanes: &mut [Lane], rounds: u32) {
    fn go<const N: usize>(lanes: &mut [Lane], rounds: u32) {
        if let Ok(lanes) = lanes.try_into() {
            blowfish::advance::<N>(lanes, rounds);
        }
    }
    const { assert!(WIDTH == 4) };
    match lanes.len() {
        1 => go::<1>(lanes, rounds),
        2 => go::<2>(lanes, rounds),
        3 => go::<3>(lanes, rounds),
        _ => go::<4>(lanes, rounds),
    }
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lanes").field("busy", &self.busy()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_job_that_has_ended() {
        let mut lanes = Lanes::new();
        for cost in [4, 5, 4, 6] {
            let job = Job::new(cost, [7; 16], b"password").unwrap();
            lanes.vacant().unwrap().start(&job, ());
        }
        while lanes.busy() > 0 {
            lanes.advance(u32::MAX);
            for (k, lane) in lanes.lanes.iter().enumerate() {
                assert_eq!(lane.is_wiped(), k >= lanes.busy());
            }
        }
    }
}
