//! The queue of log lines: a bounded buffer and a single thread that writes to stdout or stderr.
//! Logging never blocks. If the reader is too slow, lines are dropped and counted.

use std::{
    io::{self, ErrorKind, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// The most bytes that wait to be written. The writing thread may hold as much again.
const CAPACITY: usize = 1024 * 1024;
/// A larger buffer is not kept.
const KEPT_BUFFER: usize = 64 * 1024;
/// How long the thread lets lines gather after it has written. To wake it for each line would cost a
/// busy service a system call and a change of threads for every request. A line after a pause is
/// written at once.
const GATHER: Duration = Duration::from_millis(2);
/// How long the thread waits if a non-blocking output accepts nothing at present.
const PAUSE: Duration = Duration::from_millis(10);

/// The queue. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when there is something to write.
    filled: Condvar,
    /// Notified when everything has been written.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
}

impl Queue {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self::default();
        let writer = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all(output))?;
        Ok(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or drops and counts it if the buffer is full.
    pub(super) fn add(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > CAPACITY {
            drop(state);
            self.0.dropped.fetch_add(1, Relaxed);
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.0.filled.notify_one();
        }
    }

    /// How many lines have been dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// Waits until everything has been written, for at most `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let is_pending = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.0.written.wait_timeout_while(self.state(), patience, is_pending);
        drop(waited);
    }

    /// The loop of the thread.
    fn write_all(&self, mut output: impl Write) {
        let (mut batch, mut told, mut written_at) = (Vec::new(), 0, None);
        loop {
            let idle = |state: &mut State| state.waiting.is_empty();
            drop(self.0.filled.wait_while(self.state(), idle));
            if let Some(rest) = written_at.and_then(|at: Instant| GATHER.checked_sub(at.elapsed()))
            {
                thread::sleep(rest);
            }
            let mut state = self.state();
            std::mem::swap(&mut state.waiting, &mut batch);
            state.is_writing = true;
            drop(state);

            let written = write_patiently(&mut output, &batch);
            let lost = count_lines(batch.get(written..).unwrap_or_default());
            self.0.dropped.fetch_add(lost, Relaxed);
            batch.clear();
            batch.shrink_to(KEPT_BUFFER);
            written_at = Some(Instant::now());
            self.state().is_writing = false;
            self.0.written.notify_all();

            let dropped = self.dropped();
            if dropped > told && lost == 0 {
                // The output accepts lines again: report the dropped ones, through this same queue.
                let lines = dropped - told;
                tracing::warn!(event = "log.lines_dropped", lines, "nobody read the log");
                told = dropped;
            }
        }
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Writes as much as possible and returns the number of written bytes.
fn write_patiently(output: &mut impl Write, batch: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    // Without a flush, bytes could stay in the buffer of the output.
    let _ = output.flush();
    written
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Completes one write for each message of the test.
    struct Gate {
        open: mpsc::Receiver<()>,
        seen: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(|_| io::Error::other("closed"))?;
            self.seen.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Queue, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (sender, open) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        (Queue::start(Gate { open, seen: Arc::clone(&seen) }).unwrap(), sender, seen)
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted() {
        let (queue, open, seen) = gate();
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        let started = Instant::now();
        for _ in 0..10_000 {
            queue.add(&line);
        }
        queue.flush(Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(queue.dropped() > 7_000, "{}", queue.dropped());
        // All lines that were not dropped arrive once there is a reader again.
        (0..10).for_each(|_| open.send(()).unwrap());
        queue.flush(Duration::from_secs(5));
        assert_eq!(count_lines(&seen.lock().unwrap()) + queue.dropped(), 10_000);
    }

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let (queue, open, seen) = gate();
        (0..100).for_each(|_| open.send(()).unwrap());
        queue.add(b"one\n");
        queue.add(b"two\n");
        queue.flush(Duration::from_secs(5));
        assert_eq!(*seen.lock().unwrap(), b"one\ntwo\n");
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn lines_to_an_end_that_is_closed_are_counted() {
        let (queue, open, _) = gate();
        drop(open);
        queue.add(b"one\ntwo\n");
        queue.flush(Duration::from_secs(5));
        assert_eq!(queue.dropped(), 2);
    }
}
