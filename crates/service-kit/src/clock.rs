//! The clock. It is injected wherever the time is needed, so that replicas agree on the time and tests need
//! not sleep.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use chrono::{DateTime, TimeDelta, Utc};

/// The machine's clock plus an offset. A service on Postgres sets the offset to the difference between the
/// database's clock and its own, so that all replicas agree. Clones share the offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// How far the followed clock is ahead, in microseconds.
    offset: Arc<AtomicI64>,
    /// How far a test has moved the clock, in microseconds.
    advanced: Arc<AtomicI64>,
}

impl Clock {
    /// The present time in microseconds, the precision of both database engines, so that stored times equal
    /// those in responses.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let offset = self.offset.load(Relaxed).saturating_add(self.advanced.load(Relaxed));
        let now = machine_time().timestamp_micros().saturating_add(offset);
        DateTime::from_timestamp_micros(now).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Follows another clock, which is `ahead` of the machine's clock.
    pub fn set_offset(&self, ahead: TimeDelta) {
        self.offset.store(ahead.num_microseconds().unwrap_or_default(), Relaxed);
    }

    /// Moves the clock forwards or backwards, in addition to the offset. For tests that would otherwise have
    /// to wait.
    pub fn advance(&self, by: TimeDelta) {
        self.advanced.fetch_add(by.num_microseconds().unwrap_or(i64::MAX / 4), Relaxed);
    }

    /// How far the followed clock is ahead of the machine's clock.
    #[must_use]
    pub fn offset(&self) -> TimeDelta {
        TimeDelta::microseconds(self.offset.load(Relaxed))
    }
}

/// The time of the machine's clock, in microseconds, for logs, traces and tests. Everything that is stored
/// or decided must use a [`Clock`].
#[must_use]
#[expect(clippy::disallowed_methods, reason = "everybody else reads the time here")]
pub fn machine_time() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_follows_another_one_and_can_be_moved() {
        let clock = Clock::default();
        assert!((machine_time() - clock.now()).abs() < TimeDelta::seconds(5));
        let other = clock.clone();
        clock.set_offset(TimeDelta::hours(3));
        assert!((other.now() - machine_time() - TimeDelta::hours(3)).abs() < TimeDelta::seconds(5));
        clock.advance(TimeDelta::hours(-3));
        assert!((other.now() - machine_time()).abs() < TimeDelta::seconds(5));
        clock.set_offset(TimeDelta::zero());
        assert!((other.now() - machine_time() + TimeDelta::hours(3)).abs() < TimeDelta::seconds(5));
        assert_eq!(clock.now().timestamp_subsec_nanos() % 1000, 0);
    }
}
