//! Which keys are taken and what they are called.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use token_verifier::{Algorithm, KeyError, KeySet, VerificationKey};

use crate::forge::{ISSUER, SECRET, b64, pem};

fn pem_error(pem: &str) -> KeyError {
    VerificationKey::from_public_pem(pem.as_bytes()).expect_err(pem)
}

fn jwk_error(jwk: &Value) -> KeyError {
    VerificationKey::from_jwk(jwk).expect_err(&jwk.to_string())
}

fn with(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk[name] = value;
    jwk
}

#[test]
fn a_public_key_survives_the_way_through_jwk() {
    for (key, algorithm) in
        ISSUER.public().iter().zip([Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa])
    {
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.kid(), key.thumbprint());
        let jwk = key.to_jwk().unwrap();
        assert_eq!((&jwk["use"], &jwk["alg"]), (&json!("sig"), &json!(algorithm.as_str())));
        let again = VerificationKey::from_jwk(&jwk).unwrap();
        assert_eq!(again.to_jwk().unwrap(), jwk);
        let named = VerificationKey::from_jwk(&with(&jwk, "kid", json!("mine"))).unwrap();
        assert_eq!((named.kid(), named.thumbprint()), (Some("mine"), key.thumbprint()));
    }
}

#[test]
fn a_secret_has_32_bytes_and_is_never_shown() {
    let key = VerificationKey::from_secret(SECRET).unwrap();
    assert_eq!((key.algorithm(), key.kid(), key.to_jwk()), (Algorithm::Hs256, None, None));
    assert_eq!(KeySet::new(vec![key.clone()]).to_jwks(), json!({"keys": []}));
    assert!(!format!("{key:?}").contains("0123"));
    let short = VerificationKey::from_secret(&SECRET[1..]).unwrap_err();
    assert_eq!(short, KeyError::ShortSecret { bytes: 31 });
    let public = pem("PUBLIC KEY", &ISSUER.rsa_der());
    let error = VerificationKey::from_secret(public.as_bytes()).unwrap_err();
    assert_eq!(error, KeyError::SecretIsPem);
}

#[test]
fn only_one_public_key_is_taken_from_a_file() {
    let public = pem("PUBLIC KEY", &ISSUER.rsa_der());
    let private = ISSUER.p256.to_pkcs8v1().unwrap();
    let private = pem("PRIVATE KEY", private.as_ref());
    assert_eq!(pem_error(&private), KeyError::PrivateKey);
    assert_eq!(pem_error(&format!("{public}{private}")), KeyError::PrivateKey);
    assert_eq!(pem_error(&pem("ENCRYPTED PRIVATE KEY", b"x")), KeyError::PrivateKey);
    assert_eq!(pem_error(&format!("{public}{public}")), KeyError::NotPem);
    assert_eq!(pem_error(&pem("CERTIFICATE", &ISSUER.rsa_der())), KeyError::NotSpki);
    assert_eq!(pem_error(&pem("RSA PUBLIC KEY", &ISSUER.rsa_der())), KeyError::NotSpki);
    assert_eq!(pem_error(&pem("PUBLIC KEY", b"nonsense")), KeyError::NotSpki);
    assert_eq!(pem_error(&public.replace("-----END", "")), KeyError::NotPem);
    assert_eq!(pem_error(&public.replace("MII", "M!I")), KeyError::NotPem);
    assert_eq!(pem_error(""), KeyError::NotPem);
    assert_eq!(VerificationKey::from_public_pem(b"\xff").unwrap_err(), KeyError::NotPem);

    let crlf = public.replace('\n', "\r\n");
    assert!(VerificationKey::from_public_pem(crlf.as_bytes()).is_ok());
    assert!(VerificationKey::from_public_pem(format!("a comment\n{public}").as_bytes()).is_ok());
}

#[test]
fn keys_of_other_types_and_sizes_are_refused() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let der = AsDer::as_der(p384.public_key()).unwrap();
    assert_eq!(pem_error(&pem("PUBLIC KEY", der.as_ref())), KeyError::UnsupportedType);

    let rsa = ISSUER.public()[0].to_jwk().unwrap();
    let small = jwk_error(&with(&rsa, "n", json!(b64([0xff; 128]))));
    assert_eq!(small, KeyError::RsaSize { bits: 1024 });
    let larger = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa3072).unwrap();
    let der = AsDer::as_der(larger.public_key()).unwrap();
    assert!(VerificationKey::from_public_der(der.as_ref()).is_ok());
}

