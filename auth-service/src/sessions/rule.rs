//! The rule for refresh tokens, as a pure function of the position of a session.
//!
//! The refresh tokens of a session are numbered. `current` is the newest that was issued; `consumed` is the last one
//! that was exchanged for it. When the token `n` is presented, the first row that applies decides:
//!
//! | `n` is | what is wrong | what happens |
//! |---|---|---|
//! | `current` | nothing | `n` is consumed, `current + 1` is issued |
//! | one that was consumed less than the retry window ago | two tabs refreshed at once, or the client tries again | `current` is given again |
//! | `consumed`, later | the answer was lost, for `current` was never presented | `current` is withdrawn, `current + 1` is issued, and the window starts anew |
//! | anything else: older, or withdrawn | two have the token of one | the session ends |
//!
//! So a lost response does not log a client out, and a stolen token is detected when the second of the two parties,
//! thief or owner, refreshes after the window.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How many consumptions a session stores. If a client refreshes more often than this within the retry window, and then
/// presents a token from before them, the session ends.
const MAX_CONSUMPTIONS: usize = 256;

/// A token that was consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumption {
    /// Its number.
    pub number: i64,
    /// When it was consumed or, after a lost response, presented again.
    pub at: DateTime<Utc>,
}

/// The state of a session's token sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The number of the newest issued token.
    pub current: i64,
    /// The number of the last consumed token; 0 if there is none.
    pub consumed: i64,
    /// The latest consumptions, the newest first.
    pub consumptions: Vec<Consumption>,
}

/// What happens when a token is presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The session moves to this position, and the response is its token `current`.
    Issue(Position),
    /// The session stays as it is, and the response is its token `current`.
    Repeat,
    /// The token was stolen, so the session ends.
    Theft,
}

/// Decides what happens when the token with this number is presented.
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
    /// The position of a new session, whose first token has been issued.
    #[must_use]
    pub const fn first() -> Self {
        Self { current: 1, consumed: 0, consumptions: Vec::new() }
    }

    /// The position after the token with this number has been consumed.
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

    /// A simulated session. A refresh returns the number of the new token, or `None` if the session has ended.
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
        // A slow tab is two tokens behind, but still within the window.
        assert_eq!(session.refresh(1, 29), Some(3));
        assert_eq!(session.refresh(2, 58), Some(3));
    }

    #[test]
    fn a_lost_answer_is_made_good_hours_later_and_twice() {
        let mut session = session();
        assert_eq!(session.refresh(1, 0), Some(2));
        assert_eq!(session.refresh(1, 36_000), Some(3));
        // That response is lost too. The window has started again.
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
        // A withdrawn token ends the session at once, even if its replacement was never used.
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

    /// The next action of an honest client.
    #[derive(Debug, Clone)]
    enum Step {
        /// It refreshes, and the response may be lost.
        Refresh { is_lost: bool },
        /// A second tab, which read the token before the last refresh, refreshes with it.
        SecondTab { is_lost: bool },
        /// Time passes (in seconds).
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
        /// An honest client is never logged out, whatever the order of lost responses, retries and second tabs.
        #[test]
        fn an_honest_client_is_never_logged_out(steps in steps()) {
            let mut session = session();
            let (mut now, mut held) = (0, 1);
            // The token that a second tab may still hold, and when it was first presented. Tabs share their storage, so
            // a tab holds a token for moments and not for hours.
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
                            // If it is presented again after the window, a new window starts.
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

        /// A thief copies the client's token at some time and uses it later. Whoever of the two comes second, after the
        /// window, ends the session.
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
                // If the thief has refreshed once with the last consumed token, the token of the owner was withdrawn.
                // In all other cases the owner has an old token.
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
            // It is detected at the latest when both have refreshed once more, each after the window.
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
