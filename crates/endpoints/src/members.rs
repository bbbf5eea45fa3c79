//! The known addresses of a service: their order, and which ones are excluded.

use std::{
    cmp::Reverse, collections::hash_map::RandomState, hash::BuildHasher, net::SocketAddr,
    sync::Arc, time::Duration,
};

use tokio::time::Instant;

use crate::resolver::{Answer, Found};

/// How long an address is excluded after a failure. The time doubles with each further failure.
const MIN_EJECTION: Duration = Duration::from_secs(1);
const MAX_EJECTION: Duration = Duration::from_secs(30);

/// An address with its client.
#[derive(Debug)]
struct Member<C> {
    address: SocketAddr,
    priority: u16,
    weight: i64,
    target: Option<Arc<str>>,
    client: C,
    /// Its accumulated credit in units of weight; the address with the highest credit is next.
    credit: i64,
    /// The number of failures in a row.
    failures: u32,
    out_until: Option<Instant>,
}

impl<C> Member<C> {
    fn is_out(&self, now: Instant) -> bool {
        self.out_until.is_some_and(|until| now < until)
    }
}

/// The addresses of a service, each with the client that calls it.
#[derive(Debug)]
pub(crate) struct Members<C> {
    members: Vec<Member<C>>,
}

impl<C: Clone> Members<C> {
    pub(crate) const fn new() -> Self {
        Self { members: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// Replaces the addresses with those of a new DNS answer. An address that stays keeps its client and its
    /// state; the client of a removed one is dropped, which closes its connections. Returns whether addresses
    /// were added or removed.
    pub(crate) fn replace(&mut self, answer: Answer, make: impl Fn(SocketAddr) -> C) -> bool {
        let before = self.addresses();
        let mut old = std::mem::take(&mut self.members);
        for found in answer.found {
            self.add(found, &mut old, &make);
        }
        // If the look-up of a target failed, its addresses are kept: that does not mean that it is gone.
        old.retain(|member| {
            member.target.as_ref().is_some_and(|target| answer.missing.contains(target))
        });
        self.members.append(&mut old);
        if before.is_empty() {
            // A random start, so that replicas that start together do not all begin with the same address.
            for member in &mut self.members {
                member.credit = random(member.weight);
            }
        }
        let after = self.addresses();
        before.len() != after.len() || !after.iter().all(|address| before.contains(address))
    }

    fn add(&mut self, found: Found, old: &mut Vec<Member<C>>, make: impl Fn(SocketAddr) -> C) {
        let Found { address, priority, weight, target } = found;
        let weight = i64::from(weight);
        if let Some(known) = self.members.iter_mut().find(|member| member.address == address) {
            // If two names have the same address, it counts once, with the lower priority and its whole weight
            // there.
            match priority.cmp(&known.priority) {
                std::cmp::Ordering::Less => {
                    known.priority = priority;
                    known.weight = weight;
                }
                std::cmp::Ordering::Equal => known.weight += weight,
                std::cmp::Ordering::Greater => {}
            }
            return;
        }
        let kept = old.iter().position(|member| member.address == address);
        let member = match kept.map(|at| old.swap_remove(at)) {
            Some(kept) => Member { priority, weight, target, ..kept },
            None => Member {
                address,
                priority,
                weight,
                target,
                client: make(address),
                credit: 0,
                failures: 0,
                out_until: None,
            },
        };
        self.members.push(member);
    }

    /// All addresses in the order in which a call tries them. Counts the call for the first one.
    ///
    /// Working addresses come first, by priority. Those of the lowest priority number take turns in proportion
    /// to their weights (smooth weighted round robin), so that each gets its share of any number of calls to
    /// within one.
    pub(crate) fn order(&mut self, now: Instant) -> Vec<(SocketAddr, C)> {
        let first = self
            .members
            .iter()
            .filter(|member| !member.is_out(now))
            .map(|member| member.priority)
            .min();
        let mut total = 0;
        for member in &mut self.members {
            if Some(member.priority) == first && !member.is_out(now) {
                member.credit += member.weight;
                total += member.weight;
            }
        }
        let mut order: Vec<&mut Member<C>> = self.members.iter_mut().collect();
        order.sort_by_key(|member| {
            let out = member.is_out(now).then_some(member.out_until).flatten();
            (out, member.priority, Reverse(member.credit))
        });
        if first.is_some()
            && let Some(member) = order.first_mut()
        {
            member.credit -= total;
        }
        order.into_iter().map(|member| (member.address, member.client.clone())).collect()
    }

    pub(crate) fn worked(&mut self, address: SocketAddr) {
        if let Some(member) = self.members.iter_mut().find(|member| member.address == address) {
            member.failures = 0;
            member.out_until = None;
        }
    }

    /// Excludes the address for a while. Returns whether it was not excluded before.
    pub(crate) fn failed(&mut self, address: SocketAddr, now: Instant) -> bool {
        let Some(member) = self.members.iter_mut().find(|member| member.address == address) else {
            return false;
        };
        let pause = MIN_EJECTION * (1 << member.failures.min(5));
        member.failures = member.failures.saturating_add(1);
        member.out_until = Some(now + pause.min(MAX_EJECTION));
        member.failures == 1
    }
}

/// A number from 0 to below `most`. It need not be unpredictable.
fn random(most: i64) -> i64 {
    let random = RandomState::new().hash_one(0_u8);
    i64::try_from(random >> 1).unwrap_or_default() % most.max(1)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::SocketAddr, time::Duration};

    use tokio::time::Instant;

    use super::Members;
    use crate::resolver::{Answer, Found};

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn members(records: &[(u8, u16, u32)]) -> Members<u8> {
        let mut members = Members::new();
        members.replace(answer(records), made);
        members
    }

    fn made(address: SocketAddr) -> u8 {
        match address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        }
    }

