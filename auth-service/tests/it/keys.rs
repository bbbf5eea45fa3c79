//! Managed keys: made once, sealed, rotated without a refused token.

use std::{sync::Arc, time::Duration};

use auth_service::{
    domain::{AccountId, Email},
    keys::{KeyRing, KeysError, MOST_KEYS, ManagedKeys, Schedule, Sealer, SigningKey},
    store::Store,
    token::{Grant, Issuer},
};
use chrono::{DateTime, TimeDelta, Utc};
use service_kit::clock::machine_time;
use test_kit::{ENGINES, TestDatabase};
use token_verifier::{Algorithm, KeySet, Rules, verify};

use crate::support::ENCRYPTION_KEY;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn store(database: &TestDatabase) -> Store {
    let options = test_kit::pool_options();
    let store = Store::open(&database.url.parse().unwrap(), options).unwrap();
    store.migrate().await.unwrap();
    store
}

fn managed(store: &Store, key: &str, algorithm: Algorithm) -> ManagedKeys {
    let sealer = Arc::new(Sealer::from_base64(key).unwrap());
    ManagedKeys::new(store.clone(), sealer, algorithm, Schedule { rotation_period: DAY })
}

fn token(ring: &KeyRing, now: DateTime<Utc>) -> String {
    let issuer =
        Issuer { issuer: "i".to_owned(), audience: "a".to_owned(), ttl: Duration::from_secs(3600) };
    let email = Email::parse("a@b.com").unwrap();
    let grant = Grant {
        account: AccountId::generate(),
        email: &email,
        generation: 0,
        session: None,
        email_verified: None,
    };
    issuer.issue(grant, ring.active(now).unwrap(), now).unwrap()
}

#[tokio::test]
async fn replicas_that_start_at_once_share_one_key() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let replicas: Vec<_> = (0..4)
            .map(|_| {
                let keys = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
                tokio::spawn(async move { keys.load(machine_time()).await.unwrap() })
            })
            .collect();
        let mut kids = std::collections::BTreeSet::new();
        for replica in replicas {
            let ring = replica.await.unwrap();
            kids.insert(ring.active(machine_time()).unwrap().kid().unwrap().to_owned());
        }
        assert_eq!(kids.len(), 1, "{engine:?}");
    }
}

#[tokio::test]
async fn no_private_key_is_in_the_database_in_the_clear() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let ring =
        managed(&store, ENCRYPTION_KEY, Algorithm::Es256).load(machine_time()).await.unwrap();
    let pkcs8 = ring.active(machine_time()).unwrap().pkcs8().unwrap().to_vec();
    store.close().await;
    let file = std::fs::read(database.folder().join("test.db")).unwrap();
    let secret = &pkcs8[pkcs8.len() - 16..];
    assert!(!file.windows(secret.len()).any(|window| window == secret));
}

#[tokio::test]
async fn another_encryption_key_is_refused_and_changes_nothing() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        managed(&store, ENCRYPTION_KEY, Algorithm::Es256).load(machine_time()).await.unwrap();
        let before = store.signing_keys().await.unwrap();
        let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let keys = managed(&store, other, Algorithm::Es256);
        let error = keys.load(machine_time()).await.unwrap_err();
        assert!(matches!(error, KeysError::Seal(_)), "{error}");
        assert!(matches!(keys.rotate(true, machine_time()).await, Err(KeysError::Seal(_))));
        assert_eq!(store.signing_keys().await.unwrap(), before);
    }
}

/// A year of hourly looks at the keys. A verifier that saw the JWKS up to ten minutes ago must know
/// the key of every token issued since, and every token must verify until it expires.
#[tokio::test]
async fn rotation_never_outruns_a_verifier() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let keys = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
    let rules = Rules::default();
    let start = machine_time();
    let mut seen: KeySet = keys.load(start).await.unwrap().verification().clone();
    let mut earlier: Option<(String, DateTime<Utc>)> = None;
    let mut kids = std::collections::BTreeSet::new();
    for step in 1..(10 * 24 * 6) {
        let now = start + TimeDelta::minutes(10 * step);
        let ring = keys.load(now).await.unwrap();
        let token = token(&ring, now);
        let stale = verify(&token, &seen, &rules, now.timestamp());
        assert!(stale.is_ok(), "a key signed before it was seen, at step {step}: {stale:?}");
        if let Some((token, issued)) =
            earlier.take().filter(|(_, at)| now - *at < TimeDelta::hours(1))
        {
            let live = verify(&token, ring.verification(), &rules, now.timestamp());
            assert!(live.is_ok(), "a token of {issued} is refused at {now}: {live:?}");
            earlier = Some((token, issued));
        } else {
            earlier = Some((token, now));
        }
        kids.insert(ring.active(now).unwrap().kid().unwrap().to_owned());
        seen = ring.verification().clone();
        assert!(seen.len() <= 3, "retired keys pile up");
    }
    assert!((9..=11).contains(&kids.len()), "{} keys in ten days", kids.len());
}

