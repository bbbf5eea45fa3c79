//! The cache against a server on the loopback interface.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Router, routing::get};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode, header::CACHE_CONTROL};
use serde_json::{Value, json};
use token_verifier::{AuthError, JwksCache, Rules, Verifier, VerifyError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::forge::{ISSUER, NOW, STRANGER};

/// An issuer whose answers a test can change.
#[derive(Clone)]
struct Source {
    hits: Arc<AtomicUsize>,
    /// How many requests had `Cache-Control: no-cache`.
    past_caches: Arc<AtomicUsize>,
    /// How long an answer takes, in milliseconds.
    delay: Arc<AtomicU64>,
    answer: Arc<Mutex<(StatusCode, String)>>,
    url: String,
}

impl Source {
    async fn start(jwks: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Self::new(&format!("http://{}", listener.local_addr().unwrap()), jwks);
        source.serve(listener);
        source
    }

    fn new(origin: &str, jwks: &Value) -> Self {
        Self {
            hits: Arc::default(),
            past_caches: Arc::default(),
            // Long enough for many requests to meet one fetch.
            delay: Arc::new(AtomicU64::new(30)),
            answer: Arc::new(Mutex::new((StatusCode::OK, jwks.to_string()))),
            url: format!("{origin}/jwks.json"),
        }
    }

    fn serve(&self, listener: TcpListener) -> JoinHandle<()> {
        async fn answer(State(source): State<Source>, headers: HeaderMap) -> Response {
            if headers.get(CACHE_CONTROL).is_some_and(|value| value == "no-cache") {
                source.past_caches.fetch_add(1, Ordering::SeqCst);
            }
            source.hits.fetch_add(1, Ordering::SeqCst);
            let delay = source.delay.load(Ordering::SeqCst);
            let (status, body) = source.answer.lock().unwrap().clone();
            sleep(Duration::from_millis(delay)).await;
            (status, [(CACHE_CONTROL, "public, max-age=300")], body).into_response()
        }
        async fn moved() -> Redirect {
            Redirect::temporary("/jwks.json")
        }
        let app = Router::new()
            .route("/jwks.json", get(answer))
            .route("/moved", get(moved))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })
    }

    fn answers(&self, status: StatusCode, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

fn start(url: &str, cooldown: Option<Duration>) -> (JwksCache, Verifier) {
    let cache = JwksCache::new(url).unwrap();
    let cache = match cooldown {
        Some(cooldown) => cache.with_refetch_cooldown(cooldown),
        None => cache,
    };
    tokio::spawn(cache.clone().run(std::future::pending()));
    let verifier = Verifier::with_jwks(cache.clone(), Rules::default()).with_clock(|| NOW);
    (cache, verifier)
}

/// Waits for a condition that other tasks bring about.
async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), reached).await.expect("the condition never came about");
}

const UNKNOWN: AuthError = AuthError::Invalid(VerifyError::UnknownKey);

#[tokio::test]
async fn keys_arrive_in_the_background() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (cache, verifier) = start(&source.url, None);
    assert!(cache.keys().is_none() && cache.age().is_none() && !verifier.is_ready());
    let early = verifier.verify(&ISSUER.token("RS256")).await;
    assert_eq!(early, Err(AuthError::KeysUnavailable));
    until(|| verifier.is_ready()).await;
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        verifier.verify(&ISSUER.token(algorithm)).await.unwrap();
        verifier.verify_cached(&ISSUER.token(algorithm)).unwrap();
    }
    assert!(cache.age().unwrap() < Duration::from_secs(20));
    assert_eq!(source.hits(), 1);
}

