//! The extractor, the interceptor and the `Authorization` field.

use axum::body::{Body, to_bytes};
use axum::extract::FromRef;
use axum::{Router, routing::get};
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde_json::Value;
use token_verifier::axum::Caller;
use token_verifier::tonic::BearerInterceptor;
use token_verifier::{
    AuthError, Claims, JwksCache, KeySet, Rules, Verifier, VerifyError, bearer_token,
};
use tonic::{Code, service::Interceptor};
use tower::ServiceExt;

use crate::forge::{ISSUER, NOW, STRANGER, SUB, from_jwks};

const PLAIN: &str = r#"Bearer realm="latchkey""#;
const INVALID: &str = r#"Bearer realm="latchkey", error="invalid_token""#;

fn ready() -> Verifier {
    Verifier::with_keys(from_jwks(), Rules::default()).with_clock(|| NOW)
}

fn not_ready() -> Verifier {
    let cache = JwksCache::new("http://127.0.0.1:1/jwks.json").unwrap();
    Verifier::with_jwks(cache, Rules::default())
}

fn fields(values: &[&[u8]]) -> HeaderMap {
    let value = |value: &&[u8]| (AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in values.iter().map(value) {
        headers.append(name, value);
    }
    headers
}

#[test]
fn the_authorization_field_is_read_as_rfc_6750_has_it() {
    for field in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "bEaReR   a.b.c", "Bearer a.b.c "]
    {
        assert_eq!(bearer_token(&fields(&[field.as_bytes()])), Ok("a.b.c"), "{field}");
    }
    assert_eq!(bearer_token(&fields(&[])), Err(AuthError::Missing));
    for field in [
        "",
        "Basic YTpi",
        "Bearertoken",
        "Bearer\ta.b.c",
        "Bearer:a",
        "\"Bearer\" a",
        "Bearer",
        "Bearer ",
    ] {
        assert_eq!(bearer_token(&fields(&[field.as_bytes()])), Err(AuthError::Missing), "{field}");
    }
    for field in [&b"Bearer a b"[..], b"Bearer a,b", b"Bearer a, Bearer b", b"bearer \xff"] {
        assert_eq!(bearer_token(&fields(&[field])), Err(AuthError::Malformed), "{field:?}");
    }
    for pair in [[&b"Bearer a"[..], b"Bearer a"], [b"Bearer a", b"Basic b"], [b"", b""]] {
        assert_eq!(bearer_token(&fields(&pair)), Err(AuthError::Ambiguous));
    }
}

#[tokio::test]
async fn the_verifier_reads_the_field_itself() {
    let token = ISSUER.token("ES256");
    let headers = fields(&[format!("Bearer {token}").as_bytes()]);
    assert_eq!(ready().verify_authorization(&headers).await.unwrap().sub.to_string(), SUB);
    assert_eq!(not_ready().verify_authorization(&headers).await, Err(AuthError::KeysUnavailable));
    let empty = Verifier::with_keys(KeySet::new(vec![]), Rules::default());
    assert!(!empty.is_ready() && ready().is_ready() && !not_ready().is_ready());
    let real = Verifier::with_keys(from_jwks(), Rules::default());
    let old = real.verify_authorization(&headers).await;
    assert_eq!(old, Err(AuthError::Invalid(VerifyError::Expired)), "the system's clock is used");
}

#[derive(Clone)]
struct App {
    verifier: Verifier,
}

impl FromRef<App> for Verifier {
    fn from_ref(app: &App) -> Self {
        app.verifier.clone()
    }
}

async fn call(verifier: Verifier, authorization: &[&str]) -> (StatusCode, HeaderMap, String) {
    async fn whoami(Caller(claims): Caller) -> String {
        claims.sub.to_string()
    }
    let app = Router::new().route("/", get(whoami)).with_state(App { verifier });
    let mut request = Request::get("/?access_token=x");
    for value in authorization {
        request = request.header(AUTHORIZATION, *value);
    }
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 64 * 1024).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_extractor_lets_in_or_answers_with_a_problem() {
    let good = format!("bearer {}", ISSUER.token("EdDSA"));
    let (status, _, body) = call(ready(), &[&good]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, SUB));

    let forged = format!("Bearer {}", STRANGER.token("EdDSA"));
    for (verifier, authorization, status, code, challenge) in [
        (ready(), vec![], 401, "unauthenticated", Some(PLAIN)),
        (ready(), vec!["Basic YTpi"], 401, "unauthenticated", Some(PLAIN)),
        (ready(), vec!["Bearer "], 401, "unauthenticated", Some(PLAIN)),
        (ready(), vec![forged.as_str()], 401, "invalid_token", Some(INVALID)),
        (ready(), vec![good.as_str(), good.as_str()], 400, "malformed_request", None),
        (not_ready(), vec![good.as_str()], 503, "signing_keys_unavailable", None),
        (not_ready(), vec![], 401, "unauthenticated", Some(PLAIN)),
    ] {
        let (got, headers, body) = call(verifier, &authorization).await;
        assert_eq!(got.as_u16(), status, "{code}");
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        let got = headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
        assert_eq!(got, challenge, "{code}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        // The client does not learn which check failed.
        assert!(!body.contains("unknown"), "{body}");
    }
}

#[test]
fn the_interceptor_puts_the_claims_into_the_call_or_refuses_it() {
    let intercept = |verifier: Verifier, authorization: &[&str]| {
        let mut request = tonic::Request::new(());
        for value in authorization {
            request.metadata_mut().append("authorization", value.parse().unwrap());
        }
        BearerInterceptor::new(verifier).call(request)
    };
    let good = format!("Bearer {}", ISSUER.token("RS256"));
    let request = intercept(ready(), &[&good]).unwrap();
    assert_eq!(request.extensions().get::<Claims>().unwrap().sub.to_string(), SUB);

    let forged = format!("Bearer {}", STRANGER.token("RS256"));
    for (verifier, authorization, code) in [
        (ready(), vec![], Code::Unauthenticated),
        (ready(), vec!["Basic YTpi"], Code::Unauthenticated),
        (ready(), vec!["Bearer a b"], Code::Unauthenticated),
        (ready(), vec![forged.as_str()], Code::Unauthenticated),
        (ready(), vec![good.as_str(), good.as_str()], Code::InvalidArgument),
        (not_ready(), vec![good.as_str()], Code::Unavailable),
    ] {
        assert_eq!(intercept(verifier, &authorization).unwrap_err().code(), code);
    }
}

#[test]
fn reasons_are_stable_names() {
    for (error, reason) in [
        (AuthError::Missing, "missing"),
        (AuthError::Ambiguous, "ambiguous"),
        (AuthError::Malformed, "malformed_header"),
        (AuthError::Invalid(VerifyError::MissingClaim("sub")), "missing_claim"),
        (AuthError::KeysUnavailable, "keys_unavailable"),
    ] {
        assert_eq!(error.reason(), reason);
    }
}