#[test]
fn der_is_read_strictly() {
    for der in [ISSUER.rsa_der(), ISSUER.p256_der(), ISSUER.ed25519_der()] {
        assert!(VerificationKey::from_public_der(&der).is_ok());
        for end in 0..der.len() {
            assert!(VerificationKey::from_public_der(&der[..end]).is_err());
        }
        assert!(VerificationKey::from_public_der(&[&der[..], &[0]].concat()).is_err());
    }
    // A point that is not on the curve.
    let mut der = ISSUER.p256_der();
    *der.last_mut().unwrap() ^= 1;
    assert_eq!(VerificationKey::from_public_der(&der).unwrap_err(), KeyError::Malformed);
}

#[test]
fn unsuitable_jwks_are_refused() {
    let [rsa, p256, ed25519] = ISSUER.public().map(|key| key.to_jwk().unwrap());
    for jwk in [&rsa, &p256, &ed25519] {
        for private in ["d", "k", "p", "oth"] {
            assert_eq!(jwk_error(&with(jwk, private, json!("AQAB"))), KeyError::PrivateKey);
        }
        for purpose in [json!("enc"), json!("SIG"), json!(null), json!(["sig"])] {
            assert_eq!(jwk_error(&with(jwk, "use", purpose)), KeyError::NotForSignatures);
        }
        assert_eq!(jwk_error(&with(jwk, "key_ops", json!(["sign"]))), KeyError::NotForSignatures);
        for alg in [json!("HS256"), json!("PS256"), json!("none"), json!(null)] {
            assert_eq!(jwk_error(&with(jwk, "alg", alg)), KeyError::AlgorithmMismatch);
        }
        for kid in [json!(1), json!(null), json!([])] {
            assert_eq!(jwk_error(&with(jwk, "kid", kid)), KeyError::Malformed);
        }
        assert_eq!(jwk_error(&with(jwk, "kty", json!("oct"))), KeyError::UnsupportedType);
        assert!(VerificationKey::from_jwk(&with(jwk, "key_ops", json!(["verify"]))).is_ok());
    }
    assert_eq!(jwk_error(&with(&p256, "crv", json!("P-384"))), KeyError::UnsupportedType);
    assert_eq!(jwk_error(&with(&p256, "y", p256["x"].clone())), KeyError::Malformed);
    assert_eq!(jwk_error(&with(&ed25519, "crv", json!("X25519"))), KeyError::UnsupportedType);
    assert_eq!(jwk_error(&with(&ed25519, "x", json!("AAAA"))), KeyError::Malformed);
    assert_eq!(jwk_error(&with(&rsa, "e", json!("AQ"))), KeyError::Malformed);
    assert_eq!(jwk_error(&with(&rsa, "n", json!("not base64!"))), KeyError::Malformed);
    assert_eq!(jwk_error(&json!([])), KeyError::Malformed);
}

#[test]
fn a_set_keeps_what_is_usable_and_ignores_the_rest() {
    let mut jwks = ISSUER.jwks();
    let keys = jwks["keys"].as_array_mut().unwrap();
    let rsa = keys[0].clone();
    keys.extend([
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        with(&rsa, "use", json!("enc")),
        json!({"kty": "future"}),
        json!("not a key"),
    ]);
    let set = KeySet::from_jwks(jwks.to_string().as_bytes()).unwrap();
    assert_eq!((set.len(), set.is_empty()), (3, false));
    assert_eq!(set.to_jwks(), ISSUER.jwks());
    assert!(KeySet::from_jwks(br#"{"keys":[]}"#).unwrap().is_empty());

    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}x"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(KeySet::from_jwks(text.as_bytes()).unwrap_err(), KeyError::NotJwks, "{text}");
    }
    // How many there may be is bounded by the size of a document that is fetched.
    let many = json!({"keys": vec![rsa; 65]}).to_string();
    assert_eq!(KeySet::from_jwks(many.as_bytes()).unwrap().len(), 65);
}
