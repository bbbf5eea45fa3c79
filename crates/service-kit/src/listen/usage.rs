//! The resources that a connection uses: its requests in progress, its unread responses, and its
//! share of the process's memory budget.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How long an HTTP/2 connection without a request is kept.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// In this time the peer must read at least [`MIN_READ`] bytes of its waiting responses, or all of
/// them.
const READ_LIMIT: Duration = Duration::from_secs(30);
const MIN_READ: u64 = 32 * 1024;
/// How often the two limits are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The most requests in progress per process. Further ones are refused.
const MAX_REQUESTS: usize = 8192;
/// The budget of the process for request bodies, beyond the free part of each request, in bytes.
/// While it is used up, bodies are not read.
const MAX_BODIES: usize = 32 * 1024 * 1024;
/// The budgets for large responses that clients have not read yet, in bytes, per connection and per
/// process.
const MAX_ANSWERS_OF_CONNECTION: usize = 8 * 1024 * 1024;
const MAX_ANSWERS: usize = 64 * 1024 * 1024;
/// How many bytes one permit for responses stands for.
const ANSWER_UNIT: usize = 1024;

/// The memory budget for the connections of a process, over all its listeners.
#[derive(Debug)]
pub struct Memory {
    requests: Arc<Semaphore>,
    pub(super) bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            bodies: Arc::new(Semaphore::new(MAX_BODIES)),
            answers: Arc::new(Semaphore::new(MAX_ANSWERS / ANSWER_UNIT)),
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// It had no request for [`IDLE_LIMIT`].
    Idle,
    /// It does not read its responses.
    Unread,
}

/// The resources that one connection uses.
#[derive(Debug)]
pub(super) struct ConnectionUsage {
    memory: Arc<Memory>,
    answers: Arc<Semaphore>,
    /// Requests in progress, from their headers to the end of their response.
    requests: AtomicUsize,
    /// Bytes of responses that are in memory.
    unread: AtomicUsize,
    /// How often all responses had been read.
    read_out: AtomicU64,
    /// Bytes that the peer has accepted, of any kind.
    written: AtomicU64,
    idle_since: Mutex<Instant>,
}

