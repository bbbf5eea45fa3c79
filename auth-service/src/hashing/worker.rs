//! What a hashing thread does.

use std::{sync::atomic::Ordering::Relaxed, thread, time::Duration};

use crossbeam_channel::Receiver;

use super::{Job, State};
use crate::{lanes::Seats, password::Memory};

/// The nice value of the hashing threads, which gives them half as much of a contended core as a
/// thread at 0 gets.
#[cfg(target_os = "linux")]
const NICE: i32 = 3;

/// How long memory that no hash has used is kept.
const MEMORY_KEPT: Duration = Duration::from_secs(5);

/// What a hashing thread does until the queue is closed.
pub(super) fn work(jobs: &Receiver<Job>, state: &State, mut seats: Seats, memory: &Memory) {
    loop {
        let next = if seats.busy() == 0 {
            state.idle.fetch_add(1, Relaxed);
            let next = wait(jobs, memory, MEMORY_KEPT);
            state.idle.fetch_sub(1, Relaxed);
            match next {
                Some(job) => Some(job),
                None => return,
            }
        } else if seats.has_room() && jobs.len() > state.idle.load(Relaxed) {
            // What idle threads will take is theirs: two jobs are done sooner by two threads.
            jobs.try_recv().ok()
        } else {
            None
        };
        let ended = match next {
            Some(Job(begin)) => match begin() {
                Some(work) => seats.begin(work),
                // Nobody waits for it any more, and it is not pending.
                None => continue,
            },
            None => {
                // A core is not taken from a thread before its time slice of some milliseconds has
                // ended, whatever its priority; requests would wait for that.
                thread::yield_now();
                seats.advance()
            }
        };
        if let Some(took) = ended {
            state.record(took);
            state.pending.fetch_sub(1, Relaxed);
        }
    }
}

/// The next of what is queued; `None` once the queue is closed. While this waits, what hashes have
/// left in memory is wiped, and what has not been used for `kept` is given back.
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

/// Lowers this thread's priority a little: while all cores hash, the threads that serve requests are
/// preferred. Not by much: requests without pause would leave hashing a tenth of a core, and so refuse
/// the logins of a few clients, each of which then asks again. Where the system refuses, hashing
/// competes on equal terms.
pub(super) fn yield_to_requests() {
    // On Linux a priority belongs to a thread, elsewhere to the whole process.
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
