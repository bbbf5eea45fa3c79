//! Reads that come at the same time share queries.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sql_kit::StoreError;
use test_kit::{Engine, TestDatabase};
use user_service::{
    domain::{Caller, Profile, UserId},
    reads::Reads,
    store::Store,
};
use uuid::Uuid;

use crate::support::{on_both_engines, open_store, proxy::Proxy};

on_both_engines!(
    more_reads_than_a_query_takes_are_all_answered,
    a_read_that_is_given_up_leaves_the_others_alone,
);

async fn with_profiles(store: &Store, number: usize) -> Vec<UserId> {
    store.migrate().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..number {
        let caller = Caller::new(Uuid::now_v7(), None, 0);
        assert!(store.create_profile(&Profile::first(&caller, store.clock().now())).await.unwrap());
        ids.push(caller.id);
    }
    ids
}

async fn more_reads_than_a_query_takes_are_all_answered(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let store = open_store(&database);
    let ids = with_profiles(&store, 40).await;
    let reads = Reads::new(store);
    // Several times 128, each with another pair, some of which do not exist.
    let all = (0..600).map(|number| {
        let one = ids[number % ids.len()];
        let other = if number % 3 == 0 { UserId(Uuid::now_v7()) } else { ids[number % 7] };
        let reads = &reads;
        async move { (one, other, reads.pair(one, other).await.unwrap()) }
    });
    for (one, other, (first, second)) in join_all(all).await {
        assert_eq!(first.map(|profile| profile.id), Some(one));
        let expected = (other != one && ids.contains(&other)).then_some(other);
        assert_eq!(second.map(|profile| profile.id), expected);
    }
}

async fn a_read_that_is_given_up_leaves_the_others_alone(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let store = open_store(&database);
    let ids = with_profiles(&store, 3).await;
    let reads = Reads::new(store);
    for _ in 0..50 {
        // The first makes its query by itself, the others wait for one; all leave half-way.
        let left = join_all((0..5).map(|_| reads.pair(ids[0], ids[1])));
        let _ = tokio::time::timeout(Duration::from_micros(300), left).await;
        let (one, other) = reads.pair(ids[0], ids[2]).await.unwrap();
        assert_eq!((one.unwrap().id, other.unwrap().id), (ids[0], ids[2]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_a_database_that_hangs_are_given_up_and_go_on_afterwards() {
    let mut database = TestDatabase::create(Engine::Postgres).await;
    let target = crate::outage::host_and_port(&database.url).to_owned();
    let proxy = Proxy::to(target.clone()).await;
    database.url = database.url.replace(&target, &proxy.address.to_string());
    let store = open_store(&database);
    let ids = with_profiles(&store, 1).await;
    let reads = Reads::new(store);
    proxy.pause(true);
    let started = Instant::now();
    for answer in join_all((0..300).map(|_| reads.pair(ids[0], ids[0]))).await {
        assert_eq!(answer.unwrap_err(), StoreError::Unavailable);
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    proxy.pause(false);
    let deadline = Instant::now() + Duration::from_secs(10);
    while reads.pair(ids[0], ids[0]).await.is_err() {
        assert!(Instant::now() < deadline, "reads do not go on");
    }
    for answer in join_all((0..300).map(|_| reads.pair(ids[0], ids[0]))).await {
        assert!(answer.unwrap().0.is_some());
    }
}
