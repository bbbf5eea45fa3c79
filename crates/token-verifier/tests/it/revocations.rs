//! The feed against a small server on the loopback interface, and against a source in the process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use token_verifier::{
    FeedOutcome, RevocationEntry, RevocationFeed, RevocationList, RevocationPage, RevocationSource,
};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

const UNTIL: i64 = 4_000_000_000;

/// What the server is to answer: a status and a body. An answer that is 200 has the tag of its body.
type Answer = (StatusCode, String);

/// An issuer that gives the answers of a queue one after the other, and then the last one for ever.
#[derive(Clone, Default)]
struct Issuer {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    /// The query and the `If-None-Match` of every request.
    requests: Arc<Mutex<Vec<(String, String)>>>,
    connections: Arc<AtomicUsize>,
}

impl Issuer {
    fn says(&self, status: u16, body: impl ToString) {
        let status = StatusCode::from_u16(status).unwrap();
        self.answers.lock().unwrap().push_back((status, body.to_string()));
    }

    fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().unwrap().clone()
    }

    fn hits(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    async fn start(&self) -> String {
        async fn answer(
            State(issuer): State<Issuer>,
            RawQuery(query): RawQuery,
            headers: HeaderMap,
        ) -> Response {
            let field = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let tag = field(IF_NONE_MATCH).unwrap_or_default();
            issuer.requests.lock().unwrap().push((query.unwrap_or_default(), tag.clone()));
            let (status, body) = {
                let mut answers = issuer.answers.lock().unwrap();
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
                    .unwrap()
            };
            // Each body has one tag: its length tells those of a test apart.
            let own = format!("\"{}\"", body.len());
            let fields = [(CACHE_CONTROL, "public, max-age=2".to_owned()), (ETAG, own.clone())];
            if status == StatusCode::OK && tag == own {
                return (StatusCode::NOT_MODIFIED, fields).into_response();
            }
            (status, fields, body).into_response()
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let app =
            Router::new().route("/.well-known/revocations", get(answer)).with_state(self.clone());
        let connections = Arc::clone(&self.connections);
        let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
            connections.fetch_add(1, SeqCst);
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        format!("{origin}/.well-known/revocations")
    }
}

fn session(id: u128) -> Value {
    json!(RevocationEntry::session(Uuid::from_u128(id), UNTIL))
}

fn page(reset: bool, more: bool, cursor: &str, entries: &[Value]) -> Value {
    json!({"reset": reset, "more": more, "cursor": cursor, "entries": entries})
}

/// Follows a feed, and returns its list and what came of its requests.
fn follow(feed: RevocationFeed) -> (RevocationList, Arc<Mutex<Vec<FeedOutcome>>>) {
    let outcomes = Arc::<Mutex<Vec<_>>>::default();
    let seen = Arc::clone(&outcomes);
    let feed = feed.with_observer(move |outcome| seen.lock().unwrap().push(outcome));
    let list = feed.list();
    tokio::spawn(feed.run(std::future::pending()));
    (list, outcomes)
}

async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), reached).await.expect("the condition never came about");
}

#[tokio::test]
async fn the_whole_list_is_read_at_once_and_then_what_is_new_every_two_seconds() {
    let issuer = Issuer::default();
    issuer.says(200, page(true, true, "a b&c", &[session(1)]));
    issuer.says(200, page(false, false, "2", &[session(2), session(3)]));
    issuer.says(200, page(false, false, "2", &[]));
    let began = Instant::now();
    let (list, outcomes) = follow(RevocationFeed::new(&issuer.start().await).unwrap());
    until(|| list.len() == 3).await;
    assert!(began.elapsed() < Duration::from_secs(1), "pages follow each other at once");
    assert!(list.age().unwrap() < Duration::from_secs(1));
    until(|| issuer.hits() == 4).await;
    let elapsed = began.elapsed();
    assert!((3500..5000).contains(&elapsed.as_millis()), "two pauses of some 2 s: {elapsed:?}");
    issuer.answers.lock().unwrap().clear();
    issuer.says(200, page(false, false, "3", &[session(4)]));
    until(|| list.len() == 4).await;
    assert!(began.elapsed() - elapsed < Duration::from_secs(3));

    let requests = issuer.requests();
    let queries: Vec<_> = requests.iter().map(|(query, _)| query.as_str()).collect();
    assert_eq!(queries, ["", "after=a+b%26c", "after=2", "after=2", "after=2"]);
    let tags: Vec<_> = requests.iter().map(|(_, tag)| !tag.is_empty()).collect();
    assert_eq!(tags, [false, false, false, true, true], "a tag is that of one query");
    use FeedOutcome::{Page, Unchanged};
    assert_eq!(*outcomes.lock().unwrap(), [Page, Page, Page, Unchanged, Page]);
    assert_eq!(issuer.connections.load(SeqCst), 1, "one connection serves all");
}

