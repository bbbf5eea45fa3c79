//! Backoff between two attempts.

use std::time::Duration;

/// Exponential backoff with jitter: the delay doubles with each attempt, from `first` up to `most`.
/// Half of it is random, so that entries that failed together are not retried together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first attempt.
    pub first: Duration,
    /// The longest delay.
    pub most: Duration,
}

impl Backoff {
    /// The delay after this many failed attempts.
    #[must_use]
    pub fn delay(self, attempts: i64) -> Duration {
        self.delay_by(attempts, chance())
    }

    /// The delay after this many failed attempts; `chance` is from 0 to 1.
    fn delay_by(self, attempts: i64, chance: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).clamp(0, 20).unsigned_abs();
        let full = self.first.saturating_mul(1 << doublings).min(self.most);
        full.mul_f64(0.5 + 0.5 * chance)
    }
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    let mut byte = [0];
    // If there is no randomness, all delays are equal, which is acceptable.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / f64::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };
        let waits = [1, 2, 3, 6, 7, 40, i64::MAX].map(|n| backoff.delay_by(n, 1.0).as_secs());
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
        assert_eq!(backoff.delay_by(3, 0.0), Duration::from_secs(2));
        assert_eq!(backoff.delay_by(-1, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn chance_is_a_part_of_one() {
        let all: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(all.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(all.iter().any(|chance| *chance != all[0]));
    }
}
