//! Texts that are not the one form of a token.

use super::{Row, row, with_claims, with_header};
use crate::forge::{ISSUER, b64, claims, header};

pub(super) fn rows() -> Vec<Row> {
    [encoding(), form(), json()].into_iter().flatten().collect()
}

/// Signs the text of two segments as it stands, so that only the decoder can object.
fn signed_as_is(message: &str) -> String {
    format!("{message}.{}", b64(ISSUER.sign("RS256", message.as_bytes())))
}

fn with_signature_text(algorithm: &str, change: impl FnOnce(&str) -> String) -> String {
    let good = ISSUER.token(algorithm);
    let (message, signature) = good.rsplit_once('.').unwrap();
    format!("{message}.{}", change(signature))
}

fn encoding() -> Vec<Row> {
    let class = "base64url";
    let good = ISSUER.token("RS256");
    let [head, body, tail] = <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    // 256 bytes leave four bits over, and a claims text can be made to leave two.
    let last = |text: &str| {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (start, end) = text.split_at(text.len() - 1);
        let at = alphabet.iter().position(|c| *c == end.as_bytes()[0]).unwrap();
        format!("{start}{}", char::from(alphabet[at ^ 1]))
    };
    let uneven = |text: &str| {
        (0..3)
            .map(|n| b64(format!("{text}{}", " ".repeat(n))))
            .find(|text| text.len() % 4 != 0)
            .unwrap()
    };
    let (odd_head, odd_body) =
        (uneven(&header("RS256", &ISSUER.kid("RS256"))), uneven(&claims("")));
    let padded = |text: &str| format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
    let mut rows = vec![
        row(
            class,
            "left-over bits, signature",
            format!("{head}.{body}.{}", last(tail)),
            "bad_base64",
        ),
        row(
            class,
            "left-over bits, header",
            signed_as_is(&format!("{}.{body}", last(&odd_head))),
            "bad_base64",
        ),
        row(
            class,
            "left-over bits, claims",
            signed_as_is(&format!("{head}.{}", last(&odd_body))),
            "bad_base64",
        ),
        row(class, "padding, signature", format!("{head}.{body}.{}", padded(tail)), "bad_base64"),
        row(
            class,
            "padding, header",
            signed_as_is(&format!("{}.{body}", padded(&odd_head))),
            "bad_base64",
        ),
        row(
            class,
            "padding, claims",
            signed_as_is(&format!("{head}.{}", padded(&odd_body))),
            "bad_base64",
        ),
        row(class, "one character too many", format!("{head}.{body}.{tail}AAA"), "bad_base64"),
        row(
            class,
            "standard alphabet",
            with_signature_text("RS256", |_| "+/+/".into()),
            "bad_base64",
        ),
        row(
            class,
            "percent-encoded",
            format!("{head}.{body}.{}", tail.replace(&tail[..1], "%41")),
            "bad_base64",
        ),
    ];
    for (name, white) in
        [("space", " "), ("newline", "\n"), ("tab", "\t"), ("null", "\0"), ("no-break", "\u{a0}")]
    {
        for (place, token) in [
            ("before", format!("{white}{good}")),
            ("after", format!("{good}{white}")),
            ("inside", format!("{head}.{body}.{}{white}{}", &tail[..8], &tail[8..])),
        ] {
            rows.push(row(class, format!("{name} {place}"), token, "bad_base64"));
        }
        let token = signed_as_is(&format!("{head}.{}{white}{}", &body[..8], &body[8..]));
        rows.push(row(class, format!("{name} in signed claims"), token, "bad_base64"));
    }
    for (name, look_alike) in [("Cyrillic", "\u{435}"), ("full-width dot", "\u{ff0e}")] {
        let token = format!("{head}.{body}.{look_alike}{tail}");
        rows.push(row(class, name, token, "bad_base64"));
    }
    rows
}

