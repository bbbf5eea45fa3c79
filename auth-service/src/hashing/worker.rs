//! The loop of a hashing thread.

use std::{
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;

use super::{Job, State};
use crate::{lanes::JobSlots, password::Memory};

/// The nice value of the hashing threads. On a contended core it gives them half of the share of a
/// thread at 0.
#[cfg(target_os = "linux")]
const NICE: i32 = 3;

/// How long unused memory is kept before it is returned to the operating system.
const MEMORY_KEPT: Duration = Duration::from_secs(5);

/// How long a thread works before it pauses, and for how long. The kernel adds some 50 µs to the pause.
const WORK: Duration = Duration::from_micros(2_500);
const PAUSE: Duration = Duration::from_micros(50);

/// Lets others use the core between two pieces of work.
struct Pacing {
    /// When the thread has slept for the last time.
    slept: Instant,
}

impl Pacing {
    fn new() -> Self {
        Self { slept: Instant::now() }
    }

    /// A thread keeps its core until its time slice of some milliseconds ends, whatever its priority. Yielding
    /// spares the threads that wait in the same scheduling group. It does not help other groups, such as the
    /// database or a service in its own session: Linux can let them wait for 100 ms behind a group that never
    /// sleeps. A core whose thread sleeps goes to whoever waits.
    fn make_way(&mut self) {
        if self.slept.elapsed() < WORK {
            thread::yield_now();
        } else {
            thread::sleep(PAUSE);
            *self = Self::new();
        }
    }
}

/// Runs jobs until the queue is closed.
pub(super) fn work(jobs: &Receiver<Job>, state: &State, mut slots: JobSlots, memory: &Memory) {
    let mut pacing = Pacing::new();
    loop {
        let next = if slots.busy() == 0 {
            let sleeps = jobs.is_empty();
            state.idle.fetch_add(1, Relaxed);
            let next = wait(jobs, memory, MEMORY_KEPT);
            state.idle.fetch_sub(1, Relaxed);
            if sleeps {
                pacing = Pacing::new();
            }
            match next {
                Some(job) => Some(job),
                None => return,
            }
        } else if slots.has_room() && jobs.len() > state.idle.load(Relaxed) {
            // Leave jobs for idle threads: two threads finish two jobs sooner than one does.
            jobs.try_recv().ok()
        } else {
            None
        };
        let ended = match next {
            Some(Job(begin)) => match begin() {
                Some(work) => slots.begin(work),
                // The job was withdrawn, so it no longer counts as pending.
                None => continue,
            },
            None => slots.advance(),
        };
        if let Some(took) = ended {
            state.record(took);
            state.pending.fetch_sub(1, Relaxed);
        }
        pacing.make_way();
    }
}

/// Waits for the next job; `None` once the queue is closed. While it waits, memory that hashes have
/// used is wiped, and memory that has been unused for `kept` is released.
fn wait<T>(jobs: &Receiver<T>, memory: &Memory, kept: Duration) -> Option<T> {
    if let Ok(next) = jobs.try_recv() {
        return Some(next);
    }
    memory.wipe();
    let next = jobs.recv_timeout(kept).or_else(|_| {
        memory.release(kept);
        jobs.recv()
    });
    next.ok()
}

/// Lowers this thread's priority a little, so that the threads that serve requests are preferred while
/// all cores hash. Only a little: otherwise, under constant load, hashing would get a tenth of a core,
/// logins would be refused, and their clients would only retry. If the system refuses the change,
/// hashing runs at equal priority.
pub(super) fn yield_to_requests() {
    // On Linux a priority belongs to a thread; on other systems it belongs to the process.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::Password,
        password::{Make, Scheme, run},
    };

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn memory_is_wiped_where_no_job_waits_and_given_back_where_none_comes() {
        let scheme = Scheme::Argon2id { memory_kib: 64, iterations: 1, parallelism: 1 };
        let memory = Memory::default();
        run(Make::new(scheme, Password::normalize("password")).unwrap(), &memory).unwrap();
        let left = || {
            memory.look(|kept| {
                let clean = |block: &argon2::Block| AsRef::<[u64]>::as_ref(block) == [0; 128];
                let blocks = || kept.iter().copied().flatten();
                (blocks().count(), blocks().all(clean))
            })
        };

        let (sender, jobs) = crossbeam_channel::unbounded();
        sender.send(()).unwrap();
        assert_eq!(wait(&jobs, &memory, MOMENT), Some(()));
        assert_eq!(left(), (64, false));

        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            sender.send(()).unwrap();
            sender
        });
        assert_eq!(wait(&jobs, &memory, Duration::from_secs(60)), Some(()));
        assert_eq!(left(), (64, true));

        let sender = later.join().unwrap();
        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            sender.send(()).unwrap();
        });
        assert_eq!(wait(&jobs, &memory, MOMENT), Some(()));
        assert_eq!(left(), (0, true));
        later.join().unwrap();
        assert_eq!(wait(&jobs, &memory, MOMENT), None);
    }
}
