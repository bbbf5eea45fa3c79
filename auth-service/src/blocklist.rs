//! Passwords that attackers try first and that are therefore refused (NIST SP 800-63B, section 3.1.1.2): an
//! embedded list of the most common ones, and an optional list of the operator.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization as _;

/// Sorted by bytes, in lower case, one per line. `assets/README.md` names the source.
static COMMON: &str = include_str!("../assets/common-passwords.txt");

/// The passwords that are refused. A password matches as a whole and in any letter case.
#[derive(Clone, Default)]
pub struct Blocklist {
    /// The operator's list, in the format of [`COMMON`].
    own: String,
}

impl std::fmt::Debug for Blocklist {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Blocklist").field("own", &self.own.lines().count()).finish()
    }
}

impl Blocklist {
    /// The embedded list together with `own`, which has one password per line. Empty lines and white space
    /// around a password are ignored.
    #[must_use]
    pub fn with_own(own: &str) -> Self {
        let lines: BTreeSet<String> = own
            .lines()
            .map(|line| line.trim().nfc().collect::<String>().to_lowercase())
            .filter(|line| !line.is_empty())
            .collect();
        Self { own: lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect() }
    }

    /// Whether `password`, which must be in lower case, is on one of the lists.
    #[must_use]
    pub fn contains(&self, password: &str) -> bool {
        is_line(COMMON, password) || is_line(&self.own, password)
    }
}

/// Whether `wanted` is a line of `sorted`. This is a binary search in the text itself, so a list needs no
/// memory beyond its own bytes.
fn is_line(sorted: &str, wanted: &str) -> bool {
    let text = sorted.as_bytes();
    let (mut low, mut high) = (0, text.len());
    while low < high {
        let middle = low + (high - low) / 2;
        // Find the line around the middle. A search for the byte of a line feed is safe, because in UTF-8
        // that byte is never part of another character.
        let start =
            text[low..middle].iter().rposition(|&b| b == b'\n').map_or(low, |at| low + at + 1);
        let end =
            text[middle..high].iter().position(|&b| b == b'\n').map_or(high, |at| middle + at);
        match text[start..end].cmp(wanted.as_bytes()) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found_and_its_neighbours_are_not() {
        let blocklist = Blocklist::default();
        assert!(COMMON.lines().count() >= 10_000);
        assert!(COMMON.lines().is_sorted(), "the search needs the list sorted");
        for line in COMMON.lines() {
            assert!(blocklist.contains(line), "{line}");
            assert!(!blocklist.contains(&format!("{line}\n")), "{line}");
        }
        for other in ["", "\n", "~~~~~~~~~", "correct horse battery", "s3curep@ss"] {
            assert!(!blocklist.contains(other), "{other}");
        }
    }

    #[test]
    fn an_own_list_comes_on_top_in_any_order_and_case() {
        let blocklist = Blocklist::with_own("Zebra-2026\r\n\nacme corp\ncafe\u{301} noir\n");
        for refused in ["zebra-2026", "acme corp", "caf\u{e9} noir", "password123"] {
            assert!(blocklist.contains(refused), "{refused}");
        }
        for fine in ["", "zebra-2027", "acme corp "] {
            assert!(!blocklist.contains(fine), "{fine}");
        }
        assert!(!format!("{blocklist:?}").contains("acme"));
    }
}
