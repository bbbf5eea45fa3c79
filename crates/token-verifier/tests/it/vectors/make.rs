//! How tokens of the vectors are made: one that is all right, and the same with one thing changed.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{AUD, ES256_SIGNATURES, ISS, ISSUER, STORED};
use crate::forge::{Keys, NOW, SUB, b64, header, unb64};

pub(super) fn sign(keys: &Keys, algorithm: &str, message: &[u8]) -> Vec<u8> {
    if algorithm != "ES256" {
        return keys.sign(algorithm, message);
    }
    let point = keys.p256.public_key().as_ref().to_vec();
    let mut signatures = ES256_SIGNATURES.lock().unwrap();
    let make = || stored_es256(&point, message).unwrap_or_else(|| keys.sign("ES256", message));
    signatures.entry([&point, message].concat()).or_insert_with(make).clone()
}

fn stored_es256(point: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    STORED
        .tokens
        .iter()
        .filter_map(|vector| vector.token.rsplit_once('.'))
        .filter(|(signed, _)| signed.as_bytes() == message)
        .filter_map(|(_, signature)| URL_SAFE_NO_PAD.decode(signature).ok())
        .find(|signature| key.verify(message, signature).is_ok())
}

/// These two segments, signed as they stand.
pub(super) fn signed_text(keys: &Keys, algorithm: &str, message: &str) -> String {
    format!("{message}.{}", b64(sign(keys, algorithm, message.as_bytes())))
}

pub(super) fn signed_by(
    keys: &Keys,
    algorithm: &str,
    header: &str,
    claims: impl AsRef<[u8]>,
) -> String {
    signed_text(keys, algorithm, &format!("{}.{}", b64(header), b64(claims)))
}

pub(super) fn own_header(algorithm: &str) -> String {
    header(algorithm, &ISSUER.kid(algorithm))
}

/// A token that is all right.
pub(super) fn token(algorithm: &str) -> String {
    signed_by(&ISSUER, algorithm, &own_header(algorithm), with(&[]))
}

/// All right but for its header.
pub(super) fn with_header(header: &str) -> String {
    signed_by(&ISSUER, "RS256", header, with(&[]))
}

/// All right but for these members in its header, each preceded by a comma.
pub(super) fn with_member(members: &str) -> String {
    with_header(&format!(r#"{{"alg":"RS256","kid":"{}"{members}}}"#, ISSUER.kid("RS256")))
}

/// All right but for its claims. Ed25519 for its short signatures.
pub(super) fn with_claims(claims: impl AsRef<[u8]>) -> String {
    signed_by(&ISSUER, "EdDSA", &own_header("EdDSA"), claims)
}

/// All right but for its signature.
pub(super) fn with_signature(algorithm: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let token = token(algorithm);
    let (message, signature) = token.rsplit_once('.').unwrap();
    format!("{message}.{}", b64(change(unb64(signature))))
}

/// Good claims, in which these members have other values, as JSON texts, or are left out.
pub(super) fn with(changes: &[(&str, Option<&str>)]) -> String {
    let mut members = vec![
        ("sub", format!("\"{SUB}\"")),
        ("email", "\"ada@example.com\"".to_owned()),
        ("iat", (NOW - 10).to_string()),
        ("exp", (NOW + 3590).to_string()),
        ("iss", format!("\"{ISS}\"")),
        ("aud", format!("\"{AUD}\"")),
        ("jti", "\"01976f3a-8d2c-7b4e-9f10-000000000001\"".to_owned()),
    ];
    for (name, value) in changes {
        members.retain(|(other, _)| other != name);
        members.extend(value.map(|value| (*name, value.to_owned())));
    }
    let members: Vec<_> = members.iter().map(|(name, text)| format!("\"{name}\":{text}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Good claims with more members, each preceded by a comma.
pub(super) fn with_more(members: &str) -> String {
    with(&[]).replace('}', &format!("{members}}}"))
}
