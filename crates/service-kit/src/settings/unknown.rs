//! Finds variables that nothing reads but that resemble known ones.

use std::collections::BTreeSet;

/// First words that our variables share with many others, so that they do not indicate anything.
const COMMON_WORDS: [&str; 10] =
    ["AUTH", "DATA", "GRPC", "HTTP", "LOG", "MAIL", "PUBLIC", "SERVICE", "TRUSTED", "USER"];

/// Suffixes of the variables that Kubernetes and Docker set for their services (`AUTH_SERVICE_HOST`,
/// `AUTH_PORT_…`).
const OF_ORCHESTRATORS: [&str; 4] = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_NAME"];

/// Variables of OpenSSL, X11 and pass that resemble ours.
const FOREIGN: [&str; 3] = ["SSL_CERT_DIR", "SSL_CERT_FILE", "SESSION_MANAGER"];
const FOREIGN_PREFIXES: [&str; 1] = ["PASSWORD_STORE_"];

/// Renamed settings, with their former and present names.
const RENAMED: [(&str, &str); 1] = [("METRICS_ADDR", "ADMIN_ADDR")];

/// The variables that resemble one of `known` but are not known, each with the nearest known one, if one is
/// near.
pub(super) fn lookalikes<'a>(
    given: impl Iterator<Item = &'a str>,
    known: &BTreeSet<String>,
) -> Vec<(String, Option<String>)> {
    let words: BTreeSet<&str> = known
        .iter()
        .filter_map(|name| name.split_once('_'))
        .map(|(word, _)| word)
        .filter(|word| !COMMON_WORDS.contains(word))
        .collect();
    let mut found: Vec<_> = given
        .filter(|name| !known.contains(*name))
        .filter(|name| {
            !OF_ORCHESTRATORS.iter().any(|end| name.ends_with(end)) && !name.contains("_PORT_")
        })
        .filter(|name| {
            !FOREIGN.contains(name) && !FOREIGN_PREFIXES.iter().any(|start| name.starts_with(start))
        })
        .filter_map(|name| {
            let nearest = present(name, known)
                .or_else(|| within(name, known))
                .or_else(|| nearest(name, known));
            let has_our_word = name.split_once('_').is_some_and(|(word, _)| words.contains(word));
            (nearest.is_some() || has_our_word).then(|| (name.to_owned(), nearest))
        })
        .collect();
    found.sort_unstable();
    found
}

/// The present name of a renamed setting. If each of two services has it with a prefix, the old name without
/// a prefix stood for both.
fn present(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let (prefix, present) =
        RENAMED.iter().find_map(|(old, present)| Some((name.strip_suffix(old)?, present)))?;
    let exact = format!("{prefix}{present}");
    if known.contains(&exact) {
        return Some(exact);
    }
    let all: Vec<&str> =
        known.iter().map(String::as_str).filter(|one| one.ends_with(&exact)).collect();
    (prefix.is_empty() && !all.is_empty()).then(|| all.join(" or "))
}

/// The known name in a name that has a prefix for one of two services or the suffix of a secret's file, where
/// there is none.
fn within(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let without_prefix =
        ["AUTH_", "USER_"].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    [without_prefix, name.strip_suffix("_FILE")]
        .into_iter()
        .flatten()
        .find(|name| known.contains(*name))
        .map(str::to_owned)
}

/// The known name with the fewest edits, if they are few in relation to its length.
fn nearest(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let name = name.to_ascii_uppercase().replace('-', "_");
    known
        .iter()
        .filter(|other| other.len().abs_diff(name.len()) <= 2)
        .map(|other| (edits(name.as_bytes(), other.as_bytes()), other))
        .filter(|(edits, other)| {
            let most = match other.len() {
                ..9 => 1,
                9..15 => 2,
                _ => 3,
            };
            *edits <= most
        })
        .min()
        .map(|(_, other)| other.clone())
}

