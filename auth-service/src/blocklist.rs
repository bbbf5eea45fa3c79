//! The most common passwords, which attackers try first (NIST SP 800-63B, section 3.1.1.2).

/// Sorted by bytes, in lower case, one a line. See `assets/README.md` for its source.
static COMMON: &str = include_str!("../assets/common-passwords.txt");

/// Whether `password`, in lower case, is on the list. A binary search over the text itself: the list
/// takes no memory but its bytes in the binary.
#[must_use]
pub fn contains(password: &str) -> bool {
    let (mut low, mut high) = (0, COMMON.len());
    while low < high {
        let middle = low + (high - low) / 2;
        // The line around the middle. Line feeds are one byte, so the bounds are whole characters.
        let start = COMMON.as_bytes()[low..middle]
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(low, |at| low + at + 1);
        let end = COMMON.as_bytes()[middle..high]
            .iter()
            .position(|&b| b == b'\n')
            .map_or(high, |at| middle + at);
        match COMMON.as_bytes()[start..end].cmp(password.as_bytes()) {
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
        assert!(COMMON.lines().count() >= 10_000);
        assert!(
            COMMON.lines().is_sorted(),
            "the search needs the list sorted"
        );
        for line in COMMON.lines() {
            assert!(contains(line), "{line}");
            assert!(!contains(&format!("{line}\n")), "{line}");
        }
        for other in ["", "\n", "~~~~~~~~~", "correct horse battery", "s3curep@ss"] {
            assert!(!contains(other), "{other}");
        }
    }
}