#[tokio::test]
async fn one_fetch_serves_two_hundred_requests_with_a_new_key() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (_, verifier) = start(&source.url, None);
    until(|| verifier.is_ready()).await;

    let both =
        [ISSUER.jwks(), STRANGER.jwks()].map(|jwks| jwks["keys"].as_array().unwrap().clone());
    source.answers(StatusCode::OK, json!({"keys": both.concat()}).to_string());
    let token = STRANGER.token("EdDSA");
    let outcomes = join_all((0..200).map(|_| {
        let (verifier, token) = (verifier.clone(), token.clone());
        tokio::spawn(async move { verifier.verify(&token).await })
    }));
    for outcome in outcomes.await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(source.hits(), 2);
    verifier.verify(&ISSUER.token("EdDSA")).await.unwrap();
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_per_cooldown_whatever_the_traffic() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (_, verifier) = start(&source.url, None);
    until(|| verifier.is_ready()).await;
    let token = STRANGER.token("EdDSA");
    for _ in 0..3 {
        let outcomes = join_all((0..200).map(|_| verifier.verify(&token))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Err(UNKNOWN)));
        assert_eq!(verifier.verify_cached(&token), Err(UNKNOWN));
    }
    sleep(Duration::from_millis(100)).await;
    assert_eq!(source.hits(), 2, "one at the start, one for all unknown keys");

    let (_, verifier) = start(&source.url, Some(Duration::from_millis(1)));
    until(|| verifier.is_ready()).await;
    let hits = source.hits();
    assert_eq!(verifier.verify(&token).await, Err(UNKNOWN));
    sleep(Duration::from_millis(5)).await;
    assert_eq!(verifier.verify(&token).await, Err(UNKNOWN));
    assert!(source.hits() >= hits + 2, "a new fetch after the cooldown");
}

#[tokio::test]
async fn the_cached_check_never_waits_and_learns_in_the_background() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (_, verifier) = start(&source.url, None);
    until(|| verifier.is_ready()).await;
    source.answers(StatusCode::OK, STRANGER.jwks().to_string());
    let token = STRANGER.token("ES256");
    assert_eq!(verifier.verify_cached(&token), Err(UNKNOWN));
    until(|| verifier.verify_cached(&token).is_ok()).await;
    assert_eq!(source.hits(), 2);
    // The issuer has withdrawn its earlier keys.
    assert_eq!(verifier.verify_cached(&ISSUER.token("ES256")), Err(UNKNOWN));
}

#[tokio::test]
async fn known_keys_outlive_every_failure_of_the_source() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (cache, verifier) = start(&source.url, Some(Duration::ZERO));
    until(|| verifier.is_ready()).await;
    let good = ISSUER.jwks().to_string();
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, good.clone()),
        (StatusCode::NOT_FOUND, good.clone()),
        (StatusCode::NO_CONTENT, String::new()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, r#"{"keys":1}"#.to_owned()),
    ] {
        source.answers(status, body);
        let hits = source.hits();
        assert_eq!(verifier.verify(&STRANGER.token("EdDSA")).await, Err(UNKNOWN), "{status}");
        assert!(source.hits() > hits);
        verifier.verify(&ISSUER.token("EdDSA")).await.unwrap();
        assert_eq!(cache.keys().unwrap().len(), 3);
    }
    // Back again, without any request asking for it.
    source.answers(StatusCode::OK, STRANGER.jwks().to_string());
    until(|| verifier.verify_cached(&STRANGER.token("EdDSA")).is_ok()).await;
}

/// Ten thousand keys of one issuer are a fault of that issuer. Whoever holds a token of one that is not
/// known must not be told that the token is bad.
#[tokio::test]
async fn a_document_that_is_too_large_leaves_the_known_keys_and_blames_no_token() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (_, verifier) = start(&source.url, Some(Duration::ZERO));
    until(|| verifier.is_ready()).await;
    source.answers(StatusCode::OK, format!("{}{}", ISSUER.jwks(), " ".repeat(256 * 1024)));
    let token = STRANGER.token("EdDSA");
    assert_eq!(verifier.verify(&token).await, Err(AuthError::KeysUnavailable));
    assert_eq!(verifier.verify_cached(&token), Err(AuthError::KeysUnavailable));
    verifier.verify(&ISSUER.token("EdDSA")).await.unwrap();
    assert!(verifier.is_ready());

    // Hundreds of keys are taken, the last of them too.
    let filler = vec![ISSUER.jwks()["keys"][1].clone(); 300];
    let last = STRANGER.jwks()["keys"].as_array().unwrap().clone();
    let keys = [filler, last].concat();
    source.answers(StatusCode::OK, json!({ "keys": keys }).to_string());
    until(|| verifier.verify_cached(&token).is_ok()).await;
    assert_eq!(verifier.verify(&ISSUER.token("RS256")).await, Err(UNKNOWN));
}

