//! Password hashes that were made elsewhere, and those that cannot be used.

use std::sync::Arc;

use auth_service::{
    domain::Password,
    password::{
        Checked, FirebaseParameters, Make, Memory, PasswordHash, Scheme, Unusable, Work, run,
    },
};

const PASSWORD: &str = "correct horse b\u{e4}ttery";
const CURRENT: Scheme = Scheme::Bcrypt { cost: 4 };
/// Made by `tests/hashes/make.py`.
const VECTORS: &str = include_str!("../hashes/vectors.tsv");

fn check_by(work: Work, password: &str, stored: &PasswordHash) -> Checked {
    let check = Arc::new(work).check(Password::normalize(password), Some(stored.clone()));
    run(check, &Memory::default()).unwrap()
}

fn check(password: &str, stored: &PasswordHash) -> Checked {
    check_by(Work::new(CURRENT, []), password, stored)
}

fn hash(scheme: Scheme, password: &str) -> PasswordHash {
    run(Make::new(scheme, Password::normalize(password)).unwrap(), &Memory::default()).unwrap()
}

fn vectors() -> impl Iterator<Item = (&'static str, PasswordHash)> {
    VECTORS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (source, text) = line.split_once('\t').unwrap();
        (source, PasswordHash::import(text).unwrap())
    })
}

#[test]
fn hashes_of_every_implementation_verify_and_are_replaced() {
    let mut schemes = std::collections::BTreeSet::new();
    for (source, stored) in vectors() {
        let scheme = stored.scheme().unwrap();
        schemes.insert(scheme.to_string().split(':').next().unwrap().to_owned());
        assert_eq!(scheme.to_string().parse(), Ok(scheme), "{source}");

        let right = check(PASSWORD, &stored);
        assert!(right.right, "{source}: {}", stored.as_str());
        let replaced = scheme != CURRENT;
        assert_eq!(right.replacement.is_some(), replaced, "{source}");
        if let Some(new) = right.replacement {
            assert_eq!(new.scheme(), Some(CURRENT));
            assert!(check(PASSWORD, &new).right);
        }
        for wrong in ["correct horse battery", "correct horse b\u{e4}tter", "", "x"] {
            assert_eq!(check(wrong, &stored), Checked::default(), "{source} with {wrong:?}");
        }
    }
    let expected = [
        "argon2i",
        "argon2id",
        "bcrypt",
        "pbkdf2-sha1",
        "pbkdf2-sha256",
        "pbkdf2-sha512",
        "scrypt",
        "sha256-crypt",
        "sha512-crypt",
    ];
    assert!(schemes.iter().map(String::as_str).eq(expected), "{schemes:?}");
}

#[test]
fn firebase_hashes_take_the_project_s_parameters() {
    let (source, whole) = vectors().find(|(_, hash)| hash.as_str().contains("n=14")).unwrap();
    assert!(source.starts_with("firebase"), "{source}");
    let mut parts = whole.as_str().rsplit('$');
    let (hash, salt) = (parts.next().unwrap(), parts.next().unwrap());
    let short = format!("$fbscrypt${salt}${hash}");
    assert_eq!(PasswordHash::import(&short), Err(Unusable::Unknown));
    let decode = |text: &str| {
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap()
    };
    let key = whole.as_str().split("sk=").nth(1).unwrap().split('$').next().unwrap();
    let parameters = FirebaseParameters {
        signer_key: decode(key),
        salt_separator: decode("Bw=="),
        rounds: 8,
        memory_cost: 14,
    };
    assert_eq!(parameters.complete(&short).as_deref(), Some(whole.as_str()));
    assert_eq!(parameters.complete(whole.as_str()), None);
    assert!(!format!("{parameters:?}").contains("106"));
}

