//! What identifies a request across services and log lines: its id and its trace.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header field, and gRPC metadata key, of the request id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header field of the trace context (W3C Trace Context, section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The identity of one request. It is in the extensions of every request that an edge passes on.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The caller's request id if it sent a good one, else a new UUID.
    pub request_id: String,
    /// The trace's id: 32 lower-case hexadecimal digits.
    pub trace_id: String,
}

impl RequestContext {
    /// Reads the identity from a request's header fields. A request id that is not 1 to 128 of
    /// `[A-Za-z0-9._:+/=-]`, or is given twice, is replaced; an invalid `traceparent` is ignored.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self {
            request_id: single(headers, &X_REQUEST_ID)
                .filter(|id| is_request_id(id))
                .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            trace_id: single(headers, &TRACEPARENT)
                .and_then(trace_id)
                .map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned),
        }
    }

    /// The request id as the value of a header field.
    #[must_use]
    pub fn request_id_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.request_id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:+/=-".contains(&b))
}

/// The trace id of a `traceparent`, if all of it is valid.
fn trace_id(traceparent: &str) -> Option<&str> {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let nonzero = |text: &str| text.bytes().any(|b| b != b'0');

    let mut parts = traceparent.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = version.len() == 2
        && hex(version)
        && version != "ff"
        && trace.len() == 32
        && hex(trace)
        && nonzero(trace)
        && parent.len() == 16
        && hex(parent)
        && nonzero(parent)
        && flags.len() == 2
        && hex(flags)
        // Version 00 has exactly four parts; a later one may have more.
        && (version != "00" || parts.next().is_none());
    well_formed.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&HeaderName, &str)]) -> RequestContext {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        RequestContext::from_headers(&headers)
    }

    #[test]
    fn a_good_request_id_is_kept() {
        let long = "x".repeat(128);
        for id in ["a", "AZ09._:+/=-", &long] {
            assert_eq!(context(&[(&X_REQUEST_ID, id)]).request_id, id);
        }
    }

    #[test]
    fn a_bad_request_id_is_replaced_by_a_uuid() {
        let long = "x".repeat(129);
        for id in ["", "a b", "a\tb", "<script>", "a,b", &long] {
            let made = context(&[(&X_REQUEST_ID, id)]).request_id;
            assert!(Uuid::parse_str(&made).is_ok(), "{id:?} became {made:?}");
        }
        let twice = context(&[(&X_REQUEST_ID, "a"), (&X_REQUEST_ID, "b")]);
        assert!(Uuid::parse_str(&twice.request_id).is_ok());
    }

    #[test]
    fn a_valid_traceparent_is_continued_and_another_ignored() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let kept = [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ];
        for value in kept {
            assert_eq!(context(&[(&TRACEPARENT, value)]).trace_id, trace);
        }
        let ignored = [
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "",
        ];
        for value in ignored {
            let made = context(&[(&TRACEPARENT, value)]).trace_id;
            assert_ne!(made, trace, "{value:?}");
            assert_eq!(made.len(), 32);
        }
    }
}