/// The number of characters that have to be changed, inserted, deleted or swapped with their neighbour (the
/// restricted Damerau-Levenshtein distance).
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut earlier: Vec<usize> = Vec::new();
    let mut before: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut now = vec![row + 1];
        for (column, wanted) in other.iter().enumerate() {
            let change = before[column] + usize::from(letter != wanted);
            let mut least = change.min(before[column + 1] + 1).min(now[column] + 1);
            let swapped =
                row > 0 && column > 0 && one[row - 1] == *wanted && *letter == other[column - 1];
            if swapped {
                least = least.min(earlier[column - 1] + 1);
            }
            now.push(least);
        }
        earlier = std::mem::replace(&mut before, now);
    }
    before[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(given: &str) -> Option<(String, Option<String>)> {
        let known = [
            "BCRYPT_COST",
            "DATABASE_URL",
            "HTTP_ADDR",
            "LOG_LEVEL",
            "PASSWORD_HASH",
            "SERVICE_TOKEN",
            "SESSION_LIFETIME",
            "TLS_CERT_FILE",
            "TRUSTED_PROXIES",
        ];
        let known = known.into_iter().map(str::to_owned).collect();
        lookalikes([given].into_iter(), &known).pop()
    }

    #[test]
    fn a_typing_mistake_is_found() {
        for (given, meant) in [
            ("DATABSE_URL", "DATABASE_URL"),
            ("DATABASE_ULR", "DATABASE_URL"),
            ("BCRYPTCOST", "BCRYPT_COST"),
            ("HTTP_ADR", "HTTP_ADDR"),
            ("log_level", "LOG_LEVEL"),
            ("SERVICE_TOKENS", "SERVICE_TOKEN"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
            ("AUTH_DATABASE_URL", "DATABASE_URL"),
            ("HTTP_ADDR_FILE", "HTTP_ADDR"),
        ] {
            assert_eq!(found(given), Some((given.to_owned(), Some(meant.to_owned()))));
        }
        assert_eq!(found("BCRYPT_ROUNDS"), Some(("BCRYPT_ROUNDS".to_owned(), None)));
    }

    #[test]
    fn an_old_name_is_told_with_the_new_one() {
        let found = |given, known: &[&str]| {
            let known = known.iter().copied().map(str::to_owned).collect();
            lookalikes([given].into_iter(), &known).pop().and_then(|(_, meant)| meant)
        };
        let alone = ["ADMIN_ADDR"];
        assert_eq!(found("METRICS_ADDR", &alone).as_deref(), Some("ADMIN_ADDR"));
        let both = ["AUTH_ADMIN_ADDR", "USER_ADMIN_ADDR"];
        let meant = found("METRICS_ADDR", &both);
        assert_eq!(meant.as_deref(), Some("AUTH_ADMIN_ADDR or USER_ADMIN_ADDR"));
        assert_eq!(found("USER_METRICS_ADDR", &both).as_deref(), Some("USER_ADMIN_ADDR"));
        assert_eq!(found("OTHER_METRICS_ADDR", &both), None);
    }

    #[test]
    fn what_is_of_others_is_not() {
        for given in [
            "DATABASE_URL",
            "PATH",
            "HOME",
            "HTTP_PROXY",
            "LOG_DIR",
            "LS_COLORS",
            "AUTH_SERVICE_HOST",
            "DATABASE_PORT_5432_TCP",
            "SERVICE_NAME",
            "HOSTNAME",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "SESSION_MANAGER",
            "PASSWORD_STORE_DIR",
        ] {
            assert_eq!(found(given), None, "{given}");
        }
    }

    #[test]
    fn edits_are_counted() {
        let count = |one: &str, other: &str| edits(one.as_bytes(), other.as_bytes());
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", "abc"), 0);
        assert_eq!(count("acb", "abc"), 1);
        assert_eq!(count("kitten", "sitting"), 3);
    }
}
