//! Both services together: an account's whole life, two replicas on one database, and a rotation of
//! the signing key that nobody notices.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Method;
use latchkey_contracts::auth::v1::{
    DeleteAccountRequest, IntrospectTokenRequest, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient,
};
use serde_json::{Value, json};
use service_kit::{clock::machine_time, settings::Source};
use test_kit::{Answer, Client, ENGINES, Engine, TestDatabase, channel, send};
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "S3cureP@ss";
const SERVICE_TOKEN: &str = "service-token-of-32-bytes-or-more";
const ENCRYPTION_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

struct Auth {
    rest: Client,
    http: std::net::SocketAddr,
    grpc: std::net::SocketAddr,
}

fn auth_settings(database: &TestDatabase) -> auth_service::config::Settings {
    use auth_service::config;

    let mut source = Source::default();
    source.set(&config::DATABASE_URL, &database.url);
    source.set(&config::KEY_ENCRYPTION_KEY, ENCRYPTION_KEY);
    source.set(&config::SERVICE_TOKEN, SERVICE_TOKEN);
    source.set(&config::BCRYPT_COST, "10");
    source.set(&config::LOGINS_PER_MINUTE, "0");
    for address in [config::HTTP_ADDR, config::GRPC_ADDR, config::ADMIN_ADDR] {
        source.set(&address, "127.0.0.1:0");
    }
    config::Settings::read(&mut source).unwrap()
}

async fn start_auth(database: &TestDatabase, stop: &CancellationToken) -> Auth {
    let app = auth_service::App::build(auth_settings(database), stop.clone()).await.unwrap();
    let (http, grpc, health) =
        (app.server().http_address(), app.server().grpc_address(), app.server().health().clone());
    tokio::spawn(app.run());
    health.ready().await;
    Auth { rest: Client::new(http), http, grpc }
}

/// A user service that has its keys from `keys` and reports deletions to `deletions`.
async fn start_user(
    database: &TestDatabase,
    keys: &Auth,
    deletions: &Auth,
    stop: &CancellationToken,
) -> Client {
    use user_service::config;

    let mut source = Source::default();
    source.set(&config::DATABASE_URL, &database.url);
    source.set(&config::JWKS_URL, format!("http://{}/.well-known/jwks.json", keys.http));
    source.set(&config::JWT_ISSUER, "http://localhost:3000");
    source.set(&config::JWT_AUDIENCE, "latchkey");
    source.set(&config::AUTH_GRPC_URL, format!("http://{}", deletions.grpc));
    source.set(&config::SERVICE_TOKEN, SERVICE_TOKEN);
    for address in [config::HTTP_ADDR, config::GRPC_ADDR, config::ADMIN_ADDR] {
        source.set(&address, "127.0.0.1:0");
    }
    let settings = config::Settings::read(&mut source).unwrap();
    let app = user_service::App::build(settings, stop.clone()).await.unwrap();
    let (http, health) = (app.server().http_address(), app.server().health().clone());
    tokio::spawn(app.run());
    health.ready().await;
    Client::new(http)
}

fn credentials(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD})
}

