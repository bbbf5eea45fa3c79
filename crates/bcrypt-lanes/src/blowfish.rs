//! bcrypt's Blowfish, for several independent states in lockstep.
//!
//! Blowfish is a dependency chain: each round's result is the address of the next look-up. A core
//! waits for every look-up, and could do several times as much work in that time. So all lanes
//! compute two rounds before any lane computes the next two. An array of lanes with a length that is
//! known at compile time becomes straight-line code with one base address, and indexing by a byte
//! needs no bounds check.

use std::array;

use zeroize::Zeroize as _;

use crate::{Job, Output, pi};

/// "OrpheanBeholderScryDoubt"
const MAGIC: [u32; 6] =
    [0x4f72_7068, 0x6561_6e42, 0x6568_6f6c, 0x6465_7253, 0x6372_7944, 0x6f75_6274];

/// A bcrypt computation in progress.
pub(crate) struct Lane {
    s: [[u32; 256]; 4],
    p: [u32; 18],
    key: [u32; 18],
    salt: [u32; 4],
    /// How many rounds are left.
    pub(crate) rounds: u32,
}

impl Lane {
    pub(crate) const FREE: Self =
        Self { s: [[0; 256]; 4], p: [0; 18], key: [0; 18], salt: [0; 4], rounds: 0 };

    /// Does the setup before the rounds. All values are written in place, because moving a value
    /// would leave a copy in memory.
    pub(crate) fn start(&mut self, job: &Job) {
        self.s = pi::S;
        self.p = pi::P;
        self.key = job.key;
        self.salt = job.salt;
        self.rounds = job.rounds;
        self.mix_key();
        let [a, b, c, d] = job.salt;
        let mut salt = [[a, b], [c, d]].into_iter().cycle();
        replace(self.alone(), |[left], [right]| {
            if let Some([a, b]) = salt.next() {
                *left ^= a;
                *right ^= b;
            }
        });
    }

    /// Does the final steps after the rounds.
    pub(crate) fn output(&mut self) -> Output {
        let lane = self.alone();
        let mut text = MAGIC;
        for block in text.as_chunks_mut().0 {
            let [left, right] = block;
            for _ in 0..64 {
                encrypt(lane, array::from_mut(left), array::from_mut(right));
            }
        }
        let mut output = [0; 24];
        for (bytes, word) in output.as_chunks_mut().0.iter_mut().zip(text) {
            *bytes = word.to_be_bytes();
        }
        output
    }

    /// Takes over the computation of `other`.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.s = other.s;
        self.p = other.p;
        self.key = other.key;
        self.salt = other.salt;
        self.rounds = other.rounds;
    }

    /// Overwrites all state.
    pub(crate) fn wipe(&mut self) {
        self.s.zeroize();
        self.p.zeroize();
        self.key.zeroize();
        self.salt.zeroize();
        self.rounds = 0;
    }

    #[cfg(test)]
    pub(crate) fn is_wiped(&self) -> bool {
        let Self { s, p, key, salt, rounds } = self;
        let words = s.as_flattened().iter().chain(p).chain(key).chain(salt);
        words.chain([rounds]).all(|word| *word == 0)
    }

    fn mix_key(&mut self) {
        for (word, key) in self.p.iter_mut().zip(&self.key) {
            *word ^= key;
        }
    }

    fn mix_salt(&mut self) {
        for (word, salt) in self.p.iter_mut().zip(self.salt.iter().cycle()) {
            *word ^= salt;
        }
    }

    fn alone(&mut self) -> &mut [Self; 1] {
        array::from_mut(self)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Computes rounds of bcrypt in every lane. Each lane must have at least this many left.
pub(crate) fn advance<const N: usize>(lanes: &mut [Lane; N], rounds: u32) {
    for _ in 0..rounds {
        lanes.iter_mut().for_each(Lane::mix_key);
        replace(lanes, |_, _| {});
        lanes.iter_mut().for_each(Lane::mix_salt);
        replace(lanes, |_, _| {});
    }
    for lane in lanes {
        lane.rounds -= rounds;
    }
}

/// Replaces each state, two words at a time, with successive encryptions of a block; `mix` changes
/// the blocks before they are encrypted.
#[inline(always)]
fn replace<const N: usize>(
    lanes: &mut [Lane; N],
    mut mix: impl FnMut(&mut [u32; N], &mut [u32; N]),
) {
    let (mut left, mut right) = ([0; N], [0; N]);
    for i in 0..9 {
        mix(&mut left, &mut right);
        encrypt(lanes, &mut left, &mut right);
        for k in 0..N {
            lanes[k].p[2 * i] = left[k];
            lanes[k].p[2 * i + 1] = right[k];
        }
    }
    for table in 0..4 {
        for i in 0..128 {
            mix(&mut left, &mut right);
            encrypt(lanes, &mut left, &mut right);
            for k in 0..N {
                lanes[k].s[table][2 * i] = left[k];
                lanes[k].s[table][2 * i + 1] = right[k];
            }
        }
    }
}

/// Encrypts a block with each state.
///
/// The halves are in two arrays, because the compiler would keep a pair in one register and split it
/// each time. The word of `p` comes first in the expression, because it is available before the
/// look-up.
#[inline(always)]
fn encrypt<const N: usize>(lanes: &[Lane; N], left: &mut [u32; N], right: &mut [u32; N]) {
    for k in 0..N {
        left[k] ^= lanes[k].p[0];
    }
    for i in 0..8 {
        for k in 0..N {
            right[k] ^= lanes[k].p[2 * i + 1];
            right[k] ^= look_up(&lanes[k].s, left[k]);
            left[k] ^= lanes[k].p[2 * i + 2];
            left[k] ^= look_up(&lanes[k].s, right[k]);
        }
    }
    for k in 0..N {
        right[k] ^= lanes[k].p[17];
    }
    std::mem::swap(left, right);
}

/// Blowfish's F.
#[inline(always)]
fn look_up(s: &[[u32; 256]; 4], word: u32) -> u32 {
    // Little endian, because for big endian the compiler would swap the bytes first.
    let [d, c, b, a] = word.to_le_bytes().map(usize::from);
    (s[0][a].wrapping_add(s[1][b]) ^ s[2][c]).wrapping_add(s[3][d])
}
