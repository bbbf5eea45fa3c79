//! Calls to addresses of which some are dead or slow.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use endpoints::{CallError, Endpoints, Failure, ServiceUrl};
use tokio::time::sleep;

use crate::dns::Dns;

const WITHIN: Duration = Duration::from_secs(2);
const DEAD: u8 = 11;

async fn three() -> (Dns, Endpoints<u8>) {
    let dns = Dns::start().await;
    dns.hosts("auth.example.", &[DEAD, 12, 13]);
    let url = ServiceUrl::parse("http://auth.example/").unwrap();
    let last = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    };
    (dns.clone(), Endpoints::new(url, dns.resolver(), last))
}

/// Makes nine calls, and tells how many met the first address and how long the longest took.
async fn nine<F>(endpoints: &Endpoints<u8>, dead: impl Fn() -> F) -> (usize, Duration)
where
    F: Future<Output = Result<u8, Failure<&'static str>>>,
{
    let met = Arc::new(AtomicUsize::new(0));
    let mut longest = Duration::ZERO;
    for _ in 0..9 {
        let began = Instant::now();
        let (met, dead) = (&met, &dead);
        let answer = endpoints.call(WITHIN, |address| async move {
            if address != DEAD {
                return Ok(address);
            }
            met.fetch_add(1, Ordering::SeqCst);
            dead().await
        });
        assert_ne!(answer.await.unwrap(), DEAD);
        longest = longest.max(began.elapsed());
    }
    (met.load(Ordering::SeqCst), longest)
}

#[tokio::test]
async fn an_address_that_refuses_costs_nothing_and_is_left_out() {
    let (_, endpoints) = three().await;
    let (met, longest) = nine(&endpoints, || async { Err(Failure::Address("refused")) }).await;
    assert_eq!(met, 1);
    assert!(longest < Duration::from_millis(250), "{longest:?}");
}

#[tokio::test]
async fn an_address_that_never_answers_costs_a_quarter_of_a_second_once() {
    let (_, endpoints) = three().await;
    let (met, longest) = nine(&endpoints, || async {
        sleep(WITHIN).await;
        Err(Failure::Address("too late"))
    })
    .await;
    assert_eq!(met, 1);
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}

#[tokio::test]
async fn a_slow_address_may_still_answer_first() {
    let (_, endpoints) = three().await;
    let slow = endpoints.call(WITHIN, async |address| {
        sleep(Duration::from_millis(300)).await;
        Ok::<_, Failure<&str>>(address)
    });
    let began = Instant::now();
    slow.await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_address_comes_back_when_it_works_again() {
    let (dns, endpoints) = three().await;
    let (met, _) = nine(&endpoints, || async { Err(Failure::Address("refused")) }).await;
    assert_eq!(met, 1);
    sleep(Duration::from_millis(1100)).await;
    let mut met = [0; 3];
    for _ in 0..9 {
        let answer = endpoints.call(WITHIN, async |address| Ok::<_, Failure<&str>>(address)).await;
        met[usize::from(answer.unwrap() - DEAD)] += 1;
    }
    assert!(met.iter().all(|calls| *calls >= 2), "{met:?}");
    // It failed, so DNS was asked again as soon as it may be.
    assert_eq!(dns.asked(), 2);
}

#[tokio::test]
async fn an_answer_of_the_service_is_final_and_a_failure_everywhere_is_told() {
    let (_, endpoints) = three().await;
    let met = AtomicUsize::new(0);
    let refused = endpoints.call(WITHIN, async |_| {
        met.fetch_add(1, Ordering::SeqCst);
        Err::<u8, _>(Failure::Answered("no such account"))
    });
    assert!(matches!(refused.await, Err(CallError::Failed("no such account"))));
    assert_eq!(met.load(Ordering::SeqCst), 1);

    let away = endpoints.call(WITHIN, async |_| {
        met.fetch_add(1, Ordering::SeqCst);
        Err::<u8, _>(Failure::Address("refused"))
    });
    assert!(matches!(away.await, Err(CallError::Failed("refused"))));
    assert_eq!(met.load(Ordering::SeqCst), 4);
    // What has failed everywhere is still tried the next time.
    let back = endpoints.call(WITHIN, async |address| Ok::<_, Failure<&str>>(address)).await;
    assert!(back.is_ok());
}

#[tokio::test]
async fn a_call_ends_in_time_and_asks_fewer_and_fewer() {
    let (_, endpoints) = three().await;
    let began = Instant::now();
    let met = AtomicUsize::new(0);
    let late = endpoints.call(Duration::from_millis(600), async |_| {
        met.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<u8, Failure<&str>>>().await
    });
    assert!(matches!(late.await, Err(CallError::Timeout(_))));
    assert!(began.elapsed() < Duration::from_secs(1));
    // The second after 250 ms, the third would come 500 ms later.
    assert_eq!(met.load(Ordering::SeqCst), 2);
}
