//! The rule for failed attempts, as pure functions of the counters.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Exhausted, policy};

/// A pending attempt stops counting after this time, because the process that should have settled it
/// has died.
const PENDING_FOR: TimeDelta = TimeDelta::seconds(60);

/// The limits on failed attempts.
#[derive(Debug, Clone, Copy)]
pub struct FailureLimits {
    /// Per account and network; 0 means no limit.
    pub per_pair: u32,
    /// Per account, over all networks; 0 means no limit.
    pub per_account: u32,
    /// The window in which failures count. It starts with the first failure.
    pub window: Duration,
}

impl FailureLimits {
    /// Whether there is no limit at all.
    #[must_use]
    pub const fn are_off(&self) -> bool {
        self.per_pair == 0 && self.per_account == 0
    }
}

/// One counter. The default, with all values zero and the Unix epoch as times, means that nothing was
/// counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    /// Failures in the window.
    pub failures: u32,
    /// When the window ends. If there are no failures, when the pending attempts stop counting.
    pub window_ends_at: DateTime<Utc>,
    /// Attempts whose password is being checked.
    pub pending: u32,
    /// When they stop counting.
    pub pending_until: DateTime<Utc>,
}

/// The counters of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// The counter for the network of the attempt.
    pub pair: Counter,
    /// The counter over all networks.
    pub account: Counter,
    /// Whether a login from this network has succeeded recently. The limit over all networks does not
    /// apply to a known network, so that an attacker cannot lock out the owner by failing from other
    /// networks.
    pub is_known_network: bool,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be made.
    Admitted,
    /// It must wait: if all pending attempts fail, they exhaust the limit.
    Busy,
    /// It may not be made before the window ends.
    Refused(Exhausted),
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The password was wrong.
    Failed,
    /// The password was right. The counter for this account and network is reset.
    Succeeded,
    /// The password was not checked, so the attempt does not count.
    Abandoned,
}

impl Counter {
    /// The counter at `now`, without what has expired.
    fn at(self, now: DateTime<Utc>) -> Self {
        let mut counter = self;
        if counter.window_ends_at <= now {
            counter.failures = 0;
        }
        if counter.pending_until <= now {
            counter.pending = 0;
        }
        counter.normal()
    }

    /// Normalises the counter, so that equal states are equal values and an empty counter is the
    /// default.
    fn normal(mut self) -> Self {
        if self.pending == 0 {
            self.pending_until = DateTime::default();
        }
        if self.failures == 0 {
            self.window_ends_at = self.pending_until;
        }
        self
    }

    fn decide(
        self,
        limit: u32,
        policy: &'static str,
        window: Duration,
        now: DateTime<Utc>,
    ) -> Decision {
        if limit == 0 {
            return Decision::Admitted;
        }
        if self.failures >= limit {
            let retry_after = (self.window_ends_at - now).to_std().unwrap_or_default();
            return Decision::Refused(Exhausted { policy, quota: limit, window, retry_after });
        }
        if self.failures.saturating_add(self.pending) >= limit {
            return Decision::Busy;
        }
        Decision::Admitted
    }

    fn with_pending(mut self, now: DateTime<Utc>) -> Self {
        self.pending = self.pending.saturating_add(1);
        self.pending_until = now + PENDING_FOR;
        self.normal()
    }

    fn settled(mut self, outcome: Outcome, window: Duration, now: DateTime<Utc>) -> Self {
        self.pending = self.pending.saturating_sub(1);
        if outcome == Outcome::Failed {
            if self.failures == 0 {
                let window = TimeDelta::from_std(window).unwrap_or(TimeDelta::days(1));
                self.window_ends_at = now + window;
            }
            self.failures = self.failures.saturating_add(1);
        }
        self.normal()
    }
}

impl Counters {
    /// Whether another attempt may be made at `now`.
    #[must_use]
    pub fn decide(&self, limits: FailureLimits, now: DateTime<Utc>) -> Decision {
        let pair = self.pair.at(now).decide(
            limits.per_pair,
            policy::FAILURES_PER_PAIR,
            limits.window,
            now,
        );
        if pair != Decision::Admitted || self.is_known_network {
            return pair;
        }
        self.account.at(now).decide(
            limits.per_account,
            policy::FAILURES_PER_ACCOUNT,
            limits.window,
            now,
        )
    }

    /// The counters with one more pending attempt.
    #[must_use]
    pub fn with_pending(self, limits: FailureLimits, now: DateTime<Utc>) -> Self {
        self.each(limits, now, |counter| counter.with_pending(now))
    }

    /// The counters after a pending attempt has ended.
    #[must_use]
    pub fn settled(self, outcome: Outcome, limits: FailureLimits, now: DateTime<Utc>) -> Self {
        let mut settled =
            self.each(limits, now, |counter| counter.settled(outcome, limits.window, now));
        if outcome == Outcome::Succeeded {
            settled.pair = Counter { failures: 0, ..settled.pair }.normal();
        }
        settled
    }

    /// The limits that the last failure has just exhausted, and their quotas. `self` must already
    /// include that failure.
    pub fn used_up(
        &self,
        limits: FailureLimits,
    ) -> impl Iterator<Item = (&'static str, u32)> + use<> {
        [
            (self.pair, policy::FAILURES_PER_PAIR, limits.per_pair),
            (self.account, policy::FAILURES_PER_ACCOUNT, limits.per_account),
        ]
        .into_iter()
        .filter(|(counter, _, limit)| *limit > 0 && counter.failures == *limit)
        .map(|(_, policy, limit)| (policy, limit))
    }

