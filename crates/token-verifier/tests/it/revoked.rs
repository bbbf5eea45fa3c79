//! A verifier with a list of revocations, which is filled by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use token_verifier::{
    AuthError, MAX_EXP_LEEWAY, RevocationDigest, RevocationEntry, RevocationList, RevocationPage,
    Rules, Verifier, VerifyError,
};
use uuid::Uuid;

use crate::forge::{ISSUER, NOW, SUB, claims, from_jwks, header};

const SID: &str = "01976f3a-8d2c-7b4e-9f10-00000000000a";
const UNTIL: i64 = NOW + 3590;

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

fn revoked() -> AuthError {
    AuthError::Revoked { sub: id(SUB) }
}

fn token(more: &str) -> String {
    ISSUER.token_of("EdDSA", &header("EdDSA", &ISSUER.kid("EdDSA")), &claims(more))
}

fn of_session() -> String {
    token(&format!(r#","sid":"{SID}","gen":3"#))
}

fn page(reset: bool, more: bool, entries: Vec<RevocationEntry>) -> RevocationPage {
    RevocationPage::new(reset, more, "next", entries)
}

/// A verifier, its list and the clock of both.
fn verifier(rules: Rules) -> (Verifier, RevocationList, Arc<AtomicI64>) {
    let clock = Arc::new(AtomicI64::new(NOW));
    let (of_list, of_verifier) = (Arc::clone(&clock), Arc::clone(&clock));
    let list = RevocationList::with_clock(move || of_list.load(SeqCst));
    let verifier = Verifier::with_keys(from_jwks(), rules)
        .with_clock(move || of_verifier.load(SeqCst))
        .with_revocations(list.clone());
    (verifier, list, clock)
}

#[test]
fn the_digest_is_that_of_the_canonical_text() {
    // printf %s 01976f3a-8d2c-7b4e-9f10-2a3b4c5d6e7f | openssl dgst -sha256 -binary | basenc --base64url
    let digest = RevocationDigest::of(id(SUB));
    assert_eq!(digest.to_string(), "8E-SjwRYQoDPJ2s_5VpWfje7iHzdIYIgpQ5Ns4d3FjM");
    assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{digest}\""));
    assert_eq!(RevocationDigest::from_bytes(*digest.as_bytes()), digest);
}

