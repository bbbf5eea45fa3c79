//! Verification of a token's text. It is strict and works on the text exactly as received.
//!
//! The order of the checks matters. The header only selects a key; it does not decide how to verify.
//! The signature is verified before the payload is parsed, so that an attacker without a key only
//! reaches the parser of the header.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use thiserror::Error;
use uuid::Uuid;

use crate::claims::Claims;
use crate::json::{self, JsonError};
use crate::key::Algorithm;
use crate::key_set::KeySet;
use crate::rules::Rules;

/// The longest token that is accepted, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The longest email address that RFC 5321 section 4.5.3.1 allows, in bytes.
const MAX_EMAIL_BYTES: usize = 254;

/// The last second of the year 9999, the latest year in RFC 3339.
const MAX_TIME: f64 = 253_402_300_799.0;

/// 2^53 - 1, the largest integer that is exact in every JSON parser.
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Why a token is refused. Neither messages nor reasons contain anything of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// More than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// It does not have three segments (RFC 7515 section 7.1). Five segments are an encrypted token
    /// (RFC 7516).
    #[error("the token is not a compact JWS of three segments")]
    NotCompact,
    /// A segment is not base64url without padding in its one canonical form (RFC 7515 section 2).
    #[error("a segment is not canonical base64url")]
    BadBase64,
    /// The header or the claims are not a JSON object (RFC 7519 section 7.2).
    #[error("the header or the claims are not a JSON object")]
    BadJson,
    /// A member occurs twice (RFC 7515 section 4, RFC 7519 section 4).
    #[error("the header or the claims have a duplicate member")]
    DuplicateMember,
    /// `alg` is absent, not a string, `none`, or an algorithm that is not supported (RFC 8725
    /// section 3.1).
    #[error("the algorithm is not supported")]
    UnsupportedAlgorithm,
    /// The header contains a key or a link to one: `jwk`, `jku`, `x5c`, `x5u` (RFC 8725 section 3.10).
    #[error("the header carries a key of its own")]
    KeyInHeader,
    /// The header has `crit`: it requires an extension, and none is supported (RFC 7515 section
    /// 4.1.11).
    #[error("the header demands an extension")]
    CriticalHeader,
    /// The header has `b64`, `enc` or `zip`, which change what the segments mean (RFC 7797, RFC
    /// 7516).
    #[error("the header asks for another encoding of the payload")]
    UnsupportedHeader,
    /// `typ` is not that of an access token (RFC 8725 section 3.11, RFC 9068 section 2.1).
    #[error("the token is of another type")]
    WrongType,
    /// `kid` is not a string (RFC 7515 section 4.1.4).
    #[error("the key identifier is not a string")]
    BadKid,
    /// No key has this `kid`.
    #[error("the key is unknown")]
    UnknownKey,
    /// The key is for another algorithm than the one in the header (RFC 8725 section 3.1).
    #[error("the algorithm is not the key's")]
    AlgorithmMismatch,
    /// The signature is not valid for the key (RFC 7515 section 5.2).
    #[error("the signature is wrong")]
    BadSignature,
    /// A required claim is missing.
    #[error("the claim {0} is missing")]
    MissingClaim(&'static str),
    /// A claim has the wrong type or an impossible value.
    #[error("the claim {0} is invalid")]
    InvalidClaim(&'static str),
    /// `exp` has passed (RFC 7519 section 4.1.4).
    #[error("the token has expired")]
    Expired,
    /// `iat` or `nbf` is in the future (RFC 7519 sections 4.1.5 and 4.1.6).
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iss` is not the expected one (RFC 8725 section 3.8).
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// `aud` does not contain the expected audience (RFC 8725 section 3.9).
    #[error("the token is for another audience")]
    WrongAudience,
}

impl VerifyError {
    /// A stable name for logs and metrics, in snake_case and from a closed list.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotCompact => "not_compact",
            Self::BadBase64 => "bad_base64",
            Self::BadJson => "bad_json",
            Self::DuplicateMember => "duplicate_member",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::KeyInHeader => "key_in_header",
            Self::CriticalHeader => "critical_header",
            Self::UnsupportedHeader => "unsupported_header",
            Self::WrongType => "wrong_type",
            Self::BadKid => "bad_kid",
            Self::UnknownKey => "unknown_key",
            Self::AlgorithmMismatch => "algorithm_mismatch",
            Self::BadSignature => "bad_signature",
            Self::MissingClaim(_) => "missing_claim",
            Self::InvalidClaim(_) => "invalid_claim",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
        }
    }
}

impl From<JsonError> for VerifyError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::NotAnObject => Self::BadJson,
            JsonError::DuplicateMember => Self::DuplicateMember,
        }
    }
}

/// Verifies a token (RFC 7519 section 7.2, hardened as RFC 8725 recommends) and returns its claims.
///
/// `now` is in seconds since the Unix epoch.
///
/// # Errors
///
/// [`VerifyError`] with the first reason found, in this order: form, header, signature, claims.
/// [`VerifyError::Expired`] comes last, so nothing else is wrong then.
pub fn verify(token: &str, keys: &KeySet, rules: &Rules, now: i64) -> Result<Claims, VerifyError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(VerifyError::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::NotCompact)?;
    let (header, payload) = signed.split_once('.').ok_or(VerifyError::NotCompact)?;
    if payload.contains('.') {
        return Err(VerifyError::NotCompact);
    }

    let (algorithm, kid) = read_header(&json::object(&decode(header)?)?)?;
    let candidates = keys.candidates(algorithm, kid.as_deref())?;
    let signature = decode(signature)?;
    if !candidates.iter().any(|key| key.signed(signed.as_bytes(), &signature)) {
        return Err(VerifyError::BadSignature);
    }

    let claims = read_claims(&json::object(&decode(payload)?)?)?;
    // The expiry is checked after this, so that "expired" means that nothing else is wrong.
    check_parties(&claims, rules)?;
    check_times(&claims, rules, now)?;
    Ok(claims)
}

/// Decodes strictly: refuses padding, other alphabets and unused bits, so that a token has exactly one
/// text.
fn decode(segment: &str) -> Result<Vec<u8>, VerifyError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| VerifyError::BadBase64)
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), VerifyError> {
    let has = |names: &[&str]| names.iter().any(|name| header.contains_key(*name));
    if has(&["jwk", "jku", "x5c", "x5u"]) {
        return Err(VerifyError::KeyInHeader);
    }
    if has(&["crit"]) {
        return Err(VerifyError::CriticalHeader);
    }
    if has(&["b64", "enc", "zip"]) {
        return Err(VerifyError::UnsupportedHeader);
    }
    // Media types are case-insensitive (RFC 7515 section 4.1.9).
    let is_access_token = |typ: &str| {
        ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
    };
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if is_access_token(typ) => {}
        Some(_) => return Err(VerifyError::WrongType),
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::from_name);
    let algorithm = algorithm.ok_or(VerifyError::UnsupportedAlgorithm)?;
    match header.get("kid") {
        None => Ok((algorithm, None)),
        Some(Value::String(kid)) => Ok((algorithm, Some(kid.clone()))),
        Some(_) => Err(VerifyError::BadKid),
    }
}

fn read_claims(claims: &Map<String, Value>) -> Result<Claims, VerifyError> {
    let sub = text(claims, "sub")?.ok_or(VerifyError::MissingClaim("sub"))?;
    let sub = canonical_uuid(&sub).ok_or(VerifyError::InvalidClaim("sub"))?;
    let email = text(claims, "email")?;
    if email.as_ref().is_some_and(|email| email.len() > MAX_EMAIL_BYTES) {
        return Err(VerifyError::InvalidClaim("email"));
    }
    Ok(Claims {
        sub,
        email,
        iat: time(claims, "iat")?.ok_or(VerifyError::MissingClaim("iat"))?,
        exp: time(claims, "exp")?.ok_or(VerifyError::MissingClaim("exp"))?,
        nbf: time(claims, "nbf")?,
        iss: text(claims, "iss")?,
        aud: audience(claims)?,
        jti: text(claims, "jti")?,
        generation: generation(claims)?,
        sid: session(claims)?,
        email_verified: flag(claims, "email_verified")?,
    })
}

fn text(claims: &Map<String, Value>, name: &'static str) -> Result<Option<String>, VerifyError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(VerifyError::InvalidClaim(name)),
    }
}

/// A NumericDate (RFC 7519 section 2). A fraction is truncated, which for `exp` is the stricter
/// reading.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, VerifyError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    match value.as_f64() {
        // Every integer in this range is exact in both types.
        Some(seconds) if (0.0..=MAX_TIME).contains(&seconds) => Ok(Some(seconds as i64)),
        _ => Err(VerifyError::InvalidClaim(name)),
    }
}

/// An integer that every JSON parser reads exactly (RFC 7493 section 2.2).
fn generation(claims: &Map<String, Value>) -> Result<u64, VerifyError> {
    match claims.get("gen").map(Value::as_f64) {
        None => Ok(0),
        Some(Some(number)) if number.fract() == 0.0 && (0.0..=MAX_INTEGER).contains(&number) => {
            Ok(number as u64)
        }
        Some(_) => Err(VerifyError::InvalidClaim("gen")),
    }
}

fn session(claims: &Map<String, Value>) -> Result<Option<Uuid>, VerifyError> {
    let Some(sid) = text(claims, "sid")? else {
        return Ok(None);
    };
    canonical_uuid(&sid).map(Some).ok_or(VerifyError::InvalidClaim("sid"))
}

fn flag(claims: &Map<String, Value>, name: &'static str) -> Result<Option<bool>, VerifyError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(VerifyError::InvalidClaim(name)),
    }
}

/// A single name or a list of names (RFC 7519 section 4.1.3).
fn audience(claims: &Map<String, Value>) -> Result<Vec<String>, VerifyError> {
    let invalid = VerifyError::InvalidClaim("aud");
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(many)) => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or(invalid)).collect()
        }
        Some(_) => Err(invalid),
    }
}

/// Only the canonical form is accepted: lower case with hyphens (RFC 9562 section 4), and not nil.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil())?;
    (uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text).then_some(uuid)
}

pub(crate) fn check_times(claims: &Claims, rules: &Rules, now: i64) -> Result<(), VerifyError> {
    let skew = i64::try_from(rules.clock_skew.as_secs()).unwrap_or(i64::MAX);
    let latest = now.saturating_add(skew);
    if claims.iat > latest || claims.nbf.is_some_and(|nbf| nbf > latest) {
        return Err(VerifyError::NotYetValid);
    }
    if claims.exp <= now.saturating_sub(rules.leeway_seconds()) {
        return Err(VerifyError::Expired);
    }
    Ok(())
}

fn check_parties(claims: &Claims, rules: &Rules) -> Result<(), VerifyError> {
    if let Some(issuer) = &rules.issuer {
        match &claims.iss {
            None => return Err(VerifyError::MissingClaim("iss")),
            Some(iss) if iss != issuer => return Err(VerifyError::WrongIssuer),
            Some(_) => {}
        }
    }
    if let Some(audience) = &rules.audience {
        if claims.aud.is_empty() {
            return Err(VerifyError::MissingClaim("aud"));
        }
        if !claims.aud.contains(audience) {
            return Err(VerifyError::WrongAudience);
        }
    }
    Ok(())
}
