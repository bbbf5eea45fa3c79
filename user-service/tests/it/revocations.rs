//! Tokens that were revoked, as a small server says in place of the auth service.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::StatusCode;
use latchkey_contracts::user::v1::GetUserRequest;
use serde_json::{Value, json};
use service_kit::settings::Setting;
use test_kit::{Engine, TestDatabase};
use token_verifier::RevocationDigest;
use tokio::{net::TcpListener, time::Instant};
use user_service::config;
use uuid::Uuid;

use crate::support::{Person, Running, outcome, unix_now};

/// An issuer whose list a test can change: `None` where it has none.
#[derive(Clone, Default)]
struct Issuer(Arc<Mutex<Option<Vec<Value>>>>);

impl Issuer {
    async fn start(&self) -> String {
        async fn list(State(issuer): State<Issuer>) -> axum::response::Response {
            match &*issuer.0.lock().unwrap() {
                None => StatusCode::NOT_FOUND.into_response(),
                Some(entries) => axum::Json(json!({
                    "reset": true, "more": false, "cursor": "1", "entries": entries
                }))
                .into_response(),
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/revocations", listener.local_addr().unwrap());
        let app = Router::new().route("/revocations", get(list)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        url
    }

    fn revokes(&self, entries: Vec<Value>) {
        *self.0.lock().unwrap() = Some(entries);
    }

    fn has_none(&self) {
        *self.0.lock().unwrap() = None;
    }
}

async fn start(overrides: &[(Setting, &str)]) -> (Running, TestDatabase) {
    let database = TestDatabase::create(Engine::Sqlite).await;
    (Running::start_on(&database, overrides).await, database)
}

/// Somebody whose token is of a session and of a generation.
fn person(session: Uuid, generation: u64, age: i64) -> Person {
    let (sub, now) = (Uuid::now_v7(), unix_now());
    Person::of(&json!({
        "sub": sub, "email": format!("{}@example.com", sub.simple()), "sid": session,
        "gen": generation, "iat": now - age, "exp": now - age + 3600
    }))
}

async fn until(service: &Running, person: &Person, expected: &str) -> Duration {
    let began = Instant::now();
    loop {
        let seen = outcome(&service.get(person, person.id).await);
        if seen == expected {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{seen} where {expected} should be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_on_both_edges_within_five_seconds() {
    let issuer = Issuer::default();
    issuer.revokes(Vec::new());
    let url = issuer.start().await;
    let (service, _database) = start(&[(config::REVOCATIONS_URL, &url)]).await;
    let (session, end) = (Uuid::now_v7(), unix_now() + 3600);
    let (ended, everywhere) = (person(session, 0, 0), person(Uuid::now_v7(), 4, 0));
    let other = person(Uuid::now_v7(), 5, 0);
    for person in [&ended, &everywhere, &other] {
        assert_eq!(outcome(&service.get(person, person.id).await), "200");
    }
    issuer.revokes(vec![
        json!({"session": RevocationDigest::of(session), "until": end}),
        json!({"account": RevocationDigest::of(everywhere.id), "generation": 5, "until": end}),
        json!({"account": RevocationDigest::of(other.id), "generation": 5, "until": end}),
    ]);
    let took = until(&service, &ended, "401 token_revoked").await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let answer = service.get(&everywhere, everywhere.id).await;
    assert_eq!(outcome(&answer), "401 token_revoked");
    let challenge = r#"Bearer realm="latchkey", error="invalid_token""#;
    assert_eq!(answer.header("www-authenticate"), challenge);
    assert_eq!(outcome(&service.get(&other, other.id).await), "200");

    let request = ended.ask(GetUserRequest { id: ended.id.to_string() });
    let status = service.users().await.get_user(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    // A token that has expired is expired, whatever else it is.
    let late = person(session, 0, 3600);
    assert_eq!(outcome(&service.get(&late, late.id).await), "401 token_expired");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_too_old_makes_the_service_unready_and_nothing_else_does() {
    let issuer = Issuer::default();
    issuer.revokes(Vec::new());
    let url = issuer.start().await;
    let limit = [(config::REVOCATIONS_URL, url.as_str()), (config::REVOCATIONS_MAX_AGE, "3")];
    let (strict, _database) = start(&limit).await;
    let (lenient, _other) = start(&limit[..1]).await;
    let person = person(Uuid::now_v7(), 0, 0);
    assert_eq!(outcome(&strict.get(&person, person.id).await), "200");
    issuer.has_none();
    until(&strict, &person, "503 revocations_stale").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while strict.rest.get("/readyz").await.status != 503 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let health = strict.rest.get("/health").await;
    assert_eq!(health.json["checks"]["revocations"]["status"], "unavailable");
    assert_eq!(health.json["checks"]["signing_keys"]["status"], "ok");
    assert_eq!(outcome(&lenient.get(&person, person.id).await), "200");
    assert_eq!(lenient.rest.get("/readyz").await.status, 200);
    issuer.revokes(Vec::new());
    until(&strict, &person, "200").await;
    strict.ready(Duration::from_secs(10)).await;
    strict.stop().await;
    lenient.stop().await;
}