#[test]
fn what_no_password_could_be_checked_against_is_not_imported() {
    let unknown = [
        "",
        "!",
        "plain",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "$2x$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe",
        "$2b$5$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$bcrypt-sha256$v=2,t=2b,r=12$x$y",
        "$argon2id$",
        "$argon2d$v=19$m=64,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$nf65EA",
        "$argon2id$v=18$m=64,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$pbkdf2-sha256$1000$c29tZXNhbHQ$",
        "$pbkdf2-sha256$1000$c29tZXNhbHQ$nf65",
        "$pbkdf2-md5$1000$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$pbkdf2-sha256$i=1000,l=64$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "pbkdf2_sha256$x$salt$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4=",
        "AQAAAAMAACcQAAAAEAABAgMEBQYHCAkKCwwNDg8AAQIDBAUGBwgJCgsMDQ4P",
        "AQAAAAEAACcQAAAA/wABAgMEBQYHCAkKCwwNDg8AAQIDBAUGBwgJCgsMDQ4P",
        "scrypt$1000$salt$8$1$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4=",
        "$7$86..../....q$4YbdzIQ1dVaaTH/InOkDyeI9wQLYAccY",
        "$6$salt$short",
        "$5$rounds=x$salt$c2dazTZw9OAS.tE70xSTQtOkl8Xe4tsv9TNQOMiTSo7",
    ];
    for text in unknown {
        assert_eq!(PasswordHash::import(text), Err(Unusable::Unknown), "{text}");
    }
    assert_eq!(PasswordHash::import(&"x".repeat(100_000)), Err(Unusable::Unknown));
    let absurd = [
        "$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$bcrypt-sha256$v=2,t=2b,r=17$MBFyO8g4VppUSYswMGwe4u$CK6ydsM1cbB44kW5518NtmqmwrdG.8m",
        "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=64,t=1000000,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$pbkdf2-sha256$4294967295$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$pbkdf2-sha256$0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$scrypt$ln=30,r=8,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$scrypt$ln=4,r=1000000,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$5$rounds=999999999$salt$c2dazTZw9OAS.tE70xSTQtOkl8Xe4tsv9TNQOMiTSo7",
        "$5$rounds=10$salt$c2dazTZw9OAS.tE70xSTQtOkl8Xe4tsv9TNQOMiTSo7",
    ];
    for text in absurd {
        let refused = PasswordHash::import(text);
        assert!(matches!(refused, Err(Unusable::Parameters(_))), "{text}: {refused:?}");
        // A row with it is a wrong password, at once as far as it is concerned.
        let checked = check(PASSWORD, &PasswordHash::stored(text.to_owned()));
        assert!(!checked.right && matches!(checked.unusable, Some(Unusable::Parameters(_))));
    }
}

#[test]
fn a_hash_made_here_is_of_the_whole_password() {
    let argon2id = Scheme::Argon2id { memory_kib: 64, iterations: 1, parallelism: 1 };
    for scheme in [CURRENT, argon2id] {
        for length in [8, 71, 72, 73, 200, 1024] {
            let password = "p".repeat(length);
            let stored = hash(scheme, &password);
            let work = || Work::new(scheme, []);
            assert_eq!(stored.scheme(), Some(scheme), "{}", stored.as_str());
            let right = check_by(work(), &password, &stored);
            assert!(right.right && right.replacement.is_none(), "{scheme} at {length}");
            let others = [
                format!("{}q", "p".repeat(length - 1)),
                "p".repeat(length - 1),
                format!("{password}p"),
                format!("{password}q"),
                format!("{password}{password}"),
            ];
            for other in others {
                assert!(!check_by(work(), &other, &stored).right, "{scheme}: {other} at {length}");
            }
        }
    }
}

#[test]
fn an_imported_hash_that_was_cut_is_replaced_by_one_of_the_whole_password() {
    let long = "x".repeat(100);
    let cut = bcrypt::hash_with_salt(&long, 4, [7; 16]).unwrap().to_string();
    let stored = PasswordHash::import(&cut).unwrap();
    let checked = check(&long, &stored);
    let whole = checked.replacement.unwrap();
    assert!(whole.as_str().starts_with("$bcrypt-sha256$v=2"), "{}", whole.as_str());
    assert!(check(&long, &whole).right);
    assert!(!check(&format!("{}y", &long[..99]), &whole).right);
}

#[test]
fn an_account_without_a_password_has_no_right_one() {
    for password in ["!", "", "none", PASSWORD] {
        assert_eq!(check(password, &PasswordHash::none()), Checked::default());
    }
    let read = PasswordHash::stored(PasswordHash::none().as_str().to_owned());
    assert_eq!(read, PasswordHash::none());
    assert_eq!(read.scheme_name(), "none");
}

#[test]
fn a_hash_does_not_print() {
    let hash = hash(CURRENT, PASSWORD);
    assert_eq!(format!("{hash:?}"), "PasswordHash([redacted])");
}
