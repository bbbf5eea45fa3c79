//! The identity of a request across services and log lines: its id and its trace.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header, and gRPC metadata key, of the request id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header of the trace context (W3C Trace Context, section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header of other vendors' trace data (W3C Trace Context, section 3.3).
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The identity of one request. It is in the extensions of every request that an edge processes.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The request id of the caller if it is valid, else a new UUID.
    pub request_id: String,
    /// The trace's id: 32 lower-case hexadecimal digits.
    pub trace_id: String,
    /// The parent span of outgoing calls: the request's own span if there is one, else the
    /// caller's.
    pub(crate) span_id: u64,
    /// The flags of the trace, such as whether it is sampled.
    pub(crate) flags: u8,
    /// The caller's span.
    pub(crate) parent: Option<u64>,
}

impl RequestContext {
    /// Reads the identity from the headers of a request. A request id is replaced if it is not 1 to
    /// 128 characters of `[A-Za-z0-9._:+/=-]` or is sent twice. An invalid `traceparent` is
    /// ignored.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let request_id = single(headers, &X_REQUEST_ID)
            .filter(|id| is_request_id(id))
            .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        match single(headers, &TRACEPARENT).and_then(Traceparent::parse) {
            Some(Traceparent { trace_id, parent, flags }) => Self {
                request_id,
                trace_id: trace_id.to_owned(),
                span_id: parent,
                flags,
                parent: Some(parent),
            },
            None => {
                let (trace, span) = (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().1);
                let trace_id = trace.simple().to_string();
                Self { request_id, trace_id, span_id: span, flags: 0, parent: None }
            }
        }
    }

    /// The `traceparent` of outgoing calls that this request causes.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// The request id as a header value.
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

/// A parsed `traceparent`.
pub(crate) struct Traceparent<'a> {
    pub(crate) trace_id: &'a str,
    pub(crate) parent: u64,
    pub(crate) flags: u8,
}

impl<'a> Traceparent<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let hex =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let nonzero = |text: &str| text.bytes().any(|b| b != b'0');

        let mut parts = text.split('-');
        let (version, trace_id, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let well_formed = version.len() == 2
            && hex(version)
            && version != "ff"
            && trace_id.len() == 32
            && hex(trace_id)
            && nonzero(trace_id)
            && parent.len() == 16
            && hex(parent)
            && nonzero(parent)
            && flags.len() == 2
            && hex(flags)
            // Version 00 has exactly four parts; later versions may have more.
            && (version != "00" || parts.next().is_none());
        if !well_formed {
            return None;
        }
        let parent = u64::from_str_radix(parent, 16).ok()?;
        // Keep only the flag that is defined (section 3.2.2.5.1); unknown flags must not be
        // propagated.
        let flags = u8::from_str_radix(flags, 16).ok()? & 1;
        Some(Self { trace_id, parent, flags })
    }
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
            let context = context(&[(&TRACEPARENT, value)]);
            assert_eq!(context.trace_id, trace);
            assert_eq!(context.traceparent(), kept[0]);
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
            let passed_on = context(&[(&TRACEPARENT, value)]).traceparent();
            assert!(Traceparent::parse(&passed_on).is_some(), "{passed_on}");
        }
    }
}
