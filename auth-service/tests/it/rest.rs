//! The REST edge.

use auth_service::config;
use http::Method;
use serde_json::{Value, json};
use service_kit::clock::machine_time;
use test_kit::{ENGINES, Engine, send};
use uuid::Uuid;

use crate::support::{PASSWORD, Running};

fn credentials(email: &str, password: &str) -> Value {
    json!({"email": email, "password": password})
}

#[tokio::test]
async fn a_person_registers_and_logs_in() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        let registered =
            service.rest.post("/auth/register", &credentials("A@b.com", PASSWORD)).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        assert_eq!(registered.json["email"], "a@b.com");
        let id = Uuid::parse_str(registered.json["id"].as_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
        let created = registered.json["created_at"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(created).is_ok() && created.ends_with('Z'));
        assert_eq!(registered.header("location"), "");
        assert_eq!(registered.header("x-content-type-options"), "nosniff");

        let logged_in = service.rest.post("/auth/login", &credentials("a@B.com", PASSWORD)).await;
        assert_eq!(logged_in.status, 200, "{}", logged_in.text);
        assert_eq!(logged_in.header("cache-control"), "no-store");
        assert_eq!(logged_in.json["token_type"], "Bearer");
        assert_eq!(logged_in.json["expires_in"], 3600);

        let jwks = service.rest.get("/.well-known/jwks.json").await;
        assert_eq!(jwks.header("cache-control"), "public, max-age=300");
        let keys = token_verifier::KeySet::from_jwks(jwks.text.as_bytes()).unwrap();
        let rules =
            token_verifier::Rules::default().issuer("http://localhost:3000").audience("latchkey");
        let token = logged_in.json["access_token"].as_str().unwrap();
        let now = machine_time().timestamp();
        let claims = token_verifier::verify(token, &keys, &rules, now).unwrap();
        assert_eq!(claims.sub, id);
        assert_eq!(claims.email.as_deref(), Some("a@b.com"));
        assert_eq!(claims.exp, claims.iat + 3600);
        assert!(claims.jti.is_some());
    }
}

#[tokio::test]
async fn every_algorithm_signs_tokens_that_the_jwks_verifies() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let service =
            Running::start_with(Engine::Sqlite, &[(config::JWT_ALGORITHM, algorithm)]).await;
        service.register("a@b.com").await;
        let token = service.login("a@b.com").await;
        let jwks = service.rest.get("/.well-known/jwks.json").await;
        assert_eq!(jwks.json["keys"][0]["alg"], algorithm);
        let keys = token_verifier::KeySet::from_jwks(jwks.text.as_bytes()).unwrap();
        let now = machine_time().timestamp();
        token_verifier::verify(&token, &keys, &Default::default(), now).unwrap();
    }
}

#[tokio::test]
async fn under_hs256_the_jwks_is_empty_and_tokens_have_no_kid() {
    let secret = "a-shared-secret-of-32-bytes-or-so";
    let overrides = [(config::JWT_ALGORITHM, "HS256"), (config::JWT_SECRET, secret)];
    let service = Running::start_with(Engine::Sqlite, &overrides).await;
    service.register("a@b.com").await;
    let token = service.login("a@b.com").await;
    assert_eq!(service.rest.get("/.well-known/jwks.json").await.json, json!({"keys": []}));
    let key = token_verifier::VerificationKey::from_secret(secret.as_bytes()).unwrap();
    let keys = token_verifier::KeySet::new(vec![key]);
    let now = machine_time().timestamp();
    token_verifier::verify(&token, &keys, &Default::default(), now).unwrap();
    assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid, None);
}

#[tokio::test]
async fn an_email_registers_once_in_any_letter_case() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        service.register("a@b.com").await;
        let again = service.rest.post("/auth/register", &credentials("A@B.COM", PASSWORD)).await;
        assert_eq!(again.status, 409);
        assert_eq!(again.code(), "email_already_registered");
        service.register("a+b@b.com").await;
    }
}