#[test]
fn a_listed_session_or_an_earlier_generation_is_revoked_at_once_though_it_was_remembered() {
    let (verifier, list, _) = verifier(Rules::default());
    list.apply(page(true, false, Vec::new())).unwrap();
    let (session, old, plain) = (of_session(), token(r#","gen":2"#), token(""));
    for token in [&session, &old, &plain] {
        verifier.verify_cached(token).unwrap();
    }
    // Another session, another account, and a generation that is not above the token's.
    list.apply(page(
        false,
        false,
        vec![
            RevocationEntry::session(id(SUB), UNTIL),
            RevocationEntry::account(id(SID), 9, UNTIL),
            RevocationEntry::account(id(SUB), 0, UNTIL),
        ],
    ))
    .unwrap();
    for token in [&session, &old, &plain] {
        verifier.verify_cached(token).unwrap();
    }
    list.apply(page(false, false, vec![RevocationEntry::account(id(SUB), 3, UNTIL)])).unwrap();
    assert_eq!(verifier.verify_cached(&old), Err(revoked()));
    assert_eq!(verifier.verify_cached(&plain), Err(revoked()), "absent counts as 0");
    verifier.verify_cached(&session).unwrap();
    list.apply(page(false, false, vec![RevocationEntry::session(id(SID), UNTIL)])).unwrap();
    for _ in 0..2 {
        assert_eq!(verifier.verify_cached(&session), Err(revoked()));
    }
    assert!(
        list.revokes(
            &Verifier::with_keys(from_jwks(), Rules::default())
                .with_clock(|| NOW)
                .verify_cached(&session)
                .unwrap()
        )
    );
}

#[test]
fn an_expired_token_is_expired_whatever_else_it_is() {
    let (verifier, list, clock) = verifier(Rules::default());
    list.apply(page(true, false, vec![RevocationEntry::session(id(SID), UNTIL + 60)])).unwrap();
    assert_eq!(verifier.verify_cached(&of_session()), Err(revoked()));
    clock.store(UNTIL, SeqCst);
    let expired = AuthError::Invalid(VerifyError::Expired);
    assert_eq!(verifier.verify_cached(&of_session()), Err(expired));
    assert_eq!((expired.code(), expired.status().as_u16()), ("token_expired", 401));
    let revoked = revoked();
    assert_eq!((revoked.code(), revoked.status().as_u16()), ("token_revoked", 401));
    assert_eq!(expired.www_authenticate(), revoked.www_authenticate());
    assert!(revoked.www_authenticate().unwrap().contains(r#"error="invalid_token""#));
    // A forged one is forged before it is anything else.
    let forged = format!("{}A", of_session().trim_end_matches(|last| last != '.'));
    assert!(matches!(verifier.verify_cached(&forged), Err(AuthError::Invalid(_))));
}

#[test]
fn an_entry_counts_until_its_end_and_the_leeway_of_the_verifier() {
    for leeway in [0, 30] {
        let (verifier, list, clock) =
            verifier(Rules::default().exp_leeway(Duration::from_secs(leeway)));
        let end = NOW + 10 + i64::try_from(leeway).unwrap();
        list.apply(page(true, false, vec![RevocationEntry::session(id(SID), NOW + 10)])).unwrap();
        for (now, known) in [(NOW, 1), (end - 1, 1), (end, 0)] {
            clock.store(now, SeqCst);
            let verdict = verifier.verify_cached(&of_session()).map(|_| ());
            let expected = if now < end { Err(revoked()) } else { Ok(()) };
            assert_eq!(verdict, expected, "{}", now - NOW);
            list.confirm();
            assert_eq!(list.len(), known);
        }
    }
}

/// The list has what ended within the leeway, and a verifier that has just started knows nothing else.
#[test]
fn an_entry_that_has_ended_counts_for_the_leeway_of_a_verifier_that_has_just_started() {
    let (verifier, list, clock) = verifier(Rules::default().exp_leeway(MAX_EXP_LEEWAY));
    let leeway = i64::try_from(MAX_EXP_LEEWAY.as_secs()).unwrap();
    // The end of the token, and so of the entry at the latest.
    let end = NOW + 3590;
    for now in [end, end + leeway - 1] {
        clock.store(now, SeqCst);
        list.apply(page(true, false, vec![RevocationEntry::session(id(SID), end)])).unwrap();
        assert_eq!(verifier.verify_cached(&of_session()), Err(revoked()), "{}", now - end);
    }
    clock.store(end + leeway, SeqCst);
    let expired = AuthError::Invalid(VerifyError::Expired);
    assert_eq!(verifier.verify_cached(&of_session()), Err(expired));
}

#[test]
fn a_replacement_counts_whole_or_not_at_all() {
    let (verifier, list, _) = verifier(Rules::default());
    let (session, old) = (of_session(), token(""));
    list.apply(page(true, false, vec![RevocationEntry::session(id(SID), UNTIL)])).unwrap();
    list.apply(page(true, true, vec![RevocationEntry::account(id(SUB), 1, UNTIL)])).unwrap();
    assert_eq!(verifier.verify_cached(&session), Err(revoked()));
    verifier.verify_cached(&old).unwrap();
    // Said again amid the pages, it does not lose those before.
    list.apply(page(true, true, Vec::new())).unwrap();
    list.apply(page(false, false, Vec::new())).unwrap();
    verifier.verify_cached(&session).unwrap();
    assert_eq!(verifier.verify_cached(&old), Err(revoked()));
}

#[test]
fn nothing_is_taken_before_the_source_was_asked_nor_with_a_list_that_is_too_old() {
    let (verifier, list, _) = verifier(Rules::default());
    assert!(!verifier.is_ready() && verifier.has_keys());
    let stale = AuthError::RevocationsStale;
    assert_eq!(verifier.verify_cached(&token("")), Err(stale));
    assert_eq!((stale.code(), stale.status().as_u16()), ("revocations_stale", 503));
    assert_eq!(stale.www_authenticate(), None);
    list.apply(page(true, false, vec![RevocationEntry::session(id(SID), UNTIL)])).unwrap();
    assert!(verifier.is_ready());
    verifier.verify_cached(&token("")).unwrap();

    let bounded = verifier.with_revocations_max_age(Duration::from_millis(100));
    bounded.verify_cached(&token("")).unwrap();
    std::thread::sleep(Duration::from_millis(120));
    assert!(!bounded.is_ready());
    assert_eq!(bounded.verify_cached(&token("")), Err(stale));
    assert_eq!(bounded.verify_cached(&of_session()), Err(revoked()), "what is known counts");
    list.confirm();
    assert!(bounded.is_ready() && bounded.has_current_revocations());
    bounded.verify_cached(&token("")).unwrap();
}
