//! `vectors/tokens.json`: tokens for the verifiers of other languages, and what becomes of them.
//!
//! The file follows from this one and the keys beside it: `UPDATE_VECTORS=1 cargo test -p
//! token-verifier vectors` writes it anew. ES256 signatures have a random part, so those in the file
//! are used again as long as they verify.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, RSA_PKCS1_SHA384, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use token_verifier::{Claims, KeySet, MAX_TOKEN_BYTES, Rules, verify};

use crate::forge::{Keys, NOW, SECRET, SUB, b64, header, hs256, pem, unb64};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/tokens.json");
pub(crate) const ISS: &str = "https://auth.example";
pub(crate) const AUD: &str = "latchkey";

macro_rules! keys {
    ($name:literal) => {
        LazyLock::new(|| {
            Keys::from_pems([
                include_str!(concat!("../../vectors/keys/", $name, "-rs256.pem")),
                include_str!(concat!("../../vectors/keys/", $name, "-es256.pem")),
                include_str!(concat!("../../vectors/keys/", $name, "-eddsa.pem")),
            ])
        })
    };
}
/// The keys that sign now.
static ISSUER: LazyLock<Keys> = keys!("issuer");
/// The keys that will sign after a rotation, published beside the first.
static NEXT: LazyLock<Keys> = keys!("next");
/// Keys that nobody trusts.
static STRANGER: LazyLock<Keys> = keys!("stranger");

/// The file as it is, empty if there is none yet.
static STORED: LazyLock<Vectors> = LazyLock::new(|| match std::fs::read(FILE) {
    Ok(text) => serde_json::from_slice(&text).unwrap(),
    Err(_) => Vectors::default(),
});

/// By public key and message: the same text is signed for several vectors.
static ES256_SIGNATURES: Mutex<BTreeMap<Vec<u8>, Vec<u8>>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    now: i64,
    rules: RulesOfFile,
    jwks: Value,
    tokens: Vec<Vector>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesOfFile {
    iss: String,
    aud: String,
    exp_leeway: u64,
    clock_skew: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    valid: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claims: Option<ClaimsOfFile>,
    token: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimsOfFile {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    iss: String,
    aud: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(rename = "gen", default)]
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
}

impl From<Claims> for ClaimsOfFile {
    fn from(claims: Claims) -> Self {
        let Claims { sub, email, iat, exp, nbf, iss, aud, jti, .. } = claims;
        Self {
            sub: sub.to_string(),
            email,
            iat,
            exp,
            nbf,
            iss: iss.unwrap(),
            aud,
            jti,
            generation: claims.generation,
            sid: claims.sid.map(|sid| sid.to_string()),
            email_verified: claims.email_verified,
        }
    }
}

