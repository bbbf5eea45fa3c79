//! The error response of both edges: a code, a text, and optional headers and faults.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    catalogue::{Code, FieldCode},
    code,
};

/// The `domain` of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "latchkey";

/// The most that the faults of one answer may take, in bytes. They quote names from the request, and a
/// client that sends thousands of unknown names must not get an answer that is many times as long. On
/// gRPC they are header fields, of which clients accept 8 KiB by default.
pub const FAULTS_BYTES: usize = 4096;
/// The most characters of a pointer. A name in it can be as long as the request.
const POINTER_CHARS: usize = 256;

fn shorten(pointer: &mut String) {
    // A pointer has no more characters than bytes.
    if pointer.len() > POINTER_CHARS
        && let Some((end, _)) = pointer.char_indices().nth(POINTER_CHARS)
    {
        pointer.truncate(end);
        pointer.push('…');
    }
}

/// One fault of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The location: a JSON pointer (RFC 6901) into the body, or `/name` for a query parameter.
    pub pointer: String,
    /// The rule that is broken.
    pub code: FieldCode,
    /// The rule in words, without the value.
    pub detail: Cow<'static, str>,
}

/// An error that is safe to show to a client. Internal details (causes, database messages) were
/// logged before and are not included.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: Code,
    detail: Cow<'static, str>,
    faults: Vec<Fault>,
    retry_after: Option<Duration>,
    is_forbidden: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// An error with a text for people.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            faults: Vec::new(),
            retry_after: None,
            is_forbidden: false,
            headers: Vec::new(),
        }
    }

    /// A validation error with the faults of the input, each once. Only as many are listed as fit into
    /// [`FAULTS_BYTES`].
    #[must_use]
    pub fn validation(faults: Vec<Fault>) -> Self {
        let mut error = Self::new(code::VALIDATION_FAILED, "the input breaks one or more rules");
        let mut bytes = 0;
        for mut fault in faults {
            shorten(&mut fault.pointer);
            // The list is short, because its length is bounded.
            if error.faults.contains(&fault) {
                continue;
            }
            bytes += fault.pointer.len() + fault.code.code.len() + fault.detail.len();
            if bytes > FAULTS_BYTES && !error.faults.is_empty() {
                break;
            }
            error.faults.push(fault);
        }
        error
    }

    /// Says when a retry may succeed. Sent in whole seconds, rounded up, at least 1.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(Duration::from_secs(whole_seconds(delay)));
        self
    }

    /// Changes the status to 403 (7 on gRPC), for a caller who is authenticated but not allowed to
    /// do this. The code stays.
    #[must_use]
    pub const fn forbidden(mut self) -> Self {
        self.is_forbidden = true;
        self
    }

    /// Adds a header to the REST response and, as metadata, to the gRPC response.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The text for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The single faults of the input.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// Rounds up to whole seconds, at least 1, as `Retry-After` requires (RFC 9110, section 10.2.3).
#[must_use]
pub fn whole_seconds(delay: Duration) -> u64 {
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

/// The body stays empty here. [`crate::rest`] writes it, because only that module knows the request
/// id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        let status = if self.is_forbidden { code::FORBIDDEN } else { self.code };
        *response.status_mut() = status.http();
        let headers = response.headers_mut();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(delay) = self.retry_after {
            headers.insert(http::header::RETRY_AFTER, delay.as_secs().into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ApiError> for tonic::Status {
    fn from(error: ApiError) -> Self {
        crate::access::note_code(error.code.as_str());
        let mut details = ErrorDetails::new();
        details.set_error_info(
            error.code.as_str(),
            ERROR_DOMAIN,
            std::collections::HashMap::<String, String>::new(),
        );
        if !error.faults.is_empty() {
            let violations: Vec<FieldViolation> = error
                .faults
                .iter()
                .map(|fault| {
                    // gRPC uses the field's path in proto notation instead of a JSON pointer.
                    let field = fault.pointer.trim_start_matches('/').replace('/', ".");
                    FieldViolation {
                        reason: fault.code.code.to_owned(),
                        ..FieldViolation::new(field, fault.detail.as_ref())
                    }
                })
                .collect();
            details.set_bad_request(violations);
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        let code = if error.is_forbidden { code::FORBIDDEN } else { error.code };
        let mut status = Self::with_error_details(code.grpc(), error.detail.into_owned(), details);
        for (name, value) in error.headers {
            let key = tonic::metadata::AsciiMetadataKey::from_bytes(name.as_ref());
            let value = tonic::metadata::AsciiMetadataValue::try_from(value.as_bytes());
            if let (Ok(key), Ok(value)) = (key, value) {
                status.metadata_mut().insert(key, value);
            }
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field_code;

    fn fault(pointer: String) -> Fault {
        Fault { pointer, code: field_code::REQUIRED, detail: "must be given".into() }
    }

    #[test]
    fn the_faults_of_an_answer_take_a_bounded_space_and_are_listed_once() {
        let many = ApiError::validation((0..7000).map(|n| fault(format!("/{n}"))).collect());
        assert!((20..200).contains(&many.faults().len()), "{}", many.faults().len());
        let same = ApiError::validation((0..7000).map(|_| fault("/a".to_owned())).collect());
        assert_eq!(same.faults().len(), 1);
        let long = ApiError::validation(vec![fault("é".repeat(60_000)), fault("/a".to_owned())]);
        assert_eq!(long.faults().len(), 2);
        assert_eq!(long.faults()[0].pointer.chars().count(), POINTER_CHARS + 1);
    }
}
