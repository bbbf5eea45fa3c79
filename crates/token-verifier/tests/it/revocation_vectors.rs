//! `vectors/revocations.json`: lists of revocations for the verifiers of other languages, and what they
//! mean for a few tokens. `UPDATE_VECTORS=1 cargo test -p token-verifier vectors` writes it anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use serde::Serialize;
use serde_json::{Value, json};
use token_verifier::{
    AuthError, RevocationEntry, RevocationList, RevocationPage, Rules, Verifier, VerifyError,
};
use uuid::Uuid;

use crate::forge::{NOW, SUB};
use crate::vectors::{AUD, ISS, keys, token_with};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/revocations.json");
const SID: &str = "01976f3a-8d2c-7b4e-9f10-00000000000a";
const OTHER: &str = "01976f3a-8d2c-7b4e-9f10-00000000000b";
/// The end of the tokens.
const EXP: i64 = NOW + 3590;

#[derive(Serialize)]
struct Case {
    name: &'static str,
    /// What the feed answers, in its order.
    pages: Vec<RevocationPage>,
    /// Where the next request starts.
    cursor: &'static str,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    token: &'static str,
    now: i64,
    verdict: &'static str,
}

fn tokens() -> [(&'static str, String); 4] {
    let session = |generation| token_with(&format!(r#","sid":"{SID}","gen":{generation}"#));
    [
        ("plain", token_with("")),
        ("generation 3", token_with(r#","gen":3"#)),
        ("session, generation 3", session(3)),
        ("session, generation 4", session(4)),
    ]
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

/// The verdicts of all four tokens at one time.
fn checks(now: i64, verdicts: [&'static str; 4]) -> Vec<Check> {
    let tokens = ["plain", "generation 3", "session, generation 3", "session, generation 4"];
    tokens.into_iter().zip(verdicts).map(|(token, verdict)| Check { token, now, verdict }).collect()
}

fn page(
    reset: bool,
    more: bool,
    cursor: &str,
    entries: impl Into<Vec<RevocationEntry>>,
) -> RevocationPage {
    RevocationPage::new(reset, more, cursor, entries.into())
}

fn cases() -> Vec<Case> {
    const OK: &str = "valid";
    const NO: &str = "revoked";
    let session = |text, until| RevocationEntry::session(id(text), until);
    let account = |text, generation, until| RevocationEntry::account(id(text), generation, until);
    let case = |name, pages, cursor, checks| Case { name, pages, cursor, checks };
    vec![
        case("nothing", vec![page(true, false, "1", [])], "1", checks(NOW, [OK, OK, OK, OK])),
        case(
            "a session",
            vec![page(true, false, "1", [session(SID, EXP)])],
            "1",
            checks(NOW, [OK, OK, NO, NO]),
        ),
        case(
            "an expired token is expired, revoked or not",
            vec![page(true, false, "1", [session(SID, EXP + 60), account(SUB, 4, EXP + 60)])],
            "1",
            checks(EXP, ["expired"; 4]),
        ),
        case(
            "others' sessions and accounts",
            vec![page(
                true,
                false,
                "1",
                [
                    session(OTHER, EXP),
                    session(SUB, EXP),
                    account(OTHER, 9, EXP),
                    account(SID, 9, EXP),
                ],
            )],
            "1",
            checks(NOW, [OK, OK, OK, OK]),
        ),
        case(
            "an account, tokens without a generation count as 0",
            vec![page(true, false, "1", [account(SUB, 1, EXP)])],
            "1",
            checks(NOW, [NO, OK, OK, OK]),
        ),
        case(
            "an account, the generation itself still counts",
            vec![page(true, false, "1", [account(SUB, 4, EXP)])],
            "1",
            checks(NOW, [NO, NO, NO, OK]),
        ),
        case(
            "two entries for one account say what either says",
            vec![page(true, false, "1", [account(SUB, 4, EXP), account(SUB, 1, EXP + 9)])],
            "1",
            checks(NOW, [NO, NO, NO, OK]),
        ),
        case(
            "an entry counts until the second before its end",
            vec![page(true, false, "1", [session(SID, NOW + 10)])],
            "1",
            [checks(NOW + 9, [OK, OK, NO, NO]), checks(NOW + 10, [OK, OK, OK, OK])]
                .into_iter()
                .flatten()
                .collect(),
        ),
        case(
            "pages add to each other",
            vec![
                page(true, true, "1", [session(OTHER, EXP)]),
                page(false, true, "2", [session(SID, EXP)]),
                page(false, false, "3", [account(SUB, 3, EXP)]),
                page(false, false, "4", []),
            ],
            "4",
            checks(NOW, [NO, OK, NO, NO]),
        ),
        case(
            "a reset replaces what was known",
            vec![
                page(true, false, "1", [session(SID, EXP)]),
                page(true, true, "a", [account(SUB, 1, EXP)]),
                page(false, false, "b", []),
            ],
            "b",
            checks(NOW, [NO, OK, OK, OK]),
        ),
        case(
            "a reset counts with its last page only",
            vec![
                page(true, false, "1", [session(SID, EXP)]),
                page(true, true, "a", [account(SUB, 1, EXP)]),
            ],
            "a",
            checks(NOW, [OK, OK, NO, NO]),
        ),
        case(
            "a reset amid a reset loses no page",
            vec![
                page(true, true, "a", [account(SUB, 1, EXP)]),
                page(true, false, "b", [session(SID, EXP)]),
            ],
            "b",
            checks(NOW, [NO, OK, NO, NO]),
        ),
    ]
}

/// Bodies that are no page, for which a feed counts as away.
fn malformed() -> Vec<String> {
    let entry = json!(RevocationEntry::session(id(SID), EXP));
    let digest = entry["session"].as_str().unwrap();
    let with = |entry: Value| {
        json!({"reset": false, "more": false, "cursor": "1", "entries": [entry]}).to_string()
    };
    vec![
        String::new(),
        "<html></html>".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({"reset": false, "more": false, "entries": []}).to_string(),
        json!({"reset": 0, "more": false, "cursor": "1", "entries": []}).to_string(),
        json!({"reset": false, "more": "no", "cursor": "1", "entries": []}).to_string(),
        json!({"reset": false, "more": false, "cursor": 1, "entries": []}).to_string(),
        json!({"reset": false, "more": false, "cursor": "1", "entries": {}}).to_string(),
        json!({"reset": false, "more": false, "cursor": "x".repeat(1025), "entries": []})
            .to_string(),
        with(Value::Null),
        with(json!({"session": digest})),
        with(json!({"session": digest, "until": "1"})),
        with(json!({"session": digest[1..], "until": EXP})),
        with(json!({"session": format!("{digest}="), "until": EXP})),
        with(json!({"session": 1, "until": EXP})),
        with(json!({"account": digest, "until": EXP})),
        with(json!({"account": digest, "generation": -1, "until": EXP})),
        with(json!({"account": digest, "generation": "1", "until": EXP})),
        with(json!({"account": digest, "session": digest, "generation": 1, "until": EXP})),
    ]
}

/// Bodies that are a page without entries for this verifier.
fn passed_over() -> Vec<String> {
    let digest = json!(RevocationEntry::session(id(SID), EXP))["session"].clone();
    vec![
        json!({"reset": true, "more": false, "cursor": "1", "entries": [], "later": 1}).to_string(),
        json!({"reset": true, "more": false, "cursor": "1", "entries": [
            {"client": digest, "until": EXP}
        ]})
        .to_string(),
    ]
}

#[test]
fn every_list_means_what_the_file_states() {
    let tokens = tokens();
    for case in cases() {
        let clock = Arc::new(AtomicI64::new(NOW));
        let (of_list, of_verifier) = (Arc::clone(&clock), Arc::clone(&clock));
        let list = RevocationList::with_clock(move || of_list.load(SeqCst));
        for page in &case.pages {
            let text = json!(page).to_string();
            list.apply(RevocationPage::from_json(text.as_bytes()).unwrap()).unwrap();
        }
        // A list that has not come whole yet is no reason to refuse here.
        list.confirm();
        let verifier = Verifier::with_keys(keys(), Rules::default().issuer(ISS).audience(AUD))
            .with_clock(move || of_verifier.load(SeqCst))
            .with_revocations(list.clone());
        assert_eq!(list.cursor().as_deref(), Some(case.cursor), "{}", case.name);
        for check in &case.checks {
            clock.store(check.now, SeqCst);
            let (_, token) = tokens.iter().find(|(name, _)| *name == check.token).unwrap();
            let verdict = match verifier.verify_cached(token) {
                Ok(_) => "valid",
                Err(AuthError::Revoked { .. }) => "revoked",
                Err(AuthError::Invalid(VerifyError::Expired)) => "expired",
                Err(error) => error.reason(),
            };
            assert_eq!(verdict, check.verdict, "{}: {} at {}", case.name, check.token, check.now);
        }
    }
    for text in malformed() {
        assert!(RevocationPage::from_json(text.as_bytes()).is_err(), "{text}");
    }
    for text in passed_over() {
        assert!(RevocationPage::from_json(text.as_bytes()).unwrap().entries.is_empty(), "{text}");
    }

    let tokens: serde_json::Map<_, _> =
        tokens.into_iter().map(|(name, token)| (name.to_owned(), token.into())).collect();
    let made = json!({
        "ids": {SUB: digest(SUB), SID: digest(SID), OTHER: digest(OTHER)},
        "tokens": tokens,
        "cases": cases(),
        "malformed": malformed(),
        "passed_over": passed_over(),
    });
    let made = format!("{made:#}\n");
    #[expect(clippy::disallowed_methods, reason = "no setting of a service")]
    let update = std::env::var_os("UPDATE_VECTORS").is_some();
    if update {
        std::fs::write(FILE, &made).unwrap();
    }
    let stored = std::fs::read_to_string(FILE).unwrap();
    assert!(stored == made, "{FILE} is stale: run with UPDATE_VECTORS=1");
}

fn digest(text: &str) -> String {
    token_verifier::RevocationDigest::of(id(text)).to_string()
}
