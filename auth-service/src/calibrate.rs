//! `auth-service calibrate`: measures what hashing costs on this machine, and recommends settings.

use service_kit::print_line;
use std::time::{Duration, Instant};

use bcrypt_lanes::{Job, Lanes};

use crate::{
    domain::Password,
    lanes,
    password::{HashError, Make, Memory, Scheme, run as hash},
    resources,
};

/// The lowest recommended cost and memory (OWASP Password Storage Cheat Sheet).
const LEAST_BCRYPT_COST: u32 = 10;
const MOST_BCRYPT_COST: u32 = 16;
const ARGON2_MEMORY_KIB: [u32; 5] = [19_456, 32_768, 47_104, 65_536, 131_072];
const SAMPLES: usize = 3;

/// Measures both algorithms and prints a table with the time of one hash, and with the logins per
/// second that all cores allow. Recommends the most expensive parameters whose hash takes at most
/// `target`.
///
/// # Errors
///
/// If hashing fails.
pub fn run(target: Duration) -> Result<(), HashError> {
    let cores = resources::cores();
    print_line!(
        "one hash shall take at most {} ms; {cores} cores hash at a time\n",
        target.as_millis()
    );
    print_line!("{:<36}  {:>8}  {:>12}", "scheme", "ms", "logins/s");

    let bcrypt = (LEAST_BCRYPT_COST..=MOST_BCRYPT_COST).map(|cost| Scheme::Bcrypt { cost });
    let argon2id = ARGON2_MEMORY_KIB.map(|memory_kib| Scheme::Argon2id {
        memory_kib,
        iterations: 2,
        parallelism: 1,
    });
    let memory = resources::memory_limit().unwrap_or(u64::MAX);
    let fits = |scheme: &Scheme| scheme.memory() * (cores as u64) <= memory / 2;
    let bcrypt = measure(bcrypt, target, cores)?;
    let argon2id = measure(argon2id.into_iter().filter(fits), target, cores)?;

    print_line!("");
    if let Some(Scheme::Bcrypt { cost }) = bcrypt {
        print_line!("PASSWORD_HASH=bcrypt BCRYPT_COST={cost}");
    }
    if let Some(Scheme::Argon2id { memory_kib, iterations, parallelism }) = argon2id {
        print_line!(
            "PASSWORD_HASH=argon2id ARGON2_MEMORY_KIB={memory_kib} ARGON2_ITERATIONS={iterations} \
             ARGON2_PARALLELISM={parallelism}"
        );
    }
    if bcrypt.is_none() && argon2id.is_none() {
        print_line!("this machine is too slow for that: raise the time with --target-ms");
    }
    Ok(())
}

/// Measures schemes, from cheap to expensive, until one takes too long. Returns the last one within
/// the limit.
fn measure(
    schemes: impl IntoIterator<Item = Scheme>,
    target: Duration,
    cores: usize,
) -> Result<Option<Scheme>, HashError> {
    let mut best = None;
    for scheme in schemes {
        let took = time(scheme)?;
        let rate = cores as f64 * rate(scheme, took);
        print_line!("{:<36}  {:>8.1}  {rate:>12.1}", scheme.to_string(), took.as_secs_f64() * 1e3);
        if took > target {
            break;
        }
        best = Some(scheme);
    }
    Ok(best)
}

/// How many hashes per second one core computes under load, if a single one takes this long.
fn rate(scheme: Scheme, one: Duration) -> f64 {
    let Scheme::Bcrypt { cost } = scheme else {
        return 1.0 / one.as_secs_f64();
    };
    let started = Instant::now();
    let job = |number| Some((Job::new(cost, [number; 16], b"a password").ok()?, ()));
    let jobs = (0_u8..).take(lanes::WIDTH).filter_map(job);
    let done = Lanes::new().run(jobs).count();
    done as f64 / started.elapsed().as_secs_f64()
}

/// The median time of a few hashes.
fn time(scheme: Scheme) -> Result<Duration, HashError> {
    let (password, memory) =
        (Password::normalize("a password of common length"), Memory::default());
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let started = Instant::now();
        hash(Make::new(scheme, password.clone())?, &memory)?;
        samples.push(started.elapsed());
    }
    samples.sort_unstable();
    Ok(samples[SAMPLES / 2])
}
