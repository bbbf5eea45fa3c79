//! What a password costs by its scheme: bcrypt at cost 10, one at a time, and Argon2id as it is set
//! by default. Several bcrypt hashes at once: `crates/bcrypt-lanes/benches/lanes.rs`.

#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::hint::black_box;

use auth_service::{
    domain::Password,
    lanes::Bcrypt,
    password::{HashError, Scheme, verify},
};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;

const SCHEMES: [Scheme; 2] = [
    Scheme::Bcrypt { cost: 10 },
    Scheme::Argon2id { memory_kib: 19_456, iterations: 2, parallelism: 1 },
];

/// Without lanes there is nothing to wait for.
fn now<T>(work: impl Future<Output = Result<T, HashError>>) -> T {
    work.now_or_never().unwrap().unwrap()
}

fn hashing(criterion: &mut Criterion) {
    let password = Password::normalize("correct horse battery staple");
    for scheme in SCHEMES {
        let mut group = criterion.benchmark_group(scheme.to_string());
        group.sample_size(10);
        group.bench_function("hash", |bencher| {
            bencher.iter(|| now(scheme.hash(black_box(&password), &Bcrypt::Plain)));
        });
        let stored = now(scheme.hash(&password, &Bcrypt::Plain));
        group.bench_function("verify", |bencher| {
            bencher.iter(|| now(verify(black_box(&password), &stored, &Bcrypt::Plain)));
        });
        group.finish();
    }
}

criterion_group!(benches, hashing);
criterion_main!(benches);