    /// How many failures count for this account and network at `now`.
    #[must_use]
    pub fn failures_of_pair(&self, now: DateTime<Utc>) -> u32 {
        self.pair.at(now).failures
    }

    fn each(
        self,
        limits: FailureLimits,
        now: DateTime<Utc>,
        change: impl Fn(Counter) -> Counter,
    ) -> Self {
        let counted = |limit: u32, counter: Counter| match limit {
            0 => Counter::default(),
            _ => change(counter.at(now)),
        };
        Self {
            pair: counted(limits.per_pair, self.pair),
            account: counted(limits.per_account, self.account),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: FailureLimits =
        FailureLimits { per_pair: 3, per_account: 5, window: Duration::from_secs(900) };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn refused_by(decision: Decision) -> Option<&'static str> {
        match decision {
            Decision::Refused(exhausted) => Some(exhausted.policy),
            _ => None,
        }
    }

    fn fail(counters: Counters, seconds: i64) -> Counters {
        assert_eq!(counters.decide(LIMITS, at(seconds)), Decision::Admitted);
        let pending = counters.with_pending(LIMITS, at(seconds));
        pending.settled(Outcome::Failed, LIMITS, at(seconds))
    }

    #[test]
    fn failures_reach_the_limit_and_the_window_ends() {
        let mut counters = Counters::default();
        for second in 0..3 {
            counters = fail(counters, second);
        }
        let Decision::Refused(exhausted) = counters.decide(LIMITS, at(10)) else {
            panic!("admitted");
        };
        assert_eq!(exhausted.retry_after, Duration::from_secs(890));
        assert_eq!(exhausted.policy, policy::FAILURES_PER_PAIR);
        assert_eq!(
            counters.decide(LIMITS, at(899)),
            Decision::Refused(Exhausted { retry_after: Duration::from_secs(1), ..exhausted })
        );
        assert_eq!(counters.decide(LIMITS, at(900)), Decision::Admitted);
    }

    #[test]
    fn a_known_network_is_spared_the_limit_over_all_networks_only() {
        let account = Counter { failures: 5, window_ends_at: at(100), ..Counter::default() };
        let strange = Counters { account, ..Counters::default() };
        assert_eq!(refused_by(strange.decide(LIMITS, at(0))), Some(policy::FAILURES_PER_ACCOUNT));
        let known = Counters { is_known_network: true, ..strange };
        assert_eq!(known.decide(LIMITS, at(0)), Decision::Admitted);
        let failed = Counters { pair: Counter { failures: 3, ..account }, ..known };
        assert_eq!(refused_by(failed.decide(LIMITS, at(0))), Some(policy::FAILURES_PER_PAIR));
    }

    #[test]
    fn pending_attempts_of_a_process_that_died_stop_counting() {
        let mut counters = Counters::default();
        for _ in 0..3 {
            counters = counters.with_pending(LIMITS, at(0));
        }
        assert_eq!(counters.decide(LIMITS, at(59)), Decision::Busy);
        assert_eq!(counters.decide(LIMITS, at(60)), Decision::Admitted);
    }

    #[test]
    fn what_was_abandoned_or_succeeded_leaves_nothing() {
        for outcome in [Outcome::Abandoned, Outcome::Succeeded] {
            let pending = Counters::default().with_pending(LIMITS, at(0));
            assert_eq!(pending.settled(outcome, LIMITS, at(1)), Counters::default());
        }
        let failed = fail(Counters::default(), 0);
        let pending = failed.with_pending(LIMITS, at(1));
        assert_eq!(pending.settled(Outcome::Abandoned, LIMITS, at(2)), failed);
        // A success resets the counter of its network. Failures from other networks still count for the
        // account.
        let succeeded = pending.settled(Outcome::Succeeded, LIMITS, at(2));
        assert_eq!((succeeded.pair, succeeded.account.failures), (Counter::default(), 1));
    }

    #[test]
    fn zero_turns_a_limit_off() {
        let off = FailureLimits { per_pair: 0, per_account: 0, ..LIMITS };
        let mut counters = Counters::default();
        for second in 0..20 {
            assert_eq!(counters.decide(off, at(second)), Decision::Admitted);
            counters =
                counters.with_pending(off, at(second)).settled(Outcome::Failed, off, at(second));
        }
        assert_eq!(counters, Counters::default());
    }

    proptest! {
        /// At most `limit` attempts fail in a window, in whatever order attempts start and end.
        #[test]
        fn no_order_of_attempts_gets_more_tries(steps in prop::collection::vec(0_u8..4, 1..200)) {
            let (mut counters, mut under_way, mut failures) = (Counters::default(), 0, 0);
            for step in steps {
                let now = at(1);
                match step {
                    0 if counters.decide(LIMITS, now) == Decision::Admitted => {
                        counters = counters.with_pending(LIMITS, now);
                        under_way += 1;
                    }
                    1 | 2 if under_way > 0 => {
                        counters = counters.settled(Outcome::Failed, LIMITS, now);
                        under_way -= 1;
                        failures += 1;
                    }
                    3 if under_way > 0 => {
                        counters = counters.settled(Outcome::Abandoned, LIMITS, now);
                        under_way -= 1;
                    }
                    _ => {}
                }
                prop_assert!(failures + under_way <= LIMITS.per_pair);
            }
        }
    }
}