    fn answer(records: &[(u8, u16, u32)]) -> Answer {
        let found = records.iter().map(|(last, priority, weight)| Found {
            address: address(*last),
            priority: *priority,
            weight: *weight,
            target: Some(format!("t{last}.").into()),
        });
        Answer { found: found.collect(), missing: Vec::new(), ttl: Duration::from_secs(1) }
    }

    fn order(members: &mut Members<u8>, now: Instant) -> Vec<u8> {
        members.order(now).into_iter().map(|(_, client)| client).collect()
    }

    fn shares(members: &mut Members<u8>, calls: usize, now: Instant) -> HashMap<u8, usize> {
        let mut shares = HashMap::new();
        for _ in 0..calls {
            *shares.entry(order(members, now)[0]).or_default() += 1;
        }
        shares
    }

    #[test]
    fn calls_go_to_each_in_turn_or_by_weight() {
        let now = Instant::now();
        let even = shares(&mut members(&[(1, 0, 1), (2, 0, 1), (3, 0, 1)]), 300, now);
        assert!(even.len() == 3 && even.values().all(|calls| *calls == 100), "{even:?}");
        let shared = shares(&mut members(&[(1, 0, 7000), (2, 0, 3000), (3, 0, 1)]), 1000, now);
        assert!((699..=701).contains(&shared[&1]), "{shared:?}");
        assert!((298..=301).contains(&shared[&2]), "{shared:?}");
    }

    #[test]
    fn a_higher_priority_is_used_when_the_lower_is_out_and_is_spread_over_too() {
        let now = Instant::now();
        let mut members = members(&[(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 1)]);
        let first = shares(&mut members, 100, now);
        assert_eq!((first.get(&1), first.get(&2), first.len()), (Some(&50), Some(&50), 2));
        assert!(members.failed(address(1), now));
        assert_eq!(shares(&mut members, 10, now), HashMap::from([(2, 10)]));
        members.failed(address(2), now);
        let second = shares(&mut members, 100, now);
        assert_eq!((second.get(&3), second.get(&4), second.len()), (Some(&50), Some(&50), 2));
        // Excluded addresses come last, as a last resort.
        assert_eq!(order(&mut members, now).len(), 4);
        let later = now + Duration::from_secs(1);
        assert_eq!(shares(&mut members, 10, later).len(), 2);
        assert!(!shares(&mut members, 10, later).contains_key(&3));
    }

    #[test]
    fn an_address_that_goes_on_failing_is_left_out_for_longer() {
        let now = Instant::now();
        let mut members = members(&[(1, 0, 1), (2, 0, 1)]);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            members.failed(address(1), now);
            let back = |seconds| {
                let mut copy = now + Duration::from_secs(seconds);
                copy += Duration::from_millis(1);
                copy
            };
            let until = (1..60).find(|s| shares(&mut members, 4, back(*s)).contains_key(&1));
            pauses.push(until.unwrap());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        members.worked(address(1));
        assert!(shares(&mut members, 4, now).contains_key(&1));
        // If all are excluded, all are tried.
        members.failed(address(1), now);
        members.failed(address(2), now);
        assert_eq!(order(&mut members, now).len(), 2);
    }

    #[test]
    fn an_address_that_stays_keeps_what_is_known_of_it() {
        let now = Instant::now();
        let mut members = members(&[(1, 0, 1), (2, 0, 1)]);
        members.failed(address(1), now);
        assert!(!members.replace(answer(&[(2, 0, 1), (1, 0, 1)]), |_| 99));
        assert_eq!(order(&mut members, now), [2, 1]);
        assert!(members.replace(answer(&[(3, 0, 1), (1, 0, 1)]), |_| 99));
        assert_eq!(order(&mut members, now), [99, 1]);
        assert_eq!(members.len(), 2);
    }

    #[test]
    fn one_address_of_two_records_counts_once() {
        let now = Instant::now();
        let mut members = members(&[(1, 0, 1), (1, 0, 1), (2, 0, 1), (2, 5, 9)]);
        let shares = shares(&mut members, 300, now);
        assert!((199..=201).contains(&shares[&1]) && shares.len() == 2, "{shares:?}");
    }

    #[test]
    fn a_target_that_cannot_be_looked_up_now_keeps_its_addresses() {
        let mut members = members(&[(1, 0, 1), (2, 0, 1), (3, 0, 1)]);
        let mut partial = answer(&[(1, 0, 1)]);
        partial.missing = vec!["t2.".into()];
        assert!(members.replace(partial, made));
        assert_eq!(members.addresses(), [address(1), address(2)]);
    }
}
