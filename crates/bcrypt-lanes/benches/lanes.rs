//! The time of one bcrypt of the `bcrypt` crate, and of one to four at once, at cost 10. The same
//! as rates, in turns: `examples/rates.rs`.

use std::hint::black_box;

use bcrypt_lanes::{Job, Lanes, WIDTH};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const COST: u32 = 10;
const SALT: [u8; 16] = *b"sixteen salty by";

fn cost_10(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cost_10");
    group.sample_size(10);
    group.throughput(Throughput::Elements(1));
    group.bench_function("bcrypt", |bencher| {
        bencher.iter(|| bcrypt::bcrypt(COST, SALT, black_box(b"password\0")));
    });
    let mut lanes = Lanes::new();
    for width in 1..=WIDTH as u64 {
        group.throughput(Throughput::Elements(width));
        group.bench_function(BenchmarkId::new("lanes", width), |bencher| {
            bencher.iter(|| {
                while lanes.busy() < width as usize
                    && let (Some(lane), Ok(job)) =
                        (lanes.vacant(), Job::new(COST, SALT, black_box(b"password")))
                {
                    lane.start(&job, ());
                }
                lanes.run([]).map(black_box).last()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cost_10);
criterion_main!(benches);