#[tokio::test]
async fn another_algorithm_takes_over_after_it_was_published() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let now = machine_time();
    managed(&store, ENCRYPTION_KEY, Algorithm::Es256).load(now).await.unwrap();
    let keys = managed(&store, ENCRYPTION_KEY, Algorithm::EdDsa);
    let active = |ring: &KeyRing, at| ring.active(at).unwrap().verification_key().algorithm();
    let ring = keys.load(now).await.unwrap();
    assert_eq!(active(&ring, now), Algorithm::Es256);
    assert_eq!(ring.verification().len(), 2);
    let later = now + TimeDelta::minutes(11);
    assert_eq!(active(&keys.load(later).await.unwrap(), later), Algorithm::EdDsa);
}

#[tokio::test]
async fn keys_are_rewrapped_under_another_encryption_key() {
    let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let now = machine_time();
        let before = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
        before.load(now).await.unwrap();
        before.rotate(false, now).await.unwrap();
        let ring = before.load(now).await.unwrap();
        assert_eq!(before.rewrap(&Sealer::from_base64(other).unwrap()).await.unwrap(), 2);
        assert!(matches!(before.load(now).await, Err(KeysError::Seal(_))));
        let after = managed(&store, other, Algorithm::Es256).load(now).await.unwrap();
        assert_eq!(after.verification().to_jwks(), ring.verification().to_jwks(), "{engine:?}");
    }
}

#[tokio::test]
async fn an_imported_key_signs_if_it_is_for_the_algorithm() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let now = machine_time();
    let keys = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
    keys.load(now).await.unwrap();
    let wrong = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let refused = keys.import(wrong, true, now).await.unwrap_err();
    assert!(matches!(refused, KeysError::OtherAlgorithm("ES256")), "{refused}");
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let kid = key.kid().unwrap().to_owned();
    assert_eq!(keys.import(key, true, now).await.unwrap(), kid);
    let later = now + TimeDelta::seconds(15);
    let ring = keys.load(later).await.unwrap();
    assert_eq!(ring.active(later).unwrap().kid(), Some(kid.as_str()));
}

#[tokio::test]
async fn an_operator_rotates_at_once() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let keys = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
    let now = machine_time();
    let first = keys.load(now).await.unwrap().active(now).unwrap().kid().unwrap().to_owned();
    let next = keys.rotate(false, now).await.unwrap();
    let third = keys.rotate(true, now + TimeDelta::seconds(1)).await.unwrap();
    let states: Vec<_> = keys
        .list(now + TimeDelta::seconds(15))
        .await
        .unwrap()
        .into_iter()
        .map(|(record, state)| (record.kid, state))
        .collect();
    assert_eq!(states, [(first, "retired"), (third, "active"), (next, "next")]);
}

/// Replicas of a change of `JWT_ALGORITHM` that goes on for long look at the keys in turns.
#[tokio::test]
async fn replicas_with_different_algorithms_keep_to_keys_of_their_own() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let replicas = [Algorithm::Es256, Algorithm::EdDsa]
            .map(|algorithm| (algorithm, managed(&store, ENCRYPTION_KEY, algorithm)));
        let start = machine_time();
        for step in 0..200 {
            let now = start + TimeDelta::minutes(step);
            let rings =
                [replicas[0].1.load(now).await.unwrap(), replicas[1].1.load(now).await.unwrap()];
            for ((algorithm, _), ring) in replicas.iter().zip(&rings) {
                // Until the key of the second one has been published for long enough.
                let signs = if step < 10 { Algorithm::Es256 } else { *algorithm };
                assert_eq!(ring.active(now).unwrap().algorithm(), signs, "{engine:?} {step}");
                let token = token(ring, now);
                for other in &rings[usize::from(step == 0)..] {
                    let keys = other.verification();
                    let valid = verify(&token, keys, &Rules::default(), now.timestamp());
                    assert!(valid.is_ok(), "{engine:?} {step}: {valid:?}");
                }
            }
        }
        assert_eq!(store.signing_keys().await.unwrap().len(), 2, "{engine:?}");

        // Each rotates its own, and neither removes one that the other one signs with.
        for hour in 1..=24 * 10 {
            let now = start + TimeDelta::hours(hour);
            for (algorithm, keys) in &replicas {
                let ring = keys.load(now).await.unwrap();
                assert_eq!(ring.active(now).unwrap().algorithm(), *algorithm);
                assert!(ring.verification().len() <= 6, "{} keys", ring.verification().len());
            }
        }

        // Where one of them is gone for good, its last key goes in the end too.
        let end = start + TimeDelta::days(10 + 366);
        replicas[0].1.load(end).await.unwrap();
        let ring = replicas[0].1.load(end).await.unwrap();
        let mut algorithms = ring.verification().iter().map(|key| key.algorithm());
        assert!(algorithms.all(|algorithm| algorithm == Algorithm::Es256));
    }
}

