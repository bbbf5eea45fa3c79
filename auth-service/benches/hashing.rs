//! What a password costs by its scheme: bcrypt at cost 10, one at a time, and Argon2id as it is set
//! by default. Several bcrypt hashes at once: `crates/bcrypt-lanes/benches/lanes.rs`.

#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::{hint::black_box, sync::Arc};

use auth_service::{
    domain::Password,
    password::{Make, Memory, Scheme, Work, run},
};
use criterion::{Criterion, criterion_group, criterion_main};

const SCHEMES: [Scheme; 2] = [
    Scheme::Bcrypt { cost: 10 },
    Scheme::Argon2id { memory_kib: 19_456, iterations: 2, parallelism: 1 },
];

fn hashing(criterion: &mut Criterion) {
    let password = Password::normalize("correct horse battery staple");
    let memory = Memory::default();
    for scheme in SCHEMES {
        let mut group = criterion.benchmark_group(scheme.to_string());
        group.sample_size(10);
        let hash =
            || run(Make::new(scheme, black_box(password.clone())).unwrap(), &memory).unwrap();
        group.bench_function("hash", |bencher| bencher.iter(hash));
        let (stored, work) = (hash(), Arc::new(Work::new(scheme, [])));
        let verify = || {
            let check = Arc::clone(&work).check(password.clone(), Some(black_box(&stored).clone()));
            run(check, &memory).unwrap()
        };
        group.bench_function("verify", |bencher| bencher.iter(verify));
        group.finish();
    }
}

criterion_group!(benches, hashing);
criterion_main!(benches);
