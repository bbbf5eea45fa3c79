//! The pieces of both services whose instructions `scripts/test-instructions` counts. As part of the
//! tests this only does each piece a few times, which shows that they still work.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{
    hint::black_box,
    sync::{Arc, OnceLock},
    time::Duration,
};

use auth_service::{
    domain::{AccountId, Email, Password},
    hashing::Hashing,
    keys::{KeyRing, SigningKey},
    password::{Make, Memory, Scheme, run},
    token::{Grant, Issuer},
};
use axum::{Router, body::Body, body::to_bytes, routing::get};
use chrono::DateTime;
use http::{Method, Request, StatusCode, header};
use service_kit::{
    api_docs::Page,
    catalogue::Catalogue,
    clock::machine_time,
    edge::Edge,
    error::{ApiError, Fault},
    health::{Health, Successes},
    metrics::Metrics,
    rest,
    runtime::{LOG_FORMAT, LogSettings},
    settings::Source,
    telemetry::{self, LogOutput},
    trace::Traces,
};
use sql_kit::PoolOptions;
use token_verifier::{KeySet, Rules, Verifier};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use user_service::{
    domain::UserId,
    page_token::{Cursor, KEY_BYTES, PageKey},
};
use uuid::Uuid;

/// How often a piece is done before it counts: what happens the first time only is not the piece's.
const WARM_UP: usize = 4;
const SECRET: &str = "a secret for tests of 32 bytes or more";
const RS256: &[u8] = include_bytes!("../../crates/token-verifier/vectors/keys/issuer-rs256.pem");
const ES256: &[u8] = include_bytes!("../../crates/token-verifier/vectors/keys/issuer-es256.pem");
const EDDSA: &[u8] = include_bytes!("../../crates/token-verifier/vectors/keys/issuer-eddsa.pem");

/// Whether this runs to be counted, not only to be tested.
static COUNTING: OnceLock<bool> = OnceLock::new();

/// Callgrind counts what happens in here, and writes a file at its end.
#[inline(never)]
fn counted_calls(times: usize, piece: &mut dyn FnMut()) {
    for _ in 0..times {
        piece();
    }
}

/// Does a piece, and prints its name and how often it was done while it counted.
fn count<T>(name: &str, times: usize, mut piece: impl FnMut() -> T) {
    let mut piece = || drop(black_box(piece()));
    for _ in 0..WARM_UP {
        piece();
    }
    if COUNTING.get().is_some() {
        println!("{times}\t{name}");
        counted_calls(times, &mut piece);
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--count") {
        COUNTING.get_or_init(|| true);
        // A request costs its log line, too.
        let mut source = Source::default();
        source.set(&LOG_FORMAT, "json");
        telemetry::init(&LogSettings::read(&mut source), LogOutput::Stderr).unwrap();
    }
    // One thread: where several take turns, counts vary.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    tokens();
    page_tokens();
    hashes();
    problems(&runtime);
    profile(&runtime);
    login(&runtime);
}

fn issuer() -> Issuer {
    Issuer {
        issuer: "https://auth.example".to_owned(),
        audience: "latchkey".to_owned(),
        ttl: Duration::from_secs(86_400),
    }
}

/// A new token of the same account each time.
fn issue(key: &SigningKey) -> String {
    let email = Email::parse("ada@example.com").unwrap();
    let grant = Grant {
        account: AccountId(Uuid::from_u128(7)),
        email: &email,
        generation: 0,
        session: None,
        email_verified: None,
    };
    issuer().issue(grant, key, machine_time()).unwrap()
}

fn verifier(key: &SigningKey) -> Verifier {
    let keys = KeySet::new(vec![key.verification_key().clone()]);
    let Issuer { issuer, audience, .. } = issuer();
    Verifier::with_keys(keys, Rules::default().issuer(issuer).audience(audience))
}

fn tokens() {
    const TIMES: usize = 20;
    let keys = [
        ("HS256", SigningKey::from_secret(SECRET.as_bytes())),
        ("RS256", SigningKey::from_pem(RS256)),
        ("ES256", SigningKey::from_pem(ES256)),
        ("EdDSA", SigningKey::from_pem(EDDSA)),
    ];
    for (algorithm, key) in keys {
        let key = key.unwrap();
        let verifier = verifier(&key);
        let tokens: Vec<String> = (0..WARM_UP + TIMES).map(|_| issue(&key)).collect();
        let mut unseen = tokens.iter();
        count(&format!("verify a token, {algorithm}"), TIMES, || {
            verifier.verify_cached(unseen.next().unwrap()).unwrap()
        });
        let token = &tokens[0];
        count(&format!("verify a remembered token, {algorithm}"), 100, || {
            verifier.verify_cached(token).unwrap()
        });
    }
}

fn page_tokens() {
    let key = PageKey::new(&[1; KEY_BYTES]);
    let cursor = Cursor {
        created_at: DateTime::from_timestamp_micros(1_750_000_000_123_456).unwrap(),
        id: UserId(Uuid::from_u128(7)),
    };
    let token = key.seal(cursor);
    count("seal a page token", 100, || key.seal(black_box(cursor)));
    count("open a page token", 100, || key.open(black_box(&token)).unwrap());
}

