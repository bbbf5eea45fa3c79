//! Tokens that are to be taken.

use token_verifier::MAX_TOKEN_BYTES;

use super::make::{signed_by, token, with, with_claims, with_header, with_member};
use super::{ISSUER, NEXT};
use crate::forge::{NOW, SUB, header};

/// Name and token.
pub(super) fn good() -> Vec<(String, String)> {
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