fn form() -> Vec<Row> {
    let class = "form";
    let good = ISSUER.token("RS256");
    let [head, body, tail] = <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let jwe_header = b64(r#"{"alg":"RSA-OAEP","enc":"A128GCM"}"#);
    vec![
        row(class, "empty", String::new(), "not_compact"),
        row(class, "one segment", head.to_owned(), "not_compact"),
        row(class, "two segments", format!("{head}.{body}"), "not_compact"),
        row(class, "four segments", format!("{good}.x"), "not_compact"),
        row(class, "dot at the end", format!("{good}."), "not_compact"),
        row(class, "dot in front", format!(".{good}"), "not_compact"),
        row(class, "JWE of five segments", format!("{jwe_header}.AA.AA.AA.AA"), "not_compact"),
        row(class, "token and token", format!("{good}.{good}"), "not_compact"),
        row(class, "only dots", "..".to_owned(), "bad_json"),
        row(class, "three dots", "...".to_owned(), "not_compact"),
        row(
            class,
            "JWE header in three segments",
            format!("{jwe_header}.{body}.{tail}"),
            "unsupported_header",
        ),
        row(class, "detached payload", format!("{head}..{tail}"), "bad_signature"),
        row(
            class,
            "flattened JSON serialisation",
            format!(r#"{{"protected":"{head}","payload":"{body}","signature":"{tail}"}}"#),
            "not_compact",
        ),
        row(
            class,
            "general JSON serialisation",
            format!(
                r#"{{"payload":"{body}","signatures":[{{"protected":"{head}","signature":"{tail}"}}]}}"#
            ),
            "not_compact",
        ),
        row(
            class,
            "compact around JSON serialisation (CVE-2022-3102)",
            format!(r#"{{"a":"{head}.{body}.{tail}"}}"#),
            "bad_base64",
        ),
        row(class, "with the scheme", format!("Bearer {good}"), "bad_base64"),
        row(class, "in quotes", format!("\"{good}\""), "bad_base64"),
        row(class, "dots encoded", good.replace('.', "%2E"), "not_compact"),
        row(
            class,
            "too long, signed",
            with_claims(claims(&format!(r#","x":"{}""#, "x".repeat(8000)))),
            "too_long",
        ),
        row(
            class,
            "too long by one",
            format!("{good}{}", "A".repeat(8193 - good.len())),
            "too_long",
        ),
        row(class, "a megabyte of dots", ".".repeat(1 << 20), "too_long"),
        row(class, "8 KiB of dots", ".".repeat(8192), "not_compact"),
    ]
}

fn json() -> Vec<Row> {
    let mut rows = Vec::new();
    let class = "duplicate members";
    let kid = ISSUER.kid("RS256");
    for header in [
        r#"{"alg":"RS256","alg":"RS256"}"#.to_owned(),
        r#"{"alg":"none","alg":"RS256"}"#.to_owned(),
        r#"{"alg":"RS256","\u0061lg":"none"}"#.to_owned(),
        format!(r#"{{"alg":"RS256","kid":"{kid}","kid":"x"}}"#),
        r#"{"alg":"RS256","typ":"JWT","typ":"JWT"}"#.to_owned(),
        r#"{"alg":"RS256","x":[{"a":1,"a":1}]}"#.to_owned(),
    ] {
        rows.push(row(class, header.clone(), with_header(&header), "duplicate_member"));
    }
    for more in [
        r#","exp":9999999999"#,
        r#","sub":"01976f3a-8d2c-7b4e-9f10-000000000000""#,
        r#","aud":"a","aud":"b""#,
        r#","x":{"a":1,"a":2}"#,
        r#","\u0065xp":1"#,
        r#","":1,"":1"#,
    ] {
        rows.push(row(class, more, with_claims(claims(more)), "duplicate_member"));
    }

    let class = "JSON";
    let deep = |open: &str, close: &str, n| format!("{}{}", open.repeat(n), close.repeat(n));
    let bombs = [
        ("arrays", format!(r#"{{"alg":"RS256","x":{}}}"#, deep("[", "]", 2500))),
        (
            "objects",
            format!(r#"{{"alg":"RS256","x":{}1{}}}"#, "{\"a\":".repeat(800), "}".repeat(800)),
        ),
        ("open arrays", format!(r#"{{"alg":"RS256","x":{}"#, "[".repeat(5000))),
    ];
    for (name, bomb) in bombs {
        rows.push(row(class, format!("depth bomb of {name}"), with_header(&bomb), "bad_json"));
        let bomb = bomb.replace(r#""alg":"RS256""#, r#""sub":"x""#);
        let name = format!("depth bomb of {name}, claims");
        rows.push(row(class, name, with_claims(bomb), "bad_json"));
    }
    let good = claims("");
    let texts: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("a list", format!("[{good}]").into()),
        ("a string", serde_json::to_vec(&good).unwrap()),
        ("null", b"null".to_vec()),
        ("a number", b"1".to_vec()),
        ("trailing bytes", format!("{good}x").into()),
        ("two objects", format!("{good}{good}").into()),
        ("trailing null byte", format!("{good}\0").into()),
        ("byte order mark", format!("\u{feff}{good}").into()),
        ("cut", good[..good.len() - 1].into()),
        ("trailing comma", good.replace('}', ",}").into()),
        ("comment", good.replace('{', "{/**/").into()),
        ("single quotes", good.replace('"', "'").into()),
        ("raw control character", claims(",\"x\":\"\n\"").into()),
        ("lone surrogate", claims(r#","x":"\ud800""#).into()),
        ("invalid UTF-8", [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xff\"}"].concat()),
        ("overlong UTF-8", [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xc0\xaf\"}"].concat()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("NaN", claims(r#","x":NaN"#).into()),
        ("Infinity", claims(r#","x":Infinity"#).into()),
        ("hexadecimal", claims(r#","x":0x10"#).into()),
        ("leading zero", claims(r#","x":01"#).into()),
        ("1e999", claims(r#","x":1e999"#).into()),
        ("a nested token", ISSUER.token("RS256").into()),
    ];
    for (name, text) in texts {
        rows.push(row(class, name, with_claims(text), "bad_json"));
    }
    for (name, header) in [
        ("header is a list", r#"["RS256"]"#),
        ("header is a string", r#""RS256""#),
        ("header is empty", ""),
        ("header has trailing bytes", r#"{"alg":"RS256"}{}"#),
        ("header in single quotes", "{'alg':'RS256'}"),
    ] {
        rows.push(row(class, name, with_header(header), "bad_json"));
    }
    rows
}
