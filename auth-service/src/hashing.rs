//! The pool of hashing threads and its queue. A hash takes a core for a quarter of a second by design,
//! so hashing never runs on the threads that serve requests, and the queue accepts only as much as can
//! be done in time. As soon as a job waits and no thread is idle, a thread computes several hashes
//! at once ([`crate::lanes`]).

mod queue_slot;
mod worker;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use opentelemetry::trace::SpanKind;
use service_kit::{
    metrics::{Durations, Metrics, Unit},
    trace,
};
use tokio::sync::oneshot;

use self::queue_slot::QueueSlot;
use crate::{
    lanes::{JobSlots, Work},
    password::{Memory, Step, Steps},
};

/// The pool of hashing threads. Clones share it; the threads end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Hashing {
    jobs: Sender<Job>,
    state: Arc<State>,
    /// How many jobs run at a time.
    places: usize,
    timeout: Duration,
    waits: Durations,
}

#[derive(Debug, Default)]
struct State {
    /// The number of jobs that run, or that wait and were not withdrawn.
    pending: AtomicUsize,
    /// The processor time that a thread needs per job, in microseconds, as a moving average. It is not
    /// the elapsed time: if a thread gets no core for a while, that is many times longer, and jobs
    /// would be refused that could be done in time.
    typical: AtomicU64,
    /// The number of idle threads.
    idle: AtomicUsize,
}

/// Starts the work. Returns `None` if nobody waits for it any more.
struct Job(Box<dyn FnOnce() -> Option<Work> + Send>);

/// Steps that send their result to the receiver that waits for it.
struct Answering<S: Steps> {
    steps: S,
    answer: Option<oneshot::Sender<S::Result>>,
}

impl<S: Steps> Steps for Answering<S> {
    type Result = ();

    fn next(&mut self, computed: Option<bcrypt_lanes::Output>, memory: &Memory) -> Step<()> {
        match self.steps.next(computed, memory) {
            Step::Bcrypt(request) => Step::Bcrypt(request),
            Step::Done(result) => {
                if let Some(answer) = self.answer.take() {
                    // The receiver is gone if the client has disconnected.
                    let _ = answer.send(result);
                }
                Step::Done(())
            }
        }
    }
}

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has waited too long, or would have to. A retry may succeed after this time.
    Overloaded(Duration),
    /// The job was withdrawn, because nobody waited for its result any more.
    Withdrawn,
    /// The job panicked.
    Failed,
}

impl Hashing {
    /// Starts `workers` threads, each of which computes up to `width` jobs at once; all of them share
    /// `memory`. A job that cannot start within `timeout` is refused. `expected` is the initial
    /// estimate of how long a job takes.
    ///
    /// # Errors
    ///
    /// If the operating system refuses to start a thread.
    pub fn start(
        workers: usize,
        width: usize,
        timeout: Duration,
        expected: Duration,
        memory: Memory,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::unbounded::<Job>();
        let state = Arc::new(State::default());
        state.typical.store(microseconds(expected), Relaxed);
        let memory = Arc::new(memory);
        for number in 0..workers {
            let (jobs, state) = (receiver.clone(), Arc::clone(&state));
            let slots = JobSlots::new(width, Arc::clone(&memory));
            let memory = Arc::clone(&memory);
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || {
                worker::yield_to_requests();
                worker::work(&jobs, &state, slots, &memory);
            })?;
        }
        let places = workers * width;
        let queue = Arc::clone(&state);
        metrics.gauge(
            "auth.hash.queue.depth",
            "Passwords that wait to be hashed",
            Unit::Count,
            move || Some(queue.pending.load(Relaxed).saturating_sub(places) as f64),
        );
        let waits = metrics.durations(
            "auth.hash.queue.wait",
            "How long passwords have waited to be hashed",
            "outcome",
            &["started", "refused"],
        );
        Ok(Self { jobs: sender, state, places, timeout, waits })
    }

    /// How long a job may wait in the queue.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reserves a slot in the queue.
    ///
    /// # Errors
    ///
    /// [`Refused::Overloaded`], at once, if the queue is too long for the timeout.
    pub fn slot(&self) -> Result<Slot, Refused> {
        let wait = self.expected_wait();
        if wait > self.timeout {
            self.waits.observe("refused", Duration::ZERO);
            return Err(Refused::Overloaded(wait - self.timeout));
        }
        Ok(Slot { hashing: self.clone(), place: QueueSlot::take(&self.state) })
    }

    /// Runs `steps` on a hashing thread and waits for their result. If the future is dropped, for
    /// example because the client disconnects, steps that have not started are withdrawn.
    ///
    /// # Errors
    ///
    /// At once if the queue is too long for the timeout; otherwise when the timeout has passed.
    pub async fn run<S>(&self, steps: S) -> Result<S::Result, Refused>
    where
        S: Steps + Send + 'static,
        S::Result: Send,
    {
        let (_ticket, result) = self.slot()?.submit(steps);
        result.await
    }

    /// The least time that a new job would wait before it starts, assuming one core per thread. If the
    /// threads get less than that, the timeout refuses the last jobs.
    fn expected_wait(&self) -> Duration {
        let before = self.state.pending.load(Relaxed).saturating_sub(self.places - 1);
        let typical = self.state.typical.load(Relaxed);
        Duration::from_micros(typical.saturating_mul(before as u64) / self.places as u64)
    }
}

