//! What the user service does with header fields and parameters: page tokens and preconditions.

#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::hint::black_box;

use chrono::DateTime;
use criterion::{Criterion, criterion_group, criterion_main};
use user_service::{
    domain::UserId,
    etag::Preconditions,
    page_token::{Cursor, KEY_BYTES, PageKey},
};
use uuid::Uuid;

fn page_token(criterion: &mut Criterion) {
    let key = PageKey::new(&[1; KEY_BYTES]);
    let cursor = Cursor {
        created_at: DateTime::from_timestamp_micros(1_750_000_000_123_456).unwrap(),
        id: UserId(Uuid::from_u128(7)),
    };
    let token = key.seal(cursor);
    let mut group = criterion.benchmark_group("page_token");
    group.bench_function("seal", |bencher| bencher.iter(|| key.seal(black_box(cursor))));
    group.bench_function("open", |bencher| bencher.iter(|| key.open(black_box(&token)).unwrap()));
    group.finish();
}

fn preconditions(criterion: &mut Criterion) {
    let list = r#"W/"1", "2", "a-rather-long-tag-of-somebody-else", "3""#;
    criterion.bench_function("preconditions", |bencher| {
        bencher.iter(|| {
            let read = Preconditions::parse(Some(black_box(list)), Some(black_box(list))).unwrap();
            (read.matches(r#""3""#), read.excludes(r#""4""#))
        });
    });
}

criterion_group!(benches, page_token, preconditions);
criterion_main!(benches);
