//! The slots of a listener, which limit its connections in total and per network. If no slot is
//! free, the connection that has been idle for longest is closed.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::usage::ConnectionUsage;
use crate::client_address::{Network, TrustedProxies};

/// The limit of connections that one network may have on a listener.
#[derive(Debug, Clone, Default)]
pub struct NetworkLimit {
    /// The most connections per network; 0 means no limit. It is never more than half of the
    /// listener's slots.
    pub most: usize,
    /// Proxies, which connect for many clients and are not limited.
    pub proxies: TrustedProxies,
}

#[derive(Debug)]
pub(super) struct Slots {
    total: usize,
    limit: NetworkLimit,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    connections: HashMap<u64, Connection>,
    networks: HashMap<Network, usize>,
}

#[derive(Debug)]
struct Connection {
    /// `None` if the network is not limited.
    network: Option<Network>,
    usage: Arc<ConnectionUsage>,
    evicted: CancellationToken,
}

/// The slot of a connection.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    /// Cancelled when another connection needs the slot.
    pub(super) evicted: CancellationToken,
}

impl Slots {
    pub(super) fn new(total: usize, limit: NetworkLimit) -> Arc<Self> {
        Arc::new(Self { total, limit, held: Mutex::default() })
    }

    /// Takes a slot for a connection. Fails if none is free and all connections that could be
    /// closed for it are busy.
    pub(super) fn take(
        self: &Arc<Self>,
        peer: SocketAddr,
        usage: Arc<ConnectionUsage>,
    ) -> Option<Slot> {
        let is_limited = self.limit.most > 0 && !self.limit.proxies.contains(peer.ip());
        let network = is_limited.then(|| Network::of(peer.ip()));
        let most = self.limit.most.min((self.total / 2).max(1));
        let mut held = self.held();
        if let Some(network) = network
            && held.networks.get(&network).is_some_and(|count| *count >= most)
        {
            held.evict(|connection| connection.network == Some(network))?;
        }
        if held.connections.len() >= self.total {
            held.evict(|_| true)?;
        }
        let number = held.next;
        held.next += 1;
        let evicted = CancellationToken::new();
        if let Some(network) = network {
            *held.networks.entry(network).or_default() += 1;
        }
        held.connections.insert(number, Connection { network, usage, evicted: evicted.clone() });
        Some(Slot { slots: Arc::clone(self), number, evicted })
    }

    /// Whether a slot is free, or could be freed by closing an idle connection.
    pub(super) fn has_room(&self) -> bool {
        let held = self.held();
        held.connections.len() < self.total
            || held.connections.values().any(|other| other.usage.idle_since().is_some())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Closes the connection that has been idle for longest, among those for which `may` returns
    /// true.
    fn evict(&mut self, may: impl Fn(&Connection) -> bool) -> Option<()> {
        let idle = self.connections.iter().filter(|(_, connection)| may(connection));
        let oldest: Option<(Instant, u64)> = idle
            .filter_map(|(number, connection)| Some((connection.usage.idle_since()?, *number)))
            .min();
        let connection = self.remove(oldest?.1)?;
        connection.evicted.cancel();
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        if let Some(network) = connection.network
            && let Some(count) = self.networks.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
        Some(connection)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.held().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::listen::usage::RequestUsage;

    fn slots(total: usize, most: usize) -> Arc<Slots> {
        Slots::new(total, NetworkLimit { most, proxies: "10.0.0.0/8".parse().unwrap() })
    }

    async fn take(slots: &Arc<Slots>, address: &str) -> Option<(Slot, Arc<ConnectionUsage>)> {
        // Give each connection a different idle time.
        tokio::time::advance(Duration::from_millis(1)).await;
        let usage = Arc::new(ConnectionUsage::default());
        let peer = SocketAddr::new(address.parse().unwrap(), 1);
        Some((slots.take(peer, Arc::clone(&usage))?, usage))
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_of_a_network_gives_way_to_its_next() {
        let slots = slots(100, 2);
        let (first, first_usage) = take(&slots, "192.0.2.1").await.unwrap();
        let (second, second_usage) = take(&slots, "192.0.2.1").await.unwrap();
        let (other, _) = take(&slots, "192.0.2.2").await.unwrap();
        // The first one is busy, so the second one is closed.
        let busy = RequestUsage::begin(&first_usage);
        let (third, third_usage) = take(&slots, "192.0.2.1").await.unwrap();
        assert!(second.evicted.is_cancelled());
        assert!(![&first, &other, &third].iter().any(|slot| slot.evicted.is_cancelled()));
        let _busy_too = RequestUsage::begin(&third_usage);
        assert!(take(&slots, "192.0.2.1").await.is_none(), "a busy one would have to go");
        drop(busy);
        assert!(take(&slots, "192.0.2.1").await.is_some());
        assert!(first.evicted.is_cancelled());
        drop(second_usage);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_listener_ends_whoever_is_idle_for_longest() {
        let slots = slots(2, 0);
        let (first, _) = take(&slots, "192.0.2.1").await.unwrap();
        let (_second, _) = take(&slots, "192.0.2.2").await.unwrap();
        assert!(take(&slots, "192.0.2.3").await.is_some());
        assert!(first.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn trusted_proxies_are_not_limited_and_ipv6_counts_by_prefix() {
        let slots = slots(100, 1);
        let mut kept = Vec::new();
        for address in ["10.0.0.1", "10.0.0.1", "2001:db8::1"] {
            kept.push(take(&slots, address).await.unwrap());
        }
        assert!(!kept.iter().any(|(slot, _)| slot.evicted.is_cancelled()));
        kept.push(take(&slots, "2001:db8::2").await.unwrap());
        assert!(kept[2].0.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_connection_frees_its_slot_once() {
        let slots = slots(100, 1);
        let (first, _) = take(&slots, "192.0.2.1").await.unwrap();
        let (second, _) = take(&slots, "192.0.2.1").await.unwrap();
        drop(first);
        assert_eq!(slots.held().networks.values().sum::<usize>(), 1);
        drop(second);
        assert!(slots.held().networks.is_empty());
        assert!(slots.held().connections.is_empty());
    }
}
