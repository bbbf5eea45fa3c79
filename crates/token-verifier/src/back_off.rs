//! The backoff after failures.

use std::time::Duration;

use aws_lc_rs::rand;

const MIN_BACK_OFF: Duration = Duration::from_millis(250);

/// A random number between 0 and 1. Without jitter, replicas that started together would send their
/// requests together forever.
pub(crate) fn jitter() -> f64 {
    let mut byte = [0_u8];
    // If there is no randomness, there is no jitter, which is acceptable.
    let _ = rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

/// The delay after the nth failure in a row: 0.25 s, doubling up to `most`, and reduced by jitter to
/// between half and all of it.
pub(crate) fn back_off(failures: u32, most: Duration, jitter: f64) -> Duration {
    let step = MIN_BACK_OFF * (1 << failures.saturating_sub(1).min(10));
    step.min(most).mul_f64(1.0 - 0.5 * jitter)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::back_off;

    #[test]
    fn the_pause_doubles_up_to_the_longest_and_has_jitter() {
        let most = Duration::from_secs(10);
        let after = |failures| back_off(failures, most, 0.0).as_millis();
        assert_eq!([after(0), after(1), after(2), after(3)], [250, 250, 500, 1000]);
        assert_eq!([after(7), after(90), after(u32::MAX)], [10_000, 10_000, 10_000]);
        assert_eq!(back_off(1, most, 1.0), Duration::from_millis(125));
    }
}