#[tokio::test]
async fn what_is_known_outlives_every_failure_and_the_list_is_current_again_at_once() {
    let issuer = Issuer::default();
    issuer.says(200, page(true, false, "1", &[session(1)]));
    let entry = session(2);
    for (status, body) in [
        (500, String::new()),
        (304, String::new()),
        (301, String::new()),
        (200, "<html>".to_owned()),
        (200, json!({"reset": false, "more": false, "entries": []}).to_string()),
        (200, json!({"reset": 1, "more": false, "cursor": "x", "entries": []}).to_string()),
        (200, page(true, false, "x", &[json!({"session": "AAAA", "until": 1})]).to_string()),
        (200, page(true, false, "x", &[json!({"session": entry["session"]})]).to_string()),
        (200, page(false, true, "1", &[]).to_string()),
        (200, page(true, false, &"x".repeat(1025), &[]).to_string()),
        (200, " ".repeat(4 * 1024 * 1024 + 1)),
    ] {
        issuer.says(status, body);
    }
    let failures = issuer.answers.lock().unwrap().len() - 1;
    issuer.says(200, page(false, false, "2", &[entry]));
    let (list, outcomes) = follow(RevocationFeed::new(&issuer.start().await).unwrap());
    until(|| list.len() == 1).await;
    until(|| outcomes.lock().unwrap().len() == 5).await;
    assert_eq!((list.len(), list.cursor().as_deref()), (1, Some("1")));
    assert!(list.age().unwrap() > Duration::from_secs(2), "a failure makes nothing younger");
    // The remaining failures are not waited for: the back-off would take its time.
    issuer.answers.lock().unwrap().drain(..failures - 4);
    until(|| list.len() == 2).await;
    assert!(list.age().unwrap() < Duration::from_secs(1));
    let outcomes = outcomes.lock().unwrap();
    assert!(outcomes[1..outcomes.len() - 1].iter().all(|outcome| *outcome == FeedOutcome::Failed));
}

