//! The clock, passed to whoever needs the time, so that replicas with different clocks agree and
//! tests need not sleep.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use chrono::{DateTime, TimeDelta, Utc};

/// The time of the machine, moved by an offset. A service on Postgres sets the offset to the
/// difference between the database's clock and its own: replicas whose clocks differ then agree.
/// Clones share the offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// In microseconds.
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// The present time in the precision that both database engines keep, microseconds: what is
    /// stored is then exactly what was answered.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let now = machine_micros().saturating_add(self.offset.load(Relaxed));
        DateTime::from_timestamp_micros(now).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Takes over the time of another clock, which said `time` just now.
    pub fn follow(&self, time: DateTime<Utc>) {
        self.offset.store(time.timestamp_micros().saturating_sub(machine_micros()), Relaxed);
    }

    /// Moves the clock, forwards or backwards. For tests that would otherwise have to wait.
    pub fn advance(&self, by: TimeDelta) {
        self.offset.fetch_add(by.num_microseconds().unwrap_or(i64::MAX / 4), Relaxed);
    }

    /// How far the clock is ahead of the machine's.
    #[must_use]
    pub fn offset(&self) -> TimeDelta {
        TimeDelta::microseconds(self.offset.load(Relaxed))
    }
}

fn machine_micros() -> i64 {
    Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_follows_another_one_and_can_be_moved() {
        let clock = Clock::default();
        assert!((Utc::now() - clock.now()).abs() < TimeDelta::seconds(5));
        let other = clock.clone();
        clock.follow(Utc::now() + TimeDelta::hours(3));
        assert!((other.now() - Utc::now() - TimeDelta::hours(3)).abs() < TimeDelta::seconds(5));
        clock.advance(TimeDelta::hours(-3));
        assert!(other.offset().abs() < TimeDelta::seconds(5));
        assert_eq!(clock.now().timestamp_subsec_nanos() % 1000, 0);
    }
}
