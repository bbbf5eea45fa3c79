//! Tokens that must be let in.

use std::time::Duration;

use token_verifier::{
    Claims, KeySet, MAX_TOKEN_BYTES, Rules, VerificationKey, VerifyError, verify,
};

use crate::forge::{
    ISSUER, NOW, SECRET, STRANGER, SUB, claims, from_jwks, from_pem, from_secret, header, token,
};

#[track_caller]
fn accept(token: &str, keys: &KeySet, rules: &Rules) -> Claims {
    verify(token, keys, rules, NOW).unwrap_or_else(|error| panic!("{error}: {token}"))
}

/// Signed by the issuer's RSA key, named by its `kid`.
fn signed(claims: &str) -> String {
    ISSUER.token_of("RS256", &header("RS256", &ISSUER.kid("RS256")), claims)
}

#[test]
fn every_algorithm_from_every_source() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = ISSUER.token(algorithm);
        for keys in [from_jwks(), from_pem(algorithm)] {
            let claims = accept(&token, &keys, &Rules::default());
            assert_eq!(claims.sub.to_string(), SUB);
            assert_eq!(claims.email.as_deref(), Some("ada@example.com"));
            assert_eq!((claims.iat, claims.exp), (NOW - 10, NOW + 3590));
        }
    }
    let token = ISSUER.token_of("HS256", r#"{"alg":"HS256","typ":"JWT"}"#, &claims(""));
    accept(&token, &from_secret(), &Rules::default());
}

