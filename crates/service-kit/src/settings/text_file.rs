//! The rules for reading all text files: `.env`, secrets, lists, PEM.
//!
//! - They must be UTF-8. Other bytes are an error, which names the line.
//! - A byte order mark at the start is skipped.
//! - A line ends with a line feed, or with a carriage return and a line feed.
//! - White space around a secret, or around an entry of a list, is ignored. Parsers that split a file
//!   into lines trim the lines themselves.

use std::fs;

use zeroize::Zeroizing;

/// Reads a text file by the rules of this module. The text is wiped from memory when dropped.
///
/// # Errors
///
/// `cannot read <path>: <why>`.
pub fn read_text(path: &str) -> Result<Zeroizing<String>, String> {
    let fault = |why: String| format!("cannot read {path}: {why}");
    let bytes = Zeroizing::new(fs::read(path).map_err(|error| fault(error.to_string()))?);
    decode(&bytes).map_err(fault)
}

/// Reads a text file as bytes, for PEM parsers.
///
/// # Errors
///
/// The errors of [`read_text`].
pub fn read_bytes(path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    read_text(path).map(|text| Zeroizing::new(text.as_bytes().to_vec()))
}

/// Decodes the content of a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Zeroizing::new(text.replace("\r\n", "\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_and_carriage_returns_are_no_part_of_the_text() {
        assert_eq!(*decode(b"\xef\xbb\xbfone\r\ntwo\r\n").unwrap(), "one\ntwo\n");
        assert_eq!(*decode(b"a\rb\xef\xbb\xbf").unwrap(), "a\rb\u{feff}");
        assert_eq!(*decode(b"").unwrap(), "");
    }

    #[test]
    fn what_is_not_utf_8_is_refused_with_its_line() {
        assert_eq!(decode(b"one\ntw\xff\n").unwrap_err(), "line 2 is not UTF-8");
        assert_eq!(decode(b"\xff\xfeo\0").unwrap_err(), "line 1 is not UTF-8");
    }

    #[test]
    fn a_fault_names_the_file() {
        let folder = std::env::temp_dir();
        let told = read_text(folder.to_str().unwrap()).unwrap_err();
        assert!(told.starts_with("cannot read /"), "{told}");
    }
}