impl Default for ConnectionUsage {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl ConnectionUsage {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            answers: Arc::new(Semaphore::new(MAX_ANSWERS_OF_CONNECTION / ANSWER_UNIT)),
            requests: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            read_out: AtomicU64::new(0),
            written: AtomicU64::new(0),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    pub(super) const fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// Since when there has been neither a request nor an unread response; `None` if there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.requests.load(Acquire) == 0 && self.unread.load(Acquire) == 0;
        is_idle.then(|| *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_idle(&self) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until the connection has been idle for too long or does not read its responses.
    pub(super) async fn excess(&self) -> CloseReason {
        // Since when responses have been waiting, and the two counters at that time.
        let mut waiting: Option<(Instant, u64, u64)> = None;
        loop {
            let now = Instant::now();
            let idle_end = self.idle_since().map(|since| since + IDLE_LIMIT);
            if idle_end.is_some_and(|end| end <= now) {
                return CloseReason::Idle;
            }
            let (written, read_out) = (self.written.load(Relaxed), self.read_out.load(Relaxed));
            waiting = match waiting {
                _ if self.unread.load(Acquire) == 0 => None,
                Some((since, then, round)) if round == read_out => {
                    if now < since + READ_LIMIT {
                        Some((since, then, round))
                    } else if written.saturating_sub(then) < MIN_READ {
                        return CloseReason::Unread;
                    } else {
                        Some((now, written, read_out))
                    }
                }
                _ => Some((now, written, read_out)),
            };
            // Check again soon even if it is idle, because a request may arrive at any moment.
            let next = now + LOOK_INTERVAL;
            tokio::time::sleep_until(idle_end.map_or(next, |end| end.min(next))).await;
        }
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct RequestUsage {
    usage: Arc<ConnectionUsage>,
    _place: OwnedSemaphorePermit,
}

impl RequestUsage {
    /// Starts a request, unless the process has reached its limit.
    pub(super) fn begin(usage: &Arc<ConnectionUsage>) -> Option<Self> {
        let place = Arc::clone(&usage.memory.requests).try_acquire_owned().ok()?;
        usage.requests.fetch_add(1, AcqRel);
        Some(Self { usage: Arc::clone(usage), _place: place })
    }
}

impl Drop for RequestUsage {
    fn drop(&mut self) {
        self.usage.note_idle();
        self.usage.requests.fetch_sub(1, AcqRel);
    }
}

/// The bytes of a response, which count for as long as they exist.
pub(super) struct UnreadBytes {
    bytes: bytes::Bytes,
    usage: Arc<ConnectionUsage>,
    /// Released together with the bytes.
    _reservation: Option<Reservation>,
}

impl UnreadBytes {
    pub(super) fn count(
        bytes: bytes::Bytes,
        usage: &Arc<ConnectionUsage>,
        reservation: Option<Reservation>,
    ) -> bytes::Bytes {
        usage.unread.fetch_add(bytes.len(), AcqRel);
        let usage = Arc::clone(usage);
        bytes::Bytes::from_owner(Self { bytes, usage, _reservation: reservation })
    }
}

impl AsRef<[u8]> for UnreadBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for UnreadBytes {
    fn drop(&mut self) {
        let length = self.bytes.len();
        if self.usage.unread.fetch_sub(length, AcqRel) == length {
            self.usage.note_idle();
            self.usage.read_out.fetch_add(1, Relaxed);
        }
    }
}

/// The memory reservation for one large response. It is released when the response has been read, or
/// with the connection.
#[derive(Debug, Clone)]
pub struct Reservation(Arc<Mutex<[OwnedSemaphorePermit; 2]>>);

impl Reservation {
    /// Waits for room for `bytes` in the budgets of the connection and of the process.
    pub(super) async fn wait(usage: &ConnectionUsage, bytes: usize) -> Option<Self> {
        let units = bytes.min(MAX_ANSWERS_OF_CONNECTION).div_ceil(ANSWER_UNIT);
        let units = u32::try_from(units).ok()?;
        // The connection's own budget comes first: while waiting for it, nothing must be held that
        // other connections wait for.
        let own = Arc::clone(&usage.answers).acquire_many_owned(units).await.ok()?;
        let shared = Arc::clone(&usage.memory.answers).acquire_many_owned(units).await.ok()?;
        Some(Self(Arc::new(Mutex::new([own, shared]))))
    }

    /// Releases what exceeds `bytes`.
    pub(super) fn shrink(&self, bytes: usize) {
        let needed = bytes.div_ceil(ANSWER_UNIT);
        for permit in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let spare = permit.num_permits().saturating_sub(needed);
            drop(permit.split(spare));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const MIB: usize = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_idle_and_one_with_a_request_is_not() {
        let usage = Arc::new(ConnectionUsage::default());
        let request = RequestUsage::begin(&usage).unwrap();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, usage.excess()).await.is_err());
        drop(request);
        let began = Instant::now();
        assert_eq!(usage.excess().await, CloseReason::Idle);
        assert_eq!(began.elapsed().as_secs(), IDLE_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_found_out_and_who_reads_slowly_is_not() {
        let usage = Arc::new(ConnectionUsage::default());
        let _request = RequestUsage::begin(&usage);
        let answer = UnreadBytes::count(Bytes::from(vec![0; MIB]), &usage, None);
        let reading = async {
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                usage.wrote(4 * 1024);
            }
        };
        tokio::select! {
            excess = usage.excess() => panic!("{excess:?} although it reads"),
            () = reading => {}
        }
        let began = Instant::now();
        assert_eq!(usage.excess().await, CloseReason::Unread);
        assert!(began.elapsed() <= READ_LIMIT + LOOK_INTERVAL);
        drop(answer);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_found_out_as_fast_after_an_idle_time() {
        let usage = Arc::new(ConnectionUsage::default());
        let excess = tokio::spawn({
            let usage = Arc::clone(&usage);
            async move { usage.excess().await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let _request = RequestUsage::begin(&usage);
        let _answer = UnreadBytes::count(Bytes::from_static(b"x"), &usage, None);
        let began = Instant::now();
        assert_eq!(excess.await.unwrap(), CloseReason::Unread);
        assert!(began.elapsed() <= READ_LIMIT + LOOK_INTERVAL, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_answers_one_after_the_other_are_no_stall() {
        let usage = Arc::new(ConnectionUsage::default());
        let _request = RequestUsage::begin(&usage);
        let answering = async {
            // At each check a response is waiting, but always a different one.
            for _ in 0..600 {
                let _answer = UnreadBytes::count(Bytes::from_static(b"x"), &usage, None);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            excess = usage.excess() => panic!("{excess:?} although all is read"),
            () = answering => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_take_what_is_reserved_until_they_are_read() {
        let usage = Arc::new(ConnectionUsage::default());
        let second = Duration::from_secs(1);
        let most = Reservation::wait(&usage, 2 * MAX_ANSWERS_OF_CONNECTION).await.unwrap();
        let wait = || Reservation::wait(&usage, 1);
        assert!(tokio::time::timeout(second, wait()).await.is_err());
        most.shrink(MIB);
        let more = wait().await.unwrap();
        let bytes = UnreadBytes::count(Bytes::from(vec![0; 10]), &usage, Some(most));
        let part = bytes.slice(3..5);
        drop(bytes);
        let rest = MAX_ANSWERS_OF_CONNECTION - MIB;
        drop(more);
        let rest = Reservation::wait(&usage, rest).await.unwrap();
        assert!(tokio::time::timeout(second, wait()).await.is_err(), "a part of it is held");
        drop(part);
        assert!(wait().await.is_some());
        drop(rest);
        assert_eq!(usage.memory.answers.available_permits(), MAX_ANSWERS / ANSWER_UNIT);
    }

    #[tokio::test]
    async fn the_process_takes_so_many_requests_and_no_more() {
        let usage = Arc::new(ConnectionUsage::default());
        let requests: Vec<_> = (0..MAX_REQUESTS).map(|_| RequestUsage::begin(&usage)).collect();
        assert!(requests.iter().all(Option::is_some));
        assert!(RequestUsage::begin(&usage).is_none());
        drop(requests);
        assert!(RequestUsage::begin(&usage).is_some());
    }
}