async fn login(auth: &Auth, email: &str) -> String {
    let answer = auth.rest.post("/auth/login", &credentials(email)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json["access_token"].as_str().unwrap().to_owned()
}

async fn with_token(users: &Client, method: Method, path: &str, token: &str) -> Answer {
    send(users.request(method, path).bearer_auth(token)).await
}

#[tokio::test]
async fn an_account_lives_from_registration_to_deletion() {
    for engine in ENGINES {
        let stop = CancellationToken::new();
        let databases = (TestDatabase::create(engine).await, TestDatabase::create(engine).await);
        let auth = start_auth(&databases.0, &stop).await;
        let users = start_user(&databases.1, &auth, &auth, &stop).await;

        let registered = auth.rest.post("/auth/register", &credentials("a@b.com")).await;
        let id = registered.json["id"].as_str().unwrap();
        let token = login(&auth, "a@b.com").await;
        let path = format!("/users/{id}");
        let profile = with_token(&users, Method::GET, &path, &token).await;
        assert_eq!(profile.status, 200, "{engine:?}: {}", profile.text);
        assert_eq!(profile.json["email"], "a@b.com");
        assert_eq!(profile.json["name"], "");

        assert_eq!(with_token(&users, Method::DELETE, &path, &token).await.status, 204);
        let refused = with_token(&users, Method::GET, &path, &token).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (401, "account_deleted"));

        // Within seconds, login fails as for an unknown account.
        let gone = async {
            while auth.rest.post("/auth/login", &credentials("a@b.com")).await.status != 401 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
        let mut introspection = AuthServiceClient::new(channel(auth.grpc).await);
        let mut question = tonic::Request::new(IntrospectTokenRequest { token });
        let bearer = format!("Bearer {SERVICE_TOKEN}").parse().unwrap();
        question.metadata_mut().insert("authorization", bearer);
        let answer = introspection.introspect_token(question).await.unwrap();
        assert!(!answer.into_inner().active, "{engine:?}");
        stop.cancel();
    }
}

#[tokio::test]
async fn an_account_deleted_at_the_auth_service_takes_its_profile_along() {
    for engine in ENGINES {
        let stop = CancellationToken::new();
        let databases = (TestDatabase::create(engine).await, TestDatabase::create(engine).await);
        let auth = start_auth(&databases.0, &stop).await;
        let users = start_user(&databases.1, &auth, &auth, &stop).await;
        let mut tokens = Vec::new();
        for email in ["a@b.com", "c@d.com"] {
            auth.rest.post("/auth/register", &credentials(email)).await;
            tokens.push(login(&auth, email).await);
        }
        let profile = with_token(&users, Method::GET, "/users/me", &tokens[0]).await;
        let id = profile.json["id"].as_str().unwrap().to_owned();

        let mut accounts = AccountServiceClient::new(channel(auth.grpc).await);
        let mut request = tonic::Request::new(DeleteAccountRequest { id: id.clone() });
        let bearer = format!("Bearer {SERVICE_TOKEN}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        accounts.delete_account(request).await.unwrap();

        let path = format!("/users/{id}");
        let gone = async {
            while with_token(&users, Method::GET, &path, &tokens[1]).await.status != 404 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
        // Whether or not the list of revocations has arrived too.
        for _ in 0..12 {
            let refused = with_token(&users, Method::GET, &path, &tokens[0]).await;
            assert_eq!((refused.status.as_u16(), refused.code()), (401, "account_deleted"));
            let again = with_token(&users, Method::DELETE, "/users/me", &tokens[0]).await;
            assert_eq!((again.status.as_u16(), again.code()), (404, "user_not_found"));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        stop.cancel();
    }
}

#[tokio::test]
async fn known_keys_go_on_verifying_while_the_auth_service_is_down() {
    let (stop_auth, stop) = (CancellationToken::new(), CancellationToken::new());
    let databases =
        (TestDatabase::create(Engine::Sqlite).await, TestDatabase::create(Engine::Sqlite).await);
    let auth = start_auth(&databases.0, &stop_auth).await;
    let users = start_user(&databases.1, &auth, &auth, &stop).await;
    auth.rest.post("/auth/register", &credentials("a@b.com")).await;
    let token = login(&auth, "a@b.com").await;
    stop_auth.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let list = with_token(&users, Method::GET, "/users", &token).await;
    assert_eq!(list.status, 200, "{}", list.text);
    stop.cancel();
}

/// Logins go to one replica, the keys come from the other, and an operator rotates meanwhile.
#[tokio::test]
async fn rotation_under_load_refuses_no_valid_token() {
    let stop = CancellationToken::new();
    let auth_database = TestDatabase::create(Engine::Postgres).await;
    let user_database = TestDatabase::create(Engine::Postgres).await;
    let one = Arc::new(start_auth(&auth_database, &stop).await);
    let other = start_auth(&auth_database, &stop).await;
    let users = start_user(&user_database, &other, &one, &stop).await;
    one.rest.post("/auth/register", &credentials("a@b.com")).await;

    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU32::new(0));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (one, users) = (Arc::clone(&one), users.clone());
            let (done, reads) = (Arc::clone(&done), Arc::clone(&reads));
            tokio::spawn(async move {
                let mut kids = BTreeSet::new();
                while !done.load(Relaxed) {
                    let token = login(&one, "a@b.com").await;
                    kids.insert(jsonwebtoken::decode_header(&token).unwrap().kid.unwrap());
                    for _ in 0..3 {
                        let list = with_token(&users, Method::GET, "/users", &token).await;
                        assert_eq!(list.status, 200, "{}", list.text);
                        reads.fetch_add(1, Relaxed);
                    }
                }
                kids
            })
        })
        .collect();
    let keys = auth_service::managed_keys(auth_settings(&auth_database)).await.unwrap().unwrap();
    let next = keys.rotate(true, machine_time()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(14)).await;
    done.store(true, Relaxed);
    let mut kids = BTreeSet::new();
    for task in load {
        kids.extend(task.await.unwrap());
    }
    assert!(kids.contains(&next) && kids.len() == 2, "{kids:?}");
    assert!(reads.load(Relaxed) > 20);
    stop.cancel();
}
