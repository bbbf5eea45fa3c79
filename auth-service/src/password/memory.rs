//! The memory of hashes: a limit on its total, and its reuse.
//!
//! New memory costs nearly as much time as the hash itself, because the system has to find and clear
//! thousands of pages. So memory is kept for the next hash while passwords keep coming.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use argon2::Block;

/// The smallest allocation, in blocks. Anything above 32 MiB returns to the system as soon as it is
/// freed, whereas glibc's malloc may permanently keep a multiple of smaller allocations. The part that
/// no hash touches uses only address space.
const LEAST_BLOCKS: usize = 33 * 1024 * 1024 / Block::SIZE;

/// Limits the memory of all concurrent hashes of any scheme. A hash that would exceed the limit waits
/// until another one ends.
#[derive(Debug)]
pub struct Memory {
    /// The limit, in bytes.
    most: u64,
    /// How many hashes may hold memory at the same time. More than the number of cores would use more
    /// memory without being faster.
    at_once: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    holders: usize,
    /// How much the running hashes hold, in bytes.
    held: u64,
    kept: Vec<Kept>,
}

/// Memory that is kept for reuse.
#[derive(Debug)]
struct Kept {
    blocks: Vec<Block>,
    bytes: u64,
    used: Instant,
    clean: bool,
}

/// The memory that one hash holds.
struct Held<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Default for Memory {
    /// Without a limit.
    fn default() -> Self {
        Self::new(u64::MAX, usize::MAX)
    }
}

impl Memory {
    /// Limits memory to `most` bytes, and the hashes that hold some to `at_once`.
    #[must_use]
    pub fn new(most: u64, at_once: usize) -> Self {
        Self { most, at_once: at_once.max(1), state: Mutex::default(), freed: Condvar::new() }
    }

    /// Whether a hash that needs this much can be computed at all.
    #[must_use]
    pub const fn allows(&self, bytes: u64) -> bool {
        bytes <= self.most
    }

    /// Calls `work` with this many blocks of arbitrary content. The allocation can grow in place to
    /// `reserve` bytes for later hashes. Waits while other hashes hold too much. `None` if the limit
    /// does not allow it or the system does not have the memory.
    pub(super) fn with_blocks<T>(
        &self,
        blocks: usize,
        reserve: u64,
        work: impl FnOnce(&mut [Block]) -> T,
    ) -> Option<T> {
        let needed = bytes_of(blocks);
        let bytes = if self.allows(reserve) { needed.max(reserve) } else { needed };
        let (held, kept) = self.hold(bytes)?;
        let mut memory = match kept {
            Some(kept) => kept,
            None => {
                let mut memory = Vec::new();
                let capacity = usize::try_from(bytes.div_ceil(Block::SIZE as u64)).ok()?;
                memory.try_reserve_exact(capacity.max(LEAST_BLOCKS)).ok()?;
                memory
            }
        };
        if memory.len() < blocks {
            memory.resize(blocks, Block::new());
        }
        let result = work(memory.get_mut(..blocks)?);
        let mut state = self.lock();
        state.kept.push(Kept { blocks: memory, bytes, used: Instant::now(), clean: false });
        drop(state);
        drop(held);
        Some(result)
    }

    /// Calls `work`, which allocates this many bytes itself. Waits and fails like
    /// [`Memory::with_blocks`].
    pub(super) fn with<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> Option<T> {
        let (held, kept) = self.hold(bytes)?;
        drop(kept);
        let result = work();
        drop(held);
        Some(result)
    }

    /// Waits until memory may be used. Also returns kept memory that is large enough, if there is
    /// some.
    fn hold(&self, bytes: u64) -> Option<(Held<'_>, Option<Vec<Block>>)> {
        if !self.allows(bytes) {
            return None;
        }
        let full = |state: &mut State| {
            state.holders >= self.at_once || state.held.saturating_add(bytes) > self.most
        };
        let mut state =
            self.freed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.holders += 1;
        state.held += bytes;
        let held = Held { memory: self, bytes };
        let fitting = state.kept.iter().rposition(|kept| kept.bytes >= bytes);
        let taken = fitting.map(|place| state.kept.remove(place));
        // Kept memory counts towards both limits.
        let room = |state: &State| {
            let kept = state.kept.iter().map(|kept| kept.bytes).sum::<u64>();
            state.held.saturating_add(kept) <= self.most
                && state.holders + state.kept.len() <= self.at_once
        };
        // It is freed under the lock, so that it is gone before another hash may start.
        while !state.kept.is_empty() && !room(&state) {
            drop(state.kept.remove(0));
        }
        drop(state);
        Some((held, taken.map(|kept| kept.blocks)))
    }

    /// Overwrites the kept memory. With few passes, testing passwords against that content could be
    /// faster than against the hash.
    pub fn wipe(&self) {
        loop {
            let mut state = self.lock();
            let Some(place) = state.kept.iter().position(|kept| !kept.clean) else {
                return;
            };
            // Memory that is being wiped counts as held. If the limit of holders is reached, another
            // thread wipes the rest when it is idle.
            if state.holders >= self.at_once {
                return;
            }
            let mut kept = state.kept.remove(place);
            let held = Held { memory: self, bytes: kept.bytes };
            state.holders += 1;
            state.held += kept.bytes;
            drop(state);
            kept.blocks.fill(Block::new());
            kept.clean = true;
            self.lock().kept.push(kept);
            drop(held);
        }
    }

