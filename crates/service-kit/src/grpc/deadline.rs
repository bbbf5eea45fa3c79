//! The deadline of a call.

use std::time::Duration;

use http::HeaderMap;

use crate::{code, error::ApiError};

/// The longest deadline of a call, and the default.
const MAX_DEADLINE: Duration = Duration::from_secs(30);

/// The time that a call has: the client's `grpc-timeout` (gRPC over HTTP/2, Requests), 30 s at most.
/// If the call `is_endless`, only the client's timeout applies.
///
/// # Errors
///
/// If the client's timeout does not follow the specification.
pub(super) fn deadline(
    headers: &HeaderMap,
    is_endless: bool,
) -> Result<Option<Duration>, ApiError> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let stated = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let stated = value.to_str().ok().and_then(timeout).ok_or_else(malformed)?;
            Some(stated)
        }
        (Some(_), Some(_)) => return Err(malformed()),
    };
    if is_endless {
        return Ok(stated);
    }
    Ok(Some(stated.map_or(MAX_DEADLINE, |stated| stated.min(MAX_DEADLINE))))
}

fn malformed() -> ApiError {
    ApiError::new(
        code::MALFORMED_REQUEST,
        "grpc-timeout is not one number of 1 to 8 digits and a unit",
    )
}

fn timeout(value: &str) -> Option<Duration> {
    let unit = value.bytes().last()?;
    let digits = value.get(..value.len() - 1)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount = digits.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_the_specification_says() {
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(timeout("5m"), Some(Duration::from_millis(5)));
        assert_eq!(timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(timeout("5n"), Some(Duration::from_nanos(5)));
        for value in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "é", "1é"] {
            assert_eq!(timeout(value), None, "{value:?}");
        }
    }

    #[test]
    fn no_deadline_is_longer_than_30_seconds_but_that_of_an_endless_call() {
        let stated = |text: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                http::HeaderValue::from_static(text),
            )])
        };
        let seconds = |text, is_endless| {
            deadline(&stated(text), is_endless).unwrap().map(|deadline| deadline.as_secs())
        };
        assert_eq!(seconds("99999999H", false), Some(30));
        assert_eq!(seconds("5S", false), Some(5));
        assert_eq!(seconds("1H", true), Some(3600));
        assert_eq!(deadline(&HeaderMap::new(), false).unwrap(), Some(MAX_DEADLINE));
        assert_eq!(deadline(&HeaderMap::new(), true).unwrap(), None);
        assert!(deadline(&stated("soon"), false).is_err());
    }
}