/// A slot in the queue of the hashing threads. It is released when dropped.
#[derive(Debug)]
pub struct Slot {
    hashing: Hashing,
    place: QueueSlot,
}

/// Represents the caller who waits for a result. If it is dropped, the job is withdrawn unless it has
/// started; a started job runs to its end.
#[derive(Debug)]
pub struct JobHandle {
    place: QueueSlot,
    withdrawn: Option<oneshot::Sender<()>>,
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.place.claim()
            && let Some(withdrawn) = self.withdrawn.take()
        {
            let _ = withdrawn.send(());
        }
    }
}

impl Slot {
    /// Queues `steps`. The returned future resolves to the result. Another task may await it, so that
    /// it completes even if the holder of the ticket has gone.
    pub fn submit<S>(
        self,
        steps: S,
    ) -> (JobHandle, impl Future<Output = Result<S::Result, Refused>> + Send + 'static)
    where
        S: Steps + Send + 'static,
        S::Result: Send,
    {
        let Self { hashing, place } = self;
        let (started, mut start) = oneshot::channel();
        let (answer, result) = oneshot::channel();
        let (withdraw, withdrawn) = oneshot::channel();
        let ticket = JobHandle { place, withdrawn: Some(withdraw) };
        let claim = ticket.place.clone();
        let claimed = claim.clone();
        let job = Job(Box::new(move || {
            // The client has disconnected, or the timeout has passed.
            if !claimed.begin() {
                return None;
            }
            let _ = started.send(());
            Some(Box::new(Answering { steps, answer: Some(answer) }))
        }));
        let span = trace::child("password hash", SpanKind::Internal);
        let queued = Instant::now();
        let queue = hashing.jobs.send(job);
        let outcome = async move {
            queue.map_err(|_| Refused::Failed)?;
            // If a thread takes the job at this moment, that wins over the timeout and the withdrawal.
            let refused = tokio::select! {
                _ = &mut start => None,
                Ok(()) = withdrawn => return Err(Refused::Withdrawn),
                () = tokio::time::sleep(hashing.timeout) => {
                    claim.claim().then(|| Refused::Overloaded(hashing.expected_wait()))
                }
            };
            if let Some(refused) = refused {
                hashing.waits.observe("refused", queued.elapsed());
                return Err(refused);
            }
            let waited = queued.elapsed();
            hashing.waits.observe("started", waited);
            span.set("wait_ms", waited.as_secs_f64() * 1e3);
            result.await.map_err(|_| Refused::Failed)
        };
        (ticket, outcome)
    }
}

impl State {
    fn record(&self, took: Duration) {
        let took = microseconds(took);
        // Concurrent updates may overwrite each other, which is harmless for an estimate.
        let before = self.typical.load(Relaxed);
        let after = before - before / 8 + took / 8;
        self.typical.store(after, Relaxed);
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::password::bcrypt::Request;

    /// A single step that calls a function and returns its result.
    struct Call<F>(Option<F>);

    fn call<F>(function: F) -> Call<F> {
        Call(Some(function))
    }

    impl<T, F: FnOnce() -> T> Steps for Call<F> {
        type Result = T;

        fn next(&mut self, _: Option<bcrypt_lanes::Output>, _: &Memory) -> Step<T> {
            Step::Done(self.0.take().unwrap()())
        }
    }

    const QUICK: Duration = Duration::from_millis(1);

    fn start(workers: usize, timeout: Duration, expected: Duration) -> Hashing {
        let memory = Memory::default();
        Hashing::start(workers, 1, timeout, expected, memory, &Metrics::default()).unwrap()
    }

    #[tokio::test]
    async fn a_result_comes_back_and_a_panic_does_not_cost_the_thread() {
        let hashing = start(1, Duration::from_secs(5), QUICK);
        assert_eq!(hashing.run(call(|| 1)).await, Ok(1));
        let failing = hashing.run(call(|| -> i32 { panic!("on purpose") }));
        assert_eq!(failing.await, Err(Refused::Failed));
        assert_eq!(hashing.run(call(|| 2)).await, Ok(2));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done() {
        let hashing = start(1, Duration::from_millis(50), QUICK);
        let (release, wait) = mpsc::channel::<()>();
        let (done, did) = mpsc::channel();
        let busy = tokio::spawn({
            let hashing = hashing.clone();
            async move { hashing.run(call(move || wait.recv())).await }
        });
        tokio::task::yield_now().await;
        let abandoned = hashing.run(call(move || done.send(())));
        assert!(matches!(abandoned.await, Err(Refused::Overloaded(_))));
        release.send(()).unwrap();
        busy.await.unwrap().unwrap().unwrap();
        assert_eq!(hashing.run(call(|| 3)).await, Ok(3));
        assert!(did.try_recv().is_err(), "abandoned work was done");
    }

    #[tokio::test]
    async fn those_who_left_take_no_place_in_the_queue() {
        let hashing = start(1, Duration::from_secs(5), Duration::from_secs(1));
        let (release, wait) = mpsc::channel::<()>();
        let busy = tokio::spawn({
            let hashing = hashing.clone();
            async move { hashing.run(call(move || wait.recv())).await }
        });
        tokio::task::yield_now().await;
        for _ in 0..50 {
            let leaving = tokio::time::timeout(QUICK, hashing.run(call(|| ())));
            assert!(leaving.await.is_err(), "refused, or done");
        }
        assert_eq!(hashing.state.pending.load(Relaxed), 1);
        release.send(()).unwrap();
        busy.await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_gets_no_core_makes_no_job_look_long() {
        let hashing = start(1, Duration::from_secs(5), QUICK);
        for _ in 0..4 {
            let without_a_core = call(|| thread::sleep(Duration::from_millis(100)));
            hashing.run(without_a_core).await.unwrap();
        }
        hashing.run(call(|| ())).await.unwrap();
        assert!(hashing.state.typical.load(Relaxed) < 10_000);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let hashing = start(1, Duration::from_secs(60), QUICK);
        hashing.state.typical.store(30_000_000, Relaxed);
        hashing.state.pending.store(3, Relaxed);
        let refused = tokio::time::timeout(Duration::from_secs(5), hashing.run(call(|| ()))).await;
        assert_eq!(refused.unwrap(), Err(Refused::Overloaded(Duration::from_secs(30))));
    }

    /// Two bcrypt hashes one after the other, as a failing login does, or a panic.
    struct Twice {
        number: u8,
        first: Option<bcrypt_lanes::Output>,
    }

    impl Twice {
        fn password(&self) -> Vec<u8> {
            vec![b'a' + self.number % 7; usize::from(self.number) * 2]
        }

        fn cost(&self) -> u32 {
            4 + u32::from(self.number % 3)
        }
    }

    impl Steps for Twice {
        type Result = bcrypt_lanes::Output;

        fn next(
            &mut self,
            computed: Option<bcrypt_lanes::Output>,
            _: &Memory,
        ) -> Step<Self::Result> {
            assert!(self.number % 10 != 9, "on purpose");
            match (self.first, computed) {
                (Some(first), Some(second)) => {
                    assert_eq!(first, second);
                    return Step::Done(first);
                }
                (_, computed) => self.first = computed,
            }
            Step::Bcrypt(Request::new(self.cost(), [self.number; 16], &self.password()))
        }
    }

    #[tokio::test]
    async fn what_is_computed_together_is_what_each_would_be_alone() {
        let (metrics, memory) = (Metrics::default(), Memory::default());
        let (width, timeout) = (crate::lanes::WIDTH, Duration::from_secs(60));
        let hashing = Hashing::start(2, width, timeout, QUICK, memory, &metrics).unwrap();
        let jobs = (0_u8..40).map(|number| {
            let hashing = hashing.clone();
            async move {
                let job = Twice { number, first: None };
                let (cost, salt) = (job.cost(), [number; 16]);
                let wanted =
                    bcrypt::hash_with_salt(job.password(), cost, salt).unwrap().to_string();
                match hashing.run(job).await {
                    Ok(raw) => {
                        let digest = base64::Engine::encode(&bcrypt::BASE_64, &raw[..23]);
                        assert!(wanted.ends_with(&digest), "{number}: {wanted}");
                    }
                    // A panic must not affect other jobs.
                    Err(refused) => assert_eq!((refused, number % 10), (Refused::Failed, 9)),
                }
            }
        });
        futures_util::future::join_all(jobs).await;
        // The result arrives a moment before the slot is released.
        let all_free = async {
            while hashing.state.pending.load(Relaxed) > 0 {
                tokio::time::sleep(QUICK).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), all_free).await.unwrap();
    }
}
