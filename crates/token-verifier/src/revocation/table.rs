//! Revocations by digest, as an immutable table that is cheap to update.

use std::sync::Arc;

/// The number of shards. A change copies only the shards that it affects: adding one entry to a
/// million copies about 130 KB.
const SHARDS: usize = 256;

/// The generation in the entry of a session, which revokes tokens of every generation.
pub(super) const EVERY_GENERATION: u64 = u64::MAX;

/// One revocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The first half of the digest.
    pub(super) key: u128,
    /// Tokens of a generation below this one are revoked.
    pub(super) below: u64,
    /// From when the entry no longer counts, in seconds since the Unix epoch.
    pub(super) until: i64,
}

impl Entry {
    /// Merges two entries with the same key into one that revokes everything that either revokes.
    fn add(&mut self, other: &Self) {
        self.below = self.below.max(other.below);
        self.until = self.until.max(other.until);
    }
}

/// Entries sorted by key, one per key.
#[derive(Debug, Clone)]
struct Shard {
    entries: Vec<Entry>,
    /// The earliest `until` of them.
    earliest: i64,
}

impl Default for Shard {
    fn default() -> Self {
        Self { entries: Vec::new(), earliest: i64::MAX }
    }
}

impl Shard {
    fn settle(&mut self) {
        // The sort merges two sorted runs in linear time.
        self.entries.sort_by_key(|entry| entry.key);
        self.entries.dedup_by(|later, first| {
            let same = later.key == first.key;
            if same {
                first.add(later);
            }
            same
        });
        self.earliest = self.entries.iter().map(|entry| entry.until).min().unwrap_or(i64::MAX);
    }
}

/// A clone shares its shards until one of the two changes them.
#[derive(Debug, Clone)]
pub(super) struct Table {
    shards: Vec<Arc<Shard>>,
    len: usize,
}

impl Default for Table {
    fn default() -> Self {
        let empty = Arc::<Shard>::default();
        Self { shards: vec![empty; SHARDS], len: 0 }
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: u128) -> Option<&Entry> {
        let entries = &self.shards.get(shard_of(key))?.entries;
        let place = entries.binary_search_by_key(&key, |entry| entry.key).ok()?;
        entries.get(place)
    }

    pub(super) fn extend(&mut self, mut entries: Vec<Entry>) {
        entries.sort_unstable_by_key(|entry| shard_of(entry.key));
        for group in entries.chunk_by(|a, b| shard_of(a.key) == shard_of(b.key)) {
            self.change(shard_of(group[0].key), |shard| shard.entries.extend_from_slice(group));
        }
    }

    /// Removes the entries that no longer count at `now`.
    pub(super) fn prune(&mut self, now: i64) {
        for index in 0..self.shards.len() {
            if self.shards[index].earliest <= now {
                self.change(index, |shard| shard.entries.retain(|entry| entry.until > now));
            }
        }
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Shard)) {
        let shard = Arc::make_mut(&mut self.shards[index]);
        self.len -= shard.entries.len();
        change(shard);
        shard.settle();
        self.len += shard.entries.len();
    }
}

fn shard_of(key: u128) -> usize {
    // The key is part of a digest, so its first byte is evenly distributed.
    usize::from(key.to_be_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::{Entry, Table};

    fn entry(key: u128, below: u64, until: i64) -> Entry {
        Entry { key, below, until }
    }

    #[test]
    fn entries_are_found_and_of_two_for_one_key_both_count() {
        let mut table = Table::default();
        let keys: Vec<u128> = (0..5000_u128).map(|n| n.wrapping_mul(u128::MAX / 4999)).collect();
        table.extend(keys.iter().map(|key| entry(*key, 1, 10)).collect());
        table.extend(vec![entry(keys[7], 3, 5), entry(keys[8], 1, 20), entry(keys[8], 9, 1)]);
        assert_eq!(table.len(), 5000);
        assert!(keys.iter().all(|key| table.get(*key).is_some()));
        assert!(table.get(1).is_none());
        let found = |key| table.get(key).map(|entry| (entry.below, entry.until));
        assert_eq!(found(keys[7]), Some((3, 10)));
        assert_eq!(found(keys[8]), Some((9, 20)));
    }

    #[test]
    fn a_change_leaves_earlier_clones_as_they_are() {
        let mut table = Table::default();
        table.extend(vec![entry(1, 1, 10), entry(2, 1, 20)]);
        let before = table.clone();
        table.prune(10);
        table.extend(vec![entry(3, 1, 30)]);
        assert_eq!((before.len(), table.len()), (2, 2));
        assert!(before.get(1).is_some() && before.get(3).is_none());
        assert!(table.get(1).is_none() && table.get(2).is_some() && table.get(3).is_some());
        table.prune(30);
        assert_eq!(table.len(), 0);
    }
}
