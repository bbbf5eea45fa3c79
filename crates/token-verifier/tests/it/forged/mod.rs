//! Forged tokens by attack class (RFC 8725, OWASP's cheat sheet on JSON Web Tokens, published
//! vulnerabilities). Wherever the forgery allows it the token is signed with the issuer's own key, so
//! that nothing but the check under test can stop it.

mod algorithms;
mod claims;
mod headers;
mod signatures;
mod text;

use std::collections::BTreeMap;

use token_verifier::{KeySet, Rules, verify};

use crate::forge::{ISSUER, NOW, b64, claims, from_jwks, header, token, unb64};

struct Row {
    class: &'static str,
    name: String,
    token: String,
    keys: KeySet,
    rules: Rules,
    reason: &'static str,
}

/// A row against the issuer's JWKS under the default rules.
fn row(class: &'static str, name: impl Into<String>, token: String, reason: &'static str) -> Row {
    let (keys, rules) = (from_jwks(), Rules::default());
    Row { class, name: name.into(), token, keys, rules, reason }
}

impl Row {
    fn against(self, keys: KeySet) -> Self {
        Self { keys, ..self }
    }

    fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }
}

/// Signed by the issuer's RSA key, with this header.
fn with_header(header: &str) -> String {
    ISSUER.token_of("RS256", header, &claims(""))
}

/// Signed by the issuer's RSA key, with more header members (each preceded by a comma).
fn with_member(members: &str) -> String {
    with_header(&format!(r#"{{"alg":"RS256","kid":"{}"{members}}}"#, ISSUER.kid("RS256")))
}

/// Signed by the issuer's RSA key, with these claims.
fn with_claims(claims: impl AsRef<[u8]>) -> String {
    let header = header("RS256", &ISSUER.kid("RS256"));
    token(&header, claims, |message| ISSUER.sign("RS256", message))
}

/// A good token whose signature is replaced.
fn with_signature(algorithm: &str, signature: impl AsRef<[u8]>) -> String {
    let good = ISSUER.token(algorithm);
    let (message, _) = good.rsplit_once('.').unwrap();
    format!("{message}.{}", b64(signature))
}

fn signature_of(token: &str) -> Vec<u8> {
    unb64(token.rsplit_once('.').unwrap().1)
}

#[test]
fn every_forged_token_is_refused_for_its_own_reason() {
    let rows: Vec<Row> =
        [algorithms::rows(), claims::rows(), headers::rows(), signatures::rows(), text::rows()]
            .into_iter()
            .flatten()
            .collect();

    let mut classes = BTreeMap::<_, usize>::new();
    let mut wrong = Vec::new();
    for row in &rows {
        *classes.entry(row.class).or_default() += 1;
        let reason = match verify(&row.token, &row.keys, &row.rules, NOW) {
            Ok(_) => "accepted",
            Err(error) => {
                let part = row.token.get(..12).unwrap_or("no part");
                assert!(!format!("{error} {error:?}").contains(part), "the error holds the token");
                error.reason()
            }
        };
        if reason != row.reason {
            wrong.push(format!("{}, {}: {reason}, not {}", row.class, row.name, row.reason));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 400 && classes.len() >= 17, "{} rows, {classes:?}", rows.len());

    // The keys themselves are fine: what was refused above was not refused for want of them.
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = ISSUER.token(algorithm);
        assert!(verify(&token, &from_jwks(), &Rules::default(), NOW).is_ok());
    }
}