#[tokio::test]
async fn of_twenty_parallel_registrations_one_succeeds() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        let tries: Vec<_> = (0..20)
            .map(|_| {
                let rest = service.rest.clone();
                let body = credentials("a@b.com", PASSWORD);
                tokio::spawn(
                    async move { rest.post("/auth/register", &body).await.status.as_u16() },
                )
            })
            .collect();
        let mut statuses = Vec::new();
        for attempt in tries {
            statuses.push(attempt.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses[0], 201, "{engine:?}");
        assert!(statuses[1..].iter().all(|status| *status == 409), "{engine:?}: {statuses:?}");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_the_credentials_the_answer_is_the_same() {
    let service = Running::start(Engine::Sqlite).await;
    service.register("a@b.com").await;
    let long = "x".repeat(5000);
    let attempts = [
        ("a@b.com", "wrong password"),
        ("unknown@b.com", PASSWORD),
        ("a@b.com", ""),
        ("a@b.com", &long),
        ("not an email", PASSWORD),
        ("", ""),
        (" a@b.com", PASSWORD),
    ];
    for (email, password) in attempts {
        let request = service
            .rest
            .request(Method::POST, "/auth/login")
            .header("x-request-id", "same")
            .json(&credentials(email, password));
        let answer = send(request).await;
        assert_eq!(answer.status, 401, "{email:?} {password:.20?}");
        assert_eq!(
            answer.text,
            r#"{"type":"/errors#invalid_credentials","title":"Invalid credentials","status":401,"detail":"no account has this email and password","code":"invalid_credentials","request_id":"same"}"#
        );
        assert!(answer.header("www-authenticate").starts_with("Bearer "));
    }
}

#[tokio::test]
async fn passwords_are_used_exactly_as_they_are() {
    let service = Running::start(Engine::Sqlite).await;
    let long = "pass phrase ".repeat(20);
    let passwords = [" spaces around ", "ünïcödé-пароль", long.trim(), &"y".repeat(1024)];
    for (number, password) in passwords.into_iter().enumerate() {
        let email = format!("p{number}@b.com");
        let registered = service.rest.post("/auth/register", &credentials(&email, password)).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        let login = |password: &str| {
            let body = credentials(&email, password);
            let rest = service.rest.clone();
            async move { rest.post("/auth/login", &body).await.status.as_u16() }
        };
        assert_eq!(login(password).await, 200);
        assert_eq!(login(password.trim()).await == 200, password == password.trim());
        // The last character counts, also past bcrypt's 72 bytes.
        let (last, _) = password.char_indices().next_back().unwrap();
        assert_eq!(login(&format!("{}?", &password[..last])).await, 401);
    }
    // Composed and decomposed are the same password.
    service.rest.post("/auth/register", &credentials("nfc@b.com", "cafe\u{301} au lait")).await;
    let body = credentials("nfc@b.com", "caf\u{e9} au lait");
    assert_eq!(service.rest.post("/auth/login", &body).await.status, 200);
}

#[tokio::test]
async fn all_faults_of_a_body_are_told_at_once() {
    let service = Running::start(Engine::Sqlite).await;
    let body = json!({"email": "bad", "password": "short", "extra/member": 1});
    let answer = service.rest.post("/auth/register", &body).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.code(), "validation_failed");
    let mut faults: Vec<_> = answer.json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["pointer"].as_str().unwrap(), fault["code"].as_str().unwrap()))
        .collect();
    faults.sort_unstable();
    assert_eq!(
        faults,
        [
            ("/email", "invalid_email"),
            ("/extra~1member", "unknown_member"),
            ("/password", "password_too_short"),
        ]
    );
    let answer = service.rest.post("/auth/register", &json!({"email": 1})).await;
    let faults: Vec<_> =
        answer.json["errors"].as_array().unwrap().iter().map(|f| f["code"].clone()).collect();
    assert_eq!(faults, ["not_a_string", "required"]);
    // A password is never sent back.
    assert!(!answer.text.contains("short"));
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let service = Running::start(Engine::Sqlite).await;
    let request = |method, path: &str| service.rest.request(method, path);
    let json_type = ("content-type", "application/json");
    let huge = "x".repeat(1024 * 1024);
    let cases = [
        (request(Method::GET, "/nowhere"), 404, "not_found"),
        (request(Method::GET, "/auth/login"), 405, "method_not_allowed"),
        (request(Method::POST, "/livez"), 405, "method_not_allowed"),
        (request(Method::POST, "/auth/login").body("{}"), 415, "unsupported_media_type"),
        (
            request(Method::POST, "/auth/login").header("content-type", "text/plain").body("{}"),
            415,
            "unsupported_media_type",
        ),
        (
            request(Method::POST, "/auth/login").header(json_type.0, json_type.1).body(huge),
            413,
            "payload_too_large",
        ),
        (
            request(Method::POST, "/auth/login").header(json_type.0, json_type.1).body("{"),
            400,
            "malformed_json",
        ),
        (
            request(Method::POST, "/auth/login")
                .header(json_type.0, json_type.1)
                .body(r#"{"email":"a@b.com","email":"a@b.com","password":"x"}"#),
            400,
            "malformed_json",
        ),
        (
            request(Method::POST, "/auth/login")
                .header(json_type.0, json_type.1)
                .body(r#"{"email":"a@b.com","password":"\u0000"}"#),
            400,
            "malformed_json",
        ),
        (request(Method::GET, "/livez?a=1&a=2"), 400, "malformed_request"),
    ];
    for (request, status, code) in cases {
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.code(), code);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["status"], status);
        assert_eq!(answer.json["request_id"], answer.header("x-request-id"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("allow").is_empty(), status != 405);
    }
    let charset = request(Method::POST, "/auth/login")
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(r#"{"email":"a@b.com","password":"x"}"#);
    assert_eq!(send(charset).await.status, 401);
}

#[tokio::test]
async fn the_request_id_is_kept_or_made() {
    let service = Running::start(Engine::Sqlite).await;
    let with_id = |id| service.rest.request(Method::GET, "/livez").header("x-request-id", id);
    assert_eq!(
        send(with_id("my-id:1/2=3+4.5_6")).await.header("x-request-id"),
        "my-id:1/2=3+4.5_6"
    );
    let made = send(with_id("not ok")).await;
    assert!(Uuid::parse_str(made.header("x-request-id")).is_ok());
}

#[tokio::test]
async fn health_tells_of_the_database() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        for path in ["/health", "/readyz"] {
            let answer = service.rest.get(path).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json["status"], "ok");
            assert_eq!(answer.json["service"], "auth-service");
            assert_eq!(answer.json["checks"]["database"]["status"], "ok");
            assert!(answer.json["checks"]["database"]["latency_ms"].is_number());
        }
        assert_eq!(service.rest.get("/livez").await.status, 200);
        service.stop().await;
    }
}

#[tokio::test]
async fn a_hash_of_another_scheme_is_replaced_at_login() {
    let service = Running::start(Engine::Sqlite).await;
    service.register("a@b.com").await;
    let database = service.stop().await;
    let argon2id = [
        (config::PASSWORD_HASH, "argon2id"),
        (config::ARGON2_MEMORY_KIB, "7168"),
        (config::ARGON2_ITERATIONS, "1"),
    ];
    let service = Running::start_on(database, &argon2id).await;
    service.login("a@b.com").await;
    let pool = sqlx::SqlitePool::connect(&service.database.url).await.unwrap();
    let (hash, scheme): (String, String) =
        sqlx::query_as("SELECT password_hash, hash_scheme FROM accounts")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=7168,t=1,p=1$"), "{hash}");
    assert_eq!(scheme, "argon2id:7168,1,1");
    service.login("a@b.com").await;
}
