//! What DNS says, and when it is asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant},
};

use endpoints::{CallError, Endpoints, ResolveError, Resolver, ServiceUrl};
use tokio::time::sleep;

use crate::dns::{Dns, Mood};

const WITHIN: Duration = Duration::from_secs(5);

/// A little longer than the least TTL.
const A_TTL: Duration = Duration::from_millis(1100);

type Named = Endpoints<SocketAddr>;

fn named(url: &str, resolver: Resolver) -> Named {
    Endpoints::new(ServiceUrl::parse(url).unwrap(), resolver, |address| address)
}

/// Where calls go, and how many of them.
async fn shares(endpoints: &Named, calls: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..calls {
        let called = endpoints
            .call(WITHIN, async |address| Ok::<_, endpoints::Failure<Infallible>>(address));
        *shares.entry(called.await.unwrap().to_string()).or_default() += 1;
    }
    shares
}

async fn fault(endpoints: &Named) -> ResolveError {
    let called =
        endpoints.call(WITHIN, async |address| Ok::<_, endpoints::Failure<Infallible>>(address));
    match called.await {
        Err(CallError::Resolve(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn shared<const N: usize>(shares: [(&str, usize); N]) -> BTreeMap<String, usize> {
    shares.map(|(address, calls)| (address.to_owned(), calls)).into()
}

#[tokio::test]
async fn an_address_that_is_added_gets_calls_and_one_that_is_removed_gets_none() {
    let dns = Dns::start().await;
    dns.hosts("auth.example.", &[11, 12]);
    let auth = named("http://auth.example:80/", dns.resolver());
    assert_eq!(shares(&auth, 10).await, shared([("127.0.0.11:80", 5), ("127.0.0.12:80", 5)]));
    assert_eq!(dns.asked(), 1);
    dns.hosts("auth.example.", &[12, 13]);
    assert_eq!(shares(&auth, 10).await.len(), 2, "the TTL is not over");
    sleep(A_TTL).await;
    assert_eq!(shares(&auth, 10).await, shared([("127.0.0.12:80", 5), ("127.0.0.13:80", 5)]));
    assert_eq!(dns.asked(), 2);
}

#[tokio::test]
async fn the_ttl_counts_and_a_ttl_of_zero_is_a_second() {
    let dns = Dns::start().await;
    dns.hosts("auth.example.", &[11]);
    dns.ttl(3);
    let auth = named("http://auth.example/", dns.resolver());
    shares(&auth, 1).await;
    sleep(A_TTL).await;
    shares(&auth, 1).await;
    assert_eq!(dns.asked(), 1);
    sleep(Duration::from_secs(2)).await;
    dns.ttl(0);
    shares(&auth, 9).await;
    assert_eq!(dns.asked(), 2);
    sleep(A_TTL).await;
    shares(&auth, 9).await;
    assert_eq!(dns.asked(), 3);
}

#[tokio::test]
async fn srv_records_are_used_by_priority_and_weight() {
    let dns = Dns::start().await;
    let records =
        [(10, 3, 3001, "a.example."), (10, 1, 3002, "b.example."), (20, 9, 3003, "c.example.")];
    dns.srv("_jwks._tcp.auth.example.", &records);
    dns.hosts("a.example.", &[11]);
    dns.hosts("b.example.", &[12]);
    dns.hosts("c.example.", &[13]);
    let auth = named("srv+http://_jwks._tcp.auth.example/x", dns.resolver());
    assert_eq!(auth.url().uri(), "http://auth.example/x");
    // To within one call: which address begins is by chance.
    let three_to_one = shares(&auth, 100).await;
    assert!((74..=76).contains(&three_to_one["127.0.0.11:3001"]), "{three_to_one:?}");
    assert_eq!(three_to_one.len(), 2);
    // The weight is that of the target, however many addresses it has.
    dns.hosts("a.example.", &[11, 14, 15]);
    sleep(A_TTL).await;
    let shares = shares(&auth, 400).await;
    assert!((98..=102).contains(&shares["127.0.0.12:3002"]), "{shares:?}");
    assert_eq!(shares.len(), 4);
}

#[tokio::test]
async fn what_is_known_outlives_dns() {
    let dns = Dns::start().await;
    dns.hosts("auth.example.", &[11, 12]);
    let auth = named("http://auth.example:80/", dns.resolver());
    let before = shares(&auth, 10).await;
    let outages: [(&str, &dyn Fn()); 4] = [
        ("fails", &|| dns.mood(Mood::Fails)),
        ("empty", &|| dns.hosts("auth.example.", &[])),
        ("unknown", &|| dns.remove("auth.example.")),
        ("silent", &|| dns.mood(Mood::Silent)),
    ];
    for (outage, begin) in outages {
        begin();
        sleep(A_TTL).await;
        let began = Instant::now();
        assert_eq!(shares(&auth, 10).await, before, "{outage}");
        // Only the first call waits for DNS, and not for long.
        assert!(began.elapsed() < Duration::from_millis(500), "{outage} {:?}", began.elapsed());
        dns.mood(Mood::Answers);
        sleep(A_TTL).await;
    }
    dns.hosts("auth.example.", &[13]);
    // A question that was left without an answer ends after seconds.
    sleep(Duration::from_secs(4)).await;
    shares(&auth, 1).await;
    sleep(A_TTL).await;
    assert_eq!(shares(&auth, 2).await, shared([("127.0.0.13:80", 2)]));
}

#[tokio::test]
async fn a_name_that_is_not_there_yet_is_asked_for_once_a_second() {
    let dns = Dns::start().await;
    let auth = named("http://auth.example:80/", dns.resolver());
    let unknown = ResolveError::Unknown("auth.example".to_owned());
    for _ in 0..20 {
        assert_eq!(fault(&auth).await, unknown);
    }
    assert_eq!(dns.asked(), 1);
    dns.hosts("auth.example.", &[11]);
    sleep(A_TTL).await;
    assert_eq!(shares(&auth, 2).await, shared([("127.0.0.11:80", 2)]));

    dns.hosts("empty.example.", &[]);
    let empty = named("http://empty.example/", dns.resolver());
    assert_eq!(fault(&empty).await, ResolveError::Empty("empty.example".to_owned()));
    // A target of "." says that there is no such service (RFC 2782).
    dns.srv("_x._tcp.example.", &[(0, 0, 0, ".")]);
    let none = named("srv+http://_x._tcp.example/", dns.resolver());
    assert_eq!(fault(&none).await, ResolveError::Empty("_x._tcp.example".to_owned()));
}

#[tokio::test]
async fn a_target_that_cannot_be_looked_up_keeps_its_addresses() {
    let dns = Dns::start().await;
    dns.srv("_x._tcp.example.", &[(0, 1, 80, "a.example."), (0, 1, 80, "b.example.")]);
    dns.hosts("a.example.", &[11]);
    dns.hosts("b.example.", &[12]);
    let both = named("srv+http://_x._tcp.example/", dns.resolver());
    assert_eq!(shares(&both, 2).await.len(), 2);
    dns.mood(Mood::SilentFor("b."));
    dns.hosts("a.example.", &[13]);
    sleep(A_TTL).await;
    shares(&both, 1).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(shares(&both, 2).await, shared([("127.0.0.12:80", 1), ("127.0.0.13:80", 1)]));
}

#[tokio::test]
async fn addresses_and_the_names_of_this_machine_need_no_name_server() {
    let nobody = Resolver::of_servers(["127.0.0.1:9".parse().unwrap()]);
    let literal = named("http://[::1]:80/", nobody);
    assert_eq!(shares(&literal, 1).await, shared([("[::1]:80", 1)]));
    let local = named("http://localhost:80/", Resolver::system());
    let local = shares(&local, 4).await;
    assert!(local.contains_key("127.0.0.1:80") || local.contains_key("[::1]:80"), "{local:?}");
}
