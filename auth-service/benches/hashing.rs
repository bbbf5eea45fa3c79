//! What a password costs by its scheme: bcrypt at cost 10, one at a time, and Argon2id as it is set
//! by default. Several bcrypt hashes at once: `crates/bcrypt-lanes/benches/lanes.rs`.
//!
//! And the time of a login by what is stored for the account, which must be the same for all.

#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::{hint::black_box, sync::Arc};

use auth_service::{
    domain::Password,
    password::{Make, Memory, PasswordHash, Scheme, Work, run},
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

fn equal_work(criterion: &mut Criterion) {
    let digest = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let crypt =
        "SbZNammo85ZyiOv7GmCAGBiS0h2K13nM9xM243CdjwTbVyzuAmhq9DKaQlZtao.OAohSpFCvcxF.zUm8lXRAX1";
    let [current, argon2id] = SCHEMES;
    let memory = Memory::default();
    let made = |scheme| {
        let password = Password::normalize("correct horse battery staple");
        run(Make::new(scheme, password).unwrap(), &memory).unwrap()
    };
    let foreign = [
        format!("$argon2i$v=19$m=8192,t=3,p=1$c29tZXNhbHQ${digest}"),
        format!("$pbkdf2-sha256$60000$c29tZXNhbHQ${digest}"),
        format!("$pbkdf2-sha256$15000$c29tZXNhbHQ${digest}"),
        format!("$scrypt$ln=14,r=8,p=1$c29tZXNhbHQ${digest}"),
        format!("$6$rounds=20000$salt${crypt}"),
        format!("$6$salt${crypt}"),
    ]
    .map(|text| PasswordHash::import(&text).unwrap());
    let stored: Vec<_> = [made(current), made(Scheme::Bcrypt { cost: 8 }), made(argon2id)]
        .into_iter()
        .chain(foreign)
        .collect();
    let work = Arc::new(Work::new(current, stored.iter().filter_map(PasswordHash::scheme)));

    let mut group = criterion.benchmark_group("login");
    group.sample_size(10);
    let unknown = ("no account".to_owned(), None);
    let known = stored.into_iter().map(|hash| (hash.scheme_name(), Some(hash)));
    for (name, stored) in std::iter::once(unknown).chain(known) {
        let wrong = || {
            let check = Arc::clone(&work).check(Password::normalize("a wrong one"), stored.clone());
            run(check, &memory).unwrap()
        };
        group.bench_function(name, |bencher| bencher.iter(wrong));
    }
    group.finish();
}

criterion_group!(benches, hashing, equal_work);
criterion_main!(benches);
