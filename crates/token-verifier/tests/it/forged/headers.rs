//! What a header may not say.

use base64::{Engine, engine::general_purpose::STANDARD};
use token_verifier::KeySet;

use super::{Row, row, with_header, with_member};
use crate::forge::{ISSUER, STRANGER, b64, claims, from_pem, from_secret, header, hs256, token};

pub(super) fn rows() -> Vec<Row> {
    [keys_in_header(), kid(), extensions(), types()].into_iter().flatten().collect()
}

fn keys_in_header() -> Vec<Row> {
    let class = "key in header";
    let jwk = STRANGER.public()[0].to_jwk().unwrap();
    let own = ISSUER.public()[0].to_jwk().unwrap();
    let mut rows = Vec::new();
    for members in [
        format!(r#","jwk":{jwk}"#),
        r#","jku":"https://evil.example/jwks.json""#.to_owned(),
        r#","jku":"http://127.0.0.1:3000@evil.example/jwks.json""#.to_owned(),
        r#","jku":"file:///dev/null""#.to_owned(),
        r#","x5u":"https://evil.example/cert.pem""#.to_owned(),
        format!(r#","x5c":["{}"]"#, STANDARD.encode(STRANGER.rsa_der())),
        r#","x5c":[]"#.to_owned(),
    ] {
        // The forger's key, which the forger's header vouches for.
        let header = format!(r#"{{"alg":"RS256"{members}}}"#);
        let forged = STRANGER.token_of("RS256", &header, &claims(""));
        rows.push(row(class, format!("forged, {}", &members[1..6]), forged, "key_in_header"));
        let name = format!("signed, {}", &members[1..6]);
        rows.push(row(class, name, with_member(&members), "key_in_header"));
    }
    for members in [format!(r#","jwk":{own}"#), r#","jwk":null"#.into(), r#","jku":"""#.into()] {
        let token = with_member(&members);
        rows.push(row(class, "signed, own or empty", token, "key_in_header"));
    }
    let secret = format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, b64("x"));
    let forged = token(&secret, claims(""), |message| hs256(b"x", message));
    rows.push(row(class, "a secret", forged, "key_in_header").against(from_secret()));
    rows
}

fn kid() -> Vec<Row> {
    let class = "kid";
    let mut rows = Vec::new();
    for kid in [
        "../../../../../../dev/null",
        "/dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "x' UNION SELECT 'secret' -- ",
        "' OR '1'='1",
        "x; curl evil.example",
        "$(id)",
        "`id`",
        "https://evil.example/key",
        "",
        " ",
        "*",
        "null",
        "\\u0000",
        "%00",
        "${jndi:ldap://x}",
    ] {
        let genuine = with_header(&header("RS256", kid));
        rows.push(row(class, format!("{kid:?}, genuine signature"), genuine, "unknown_key"));
        let empty = token(&header("HS256", kid), claims(""), |message| hs256(b"", message));
        rows.push(row(class, format!("{kid:?}, empty secret"), empty.clone(), "unknown_key"));
        rows.push(row(class, "empty secret", empty, "bad_signature").against(from_secret()));
    }
    let own = ISSUER.kid("RS256");
    for (name, kid) in [
        ("cut", own[1..].to_owned()),
        ("padded", format!("{own} ")),
        ("other case", own.to_ascii_uppercase()),
        ("with a null byte", format!("{own}\\u0000")),
        ("a stranger's", STRANGER.kid("RS256")),
        ("long", "k".repeat(4000)),
    ] {
        rows.push(row(class, name, with_header(&header("RS256", &kid)), "unknown_key"));
    }
    let stranger = STRANGER.token_of("RS256", &header("RS256", &own), &claims(""));
    rows.push(row(class, "a stranger under the issuer's kid", stranger, "bad_signature"));
    let another = KeySet::new([ISSUER.public().to_vec(), STRANGER.public().to_vec()].concat());
    let token = ISSUER.token_of("RS256", &header("RS256", &STRANGER.kid("RS256")), &claims(""));
    rows.push(row(class, "another trusted key's", token, "bad_signature").against(another));
    let jwks_of_one = serde_json::json!({"keys": [ISSUER.public()[0].to_jwk()]}).to_string();
    let one = KeySet::from_jwks(jwks_of_one.as_bytes()).unwrap();
    let token = with_header(&header("RS256", "another-name"));
    rows.push(row(class, "another name for a JWKS of one", token, "unknown_key").against(one));
    for kid in ["1", "null", "true", "[]", r#"["a"]"#, "{}"] {
        let token = with_header(&format!(r#"{{"alg":"RS256","kid":{kid}}}"#));
        rows.push(row(class, format!("kid is {kid}"), token.clone(), "bad_kid"));
        rows.push(row(class, "also for a file", token, "bad_kid").against(from_pem("RS256")));
    }
    rows
}

fn extensions() -> Vec<Row> {
    let mut rows = Vec::new();
    for crit in [
        r#"["exp"]"#,
        r#"["b64"]"#,
        r#"["kid"]"#,
        r#"["x"],"x":1"#,
        "[]",
        "null",
        "\"exp\"",
        "false",
    ] {
        let token = with_member(&format!(r#","crit":{crit}"#));
        rows.push(row("crit", crit, token, "critical_header"));
    }
    let crit_and_b64 = with_member(r#","crit":["b64"],"b64":false"#);
    rows.push(row("crit", "RFC 7797 as it should be", crit_and_b64, "critical_header"));
    for member in [
        r#""b64":false"#,
        r#""b64":true"#,
        r#""b64":null"#,
        r#""zip":"DEF""#,
        r#""zip":"""#,
        r#""enc":"A128GCM""#,
    ] {
        let token = with_member(&format!(",{member}"));
        rows.push(row("b64, zip and enc", member, token, "unsupported_header"));
    }
    let header = r#"{"alg":"RS256","b64":false}"#;
    let message = format!("{}.{}", b64(header), claims("").replace('.', ""));
    let raw = format!("{message}.{}", b64(ISSUER.sign("RS256", message.as_bytes())));
    rows.push(row("b64, zip and enc", "unencoded payload", raw, "unsupported_header"));
    rows
}

fn types() -> Vec<Row> {
    let class = "typ";
    let mut rows = Vec::new();
    for typ in [
        r#""secevent+jwt""#,
        r#""dpop+jwt""#,
        r#""logout+jwt""#,
        r#""kb+jwt""#,
        r#""id_token""#,
        r#""token-introspection+jwt""#,
        r#""oauth-authz-req+jwt""#,
        r#""rt+jwt""#,
        r#""vc+sd-jwt""#,
        r#""application/dpop+jwt""#,
        r#""application/jwt""#,
        r#""JOSE""#,
        r#""JOSE+JSON""#,
        r#""JWE""#,
        r#""JWT ""#,
        r#"" at+jwt""#,
        r#""at+jwt;v=1""#,
        r#""text/at+jwt""#,
        r#""application/application/at+jwt""#,
        r#""at-jwt""#,
        r#""""#,
        "null",
        "1",
        "true",
        r#"["JWT"]"#,
        r#"{"JWT":1}"#,
    ] {
        let token = with_member(&format!(r#","typ":{typ}"#));
        rows.push(row(class, typ, token, "wrong_type"));
    }
    rows
}
