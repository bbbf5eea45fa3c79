//! One line of a list of breached passwords: `HASH:count`, or `HASH` alone.

/// The hash in upper-case digits, and whether the entry counts: entries with count 0 are padding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) digits: &'a [u8],
    pub(super) counts: bool,
}

impl<'a> Entry<'a> {
    /// Parses a line whose hash has this many digits. White space at the end, such as a carriage return,
    /// is ignored.
    pub(super) fn parse(line: &'a [u8], digits: usize) -> Option<Self> {
        let line = line.trim_ascii_end();
        let (hash, rest) = line.split_at_checked(digits)?;
        if !hash.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let count = match rest {
            [] => return Some(Self { digits: hash, counts: true }),
            [b':', count @ ..] => count,
            _ => return None,
        };
        let is_number = !count.is_empty() && count.iter().all(u8::is_ascii_digit);
        let counts = count.iter().any(|digit| *digit != b'0');
        is_number.then_some(Self { digits: hash, counts })
    }

    /// Compares its hash with these digits, ignoring letter case.
    pub(super) fn compare(&self, digits: &[u8]) -> std::cmp::Ordering {
        let upper = |digits: &'a [u8]| digits.iter().map(u8::to_ascii_uppercase);
        upper(self.digits).cmp(digits.iter().map(u8::to_ascii_uppercase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_hash_and_a_count() {
        for (line, expected) in [
            ("00aFF:3", Some(true)),
            ("00AFF:0", Some(false)),
            ("00AFF:000", Some(false)),
            ("00AFF:10\r", Some(true)),
            ("00AFF", Some(true)),
            ("00AFF:99999999999999999999999", Some(true)),
            ("00AF:3", None),
            ("00AFFF:3", None),
            ("00AFG:3", None),
            ("00AFF:", None),
            ("00AFF:-1", None),
            ("00AFF:x", None),
            (" 00AFF:1", None),
            ("", None),
        ] {
            let entry = Entry::parse(line.as_bytes(), 5);
            assert_eq!(entry.map(|entry| entry.counts), expected, "{line:?}");
        }
    }
}