#[test]
fn nothing_but_a_page_is_read_as_one() {
    let digest = session(1)["session"].clone();
    let account = |more: Value| {
        let mut entry = json!({"account": digest, "generation": 1, "until": UNTIL});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        page(false, false, "", &[entry]).to_string()
    };
    let good = [
        page(true, true, "x", &[session(1)]).to_string(),
        account(json!({})),
        account(json!({"reason": "theft"})),
        // A kind that a later issuer may add.
        page(false, false, "x", &[json!({"client": digest, "until": 1})]).to_string(),
    ];
    for text in good {
        RevocationPage::from_json(text.as_bytes()).expect(&text);
    }
    let padded = format!("{}=", digest.as_str().unwrap());
    let bad = [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        format!("{}x", account(json!({}))),
        r#"{"reset":true,"reset":true,"more":false,"cursor":"","entries":[]}"#.to_owned(),
        account(json!({"generation": null})),
        account(json!({"generation": -1})),
        account(json!({"generation": "1"})),
        account(json!({"until": null})),
        account(json!({"until": "1"})),
        account(json!({"account": 1})),
        account(json!({"account": padded})),
        account(
            json!({"account": digest.as_str().unwrap().replace(|c: char| c.is_uppercase(), "+")}),
        ),
        account(json!({"session": digest})),
        page(false, false, "x", &[json!(null)]).to_string(),
        json!({"reset": false, "more": false, "cursor": 1, "entries": []}).to_string(),
        json!({"reset": false, "more": false, "cursor": "", "entries": {}}).to_string(),
    ];
    for text in bad {
        assert!(RevocationPage::from_json(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_page_in_json_is_the_one_that_the_contract_writes() {
    let id = Uuid::from_u128(7);
    let entries = vec![RevocationEntry::session(id, 10), RevocationEntry::account(id, 3, 20)];
    let page = RevocationPage::new(true, false, "c", entries);
    let digest = token_verifier::RevocationDigest::of(id).to_string();
    assert_eq!(
        json!(page),
        json!({"reset": true, "more": false, "cursor": "c", "entries": [
            {"session": digest, "until": 10},
            {"account": digest, "generation": 3, "until": 20},
        ]})
    );
    assert_eq!(RevocationPage::from_json(json!(page).to_string().as_bytes()).unwrap(), page);
}

#[tokio::test]
async fn an_issuer_without_a_list_has_revoked_nothing_and_a_list_may_come_later() {
    let issuer = Issuer::default();
    issuer.says(404, "");
    let (list, outcomes) = follow(RevocationFeed::new(&issuer.start().await).unwrap());
    until(|| outcomes.lock().unwrap().len() == 3).await;
    assert!(outcomes.lock().unwrap().iter().all(|outcome| *outcome == FeedOutcome::Missing));
    assert_eq!((list.len(), list.age()), (0, None), "never complete, so stale under a limit");
    issuer.answers.lock().unwrap().clear();
    issuer.says(200, page(true, false, "1", &[session(1)]));
    until(|| list.len() == 1).await;
}

#[tokio::test]
async fn a_reset_replaces_the_list_when_its_last_page_has_come() {
    let issuer = Issuer::default();
    issuer.says(200, page(true, false, "old", &[session(1), session(2)]));
    issuer.says(200, page(true, true, "1", &[session(2)]));
    issuer.says(500, "");
    issuer.says(200, page(false, false, "2", &[session(3)]));
    let (list, outcomes) = follow(RevocationFeed::new(&issuer.start().await).unwrap());
    let revokes = |id: u128| {
        let entries = vec![RevocationEntry::session(Uuid::from_u128(id), UNTIL)];
        // What is added a second time makes the list no longer.
        let before = list.len();
        let probe = RevocationPage::new(false, false, "probe", entries);
        list.apply(probe).map(|()| list.len() == before).unwrap()
    };
    until(|| outcomes.lock().unwrap().len() == 3).await;
    assert_eq!(list.len(), 2, "the old list counts until the new one is there");
    until(|| outcomes.lock().unwrap().len() == 4).await;
    assert_eq!(list.len(), 2);
    assert!(revokes(2) && revokes(3) && !revokes(1));
    assert_eq!(issuer.requests()[3].0, "after=1", "the page that failed is asked for again");
}

/// A list in the process, which a test adds to.
#[derive(Default)]
struct Own(Mutex<Vec<RevocationEntry>>);

#[async_trait::async_trait]
impl RevocationSource for Own {
    async fn page(
        &self,
        after: Option<&str>,
    ) -> Result<RevocationPage, Box<dyn std::error::Error + Send + Sync>> {
        let entries = self.0.lock().unwrap();
        let first: usize = after.map_or(Ok(0), str::parse)?;
        let new = entries[first..].to_vec();
        Ok(RevocationPage::new(after.is_none(), false, entries.len().to_string(), new))
    }
}

#[tokio::test]
async fn a_list_in_the_same_process_needs_no_http() {
    let own = Arc::new(Own::default());
    let (list, _) = follow(RevocationFeed::from_source(own.clone()));
    until(|| list.age().is_some()).await;
    own.0.lock().unwrap().push(RevocationEntry::session(Uuid::from_u128(1), UNTIL));
    let began = Instant::now();
    until(|| list.len() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(3));
}
