//! Access tokens. Input that begins with a brace is a header, in the first line, and claims, in the
//! rest, which are signed here so that the parser of claims is reached; other input is a token.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use token_verifier::{Claims, KeySet, MAX_TOKEN_BYTES, Rules, VerificationKey, verify};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "latchkey";
const AUDIENCE: &str = "users";
const SECRET: &[u8] = b"a secret of the fuzz targets only";

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let pems: [&[u8]; 3] = [
        include_bytes!("../keys/rs256.pem"),
        include_bytes!("../keys/es256.pem"),
        include_bytes!("../keys/eddsa.pem"),
    ];
    let public = pems.map(|pem| VerificationKey::from_public_pem(pem).expect("a public key"));
    let secret = VerificationKey::from_secret(SECRET).expect("a secret");
    KeySet::new(public.into_iter().chain([secret]).collect())
});

static RULES: LazyLock<Rules> =
    LazyLock::new(|| Rules::default().issuer(ISSUER).audience(AUDIENCE));

fuzz_target!(|data: &[u8]| {
    let token = match data {
        [b'{', ..] => signed(data),
        _ => match std::str::from_utf8(data) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
    };
    if let Ok(claims) = verify(&token, &KEYS, &RULES, NOW) {
        assert_within_rules(&token, &claims);
    }
});

fn signed(data: &[u8]) -> String {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, claims) = data.split_at(end);
    let claims = claims.get(1..).unwrap_or_default();
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Reads an accepted token once more, with a parser that knows no rules.
fn assert_within_rules(token: &str, claims: &Claims) {
    assert!(token.len() <= MAX_TOKEN_BYTES);
    let segments: Vec<_> = token.split('.').collect();
    assert_eq!(segments.len(), 3);
    let header = object(segments[0]);
    let algorithm = header["alg"].as_str().expect("an algorithm");
    assert!(["RS256", "ES256", "EdDSA", "HS256"].contains(&algorithm));
    for name in ["crit", "b64", "enc", "zip", "jwk", "jku", "x5c", "x5u"] {
        assert!(!header.contains_key(name), "a header with {name} is accepted");
    }

    let payload = object(segments[1]);
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    assert!(!claims.sub.is_nil());
    assert_eq!(text("sub"), Some(claims.sub.to_string().as_str()));
    assert_eq!(text("email"), claims.email.as_deref());
    assert!(claims.email.as_ref().is_none_or(|email| email.len() <= 254));
    assert_eq!(text("iss"), Some(ISSUER));
    assert_eq!(claims.iss.as_deref(), Some(ISSUER));
    assert!(claims.aud.iter().any(|name| name == AUDIENCE));
    assert!(claims.exp > NOW);
    assert!(claims.iat <= NOW + 60);
    assert!(claims.nbf.is_none_or(|nbf| nbf <= NOW + 60));
    for (name, time) in [("exp", claims.exp), ("iat", claims.iat)] {
        assert_eq!(payload[name].as_f64().map(f64::trunc), Some(time as f64), "{name}");
    }

    assert!(verify(token, &KeySet::default(), &RULES, NOW).is_err(), "valid without a key");
    assert!(verify(token, &KEYS, &RULES, claims.exp).is_err(), "valid when it is over");
}

fn object(segment: &str) -> Map<String, Value> {
    let bytes = URL_SAFE_NO_PAD.decode(segment).expect("base64url");
    serde_json::from_slice(&bytes).expect("an object")
}