#[tokio::test]
async fn a_verifier_never_meets_more_keys_than_it_takes() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let keys = managed(&store, ENCRYPTION_KEY, Algorithm::EdDsa);
    let now = machine_time();
    keys.load(now).await.unwrap();
    for number in 1..MOST_KEYS {
        keys.rotate(true, now + TimeDelta::seconds(i64::try_from(number).unwrap())).await.unwrap();
    }
    let later = now + TimeDelta::minutes(5);
    assert!(matches!(keys.rotate(true, later).await, Err(KeysError::TooMany)));
    let ring = keys.load(later).await.unwrap();
    let jwks = serde_json::to_vec(&ring.verification().to_jwks()).unwrap();
    let verified = KeySet::from_jwks(&jwks).unwrap();
    assert!(verify(&token(&ring, later), &verified, &Rules::default(), later.timestamp()).is_ok());

    // What another version left behind is cut to the latest.
    let scheduled = |seconds| auth_service::keys::ScheduledKey {
        key: Arc::new(SigningKey::generate(Algorithm::EdDsa).unwrap()),
        activates_at: now + TimeDelta::seconds(seconds),
    };
    let ring = KeyRing::new((0..80).map(scheduled).collect(), Vec::new());
    assert_eq!(ring.verification().len(), MOST_KEYS);
    let later = now + TimeDelta::minutes(2);
    let token = token(&ring, later);
    assert!(verify(&token, ring.verification(), &Rules::default(), later.timestamp()).is_ok());
}

#[tokio::test]
async fn where_no_key_is_active_yet_the_earliest_signs() {
    let database = TestDatabase::create(test_kit::Engine::Sqlite).await;
    let store = store(&database).await;
    let keys = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
    let now = machine_time();
    keys.load(now).await.unwrap();
    keys.rotate(false, now).await.unwrap();
    let before = now - TimeDelta::hours(3);
    let ring = keys.load(before).await.unwrap();
    assert!(ring.is_early(before) && !ring.is_early(now));
    let first = store.signing_keys().await.unwrap()[0].kid.clone();
    assert_eq!(ring.active(before).unwrap().kid(), Some(first.as_str()));
    assert_eq!(store.signing_keys().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_revoked_key_is_gone_at_once_and_another_one_signs() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let keys = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
        let now = machine_time();
        let ring = keys.load(now).await.unwrap();
        let stolen = ring.active(now).unwrap().kid().unwrap().to_owned();
        let forged = token(&ring, now);
        assert!(matches!(keys.revoke("unknown", now).await, Err(KeysError::Unknown(_))));
        let successor = keys.revoke(&stolen, now).await.unwrap().unwrap();
        let ring = keys.load(now).await.unwrap();
        assert_eq!(ring.active(now).unwrap().kid(), Some(successor.as_str()), "{engine:?}");
        assert!(verify(&forged, ring.verification(), &Rules::default(), now.timestamp()).is_err());
        assert_eq!(ring.verification().len(), 1);

        // One that does not sign needs no successor.
        let next = keys.rotate(false, now).await.unwrap();
        assert_eq!(keys.revoke(&next, now).await.unwrap(), None);
        assert_eq!(keys.load(now).await.unwrap().verification().len(), 1);
    }
}

#[tokio::test]
async fn a_key_that_is_there_already_is_not_imported_again() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let keys = managed(&store(&database).await, ENCRYPTION_KEY, Algorithm::Es256);
        let now = machine_time();
        keys.load(now).await.unwrap();
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let again = SigningKey::from_der(key.pkcs8().unwrap()).unwrap();
        let kid = keys.import(key, false, now).await.unwrap();
        let refused = keys.import(again, false, now).await.unwrap_err();
        assert!(matches!(&refused, KeysError::Exists(known) if *known == kid), "{refused}");
        let told = auth_service::BuildError::from(refused).to_string();
        assert!(!told.contains("DATABASE_URL") && told.contains(&kid), "{told}");
    }
}

/// Two operators at once, or a key that is added meanwhile: nothing is lost.
#[tokio::test]
async fn keys_that_changed_meanwhile_are_not_resealed() {
    for engine in ENGINES {
        let database = TestDatabase::create(engine).await;
        let store = store(&database).await;
        let keys = managed(&store, ENCRYPTION_KEY, Algorithm::Es256);
        let now = machine_time();
        keys.load(now).await.unwrap();
        let before = store.signing_keys().await.unwrap();
        let (kid, sealed) = (before[0].kid.clone(), before[0].sealed_key.clone());
        let other = |kid: &str, before: &[u8]| (kid.to_owned(), before.to_vec(), vec![1, 2, 3]);
        let cases = [
            ("none is named", vec![]),
            ("another form before", vec![other(&kid, b"other")]),
            ("a key that is not there", vec![other("unknown", &sealed)]),
            ("one too many", vec![other(&kid, &sealed), other("unknown", &sealed)]),
        ];
        for (name, resealed) in cases {
            assert_eq!(store.reseal(&resealed, &[]).await, Ok(false), "{engine:?}: {name}");
            assert_eq!(store.signing_keys().await.unwrap(), before, "{engine:?}: {name}");
        }
        assert_eq!(store.reseal(&[other(&kid, &sealed)], &[]).await, Ok(true), "{engine:?}");
    }
}
