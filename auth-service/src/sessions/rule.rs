//! The rule on refresh tokens, as a pure function over a session's position.
//!
//! A session's refresh tokens are numbered. `current` is the newest that was issued, `consumed` the last
//! one that was presented as the newest. Presented with number `n`, in this order:
//!
//! | `n` is | what is wrong | what happens |
//! |---|---|---|
//! | `current` | nothing | `n` is consumed, `current + 1` is issued |
//! | one that was consumed less than the retry window ago | two tabs refreshed at once, or the client tries again | `current` is given again |
//! | `consumed`, later | the answer was lost, for `current` was never presented | `current` is withdrawn, `current + 1` is issued, and the window starts anew |
//! | anything else: older, or withdrawn | two have the token of one | the session ends |
//!
//! So no client is logged out by an answer that it did not get, and a stolen token is found out when the
//! thief or the owner, whoever comes second, refreshes after the window.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How many consumptions a session remembers at most. A client that refreshes more often within the
/// retry window, and then presents one from before these, has the session ended.
const MAX_CONSUMPTIONS: usize = 256;

/// A token that was consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumption {
    /// Its number.
    pub number: i64,
    /// When; for a lost answer, when it was presented again.
    pub at: DateTime<Utc>,
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The number of the newest token that was issued.
    pub current: i64,
    /// The number of the last one that was consumed; 0 for none.
    pub consumed: i64,
    /// The latest consumptions, newest first.
    pub consumptions: Vec<Consumption>,
}

/// What happens to a token that was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The session moves to this position, and the token `current` there is the answer.
    Issue(Position),
    /// The session stays, and its token `current` is the answer.
    Repeat,
    /// The session ends.
    Theft,
}

/// What happens when the token with this number is presented.
#[must_use]
pub fn present(
    position: &Position,
    number: i64,
    retry_window: Duration,
    now: DateTime<Utc>,
) -> Verdict {
    let window = TimeDelta::from_std(retry_window).unwrap_or(TimeDelta::MAX);
    let was_just_consumed =
        |consumption: &Consumption| consumption.number == number && now - consumption.at < window;
    if number == position.current {
        return Verdict::Issue(position.after(number, window, now));
    }
    if position.consumptions.iter().any(was_just_consumed) {
        return Verdict::Repeat;
    }
    if number == position.consumed && number != 0 {
        return Verdict::Issue(position.after(number, window, now));
    }
    Verdict::Theft
}

impl Position {
    /// Where a session begins: its first token is issued.
    #[must_use]
    pub const fn first() -> Self {
        Self { current: 1, consumed: 0, consumptions: Vec::new() }
    }

