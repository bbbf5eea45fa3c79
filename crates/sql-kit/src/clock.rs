//! The offset between the database's clock and this machine's, estimated from several readings.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::clock::{Clock, machine_time};

/// How many readings are used.
const READINGS: usize = 5;
/// A reading that took longer is too imprecise.
const SLOWEST: Duration = Duration::from_millis(500);

/// The time of a server, and when it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// How far the server's clock is ahead.
    ahead: TimeDelta,
    /// How long the round trip took. The error of the reading is at most half of it.
    took: Duration,
}

/// A reading in progress.
#[derive(Debug)]
pub(crate) struct PendingReading {
    at: DateTime<Utc>,
    started: Instant,
}

impl Reading {
    pub(crate) fn begin() -> PendingReading {
        PendingReading { at: machine_time(), started: Instant::now() }
    }
}

impl PendingReading {
    /// Completes the reading. The server is assumed to have read its clock halfway through the round
    /// trip.
    pub(crate) fn end(self, said: DateTime<Utc>) -> Reading {
        let took = self.started.elapsed();
        let middle = self.at + TimeDelta::from_std(took / 2).unwrap_or_default();
        Reading { ahead: said - middle, took }
    }
}

/// The latest readings. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings(Arc<Mutex<VecDeque<Reading>>>);

impl Readings {
    /// Adds a reading and sets the clock to the median of the precise ones. So one slow answer, for
    /// example of a paused server, has no effect. If all are slow, the fastest one is used.
    pub(crate) fn take(&self, reading: Reading, clock: &Clock) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_back(reading);
        if readings.len() > READINGS {
            readings.pop_front();
        }
        let quickest = readings.iter().map(|reading| reading.took).min().unwrap_or_default();
        let limit = (quickest * 2).max(Duration::from_millis(2)).min(SLOWEST.max(quickest));
        let mut ahead: Vec<TimeDelta> = readings
            .iter()
            .filter(|reading| reading.took <= limit)
            .map(|reading| reading.ahead)
            .collect();
        ahead.sort_unstable();
        if let Some(median) = ahead.get(ahead.len() / 2) {
            clock.set_offset(*median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(ahead_ms: i64, took_ms: u64) -> Reading {
        Reading { ahead: TimeDelta::milliseconds(ahead_ms), took: Duration::from_millis(took_ms) }
    }

    #[test]
    fn the_median_counts_and_slow_answers_do_not() {
        let (readings, clock) = (Readings::default(), Clock::default());
        readings.take(reading(1000, 3), &clock);
        assert_eq!(clock.offset().num_milliseconds(), 1000);
        readings.take(reading(1400, 800), &clock);
        assert_eq!(clock.offset().num_milliseconds(), 1000, "a slow answer");
        readings.take(reading(1004, 4), &clock);
        readings.take(reading(9000, 3), &clock);
        assert_eq!(clock.offset().num_milliseconds(), 1004, "one that is off");
        for _ in 0..5 {
            readings.take(reading(-50, 3), &clock);
        }
        assert_eq!(clock.offset().num_milliseconds(), -50, "a clock that was set");
    }

    #[test]
    fn where_every_answer_is_slow_the_quickest_counts() {
        let (readings, clock) = (Readings::default(), Clock::default());
        readings.take(reading(700, 900), &clock);
        readings.take(reading(200, 1400), &clock);
        assert_eq!(clock.offset().num_milliseconds(), 700);
    }

    #[test]
    fn a_reading_is_of_the_middle_of_its_time() {
        let begun = PendingReading {
            at: machine_time() - TimeDelta::seconds(2),
            started: Instant::now() - Duration::from_secs(2),
        };
        let reading = begun.end(machine_time() + TimeDelta::seconds(9));
        assert!((reading.ahead - TimeDelta::seconds(10)).abs() < TimeDelta::milliseconds(500));
    }
}
