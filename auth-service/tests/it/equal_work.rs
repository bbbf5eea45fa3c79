//! The promise of equal time, as a ratio: what a login costs must not tell whether an account
//! exists, how its hash was made, or whether the password is right.
//!
//! It is measured in the time of this thread on its core, so that other work on the machine does not
//! count, and as the least of several samples.

#![cfg(target_os = "linux")]

use std::{sync::Arc, time::Duration};

use auth_service::{
    domain::Password,
    password::{Make, Memory, PasswordHash, Scheme, Work, run},
};
use rustix::time::{ClockId, clock_gettime};

const SAMPLES: usize = 3;
const RIGHT: &str = "the right password";
const WRONG: &str = "a wrong password";

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

fn made(scheme: Scheme, password: &str) -> PasswordHash {
    let make = Make::new(scheme, Password::normalize(password)).unwrap();
    run(make, &Memory::default()).unwrap()
}

/// Hashes of passwords that nobody knows, with parameters that cost something.
fn foreign() -> Vec<PasswordHash> {
    let digest = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let crypt =
        "SbZNammo85ZyiOv7GmCAGBiS0h2K13nM9xM243CdjwTbVyzuAmhq9DKaQlZtao.OAohSpFCvcxF.zUm8lXRAX1";
    [
        format!("$argon2i$v=19$m=8192,t=3,p=1$c29tZXNhbHQ${digest}"),
        format!("$pbkdf2-sha256$60000$c29tZXNhbHQ${digest}"),
        format!("$pbkdf2-sha256$15000$c29tZXNhbHQ${digest}"),
        format!("$scrypt$ln=14,r=8,p=1$c29tZXNhbHQ${digest}"),
        format!("$6$rounds=20000$salt${crypt}"),
        format!("$6$salt${crypt}"),
    ]
    .map(|text| PasswordHash::import(&text).unwrap())
    .to_vec()
}

#[test]
fn every_login_costs_the_same() {
    let current = Scheme::Bcrypt { cost: 10 };
    let older = Scheme::Bcrypt { cost: 8 };
    let other = Scheme::Argon2id { memory_kib: 19_456, iterations: 2, parallelism: 1 };
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
    let mut least = vec![Duration::MAX; cases.len()];
    // The cases take turns, so that a machine whose speed drifts treats them alike.
    for _ in 0..SAMPLES {
        for ((name, stored, password), least) in cases.iter().zip(&mut least) {
            let check = Arc::clone(&work).check(Password::normalize(password), stored.clone());
            let started = cpu_time();
            let checked = run(check, &memory).unwrap();
            *least = cpu_time().saturating_sub(started).min(*least);
            assert_eq!(checked.right, *password == RIGHT, "{name}");
        }
    }
    let first = least[0].as_secs_f64();
    let ratios: Vec<_> = cases
        .iter()
        .zip(&least)
        .map(|((name, ..), least)| (name, least.as_secs_f64() / first))
        .collect();
    let unequal: Vec<_> = ratios.iter().filter(|(_, ratio)| (ratio - 1.0).abs() > 0.1).collect();
    assert!(unequal.is_empty(), "of {:?} an unknown email takes: {ratios:#?}", least[0]);
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
