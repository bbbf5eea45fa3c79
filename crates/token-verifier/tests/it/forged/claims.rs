//! Claims that are not those of a valid access token, all signed by the issuer.

use std::collections::BTreeMap;
use std::time::Duration;

use token_verifier::Rules;

use super::{Row, row, with_claims};
use crate::forge::{NOW, SUB, claims};

pub(super) fn rows() -> Vec<Row> {
    [claim_types(), times(), parties()].into_iter().flatten().collect()
}

/// Good claims without `name`, then with `name` set to this JSON text.
fn replaced(name: &str, value: Option<&str>) -> String {
    let mut members: BTreeMap<String, String> =
        serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&claims(""))
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect();
    members.remove(name);
    members.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn claim_types() -> Vec<Row> {
    let class = "claim types";
    let mut rows = Vec::new();
    for name in ["sub", "iat", "exp"] {
        let token = with_claims(replaced(name, None));
        rows.push(row(class, format!("no {name}"), token, "missing_claim"));
    }
    let no_email = with_claims("{}");
    rows.push(row(class, "no claims at all", no_email, "missing_claim"));
    let upper = SUB.to_ascii_uppercase();
    let plain = SUB.replace('-', "");
    let subjects = [
        "",
        " ",
        "admin",
        "1",
        &upper,
        &plain,
        "00000000-0000-0000-0000-000000000000",
        "../etc",
        &format!("{{{SUB}}}"),
        &format!("urn:uuid:{SUB}"),
        &format!("{SUB} "),
        &format!("{SUB}\\u0000"),
        &format!("{SUB}' OR 1=1"),
        &SUB[1..],
    ];
    for sub in subjects {
        let token = with_claims(replaced("sub", Some(&format!("\"{sub}\""))));
        rows.push(row(class, format!("sub {sub:?}"), token, "invalid_claim"));
    }
    let not_strings = ["null", "1", "true", "{}", r#"["x"]"#];
    for name in ["sub", "email", "iss", "jti"] {
        for value in not_strings {
            let token = with_claims(replaced(name, Some(value)));
            rows.push(row(class, format!("{name} is {value}"), token, "invalid_claim"));
        }
    }
    for name in ["iat", "exp", "nbf"] {
        let quoted = format!("\"{}\"", NOW + 10);
        for value in [
            "null",
            "true",
            "[]",
            "{}",
            "\"never\"",
            "-1",
            "-0.5",
            "-1e300",
            "1e300",
            "253402300800",
            "253402300799.5",
            "9223372036854775808",
            "18446744073709551616",
            "99999999999999999999999999",
            &quoted,
            &format!("[{NOW}]"),
        ] {
            let token = with_claims(replaced(name, Some(value)));
            rows.push(row(class, format!("{name} is {value}"), token, "invalid_claim"));
        }
        for value in ["NaN", "1e999", "-1e999", "Infinity", "-Infinity", "+1", ".5", "1.", "1_000"]
        {
            let token = with_claims(replaced(name, Some(value)));
            rows.push(row(class, format!("{name} is {value}"), token, "bad_json"));
        }
    }
    for value in ["null", "true", "\"1\"", "-1", "0.5", "9007199254740992", "1e300", "[]"] {
        let token = with_claims(replaced("gen", Some(value)));
        rows.push(row(class, format!("gen is {value}"), token, "invalid_claim"));
    }
    let nil = "\"00000000-0000-0000-0000-000000000000\"";
    let (upper, plain) = (format!("\"{upper}\""), format!("\"{plain}\""));
    for value in ["null", "1", "\"\"", "\"session\"", nil, &upper, &plain] {
        let token = with_claims(replaced("sid", Some(value)));
        rows.push(row(class, format!("sid is {value}"), token, "invalid_claim"));
    }
    for value in ["null", "1", "\"true\""] {
        let token = with_claims(replaced("email_verified", Some(value)));
        rows.push(row(class, format!("email_verified is {value}"), token, "invalid_claim"));
    }
    for value in
        ["null", "1", "true", "{}", "[1]", r#"["latchkey",1]"#, r#"["latchkey",null]"#, "[[]]"]
    {
        let token = with_claims(replaced("aud", Some(value)));
        rows.push(row(class, format!("aud is {value}"), token, "invalid_claim"));
    }
    let long = format!("\"{}@example.com\"", "a".repeat(254 - 11));
    let token = with_claims(replaced("email", Some(&long)));
    rows.push(row(class, "email of 255 bytes", token, "invalid_claim"));
    rows
}

fn times() -> Vec<Row> {
    let class = "times";
    let mut rows = Vec::new();
    for exp in [NOW, NOW - 1, NOW - 61, 1, 0] {
        let token = with_claims(replaced("exp", Some(&exp.to_string())));
        rows.push(row(class, format!("exp at {}", exp - NOW), token, "expired"));
    }
    let token = with_claims(replaced("exp", Some(&format!("{NOW}.999"))));
    rows.push(row(class, "exp within this second", token, "expired"));
    let leeway = Rules::default().exp_leeway(Duration::from_secs(5));
    let token = with_claims(replaced("exp", Some(&(NOW - 5).to_string())));
    rows.push(row(class, "exp at the leeway", token, "expired").under(leeway));
    for name in ["iat", "nbf"] {
        for after in [61, 3600, 100_000_000] {
            let token = with_claims(replaced(name, Some(&(NOW + after).to_string())));
            rows.push(row(class, format!("{name} at {after}"), token, "not_yet_valid"));
        }
        let token = with_claims(replaced(name, Some(&(NOW + 1).to_string())));
        let exact = Rules::default().clock_skew(Duration::ZERO);
        rows.push(row(class, format!("{name}, no skew"), token, "not_yet_valid").under(exact));
    }
    let milliseconds = with_claims(replaced("iat", Some(&format!("{NOW}000"))));
    rows.push(row(class, "iat in milliseconds", milliseconds, "invalid_claim"));
    rows
}

fn parties() -> Vec<Row> {
    let class = "issuer and audience";
    let rules = || Rules::default().issuer("https://auth.example").audience("latchkey");
    let mut rows = Vec::new();
    let mut push = |name: &str, more: &str, reason| {
        rows.push(row(class, name, with_claims(claims(more)), reason).under(rules()));
    };
    push("neither", "", "missing_claim");
    push("no issuer", r#","aud":"latchkey""#, "missing_claim");
    push("no audience", r#","iss":"https://auth.example""#, "missing_claim");
    for iss in [
        "https://evil.example",
        "https://auth.example/",
        "https://auth.example.evil.example",
        "HTTPS://AUTH.EXAMPLE",
        "http://auth.example",
        "https://auth.exampl",
        "",
        "auth.example",
        " https://auth.example",
        "https://auth.example\\u0000",
    ] {
        let more = format!(r#","aud":"latchkey","iss":"{iss}""#);
        push(&format!("iss {iss:?}"), &more, "wrong_issuer");
    }
    for aud in [
        r#""other""#,
        r#""LATCHKEY""#,
        r#""latchkey2""#,
        r#""latch""#,
        r#""""#,
        r#"["other"]"#,
        r#"["latchkey,other"]"#,
        r#""latchkey other""#,
        r#"["latchkey "]"#,
        r#""latchkey\u0000""#,
    ] {
        let more = format!(r#","iss":"https://auth.example","aud":{aud}"#);
        push(&format!("aud {aud}"), &more, "wrong_audience");
    }
    push("empty list", r#","iss":"https://auth.example","aud":[]"#, "missing_claim");
    push("swapped", r#","iss":"latchkey","aud":"https://auth.example""#, "wrong_issuer");
    rows
}