    /// Frees kept memory that has been unused for this long.
    pub fn release(&self, unused_for: Duration) {
        let mut state = self.lock();
        state.kept.retain(|kept| kept.used.elapsed() < unused_for);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[&[Block]]) -> T) -> T {
        let state = self.lock();
        look(&state.kept.iter().map(|kept| kept.blocks.as_slice()).collect::<Vec<_>>())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.holders -= 1;
        state.held -= self.bytes;
        drop(state);
        self.memory.freed.notify_all();
    }
}

const fn bytes_of(blocks: usize) -> u64 {
    blocks as u64 * Block::SIZE as u64
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        thread,
    };

    use super::*;

    const MIB: u64 = 1 << 20;

    fn used(memory: &Memory, blocks: usize, reserve: u64) -> *const Block {
        memory.with_blocks(blocks, reserve, |blocks| blocks.as_ptr()).unwrap()
    }

    #[test]
    fn memory_is_kept_and_grows_in_its_place_where_it_was_reserved() {
        let memory = Memory::default();
        let place = used(&memory, 64, 64 * MIB);
        assert_eq!(used(&memory, 64 * 1024, 64 * MIB), place);
        assert_eq!(used(&memory, 128, 64 * MIB), place);
        assert_eq!(memory.look(|kept| kept.iter().map(|b| b.len()).collect::<Vec<_>>()), [65_536]);
        memory.release(Duration::from_secs(60));
        assert_eq!(memory.look(|kept| kept.len()), 1);
        memory.release(Duration::ZERO);
        assert_eq!(memory.look(|kept| kept.len()), 0);
    }

    #[test]
    fn what_hashes_leave_is_wiped() {
        let memory = Memory::default();
        memory.with_blocks(2, 0, |blocks| blocks[1].as_mut()[3] = 7).unwrap();
        let dirty = || {
            memory.look(|kept| {
                kept.iter()
                    .any(|blocks| blocks.iter().any(|b| AsRef::<[u64]>::as_ref(b) != [0; 128]))
            })
        };
        assert!(dirty());
        memory.wipe();
        assert!(!dirty());
    }

    #[test]
    fn no_more_is_held_than_the_bound_whatever_the_kinds() {
        let memory = Memory::new(100 * MIB, 3);
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let hash = |mib: usize| {
            most.fetch_max(held.fetch_add(mib, SeqCst) + mib, SeqCst);
            thread::sleep(Duration::from_millis(2));
            held.fetch_sub(mib, SeqCst);
        };
        thread::scope(|scope| {
            for number in 0..24 {
                let (memory, hash) = (&memory, &hash);
                scope.spawn(move || match number % 3 {
                    0 => memory.with(64 * MIB, || hash(64)),
                    1 => memory.with_blocks(32 * 1024, 0, |_| hash(32)),
                    _ => memory.with_blocks(16, 40 * MIB, |_| hash(40)),
                });
            }
        });
        let most = most.into_inner();
        assert!((64..=100).contains(&most), "{most} MiB at a time");
        let kept = memory.lock().kept.iter().map(|kept| kept.bytes).sum::<u64>();
        assert!(kept <= 100 * MIB, "{kept} bytes are kept");
    }

    /// Memory that is being wiped must count, so that no hash allocates more in the meantime.
    #[test]
    fn memory_that_is_being_wiped_counts() {
        let memory = Memory::new(u64::MAX, 1);
        memory.with_blocks(8, 0, |_| ()).unwrap();
        memory.with_blocks(8, 0, |_| memory.wipe()).unwrap();
        memory.with_blocks(8, 0, |_| memory.wipe()).unwrap();
        let most = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        memory.with_blocks(64, 0, |blocks| blocks[0].as_mut()[0] = 1);
                        memory.wipe();
                        let state = memory.lock();
                        most.fetch_max(state.holders + state.kept.len(), SeqCst);
                    }
                });
            }
        });
        // A holder returns its memory just before it stops counting as a holder.
        assert!(most.into_inner() <= 2);
        assert!(memory.look(|kept| kept.len()) <= 1);
    }

    #[test]
    fn no_more_hashes_hold_memory_than_may() {
        let memory = Memory::new(u64::MAX, 2);
        let (holding, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    memory.with_blocks(8, 0, |_| {
                        most.fetch_max(holding.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::sleep(Duration::from_millis(5));
                        holding.fetch_sub(1, SeqCst);
                    })
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert!(memory.look(|kept| kept.len()) <= 2);
    }

    #[test]
    fn what_exceeds_the_bound_alone_is_refused() {
        let memory = Memory::new(MIB, 1);
        assert_eq!(memory.with(2 * MIB, || ()), None);
        assert_eq!(memory.with_blocks(2048, 0, |_| ()), None);
        // The reserve is optional, so it may exceed the limit.
        assert_eq!(memory.with_blocks(8, 2 * MIB, |_| ()), Some(()));
    }
}
