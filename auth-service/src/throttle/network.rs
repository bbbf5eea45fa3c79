//! The limit on requests per network and minute, in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use service_kit::client_address::Network;

use super::Exhausted;

/// The most networks that are tracked. Above that, the oldest windows are dropped first; to force
/// this, an attacker needs as many networks.
const MAX_NETWORKS: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);

/// A limit on requests per network and minute, in memory.
#[derive(Debug)]
pub struct NetworkLimit {
    policy: &'static str,
    quota: u32,
    windows: Mutex<HashMap<Network, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    started: Instant,
    count: u32,
}

impl NetworkLimit {
    /// A limit of `quota` requests per minute; 0 means no limit.
    #[must_use]
    pub fn new(policy: &'static str, quota: u32) -> Self {
        Self { policy, quota, windows: Mutex::default() }
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// If the network has exhausted its quota.
    pub fn admit(&self, network: Network, now: Instant) -> Result<(), Exhausted> {
        if self.quota == 0 {
            return Ok(());
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_NETWORKS && !windows.contains_key(&network) {
            make_room(&mut windows, now);
        }
        let window = windows.entry(network).or_insert(Window { started: now, count: 0 });
        let age = now.saturating_duration_since(window.started);
        if age >= MINUTE {
            *window = Window { started: now, count: 0 };
        } else if window.count >= self.quota {
            return Err(Exhausted {
                policy: self.policy,
                quota: self.quota,
                window: MINUTE,
                retry_after: MINUTE - age,
            });
        }
        window.count += 1;
        Ok(())
    }
}

/// Drops the expired windows or, if there are none, the older half.
fn make_room(windows: &mut HashMap<Network, Window>, now: Instant) {
    windows.retain(|_, window| now.saturating_duration_since(window.started) < MINUTE);
    if windows.len() >= MAX_NETWORKS {
        let mut starts: Vec<Instant> = windows.values().map(|window| window.started).collect();
        let (_, median, _) = starts.select_nth_unstable(MAX_NETWORKS / 2);
        let median = *median;
        windows.retain(|_, window| window.started > median);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn network(number: u32) -> Network {
        Network::of(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn a_network_has_its_quota_each_minute() {
        let limit = NetworkLimit::new("logins", 3);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limit.admit(network(1), start), Ok(()));
        }
        let exhausted = limit.admit(network(1), start + Duration::from_secs(20)).unwrap_err();
        assert_eq!(exhausted.retry_after, Duration::from_secs(40));
        assert_eq!(limit.admit(network(2), start), Ok(()));
        assert_eq!(limit.admit(network(1), start + MINUTE), Ok(()));
    }

    #[test]
    fn nothing_is_limited_at_zero() {
        let limit = NetworkLimit::new("logins", 0);
        assert!((0..1000).all(|_| limit.admit(network(1), Instant::now()).is_ok()));
    }

    #[test]
    fn memory_stays_bounded_however_many_networks_come() {
        let limit = NetworkLimit::new("logins", 1);
        let start = Instant::now();
        for number in 0..(MAX_NETWORKS as u32 * 3) {
            let now = start + Duration::from_micros(u64::from(number));
            assert_eq!(limit.admit(network(number), now), Ok(()));
            assert!(limit.windows.lock().unwrap().len() <= MAX_NETWORKS);
        }
    }
}
