//! No text whatever makes the crate panic, and none is let in that the issuer did not sign.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use proptest::prelude::*;
use token_verifier::{KeySet, Rules, VerificationKey, bearer_token, verify};

use crate::forge::{ISSUER, NOW, SECRET, b64, claims, from_jwks, from_secret, hs256, token, unb64};

proptest! {
    #[test]
    fn arbitrary_text(text in any::<String>()) {
        prop_assert!(verify(&text, &from_secret(), &Rules::default(), NOW).is_err());
    }

    #[test]
    fn arbitrary_segments(
        header in any::<Vec<u8>>(), claims in any::<Vec<u8>>(), signature in any::<Vec<u8>>(),
    ) {
        let text = format!("{}.{}.{}", b64(header), b64(claims), b64(signature));
        prop_assert!(verify(&text, &from_secret(), &Rules::default(), NOW).is_err());
    }

    /// Signed, so that the parser of the claims is reached. No random text is a set of claims.
    #[test]
    fn arbitrary_claims(claims in any::<Vec<u8>>(), now in any::<i64>()) {
        let sign = |message: &[u8]| hs256(SECRET, message);
        let text = token(r#"{"alg":"HS256"}"#, claims, sign);
        prop_assert!(verify(&text, &from_secret(), &Rules::default(), now).is_err());
    }

    /// Nearly what the issuer signs, so that some are taken.
    #[test]
    fn claims_with_another_byte(
        place in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f, nbf in NOW..NOW + 120,
    ) {
        let mut claims = claims(&format!(r#","nbf":{nbf}"#)).into_bytes();
        let place = place.index(claims.len());
        claims[place] = byte;
        let text = token(r#"{"alg":"HS256"}"#, claims, |message| hs256(SECRET, message));
        if let Ok(claims) = verify(&text, &from_secret(), &Rules::default(), NOW) {
            prop_assert!(claims.exp > NOW && claims.iat <= NOW + 60 && !claims.sub.is_nil());
            prop_assert!(claims.nbf.is_none_or(|nbf| nbf <= NOW + 60));
        }
    }

    #[test]
    fn arbitrary_keys(bytes in any::<Vec<u8>>(), text in any::<String>()) {
        prop_assert!(VerificationKey::from_public_der(&bytes).is_err());
        prop_assert!(VerificationKey::from_public_pem(text.as_bytes()).is_err());
        let _ = VerificationKey::from_secret(&bytes);
        prop_assert!(KeySet::from_jwks(&bytes).is_err());
    }

    #[test]
    fn arbitrary_fields(bytes in any::<Vec<u8>>(), scheme in any::<bool>()) {
        let field = if scheme { [b"Bearer ", &bytes[..]].concat() } else { bytes };
        if let Ok(value) = HeaderValue::from_bytes(&field) {
            let _ = bearer_token(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
    }
}

#[test]
fn no_bit_of_a_token_can_be_flipped() {
    let keys = from_jwks();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let good = ISSUER.token(algorithm);
        assert!(verify(&good, &keys, &Rules::default(), NOW).is_ok());
        let segments: Vec<_> = good.split('.').map(unb64).collect();
        for (segment, bytes) in segments.iter().enumerate() {
            for bit in 0..bytes.len() * 8 {
                let mut forged = segments.clone();
                forged[segment][bit / 8] ^= 1 << (bit % 8);
                let forged: Vec<_> = forged.iter().map(b64).collect();
                let outcome = verify(&forged.join("."), &keys, &Rules::default(), NOW);
                assert!(outcome.is_err(), "{algorithm}: segment {segment}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_token_has_only_one_text() {
    let keys = from_jwks();
    let good = ISSUER.token("EdDSA");
    for at in 0..good.len() {
        for byte in 0..128_u8 {
            let mut text = good.clone().into_bytes();
            if std::mem::replace(&mut text[at], byte) != byte {
                let text = String::from_utf8(text).unwrap();
                assert!(verify(&text, &keys, &Rules::default(), NOW).is_err(), "{byte} at {at}");
            }
        }
    }
}