#[test]
fn every_vector_gets_the_verdict_that_the_file_states() {
    let made = vectors();
    #[expect(clippy::disallowed_methods, reason = "no setting of a service")]
    let update = std::env::var_os("UPDATE_VECTORS").is_some();
    if update {
        std::fs::write(FILE, text(&made)).unwrap();
        return;
    }

    let mut wrong = Vec::new();
    let keys = KeySet::from_jwks(STORED.jwks.to_string().as_bytes()).unwrap();
    for vector in &STORED.tokens {
        let verdict = verify(&vector.token, &keys, &rules(), STORED.now);
        let (claims, reason) = match verdict {
            Ok(claims) => (Some(ClaimsOfFile::from(claims)), None),
            Err(error) => (None, Some(error.reason().to_owned())),
        };
        if (claims.is_some(), &claims, &reason) != (vector.valid, &vector.claims, &vector.reason) {
            wrong.push(format!("{}: {claims:?} {reason:?}", vector.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut names: Vec<_> = STORED.tokens.iter().map(|vector| &vector.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), STORED.tokens.len(), "two vectors have one name");
    for (made, stored) in made.tokens.iter().zip(&STORED.tokens) {
        assert_eq!(made, stored, "run with UPDATE_VECTORS=1");
    }
    assert!(made == *STORED, "run with UPDATE_VECTORS=1");
}

/// One line for a token, so that a change of one shows as such.
fn text(vectors: &Vectors) -> String {
    let line = |value: &Vector| serde_json::to_string(value).unwrap();
    let keys = vectors.jwks["keys"].as_array().unwrap();
    let keys: Vec<_> = keys.iter().map(|key| format!("      {key}")).collect();
    let tokens: Vec<_> = vectors.tokens.iter().map(|one| format!("    {}", line(one))).collect();
    format!(
        "{{\n  \"now\": {},\n  \"rules\": {},\n  \"jwks\": {{\n    \"keys\": [\n{}\n    ]\n  }},\n  \
         \"tokens\": [\n{}\n  ]\n}}\n",
        vectors.now,
        serde_json::to_string(&vectors.rules).unwrap(),
        keys.join(",\n"),
        tokens.join(",\n")
    )
}

fn rules() -> Rules {
    Rules::default().issuer(ISS).audience(AUD)
}

fn vectors() -> Vectors {
    let rules = rules();
    let keys = keys();
    let good = good().into_iter().map(|(name, token)| {
        let claims = verify(&token, &keys, &rules, NOW);
        let claims = claims.unwrap_or_else(|error| panic!("{name}: {error}"));
        Vector { name, valid: true, reason: None, claims: Some(claims.into()), token }
    });
    let bad = [form(), encoding(), json_texts(), headers(), algorithms(), signatures(), claims()];
    let bad = bad.into_iter().flatten().map(|(name, reason, token)| Vector {
        name,
        valid: false,
        reason: Some(reason.to_owned()),
        claims: None,
        token,
    });
    Vectors {
        now: NOW,
        rules: RulesOfFile {
            iss: ISS.to_owned(),
            aud: AUD.to_owned(),
            exp_leeway: rules.exp_leeway.as_secs(),
            clock_skew: rules.clock_skew.as_secs(),
        },
        jwks: jwks(),
        tokens: good.chain(bad).collect(),
    }
}

/// Six keys that count, and four that a verifier has to leave out: one for encryption by its `use`,
/// one by its `alg`, a secret, and one of a type that it does not know.
fn jwks() -> Value {
    let mut keys: Vec<Value> = [&ISSUER, &NEXT]
        .iter()
        .flat_map(|keys| keys.public())
        .map(|key| key.to_jwk().unwrap())
        .collect();
    let mut encryption = STRANGER.public()[0].to_jwk().unwrap();
    encryption["use"] = json!("enc");
    encryption.as_object_mut().unwrap().remove("alg");
    keys.push(encryption);
    let mut agreement = STRANGER.public()[1].to_jwk().unwrap();
    agreement["alg"] = json!("ECDH-ES");
    agreement.as_object_mut().unwrap().remove("use");
    keys.push(agreement);
    keys.push(
        json!({"kty": "oct", "kid": "secret", "use": "sig", "alg": "HS256", "k": b64(SECRET)}),
    );
    keys.push(
        json!({"kty": "AKP", "kid": "other", "use": "sig", "alg": "ML-DSA-44", "pub": "AAAA"}),
    );
    json!({ "keys": keys })
}

fn sign(keys: &Keys, algorithm: &str, message: &[u8]) -> Vec<u8> {
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
fn signed_text(keys: &Keys, algorithm: &str, message: &str) -> String {
    format!("{message}.{}", b64(sign(keys, algorithm, message.as_bytes())))
}

fn signed_by(keys: &Keys, algorithm: &str, header: &str, claims: impl AsRef<[u8]>) -> String {
    signed_text(keys, algorithm, &format!("{}.{}", b64(header), b64(claims)))
}

fn own_header(algorithm: &str) -> String {
    header(algorithm, &ISSUER.kid(algorithm))
}

/// The keys that the vectors are checked with.
pub(crate) fn keys() -> KeySet {
    KeySet::from_jwks(jwks().to_string().as_bytes()).unwrap()
}

/// A token that is all right, with more claims, each preceded by a comma.
pub(crate) fn token_with(members: &str) -> String {
    with_claims(with_more(members))
}

/// A token that is all right.
fn token(algorithm: &str) -> String {
    signed_by(&ISSUER, algorithm, &own_header(algorithm), with(&[]))
}

/// All right but for its header.
fn with_header(header: &str) -> String {
    signed_by(&ISSUER, "RS256", header, with(&[]))
}

/// All right but for these members in its header, each preceded by a comma.
fn with_member(members: &str) -> String {
    with_header(&format!(r#"{{"alg":"RS256","kid":"{}"{members}}}"#, ISSUER.kid("RS256")))
}

/// All right but for its claims. Ed25519 for its short signatures.
fn with_claims(claims: impl AsRef<[u8]>) -> String {
    signed_by(&ISSUER, "EdDSA", &own_header("EdDSA"), claims)
}

/// All right but for its signature.
fn with_signature(algorithm: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let token = token(algorithm);
    let (message, signature) = token.rsplit_once('.').unwrap();
    format!("{message}.{}", b64(change(unb64(signature))))
}

/// Good claims, in which these members have other values, as JSON texts, or are left out.
fn with(changes: &[(&str, Option<&str>)]) -> String {
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
fn with_more(members: &str) -> String {
    with(&[]).replace('}', &format!("{members}}}"))
}

fn good() -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut push = |name: &str, token: String| rows.push((format!("good: {name}"), token));
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        push(algorithm, token(algorithm));
        let next = signed_by(&NEXT, algorithm, &header(algorithm, &NEXT.kid(algorithm)), with(&[]));
        push(&format!("{algorithm}, the next key"), next);
        let nameless = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt"}}"#);
        push(&format!("{algorithm}, no kid"), signed_by(&ISSUER, algorithm, &nameless, with(&[])));
        let nameless = signed_by(&NEXT, algorithm, &nameless, with(&[]));
        push(&format!("{algorithm}, no kid, the next key"), nameless);
    }
    let fully_specified = header("Ed25519", &ISSUER.kid("EdDSA"));
    push("Ed25519 for EdDSA", signed_by(&ISSUER, "EdDSA", &fully_specified, with(&[])));
    push("no typ", with_member(""));
    for typ in ["JWT", "AT+JWT", "application/at+jwt"] {
        push(&format!("typ {typ}"), with_member(&format!(r#","typ":"{typ}""#)));
    }
    let members = r#","cty":"json","x5t#S256":"AAAA","x":{"y":[null]}"#;
    push("header members without a meaning", with_member(members));
    let spaced = format!("\n{{ \"kid\" : \"{}\",\t\"alg\":\"RS256\" }} ", ISSUER.kid("RS256"));
    push("white space in the header", with_header(&spaced));
    let header = format!(r#"{{"\u0061lg":"RS256","kid":"{}"}}"#, ISSUER.kid("RS256"));
    push("an escape in a member's name", with_header(&header));

    let mut push = |name: &str, changes: &[(&str, Option<&str>)]| {
        rows.push((format!("good: {name}"), with_claims(with(changes))));
    };
    let after = |seconds: i64| (NOW + seconds).to_string();
    push("no email, no jti", &[("email", None), ("jti", None)]);
    let longest = format!("\"{}@example.com\"", "a".repeat(254 - 12));
    push("email of 254 bytes", &[("email", Some(&longest))]);
    push("sub of version 4", &[("sub", Some("\"f47ac10b-58cc-4372-a567-0e02b2c3d479\""))]);
    push("aud is a list", &[("aud", Some(r#"["other","latchkey"]"#))]);
    let session = format!("\"{SUB}\"");
    push(
        "gen, sid and email_verified",
        &[("gen", Some("7")), ("sid", Some(&session)), ("email_verified", Some("true"))],
    );
    push("gen 0, email_verified false", &[("gen", Some("0")), ("email_verified", Some("false"))]);
    push("gen with a fraction of zero", &[("gen", Some("7.0"))]);
    push("the largest gen", &[("gen", Some("9007199254740991"))]);
    push("exp in one second", &[("exp", Some(&after(1)))]);
    push("exp within the next second", &[("exp", Some(&(after(1) + ".999")))]);
    push("exp at the end of the year 9999", &[("exp", Some("253402300799"))]);
    push("iat 60 s ahead", &[("iat", Some(&after(60)))]);
    push("nbf 60 s ahead", &[("nbf", Some(&after(60)))]);
    push("iat and nbf are 0", &[("iat", Some("0")), ("nbf", Some("0"))]);
    push("iat with an exponent", &[("iat", Some("1.75e9"))]);
    push("claims without a meaning", &[("x", Some(r#"{"a":[1,{"sub":null}],"exp":0}"#))]);
    let longest = (0..8000)
        .rev()
        .map(|length| with_claims(with(&[("x", Some(&format!("\"{}\"", "x".repeat(length))))])))
        .find(|token| token.len() <= MAX_TOKEN_BYTES);
    rows.push(("good: as long as may be".to_owned(), longest.unwrap()));
    rows
}

/// Name, reason, token.
type Bad = (String, &'static str, String);

fn form() -> Vec<Bad> {
    let good = token("RS256");
    let [head, body, tail] = <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let shortest = (0..8000)
        .map(|length| with_claims(with(&[("x", Some(&format!("\"{}\"", "x".repeat(length))))])))
        .find(|token| token.len() > MAX_TOKEN_BYTES);
    let rows = [
        ("empty", "not_compact", String::new()),
        ("two segments", "not_compact", format!("{head}.{body}")),
        ("four segments", "not_compact", format!("{good}.AAAA")),
        ("a dot at the end", "not_compact", format!("{good}.")),
        ("a dot in front", "not_compact", format!(".{good}")),
        ("five segments", "not_compact", format!("{head}.AAAA.AAAA.AAAA.AAAA")),
        (
            "JSON serialisation",
            "not_compact",
            format!(r#"{{"protected":"{head}","payload":"{body}","signature":"{tail}"}}"#),
        ),
        ("inside JSON", "bad_base64", format!(r#"{{"a":"{head}.{body}.{tail}"}}"#)),
        ("detached payload", "bad_signature", format!("{head}..{tail}")),
        ("only dots", "bad_json", "..".to_owned()),
        ("the scheme in front", "bad_base64", format!("Bearer {good}")),
        ("one byte or so too long", "too_long", shortest.unwrap()),
    ];
    rows.map(|(name, reason, token)| (format!("form: {name}"), reason, token)).into()
}

fn encoding() -> Vec<Bad> {
    let good = token("RS256");
    let [head, body, tail] = <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    // The last character of a text that is not a multiple of three bytes has bits to spare.
    let left_over = |text: &str| {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (start, end) = text.split_at(text.len() - 1);
        let at = alphabet.iter().position(|c| *c == end.as_bytes()[0]).unwrap();
        format!("{start}{}", char::from(alphabet[at ^ 1]))
    };
    let uneven = |text: &str| {
        let texts = (0..3).map(|spaces| format!("{text}{}", " ".repeat(spaces)));
        texts.into_iter().find(|text| text.len() % 3 != 0).unwrap()
    };
    let (odd_head, odd_body) = (uneven(&own_header("RS256")), uneven(&with(&[])));
    let padded = |text: &str| URL_SAFE.encode(text);
    let as_is = |head: &str, body: &str| signed_text(&ISSUER, "RS256", &format!("{head}.{body}"));
    let standard = tail.replace('-', "+").replace('_', "/");
    assert_ne!(standard, tail);
    let rows = [
        ("left-over bits in the header", as_is(&left_over(&b64(&odd_head)), body)),
        ("left-over bits in the claims", as_is(head, &left_over(&b64(&odd_body)))),
        ("left-over bits in the signature", format!("{head}.{body}.{}", left_over(tail))),
        ("padded header", as_is(&padded(&odd_head), body)),
        ("padded claims", as_is(head, &padded(&odd_body))),
        ("padded signature", format!("{head}.{body}.{tail}==")),
        ("the standard alphabet", format!("{head}.{body}.{standard}")),
        ("an impossible length", format!("{good}AAA")),
        ("a space in front", format!(" {good}")),
        ("a newline at the end", format!("{good}\n")),
        ("a newline in the signature", format!("{head}.{body}.{}\n{}", &tail[..8], &tail[8..])),
        ("a space in the claims", as_is(head, &format!("{} {}", &body[..8], &body[8..]))),
        ("a newline in the header", as_is(&format!("{}\n{}", &head[..8], &head[8..]), body)),
        ("a letter that only looks alike", format!("{head}.{body}.\u{435}{tail}")),
    ];
    rows.map(|(name, token)| (format!("base64url: {name}"), "bad_base64", token)).into()
}

fn json_texts() -> Vec<Bad> {
    let good = with(&[]);
    let kid = ISSUER.kid("RS256");
    let mut rows: Vec<Bad> = Vec::new();
    for (name, header) in [
        ("a list", r#"["RS256"]"#),
        ("trailing bytes", r#"{"alg":"RS256"}{}"#),
        ("single quotes", "{'alg':'RS256'}"),
    ] {
        rows.push((format!("header: {name}"), "bad_json", with_header(header)));
    }
    for (name, header) in [
        ("alg twice", format!(r#"{{"alg":"RS256","alg":"RS256","kid":"{kid}"}}"#)),
        (
            "alg twice, once with an escape",
            format!(r#"{{"alg":"none","kid":"{kid}","\u0061lg":"RS256"}}"#),
        ),
        ("kid twice", format!(r#"{{"alg":"RS256","kid":"x","kid":"{kid}"}}"#)),
        (
            "a nested member twice",
            format!(r#"{{"alg":"RS256","kid":"{kid}","x":[{{"a":1,"a":1}}]}}"#),
        ),
    ] {
        rows.push((format!("header: {name}"), "duplicate_member", with_header(&header)));
    }
    let bytes = |more: &[u8]| [&good.as_bytes()[..good.len() - 1], more, b"}"].concat();
    for (name, claims) in [
        ("empty", vec![]),
        ("null", b"null".to_vec()),
        ("a list", format!("[{good}]").into()),
        ("trailing bytes", format!("{good}x").into()),
        ("a trailing comma", good.replace('}', ",}").into()),
        ("a byte order mark", format!("\u{feff}{good}").into()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("invalid UTF-8", bytes(b",\"x\":\"\xff\"")),
        ("NaN", bytes(b",\"x\":NaN")),
        ("a leading zero", bytes(b",\"x\":01")),
        ("a raw control character", bytes(b",\"x\":\"\n\"")),
    ] {
        rows.push((format!("claims: {name}"), "bad_json", with_claims(claims)));
    }
    for (name, more) in [
        ("exp twice", r#","exp":9999999999"#),
        ("sub twice", r#","sub":"01976f3a-8d2c-7b4e-9f10-000000000000""#),
        ("exp twice, once with an escape", r#","\u0065xp":9999999999"#),
        ("a nested member twice", r#","x":{"a":1,"a":2}"#),
    ] {
        let token = with_claims(with_more(more));
        rows.push((format!("claims: {name}"), "duplicate_member", token));
    }
    rows
}

fn headers() -> Vec<Bad> {
    let mut rows: Vec<Bad> = Vec::new();
    let own = ISSUER.public()[0].to_jwk().unwrap();
    let stranger = STRANGER.public()[0].to_jwk().unwrap();
    let mut push =
        |name: &str, reason, token| rows.push((format!("header: {name}"), reason, token));

    // The forger's key, which the forger's header vouches for.
    let forged = format!(r#"{{"alg":"RS256","jwk":{stranger}}}"#);
    push("jwk of a stranger", "key_in_header", signed_by(&STRANGER, "RS256", &forged, with(&[])));
    push("jwk of the issuer", "key_in_header", with_member(&format!(r#","jwk":{own}"#)));
    push("jwk is null", "key_in_header", with_member(r#","jwk":null"#));
    push("jku", "key_in_header", with_member(r#","jku":"https://evil.example/jwks.json""#));
    push("x5u", "key_in_header", with_member(r#","x5u":"https://evil.example/cert.pem""#));
    push("x5c", "key_in_header", with_member(r#","x5c":[]"#));
    for crit in [r#"["exp"]"#, "[]", "null"] {
        let token = with_member(&format!(r#","crit":{crit}"#));
        push(&format!("crit {crit}"), "critical_header", token);
    }
    push("crit and b64", "critical_header", with_member(r#","crit":["b64"],"b64":false"#));
    for member in [r#""b64":false"#, r#""b64":true"#, r#""zip":"DEF""#, r#""enc":"A128GCM""#] {
        push(member, "unsupported_header", with_member(&format!(",{member}")));
    }
    for typ in [
        r#""dpop+jwt""#,
        r#""id_token""#,
        r#""application/jwt""#,
        r#""JWT ""#,
        r#""""#,
        "null",
        r#"["JWT"]"#,
    ] {
        push(&format!("typ {typ}"), "wrong_type", with_member(&format!(r#","typ":{typ}"#)));
    }
    for kid in ["1", "null"] {
        let token = with_header(&format!(r#"{{"alg":"RS256","kid":{kid}}}"#));
        push(&format!("kid {kid}"), "bad_kid", token);
    }
    let upper = ISSUER.kid("RS256").to_ascii_uppercase();
    for (name, kid) in
        [("kid unknown", "2025-01"), ("kid empty", ""), ("kid in another case", &upper)]
    {
        push(name, "unknown_key", with_header(&header("RS256", kid)));
    }
    let stranger = header("RS256", &STRANGER.kid("RS256"));
    let token = signed_by(&STRANGER, "RS256", &stranger, with(&[]));
    push("kid of a key for encryption", "unknown_key", token);
    let stranger = header("ES256", &STRANGER.kid("ES256"));
    let token = signed_by(&STRANGER, "ES256", &stranger, with(&[]));
    push("kid of a key for key agreement", "unknown_key", token);
    push("kid of a secret", "unknown_key", hs256_token(&header("HS256", "secret"), SECRET));
    let next = header("RS256", &NEXT.kid("RS256"));
    push("kid of the next key", "bad_signature", with_header(&next));
    let nameless = r#"{"alg":"RS256"}"#;
    let token = signed_by(&STRANGER, "RS256", nameless, with(&[]));
    push("no kid, a key for encryption", "bad_signature", token);
    rows
}

fn hs256_token(header: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", b64(header), b64(with(&[])));
    format!("{message}.{}", b64(hs256(secret, message.as_bytes())))
}

fn algorithms() -> Vec<Bad> {
    let mut rows: Vec<Bad> = Vec::new();
    let mut push = |name: &str, reason, token| rows.push((format!("alg: {name}"), reason, token));
    let kid = ISSUER.kid("RS256");

    for alg in ["none", "nOnE"] {
        let unsigned = format!("{}.{}.", b64(header(alg, &kid)), b64(with(&[])));
        push(&format!("{alg:?}, no signature"), "unsupported_algorithm", unsigned);
    }
    push("none, signed", "unsupported_algorithm", with_header(&header("none", &kid)));
    for alg in ["rs256", "HS512", "ES384"] {
        push(&format!("{alg:?}"), "unsupported_algorithm", with_header(&header(alg, &kid)));
    }
    push(
        "Ed25519 under the kid of RS256",
        "algorithm_mismatch",
        with_header(&header("Ed25519", &kid)),
    );
    push("absent", "unsupported_algorithm", with_header(&format!(r#"{{"kid":"{kid}"}}"#)));
    for alg in ["null", r#"["RS256"]"#] {
        let token = with_header(&format!(r#"{{"alg":{alg},"kid":"{kid}"}}"#));
        push(alg, "unsupported_algorithm", token);
    }

    let rs384 = |header: &str| {
        let message = format!("{}.{}", b64(header), b64(with(&[])));
        let signature = ISSUER.sign_rsa(&RSA_PKCS1_SHA384, message.as_bytes());
        format!("{message}.{}", b64(signature))
    };
    push("a real RS384", "unsupported_algorithm", rs384(&header("RS384", &kid)));
    push("RS384 that says RS256", "bad_signature", rs384(&header("RS256", &kid)));

    let text = pem("PUBLIC KEY", &ISSUER.rsa_der());
    let jwk = ISSUER.public()[0].to_jwk().unwrap();
    for (form, secret) in
        [("PEM", text.as_bytes()), ("JWK", jwk.to_string().as_bytes()), ("nothing", b"")]
    {
        let token = hs256_token(&header("HS256", &kid), secret);
        push(&format!("HS256 with the public key as {form}"), "algorithm_mismatch", token);
    }
    let nameless = hs256_token(r#"{"alg":"HS256"}"#, text.as_bytes());
    push("HS256 with the public key as PEM, no kid", "algorithm_mismatch", nameless);

    for (named, signed) in [("RS256", "ES256"), ("ES256", "EdDSA"), ("EdDSA", "RS256")] {
        let honest = header(signed, &ISSUER.kid(named));
        let token = signed_by(&ISSUER, signed, &honest, with(&[]));
        push(&format!("{signed} under the kid of {named}"), "algorithm_mismatch", token);
        let token = signed_by(&ISSUER, signed, &own_header(named), with(&[]));
        push(&format!("{signed} that says {named}"), "bad_signature", token);
    }
    rows
}

fn signatures() -> Vec<Bad> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let mut push = |name: &str, token| rows.push((format!("{algorithm}, {name}"), token));
        push("empty", with_signature(algorithm, |_| Vec::new()));
        push(
            "one bit",
            with_signature(algorithm, |mut own| {
                own[7] ^= 4;
                own
            }),
        );
        let own = own_header(algorithm);
        push("a stranger's", signed_by(&STRANGER, algorithm, &own, with(&[])));
    }

    let good = token("EdDSA");
    let [head, _, tail] = <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let other = b64(with_more(r#","admin":true"#));
    rows.push(("EdDSA, of other claims".to_owned(), format!("{head}.{other}.{tail}")));

    // Values that broke implementations of ECDSA (CVE-2022-21449 and its kin).
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&order[at..at + 2], 16).unwrap()).collect();
    let mut push = |name: &str, token| rows.push((name.to_owned(), token));
    push("ES256, cut", with_signature("ES256", |own| own[..63].to_vec()));
    push("ES256, extended", with_signature("ES256", |own| [own.as_slice(), &[0]].concat()));
    push("ES256, r and s are 0", with_signature("ES256", |_| vec![0; 64]));
    push("ES256, r and s are the order", with_signature("ES256", |_| order.repeat(2)));
    push("ES256, DER", with_signature("ES256", |own| es256_der(&own)));
    push(
        "ES256, the size of P-384",
        with_signature("ES256", |own| [&[0; 16], &own[..32], &[0; 16], &own[32..]].concat()),
    );
    // S + L verifies wherever the range of S is not checked (RFC 8032 section 8.4).
    push(
        "EdDSA, S + L",
        with_signature("EdDSA", |mut own| {
            let order = [
                0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
                0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10_u8,
            ];
            let mut carry = 0;
            for (byte, addend) in own[32..].iter_mut().zip(order) {
                let sum = u16::from(*byte) + u16::from(addend) + carry;
                *byte = u8::try_from(sum & 0xff).unwrap();
                carry = sum >> 8;
            }
            own
        }),
    );
    rows.into_iter()
        .map(|(name, token)| (format!("signature: {name}"), "bad_signature", token))
        .collect()
}

/// The form of X.509, which JWS does not use.
fn es256_der(fixed: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let mut bytes = number[zeros..].to_vec();
        if bytes.first().is_none_or(|first| *first > 0x7f) {
            bytes.insert(0, 0);
        }
        [&[2, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
    };
    let both = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
}

fn claims() -> Vec<Bad> {
    let mut rows: Vec<Bad> = Vec::new();
    let mut push = |reason, name: &str, value: Option<&str>| {
        let shown = value.unwrap_or("absent");
        let shown = if shown.len() > 90 { "too long" } else { shown };
        let token = with_claims(with(&[(name, value)]));
        rows.push((format!("claims: {name} {shown}"), reason, token));
    };
    for name in ["sub", "iat", "exp", "iss", "aud"] {
        push("missing_claim", name, None);
    }
    push("missing_claim", "aud", Some("[]"));

    let quoted = |text: &str| format!("\"{text}\"");
    for sub in [
        "",
        "admin",
        "00000000-0000-0000-0000-000000000000",
        &SUB.to_ascii_uppercase(),
        &SUB.replace('-', ""),
        &format!("urn:uuid:{SUB}"),
        &format!("{SUB}\\n"),
    ] {
        push("invalid_claim", "sub", Some(&quoted(sub)));
    }
    for name in ["sub", "email", "iss", "jti"] {
        push("invalid_claim", name, Some("1"));
    }
    push("invalid_claim", "email", Some("null"));
    push("invalid_claim", "iss", Some(r#"["https://auth.example"]"#));
    push("invalid_claim", "email", Some(&quoted(&format!("{}@example.com", "a".repeat(254 - 11)))));
    for name in ["iat", "exp", "nbf"] {
        for value in ["null", "true", "-1", &quoted(&(NOW + 10).to_string())] {
            push("invalid_claim", name, Some(value));
        }
    }
    for generation in ["null", "true", "\"1\"", "-1", "0.5", "9007199254740992", "1e300"] {
        push("invalid_claim", "gen", Some(generation));
    }
    for sid in ["", "session", "00000000-0000-0000-0000-000000000000", &SUB.to_ascii_uppercase()] {
        push("invalid_claim", "sid", Some(&quoted(sid)));
    }
    push("invalid_claim", "sid", Some("1"));
    for verified in ["null", "1", "\"true\""] {
        push("invalid_claim", "email_verified", Some(verified));
    }
    for exp in ["253402300800", "99999999999999999999999999"] {
        push("invalid_claim", "exp", Some(exp));
    }
    push("invalid_claim", "iat", Some(&format!("{NOW}000")));
    push("bad_json", "exp", Some("1e999"));
    for aud in ["null", "1", r#"["latchkey",1]"#, r#"{"latchkey":1}"#] {
        push("invalid_claim", "aud", Some(aud));
    }

    for exp in [NOW, NOW - 1] {
        push("expired", "exp", Some(&exp.to_string()));
    }
    push("expired", "exp", Some(&format!("{NOW}.999")));
    for name in ["iat", "nbf"] {
        push("not_yet_valid", name, Some(&(NOW + 61).to_string()));
    }
    for iss in
        ["https://auth.example/", "https://auth.example.evil.example", "HTTPS://AUTH.EXAMPLE"]
    {
        push("wrong_issuer", "iss", Some(&quoted(iss)));
    }
    for aud in [r#""other""#, r#""latch""#, r#""latchkey other""#, r#"["latchkey "]"#] {
        push("wrong_audience", "aud", Some(aud));
    }
    rows
}
