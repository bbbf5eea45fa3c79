//! What a token costs by its algorithm: the first time, and while it is remembered.

#![expect(clippy::unwrap_used, reason = "a measurement")]

use std::hint::black_box;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::Value;
use token_verifier::{KeySet, Rules, VerificationKey, Verifier, verify};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A token with the claims of `other`.
fn hs256(other: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"at+jwt"}"#);
    let signed = format!("{header}.{}", other.split('.').nth(1).unwrap());
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn verification(criterion: &mut Criterion) {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/tokens.json")).unwrap();
    let now = vectors["now"].as_i64().unwrap();
    let rule = |name: &str| vectors["rules"][name].as_str().unwrap().to_owned();
    let rules = Rules::default().issuer(rule("iss")).audience(rule("aud"));
    let of_vectors = |algorithm: &str| {
        let tokens = vectors["tokens"].as_array().unwrap();
        let token = tokens.iter().find(|token| token["name"] == format!("good: {algorithm}"));
        token.unwrap()["token"].as_str().unwrap().to_owned()
    };
    let public = KeySet::from_jwks(vectors["jwks"].to_string().as_bytes()).unwrap();
    let secret = KeySet::new(vec![VerificationKey::from_secret(SECRET).unwrap()]);
    let cases = [
        ("HS256", &secret, hs256(&of_vectors("EdDSA"))),
        ("RS256", &public, of_vectors("RS256")),
        ("ES256", &public, of_vectors("ES256")),
        ("EdDSA", &public, of_vectors("EdDSA")),
    ];
    let mut first = criterion.benchmark_group("first_time");
    for (algorithm, keys, token) in &cases {
        first.bench_function(*algorithm, |bencher| {
            bencher.iter(|| verify(black_box(token), keys, &rules, now).unwrap());
        });
    }
    first.finish();
    let mut remembered = criterion.benchmark_group("remembered");
    for (algorithm, keys, token) in &cases {
        let verifier = Verifier::with_keys((*keys).clone(), rules.clone()).with_clock(move || now);
        remembered.bench_function(*algorithm, |bencher| {
            bencher.iter(|| verifier.verify_cached(black_box(token)).unwrap());
        });
    }
    remembered.finish();
}

criterion_group!(benches, verification);
criterion_main!(benches);