    /// The position after the token with this number was consumed.
    fn after(&self, number: i64, window: TimeDelta, now: DateTime<Utc>) -> Self {
        let earlier = self.consumptions.iter().copied();
        let earlier =
            earlier.filter(|earlier| earlier.number != number && now - earlier.at < window);
        let newest = Consumption { number, at: now };
        Self {
            current: self.current + 1,
            consumed: number,
            consumptions: std::iter::once(newest).chain(earlier).take(MAX_CONSUMPTIONS).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    /// A session as the service keeps it. What a client is given is a number; nothing when it has ended.
    struct Session(Option<Position>);

    impl Session {
        fn refresh(&mut self, number: i64, seconds: i64) -> Option<i64> {
            let position = self.0.as_ref()?;
            match present(position, number, WINDOW, at(seconds)) {
                Verdict::Issue(next) => {
                    assert!(next.current > position.current, "a number is issued once");
                    self.0 = Some(next);
                }
                Verdict::Repeat => {}
                Verdict::Theft => self.0 = None,
            }
            self.0.as_ref().map(|position| position.current)
        }
    }

    fn session() -> Session {
        Session(Some(Position::first()))
    }

    #[test]
    fn the_newest_token_is_consumed_and_the_next_is_issued() {
        let mut session = session();
        assert_eq!(session.refresh(1, 0), Some(2));
        assert_eq!(session.refresh(2, 1), Some(3));
    }

    #[test]
    fn tabs_and_retries_get_the_same_token() {
        let mut session = session();
        assert_eq!(session.refresh(1, 0), Some(2));
        assert_eq!(session.refresh(1, 29), Some(2));
        assert_eq!(session.refresh(2, 29), Some(3));
        // A slow tab is two behind, but in the window.
        assert_eq!(session.refresh(1, 29), Some(3));
        assert_eq!(session.refresh(2, 58), Some(3));
    }

    #[test]
    fn a_lost_answer_is_made_good_hours_later_and_twice() {
        let mut session = session();
        assert_eq!(session.refresh(1, 0), Some(2));
        assert_eq!(session.refresh(1, 36_000), Some(3));
        // That answer is lost too; the window has started anew.
        assert_eq!(session.refresh(1, 36_029), Some(3));
        assert_eq!(session.refresh(1, 72_000), Some(4));
        assert_eq!(session.refresh(4, 72_001), Some(5));
    }

    #[test]
    fn a_withdrawn_or_an_old_token_ends_the_session() {
        for presented in [2, 1] {
            let mut session = session();
            assert_eq!(session.refresh(1, 0), Some(2));
            assert_eq!(session.refresh(1, 100), Some(3));
            assert_eq!(session.refresh(3, 200), Some(4));
            assert_eq!(session.refresh(presented, 300), None, "{presented}");
            assert_eq!(session.refresh(4, 301), None);
        }
        // At once, where nobody has used the one that replaced it.
        let mut session = session();
        session.refresh(1, 0);
        session.refresh(1, 100);
        assert_eq!(session.refresh(2, 101), None);
    }

    #[test]
    fn a_number_that_was_never_issued_ends_the_session() {
        for number in [0, 3, -1, i64::MAX] {
            assert_eq!(session().refresh(number, 0), None, "{number}");
        }
    }

    #[test]
    fn without_a_window_only_the_last_lost_answer_is_made_good() {
        let position = Position::first();
        let Verdict::Issue(next) = present(&position, 1, Duration::ZERO, at(0)) else {
            panic!("not issued");
        };
        assert!(matches!(present(&next, 1, Duration::ZERO, at(0)), Verdict::Issue(_)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut session = session();
        for number in 1..1000 {
            session.refresh(number, 0);
        }
        assert_eq!(session.0.unwrap().consumptions.len(), MAX_CONSUMPTIONS);
    }

    /// What an honest client does next.
    #[derive(Debug, Clone)]
    enum Step {
        /// Refreshes; the answer comes or is lost.
        Refresh { is_lost: bool },
        /// A second tab, which has read the token before the last refresh, refreshes with it.
        SecondTab { is_lost: bool },
        /// Time passes, in seconds.
        Wait(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<bool>().prop_map(|is_lost| Step::Refresh { is_lost }),
            2 => any::<bool>().prop_map(|is_lost| Step::SecondTab { is_lost }),
            2 => (1_i64..20).prop_map(Step::Wait),
            1 => (31_i64..100_000).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// Lost answers, retries and two tabs: the honest client alone is never logged out.
        #[test]
        fn an_honest_client_is_never_logged_out(steps in steps()) {
            let mut session = session();
            let (mut now, mut held) = (0, 1);
            // What a second tab may still hold, and when it was first presented. A tab refreshes with what
            // it has read a moment ago, not hours ago: tabs share their storage.
            let mut before: Option<(i64, i64)> = None;
            let mut presented_at = None;
            for step in steps {
                match step {
                    Step::Wait(seconds) => now += seconds,
                    Step::Refresh { is_lost } => {
                        let first = *presented_at.get_or_insert(now);
                        let next = session.refresh(held, now);
                        prop_assert!(next.is_some());
                        if now - first >= 30 {
                            // Presented anew after the window, it has a window of its own.
                            presented_at = Some(now);
                        }
                        if let (false, Some(next)) = (is_lost, next) {
                            before = Some((held, presented_at.unwrap_or(now)));
                            held = next;
                            presented_at = None;
                        }
                    }
                    Step::SecondTab { is_lost } => {
                        let Some((old, since)) = before else { continue };
                        if now - since >= 30 {
                            continue;
                        }
                        let next = session.refresh(old, now);
                        prop_assert!(next.is_some());
                        if let (false, Some(next)) = (is_lost, next)
                            && held != next
                        {
                            held = next;
                            presented_at = None;
                        }
                    }
                }
            }
            now += 1_000_000;
            prop_assert!(session.refresh(held, now).is_some());
        }

        /// A thief copies the token that the client holds at some moment and uses it some time later.
        /// Whoever of the two comes second, after the window, ends the session.
        #[test]
        fn a_thief_is_found_out(
            refreshes in 0_i64..6,
            copied_before_the_last in any::<bool>(),
            thief_waits in 31_i64..1000,
            owner_waits in 31_i64..1000,
            thief_first in any::<bool>(),
            thief_goes_on in 0_i64..4,
        ) {
            let mut session = session();
            let (mut now, mut owner) = (0, 1);
            let mut stolen = owner;
            for _ in 0..refreshes {
                if copied_before_the_last {
                    stolen = owner;
                }
                now += 100;
                owner = session.refresh(owner, now).unwrap();
            }
            if !copied_before_the_last {
                stolen = owner;
            }
            let mut thief = stolen;
            if thief_first {
                now += thief_waits;
                for _ in 0..=thief_goes_on {
                    if let Some(next) = session.refresh(thief, now) {
                        thief = next;
                    }
                    now += 40;
                }
                now += owner_waits;
                session.refresh(owner, now);
                // Where the thief refreshed once with the last token consumed, the owner's was
                // withdrawn; in every other case the owner's is an old one.
            } else {
                now += owner_waits;
                if let Some(next) = session.refresh(owner, now) {
                    owner = next;
                }
                now += 40;
                if let Some(next) = session.refresh(owner, now) {
                    owner = next;
                }
                now += thief_waits;
                session.refresh(thief, now);
            }
            // At the latest when both have refreshed once more, each after the window.
            for _ in 0..2 {
                now += 40;
                if let Some(next) = session.refresh(owner, now) { owner = next; }
                now += 40;
                if let Some(next) = session.refresh(thief, now) { thief = next; }
            }
            prop_assert!(session.0.is_none(), "the thief still refreshes");
        }
    }
}
