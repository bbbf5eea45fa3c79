//! Parsers for the values of settings.

use std::{net::SocketAddr, str::FromStr, time::Duration};

/// Parses any type with `FromStr`, such as a path or an algorithm.
///
/// # Errors
///
/// `is not <what>`.
pub fn parsed<T: FromStr>(what: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |text| text.parse().map_err(|_| format!("is not {what}"))
}

/// Returns the text as it is.
///
/// # Errors
///
/// None.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Reads an integer from `least` to `most`.
///
/// # Errors
///
/// If it is something else.
pub fn integer(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    number(least, most)
}

/// Reads an integer from `least` to `most`, as any type of integer that holds `most`.
///
/// # Errors
///
/// If it is something else.
pub fn number<T: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("is not an integer from {least} to {most}"))
    }
}

/// Reads whole seconds from `least` to `most`.
///
/// # Errors
///
/// If it is something else.
pub fn seconds(least: u64, most: u64) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        integer(least, most)(text)
            .map(Duration::from_secs)
            .map_err(|what| format!("{what} (seconds)"))
    }
}

/// Reads `true` or `false`.
///
/// # Errors
///
/// If it is neither.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither true nor false".to_owned())
}

/// Parses the address of a listener: `host:port`, with an IP address or `localhost` as the host, or
/// `:port` for all interfaces.
///
/// # Errors
///
/// If it is something else.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let full = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None if text.starts_with(':') => format!("0.0.0.0{text}"),
        None => text.to_owned(),
    };
    full.parse().map_err(|_| "is not an address such as 127.0.0.1:3000".to_owned())
}

/// The shortest length of a shared secret, in bytes (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Checks a secret that is used as a bearer token: at least 32 bytes of printable ASCII without
/// spaces, because it is sent in a header (RFC 6750, section 2.1).
///
/// # Errors
///
/// What is wrong with it.
pub fn bearer_secret(token: &str) -> Result<(), String> {
    if token.len() < MIN_SECRET_BYTES {
        Err(format!("is under {MIN_SECRET_BYTES} bytes"))
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("has characters that a call cannot carry: only printable ASCII without spaces"
            .to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_the_host_out() {
        assert_eq!(address(":80").unwrap().to_string(), "0.0.0.0:80");
        assert_eq!(address("localhost:80").unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(address("[::1]:0").unwrap().to_string(), "[::1]:0");
        for text in ["", "80", "x:80", "1.2.3.4", "1.2.3.4:99999"] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_number_fits_its_type_and_its_range() {
        assert_eq!(number::<u8>(1, 9)("9"), Ok(9));
        for text in ["0", "10", "-1", "", "1.5", " 1", "99999999999999999999"] {
            assert!(number::<u8>(1, 9)(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_bearer_secret_can_travel_in_a_header_field() {
        assert_eq!(bearer_secret(&"x".repeat(32)), Ok(()));
        let broken = [
            "x".repeat(31),
            "é".repeat(16),
            "x ".repeat(16),
            "x\n".repeat(16),
            format!("\t{}", "x".repeat(32)),
        ];
        for token in broken {
            let told = bearer_secret(&token).unwrap_err();
            assert!(!told.contains(&token), "{told}");
        }
    }
}
