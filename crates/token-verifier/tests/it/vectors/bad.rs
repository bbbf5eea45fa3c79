//! Tokens that are to be refused, each for one reason.

use aws_lc_rs::signature::RSA_PKCS1_SHA384;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use token_verifier::MAX_TOKEN_BYTES;

use super::make::{
    own_header, signed_by, signed_text, token, with, with_claims, with_header, with_member,
    with_more, with_signature,
};
use super::{ISSUER, NEXT, STRANGER};
use crate::forge::{NOW, SECRET, SUB, b64, header, hs256, pem};

/// Name, reason, token.
pub(super) type Bad = (String, &'static str, String);

/// All of them, in the order of the file.
pub(super) fn bad() -> impl Iterator<Item = Bad> {
    let all = [form(), encoding(), json_texts(), headers(), algorithms(), signatures(), claims()];
    all.into_iter().flatten()
}

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
