//! What a failing login costs, case by case: the time must not tell whether an account exists, nor
//! how old its hash is. Prints medians and their ratio to the first case.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::time::Instant;

use auth_service::{
    domain::Password,
    lanes::Bcrypt,
    password::{HashError, Scheme, Work},
};
use futures_util::FutureExt as _;

const SAMPLES: usize = 15;

/// Without lanes there is nothing to wait for.
fn now<T>(work: impl Future<Output = Result<T, HashError>>) -> T {
    work.now_or_never().unwrap().unwrap()
}

fn main() {
    let current = Scheme::Bcrypt { cost: 12 };
    let older = Scheme::Bcrypt { cost: 10 };
    let other = Scheme::Argon2id { memory_kib: 19_456, iterations: 2, parallelism: 1 };
    let hash = |scheme: Scheme, password: &str| {
        Some(now(scheme.hash(&Password::normalize(password), &Bcrypt::Plain)))
    };
    let (right, long) = ("the right password", "x".repeat(200));
    let stored =
        [hash(current, right), hash(older, right), hash(other, right), hash(current, &long)];
    let [of_current, of_older, of_other, of_long] = &stored;
    let overlong = "x".repeat(5000);
    let cases = [
        ("unknown email", &None, "a wrong password"),
        ("wrong password, bcrypt 12", of_current, "a wrong password"),
        ("wrong password, bcrypt 10", of_older, "a wrong password"),
        ("wrong password, Argon2id", of_other, "a wrong password"),
        ("wrong password, bcrypt-sha256 12", of_long, "a wrong password"),
        ("empty password", of_current, ""),
        ("overlong password", of_current, &overlong),
    ];
    let work = Work::new(current, [older, other]);
    let mut samples = vec![Vec::new(); cases.len()];
    // The cases take turns, so that a machine whose speed drifts treats them alike.
    for _ in 0..SAMPLES {
        for ((_, stored, password), samples) in cases.iter().zip(&mut samples) {
            let password = Password::normalize(password);
            let started = Instant::now();
            assert!(!now(work.check(&password, stored.as_deref(), &Bcrypt::Plain)));
            samples.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    let medians: Vec<f64> = samples
        .iter_mut()
        .map(|samples| {
            samples.sort_unstable_by(f64::total_cmp);
            samples[SAMPLES / 2]
        })
        .collect();
    println!("| case | ms | ratio |\n|---|---|---|");
    for ((name, ..), median) in cases.iter().zip(&medians) {
        println!("| {name} | {median:.1} | {:.3} |", median / medians[0]);
    }
}
