//! A token that was verified before is judged as if it had not been.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use token_verifier::{AuthError, Rules, Verifier, VerifyError};

use crate::forge::{ISSUER, NOW, SECRET, claims, from_jwks, from_secret, hs256, token, unb64};

#[tokio::test]
async fn it_ends_to_the_second_and_stays_ended() {
    let clock = Arc::new(AtomicI64::new(NOW));
    let time = Arc::clone(&clock);
    let verifier =
        Verifier::with_keys(from_jwks(), Rules::default()).with_clock(move || time.load(SeqCst));
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = ISSUER.token(algorithm);
        for now in [NOW, NOW, NOW + 3589] {
            clock.store(now, SeqCst);
            let claims = verifier.verify(&token).await.unwrap();
            assert_eq!(
                (claims.exp, claims.email.as_deref()),
                (NOW + 3590, Some("ada@example.com"))
            );
        }
        clock.store(NOW + 3590, SeqCst);
        for _ in 0..2 {
            let refused = verifier.verify(&token).await.unwrap_err();
            assert_eq!(refused, AuthError::Invalid(VerifyError::Expired));
        }
        // A clock that is set back lets nothing through that it would not without the memory.
        clock.store(NOW - 71, SeqCst);
        let refused = verifier.verify(&token).await.unwrap_err();
        assert_eq!(refused, AuthError::Invalid(VerifyError::NotYetValid));
        clock.store(NOW, SeqCst);
        verifier.verify(&token).await.unwrap();
        clock.store(NOW - 71, SeqCst);
        let refused = verifier.verify(&token).await.unwrap_err();
        assert_eq!(refused, AuthError::Invalid(VerifyError::NotYetValid));
    }
}

#[tokio::test]
async fn one_that_differs_in_a_byte_gains_nothing_from_it() {
    let verifier = Verifier::with_keys(from_secret(), Rules::default()).with_clock(|| NOW);
    let good = token(r#"{"alg":"HS256"}"#, claims(""), |message| hs256(SECRET, message));
    verifier.verify(&good).await.unwrap();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for place in 0..unb64(signature).len() {
        let mut other = unb64(signature);
        other[place] ^= 1;
        let forged = format!("{signed}.{}", crate::forge::b64(other));
        assert!(verifier.verify(&forged).await.is_err(), "{place}");
    }
    for forged in [format!("{good} "), format!("{good}="), good.to_uppercase(), signed.to_owned()] {
        assert!(verifier.verify(&forged).await.is_err(), "{forged}");
    }
    verifier.verify(&good).await.unwrap();
}