/// No fetch may be asked for so soon after the last, but one that is under way may bring the key.
#[tokio::test]
async fn a_token_of_a_key_that_is_a_second_old_waits_for_a_fetch_under_way() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (_, verifier) = start(&source.url, None);
    until(|| verifier.is_ready()).await;
    // Uses up the one fetch in ten seconds. It fails, so that the cache tries again by itself.
    source.answers(StatusCode::INTERNAL_SERVER_ERROR, "");
    assert_eq!(verifier.verify(&STRANGER.token("EdDSA")).await, Err(UNKNOWN));
    let hits = source.hits();
    source.answers(StatusCode::OK, STRANGER.jwks().to_string());
    source.delay.store(500, Ordering::SeqCst);
    until(|| source.hits() > hits).await;
    verifier.verify(&STRANGER.token("EdDSA")).await.unwrap();
    assert_eq!(source.hits(), hits + 1);
}

#[tokio::test]
async fn only_a_fetch_for_an_unknown_key_goes_past_caches_on_the_way() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (_, verifier) = start(&source.url, Some(Duration::ZERO));
    until(|| verifier.is_ready()).await;
    assert_eq!(source.past_caches.load(Ordering::SeqCst), 0);
    assert_eq!(verifier.verify(&STRANGER.token("EdDSA")).await, Err(UNKNOWN));
    assert_eq!((source.hits(), source.past_caches.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn a_document_without_keys_is_taken_at_its_word() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (_, verifier) = start(&source.url, Some(Duration::ZERO));
    until(|| verifier.is_ready()).await;
    source.answers(StatusCode::OK, r#"{"keys":[]}"#);
    let _ = verifier.verify(&STRANGER.token("EdDSA")).await;
    until(|| !verifier.is_ready()).await;
    let withdrawn = verifier.verify(&ISSUER.token("EdDSA")).await;
    assert_eq!(withdrawn, Err(AuthError::KeysUnavailable));
    source.answers(StatusCode::OK, ISSUER.jwks().to_string());
    until(|| verifier.is_ready()).await;
}

#[tokio::test]
async fn an_issuer_that_starts_later_is_found_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let source = Source::new(&format!("http://{address}"), &ISSUER.jwks());
    let (_, verifier) = start(&source.url, None);
    sleep(Duration::from_millis(400)).await;
    assert!(!verifier.is_ready());
    let started = tokio::time::Instant::now();
    let server = source.serve(TcpListener::bind(address).await.unwrap());
    until(|| verifier.is_ready()).await;
    // 250 ms of back-off and 30 ms of the answer, with room for a busy machine.
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    server.abort();
    verifier.verify(&ISSUER.token("RS256")).await.unwrap();
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let source = Source::start(&ISSUER.jwks()).await;
    let (cache, _) = start(&source.url.replace("jwks.json", "moved"), None);
    sleep(Duration::from_millis(300)).await;
    assert!(cache.keys().is_none());
    assert_eq!(source.hits(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (cache, _) = start(&format!("http://{}/", listener.local_addr().unwrap()), None);
    let begun = tokio::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(listener.accept().await.unwrap());
    }
    assert!(begun.elapsed() >= Duration::from_secs(10), "two timeouts of 5 s");
    assert!(cache.keys().is_none());
}

#[tokio::test]
async fn nobody_waits_for_a_loop_that_has_ended() {
    let source = Source::start(&ISSUER.jwks()).await;
    let cache = JwksCache::new(&source.url).unwrap().with_refetch_cooldown(Duration::ZERO);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(cache.clone().run(async move {
        let _ = stopped.await;
    }));
    let verifier = Verifier::with_jwks(cache, Rules::default()).with_clock(|| NOW);
    until(|| verifier.is_ready()).await;
    let token = STRANGER.token("EdDSA");
    let waiting = tokio::spawn({
        let (verifier, token) = (verifier.clone(), token.clone());
        async move { verifier.verify(&token).await }
    });
    sleep(Duration::from_millis(5)).await;
    stop.send(()).unwrap();
    let ended = timeout(Duration::from_secs(2), running).await;
    ended.expect("the loop ends though a fetch is under way").unwrap();
    let outcome = timeout(Duration::from_secs(2), waiting).await.expect("waiters are let go");
    assert_eq!(outcome.unwrap(), Err(UNKNOWN));
    assert_eq!(verifier.verify(&token).await, Err(UNKNOWN));
    verifier.verify(&ISSUER.token("RS256")).await.unwrap();
}