fn hashes() {
    for width in [1, bcrypt_lanes::WIDTH] {
        let mut lanes = bcrypt_lanes::Lanes::new();
        count(&format!("bcrypt at cost 4, lanes: {width}"), 4, || {
            let job = || bcrypt_lanes::Job::new(4, *b"sixteen salty by", b"password").unwrap();
            lanes.run((0..width).map(|_| (job(), ()))).last().unwrap()
        });
    }
    let password = Password::normalize("correct horse battery staple");
    let argon2id = Scheme::Argon2id { memory_kib: 256, iterations: 2, parallelism: 1 };
    let memory = Memory::default();
    count("Argon2id of 256 KiB", 4, || {
        run(Make::new(argon2id, password.clone()).unwrap(), &memory).unwrap()
    });
}

fn edge(service: &'static str) -> Edge {
    Edge {
        service,
        metrics: Metrics::default(),
        traces: Traces::default(),
        trusted_proxies: Default::default(),
        allowed_origins: Vec::new(),
        tls: false,
        draining: CancellationToken::new(),
    }
}

/// A health that is over at once: it would work in the background now and then.
fn no_health() -> Health {
    let over = CancellationToken::new();
    over.cancel();
    Health::start("none", "0", Vec::new(), Successes::default(), over)
}

/// Sends a request through all of a service but its listener.
async fn send(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    (status, to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec())
}

fn problems(runtime: &Runtime) {
    let refusal = || {
        let fault = |pointer: &str| Fault {
            pointer: pointer.to_owned(),
            code: service_kit::field_code::REQUIRED,
            detail: "must be given".into(),
        };
        ApiError::validation(["/email", "/password", "/name"].map(fault).into())
    };
    let routes = Router::new().route("/", get(move || async move { refusal() }));
    let router = rest::finish(&edge("none"), Catalogue::NONE, routes);
    count("answer with a problem", 200, || {
        let request = Request::get("/").header(header::HOST, "localhost").body(Body::empty());
        let (status, _) = runtime.block_on(send(&router, request.unwrap()));
        assert_eq!(status, StatusCode::BAD_REQUEST);
    });
    count("answer with a gRPC status", 500, || tonic::Status::from(refusal()));
}

fn profile(runtime: &Runtime) {
    use user_service::{NAME, config, edge::rest::router, service::Service, store::Store};

    let mut source = Source::default();
    source.set(&config::DATABASE_URL, "sqlite::memory:");
    source.set(&config::JWT_SECRET, SECRET);
    let settings = config::Settings::read(&mut source).unwrap();
    let options = PoolOptions::new(NAME, &settings.database.pool, &Metrics::default());
    let store = Store::open(&settings.database.database, options).unwrap();
    let service = Service::new(store.clone(), settings.profiles.visibility());
    let key = SigningKey::from_pem(ES256).unwrap();
    let router = runtime.block_on(async {
        store.migrate().await.unwrap();
        service.prepare().await.unwrap();
        let page = Page::of_tokens_from(None);
        router(&edge(NAME), Arc::new(service), verifier(&key), &no_health(), page)
    });
    let token = format!("Bearer {}", issue(&key));
    let path = format!("/users/{}", Uuid::from_u128(7));
    count("GET /users/{id}", 100, || {
        let request = Request::get(&path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, &token)
            .body(Body::empty());
        let (status, body) = runtime.block_on(send(&router, request.unwrap()));
        assert_eq!(status, StatusCode::OK);
        body
    });
}

fn login(runtime: &Runtime) {
    use auth_service::{
        NAME, config,
        edge::rest::router,
        service::{Parts, Service},
        store::Store,
        throttle::SubjectKey,
    };

    let mut source = Source::default();
    source.set(&config::DATABASE_URL, "sqlite::memory:");
    source.set(&config::KEY_ENCRYPTION_KEY, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    source.set(&config::LOGINS_PER_MINUTE, "0");
    let settings = config::Settings::read(&mut source).unwrap();
    let metrics = Metrics::default();
    let options = PoolOptions::new(NAME, &settings.database.pool, &metrics);
    let store = Store::open(&settings.database.database, options).unwrap();
    let (timeout, expected) = (Duration::from_secs(60), Duration::from_millis(1));
    let hashing = Hashing::start(1, 1, timeout, expected, Memory::default(), &metrics).unwrap();
    let service = Service::new(
        Parts {
            store: store.clone(),
            hashing,
            scheme: Scheme::Bcrypt { cost: 4 },
            issuer: settings.issuer,
            limits: settings.limits,
            password_rules: settings.password_rules,
            breaches: None,
            sessions: settings.sessions,
            registration: settings.registration,
            mail: None,
        },
        &metrics,
    );
    service.use_subject_key(SubjectKey::new(b"secret"));
    service.set_prepared();
    service.publish_keys(KeyRing::of_one(SigningKey::from_pem(ES256).unwrap(), Vec::new()));
    let router = runtime.block_on(async {
        store.migrate().await.unwrap();
        router(&edge(NAME), Arc::new(service), &no_health())
    });
    let body = serde_json::json!({"email": "ada@example.com", "password": "S3cureP@ss"});
    let post = |path: &str| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()));
        runtime.block_on(send(&router, request.unwrap()))
    };
    assert_eq!(post("/auth/register").0, StatusCode::CREATED);
    count("POST /auth/login", 20, || {
        let (status, body) = post("/auth/login");
        assert_eq!(status, StatusCode::OK);
        body
    });
}
