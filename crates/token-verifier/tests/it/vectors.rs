//! `vectors/tokens.json`: tokens for the verifiers of other languages, and what becomes of them.
//!
//! The file follows from this one and the keys beside it: `UPDATE_VECTORS=1 cargo test -p
//! token-verifier vectors` writes it anew. ES256 signatures have a random part, so those in the file
//! are used again as long as they verify.

mod bad;
mod good;
mod make;

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use token_verifier::{Claims, KeySet, Rules, verify};

use self::bad::bad;
use self::good::good;
use self::make::{with_claims, with_more};
use crate::forge::{Keys, NOW, SECRET, b64};

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
    let bad = bad().map(|(name, reason, token)| Vector {
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

/// The keys that the vectors are checked with.
pub(crate) fn keys() -> KeySet {
    KeySet::from_jwks(jwks().to_string().as_bytes()).unwrap()
}

/// A token that is all right, with more claims, each preceded by a comma.
pub(crate) fn token_with(members: &str) -> String {
    with_claims(with_more(members))
}