#[test]
fn the_smallest_token_has_four_claims_and_one_header_member() {
    let token = ISSUER.token_of("ES256", r#"{"alg":"ES256"}"#, &claims(""));
    let claims = accept(&token, &from_jwks(), &Rules::default());
    assert_eq!((claims.iss, claims.aud, claims.nbf, claims.jti), (None, vec![], None, None));
}

#[test]
fn the_email_is_optional_and_never_printed() {
    let (iat, exp) = (NOW, NOW + 1);
    let without = format!(r#"{{"sub":"{SUB}","iat":{iat},"exp":{exp}}}"#);
    assert_eq!(accept(&signed(&without), &from_jwks(), &Rules::default()).email, None);
    let claims = accept(&ISSUER.token("EdDSA"), &from_jwks(), &Rules::default());
    assert!(!format!("{claims:?}").contains("ada"));
}

#[test]
fn all_claims_are_handed_over() {
    let token = signed(&claims(
        r#","nbf":1749999990,"iss":"https://a.example","aud":["x","latchkey"],"jti":"7","extra":{"a":[1]}"#,
    ));
    let rules = Rules::default().issuer("https://a.example").audience("latchkey");
    let claims = accept(&token, &from_jwks(), &rules);
    assert_eq!(claims.nbf, Some(1_749_999_990));
    assert_eq!(claims.iss.as_deref(), Some("https://a.example"));
    assert_eq!(claims.aud, ["x", "latchkey"]);
    assert_eq!(claims.jti.as_deref(), Some("7"));

    let one = signed(&claims_with_aud("\"latchkey\""));
    let rules = Rules::default().audience("latchkey");
    assert_eq!(accept(&one, &from_jwks(), &rules).aud, ["latchkey"]);
}

#[test]
fn generation_session_and_verification_are_optional() {
    let plain = accept(&signed(&claims("")), &from_jwks(), &Rules::default());
    assert_eq!((plain.generation, plain.sid, plain.email_verified), (0, None, None));
    for (generation, expected) in
        [("0", 0), ("7", 7), ("7.0", 7), ("1e3", 1000), ("9007199254740991", 9_007_199_254_740_991)]
    {
        let token =
            signed(&claims(&format!(r#","gen":{generation},"sid":"{SUB}","email_verified":true"#)));
        let claims = accept(&token, &from_jwks(), &Rules::default());
        assert_eq!(claims.generation, expected);
        assert_eq!(claims.sid.map(|sid| sid.to_string()).as_deref(), Some(SUB));
        assert_eq!(claims.email_verified, Some(true));
    }
}

/// RFC 9864 gives EdDSA with Ed25519 a name of its own.
#[test]
fn ed25519_is_another_name_for_eddsa() {
    let header = header("Ed25519", &ISSUER.kid("EdDSA"));
    let token = ISSUER.token_of("EdDSA", &header, &claims(""));
    let mut jwks = ISSUER.jwks();
    let keys = jwks["keys"].as_array_mut().unwrap();
    keys.iter_mut().filter(|key| key["kty"] == "OKP").for_each(|key| key["alg"] = "Ed25519".into());
    for keys in [from_jwks(), KeySet::from_jwks(jwks.to_string().as_bytes()).unwrap()] {
        accept(&token, &keys, &Rules::default());
        accept(&ISSUER.token("EdDSA"), &keys, &Rules::default());
    }
}

fn claims_with_aud(aud: &str) -> String {
    claims(&format!(r#","aud":{aud}"#))
}

#[test]
fn the_type_may_be_written_in_any_case() {
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        let header = format!(r#"{{"typ":"{typ}","alg":"RS256"}}"#);
        accept(&ISSUER.token_of("RS256", &header, &claims("")), &from_jwks(), &Rules::default());
    }
}

#[test]
fn harmless_header_members_are_ignored() {
    let header = r#" { "alg" : "RS256", "cty":"json", "x5t#S256":"AAAA", "x":{"y":[null]} } "#;
    accept(&ISSUER.token_of("RS256", header, &claims("")), &from_jwks(), &Rules::default());
}

#[test]
fn times_are_taken_up_to_their_edge() {
    let rules = Rules::default();
    let at = |iat: String, exp: String, more: &str| {
        signed(&format!(r#"{{"sub":"{SUB}","iat":{iat},"exp":{exp}{more}}}"#))
    };
    let text = |seconds: i64| seconds.to_string();
    for token in [
        at(text(NOW), text(NOW + 1), ""),
        at(text(NOW + 60), text(NOW + 100), ""),
        at(text(NOW), text(NOW + 1), &format!(r#","nbf":{}"#, NOW + 60)),
        at("0".to_owned(), "253402300799".to_owned(), r#","nbf":0"#),
        at("1.75e9".to_owned(), format!("{}.999", NOW + 1), ""),
    ] {
        accept(&token, &from_jwks(), &rules);
    }
    let fraction = accept(&at(text(NOW), format!("{}.999", NOW + 1), ""), &from_jwks(), &rules);
    assert_eq!(fraction.exp, NOW + 1);

    let rules = Rules::default().exp_leeway(Duration::from_secs(5));
    accept(&at(text(NOW - 9), text(NOW - 4), ""), &from_jwks(), &rules);
    let rules = Rules::default().clock_skew(Duration::from_secs(90));
    accept(&at(text(NOW + 90), text(NOW + 99), ""), &from_jwks(), &rules);
    // No setting makes the arithmetic overflow.
    let rules = Rules::default().exp_leeway(Duration::MAX).clock_skew(Duration::MAX);
    accept(&at(text(NOW + 90), text(1), ""), &from_jwks(), &rules);
}

#[test]
fn a_token_may_have_exactly_the_longest_size() {
    let longest = (0..8000)
        .rev()
        .map(|length| signed(&claims(&format!(r#","pad":"{}""#, "x".repeat(length)))))
        .find(|token| token.len() <= MAX_TOKEN_BYTES)
        .unwrap();
    assert!(longest.len() > MAX_TOKEN_BYTES - 3);
    accept(&longest, &from_jwks(), &Rules::default());
}

#[test]
fn a_single_key_from_a_file_is_used_whatever_the_kid_says() {
    for kid in ["another-name", ""] {
        let token = ISSUER.token_of("RS256", &header("RS256", kid), &claims(""));
        accept(&token, &from_pem("RS256"), &Rules::default());
        let token = ISSUER.token_of("HS256", &header("HS256", kid), &claims(""));
        accept(&token, &from_secret(), &Rules::default());
    }
}

#[test]
fn of_several_keys_from_files_the_kid_chooses() {
    let keys = KeySet::new([ISSUER.public().to_vec(), STRANGER.public().to_vec()].concat());
    accept(&ISSUER.token("RS256"), &keys, &Rules::default());
    accept(&STRANGER.token("RS256"), &keys, &Rules::default());
    let renamed = ISSUER.token_of("RS256", &header("RS256", "another-name"), &claims(""));
    assert_eq!(verify(&renamed, &keys, &Rules::default(), NOW), Err(VerifyError::UnknownKey));
}

#[test]
fn without_a_kid_all_keys_of_the_algorithm_are_tried() {
    let keys = KeySet::new([STRANGER.public().to_vec(), ISSUER.public().to_vec()].concat());
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        let token = ISSUER.token_of(algorithm, &header, &claims(""));
        accept(&token, &keys, &Rules::default());
    }
    let secrets = [b"another-secret-another-secret-32".as_slice(), SECRET];
    let secrets = secrets.map(|secret| VerificationKey::from_secret(secret).unwrap());
    let token = token(r#"{"alg":"HS256"}"#, claims(""), |message| ISSUER.sign("HS256", message));
    accept(&token, &KeySet::new(secrets.to_vec()), &Rules::default());
}
