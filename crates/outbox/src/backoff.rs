//! How long to wait between two attempts.

use std::time::Duration;

/// The wait before another attempt: it doubles with each, from `first` up to `most`. Half of it is
/// by chance, so that entries that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first attempt.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Backoff {
    /// The wait after so many attempts that have failed.
    #[must_use]
    pub fn delay(self, attempts: i64) -> Duration {
        self.delay_by(attempts, chance())
    }

    /// The wait after so many attempts; `chance` is from 0 to 1.
    fn delay_by(self, attempts: i64, chance: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).clamp(0, 20).unsigned_abs();
        let full = self.first.saturating_mul(1 << doublings).min(self.most);
        full.mul_f64(0.5 + 0.5 * chance)
    }
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    let mut byte = [0];
    // Without randomness waits are equal, which is no reason to fail.
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
