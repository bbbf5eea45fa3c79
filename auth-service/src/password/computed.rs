//! A record of the hashes that a thread has computed, and the test of the promise of equal work: what
//! a login costs must not tell whether an account exists, how its hash was made, or whether the
//! password is right.
//!
//! The test counts computations, because a measurement of time depends on what else the machine does.
//! The benchmark `hashing` measures the time.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use super::{Make, Memory, PasswordHash, Scheme, Work, run};
use crate::domain::Password;

thread_local! {
    static COMPUTED: RefCell<Vec<Scheme>> = const { RefCell::new(Vec::new()) };
}

/// Records that this thread computes a hash of this scheme.
pub(super) fn note(scheme: Scheme) {
    COMPUTED.with_borrow_mut(|computed| computed.push(scheme));
}

const RIGHT: &str = "the right password";
const WRONG: &str = "a wrong password";

/// The cost of the computations since the last call: the rounds for each kind of hash. A memory-hard
/// scheme is a kind of its own, with one round each time.
fn cost() -> BTreeMap<Scheme, u64> {
    let mut cost = BTreeMap::new();
    for scheme in COMPUTED.take() {
        let (kind, rounds) = match scheme {
            Scheme::Bcrypt { cost } => (Scheme::Bcrypt { cost: 0 }, 1 << cost),
            Scheme::Pbkdf2 { .. } | Scheme::ShaCrypt { .. } => {
                (scheme.with_rounds(0), u64::from(scheme.rounds()))
            }
            Scheme::Argon2id { .. } | Scheme::Argon2i { .. } | Scheme::Scrypt { .. } => (scheme, 1),
        };
        *cost.entry(kind).or_default() += rounds;
    }
    cost
}

fn made(scheme: Scheme, password: &str) -> PasswordHash {
    let make = Make::new(scheme, Password::normalize(password)).unwrap();
    run(make, &Memory::default()).unwrap()
}

/// Hashes of passwords that nobody knows, in each of the accepted formats.
fn foreign() -> Vec<PasswordHash> {
    let digest = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let crypt =
        "SbZNammo85ZyiOv7GmCAGBiS0h2K13nM9xM243CdjwTbVyzuAmhq9DKaQlZtao.OAohSpFCvcxF.zUm8lXRAX1";
    [
        format!("$argon2i$v=19$m=1024,t=3,p=1$c29tZXNhbHQ${digest}"),
        format!("$argon2id$v=16$m=512,t=2,p=1$c29tZXNhbHQ${digest}"),
        format!("$pbkdf2-sha256$3000$c29tZXNhbHQ${digest}"),
        format!("$pbkdf2-sha256$1000$c29tZXNhbHQ${digest}"),
        format!("pbkdf2_sha1$700$somesalt${digest}="),
        format!("$scrypt$ln=10,r=8,p=1$c29tZXNhbHQ${digest}"),
        format!("$scrypt$ln=9,r=8,p=2$c29tZXNhbHQ${digest}"),
        format!("$6$rounds=7000$salt${crypt}"),
        format!("$6$salt${crypt}"),
    ]
    .map(|text| PasswordHash::import(&text).unwrap())
    .to_vec()
}

#[test]
fn every_login_costs_the_same() {
    let current = Scheme::Bcrypt { cost: 6 };
    let older = Scheme::Bcrypt { cost: 4 };
    let other = Scheme::Argon2id { memory_kib: 1024, iterations: 2, parallelism: 1 };
    let foreign = foreign();
    let in_use = foreign.iter().filter_map(PasswordHash::scheme).chain([older, other]);
    let work = Arc::new(Work::new(current, in_use));

    let long = "x".repeat(200);
    let overlong = "x".repeat(5000);
    let unusable = PasswordHash::stored("$2x$12$nonsense".to_owned());
    let of_current = made(current, RIGHT);
    let mut cases = vec![
        ("unknown email".to_owned(), None, WRONG),
        ("wrong password, bcrypt".to_owned(), Some(of_current.clone()), WRONG),
        ("wrong password, older bcrypt".to_owned(), Some(made(older, RIGHT)), WRONG),
        ("wrong password, Argon2id".to_owned(), Some(made(other, RIGHT)), WRONG),
        ("wrong password, bcrypt-sha256".to_owned(), Some(made(current, &long)), WRONG),
        ("empty password".to_owned(), Some(of_current.clone()), ""),
        ("overlong password".to_owned(), Some(of_current.clone()), &overlong),
        ("a hash that cannot be used".to_owned(), Some(unusable), WRONG),
        ("no password".to_owned(), Some(PasswordHash::none()), WRONG),
        ("right password".to_owned(), Some(of_current), RIGHT),
        // What is replaced on the way is part of the work.
        ("right password, Argon2id".to_owned(), Some(made(other, RIGHT)), RIGHT),
    ];
    for hash in foreign {
        cases.push((format!("wrong password, {}", hash.scheme_name()), Some(hash), WRONG));
    }

    let memory = Memory::default();
    COMPUTED.take();
    let mut expected = None;
    for (name, stored, password) in cases {
        let check = Arc::clone(&work).check(Password::normalize(password), stored);
        let checked = run(check, &memory).unwrap();
        assert_eq!(checked.right, password == RIGHT, "{name}");
        let cost = cost();
        assert_eq!(cost.len(), 9, "{name}: {cost:?}");
        assert_eq!(&cost, expected.get_or_insert_with(|| cost.clone()), "{name}");
    }
}

/// The one exception, as documented: the first login after the cost was raised pays for both.
#[test]
fn a_hash_of_a_lower_cost_is_replaced_at_the_expense_of_its_cost() {
    let (current, older) = (Scheme::Bcrypt { cost: 6 }, Scheme::Bcrypt { cost: 4 });
    let work = Arc::new(Work::new(current, [older]));
    let stored = made(older, RIGHT);
    COMPUTED.take();
    let check = work.check(Password::normalize(RIGHT), Some(stored));
    let checked = run(check, &Memory::default()).unwrap();
    assert!(checked.right);
    assert!(checked.replacement.is_some());
    assert_eq!(cost(), BTreeMap::from([(Scheme::Bcrypt { cost: 0 }, (1 << 6) + (1 << 4))]));
}

/// What an import in another process has brought is known when a login meets it.
#[test]
fn a_scheme_that_logins_do_not_cost_yet_is_told_from_those_that_they_do() {
    let current = Scheme::Bcrypt { cost: 10 };
    let foreign: Vec<_> = foreign().iter().filter_map(PasswordHash::scheme).collect();
    let (few, all) = (Work::new(current, []), Work::new(current, foreign.iter().copied()));
    for scheme in foreign {
        assert!(!few.covers(scheme) && all.covers(scheme), "{scheme:?}");
    }
    assert!(few.covers(current) && few.covers(Scheme::Bcrypt { cost: 4 }));
    assert!(!all.covers(Scheme::Bcrypt { cost: 11 }));
}
