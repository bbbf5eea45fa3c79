//! The catalogue of errors: the description of a code, and the combined codes of the kit and the
//! services.
//!
//! The codes that every service may return are in [`crate::code`] and [`crate::field_code`]. Each
//! service adds its own with the macros [`codes!`](crate::codes) and
//! [`field_codes!`](crate::field_codes).

use std::fmt::{self, Write as _};

use http::StatusCode;

use crate::{code, field_code};

/// The stable code of an error. Clients may rely on [`Code::as_str`]; texts may change.
#[derive(Clone, Copy)]
pub struct Code(&'static Entry);

/// The description of a code.
#[derive(Debug)]
pub struct Entry {
    /// The code as clients see it: in `code` on REST, and as the reason of `ErrorInfo` on gRPC.
    pub slug: &'static str,
    /// The HTTP status (RFC 9110, section 15).
    pub http: StatusCode,
    /// The gRPC status code.
    pub grpc: tonic::Code,
    /// A short summary that is the same for every occurrence (RFC 9457, section 3.1.3).
    pub title: &'static str,
    /// What the error means.
    pub meaning: &'static str,
    /// What the caller should do.
    pub advice: &'static str,
}

impl Code {
    /// The code that `entry` describes.
    #[must_use]
    pub const fn new(entry: &'static Entry) -> Self {
        Self(entry)
    }

    /// The code as clients see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0.slug
    }

    /// The HTTP status.
    #[must_use]
    pub const fn http(self) -> StatusCode {
        self.0.http
    }

    /// The gRPC status code.
    #[must_use]
    pub const fn grpc(self) -> tonic::Code {
        self.0.grpc
    }

    /// The summary.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.0.title
    }

    /// What the error means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.0.meaning
    }

    /// What the caller should do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        self.0.advice
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Code {}

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The code of a single fault of the input. It is in `errors` of a problem document, and a reason in
/// `BadRequest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldCode {
    /// The code, stable and in snake_case.
    pub code: &'static str,
    /// The rule that is broken.
    pub rule: &'static str,
}

/// Defines codes as constants, and `CODES` with all of them.
#[macro_export]
macro_rules! codes {
    ($($name:ident = $slug:literal, $http:ident, $grpc:ident, $title:literal, $meaning:literal, $advice:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: $crate::catalogue::Code =
                $crate::catalogue::Code::new(&$crate::catalogue::Entry {
                    slug: $slug,
                    http: http::StatusCode::$http,
                    grpc: tonic::Code::$grpc,
                    title: $title,
                    meaning: $meaning,
                    advice: $advice,
                });
        )*

        /// All of these codes.
        pub const CODES: &[$crate::catalogue::Code] = &[$($name,)*];
    };
}

/// Defines codes of field faults as constants, and `FIELD_CODES` with all of them.
#[macro_export]
macro_rules! field_codes {
    ($($name:ident = $code:literal, $rule:literal;)*) => {
        $(
            #[doc = $rule]
            pub const $name: $crate::catalogue::FieldCode =
                $crate::catalogue::FieldCode { code: $code, rule: $rule };
        )*

        /// All of these codes.
        pub const FIELD_CODES: &[$crate::catalogue::FieldCode] = &[$($name,)*];
    };
}

/// The codes that a service adds to those of the kit.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue {
    /// The codes of errors.
    pub codes: &'static [Code],
    /// The codes of single faults of the input.
    pub field_codes: &'static [FieldCode],
}

impl Catalogue {
    /// No codes in addition to those of the kit.
    pub const NONE: Self = Self { codes: &[], field_codes: &[] };
}

/// Every code of the kit and of `services`, by HTTP status.
#[must_use]
pub fn codes(services: &[Catalogue]) -> Vec<Code> {
    let own = services.iter().flat_map(|service| service.codes);
    let mut codes: Vec<_> = code::CODES.iter().chain(own).copied().collect();
    codes.sort_by_key(|code| code.http());
    codes
}

/// Every field code of the kit and of `services`.
#[must_use]
pub fn field_codes(services: &[Catalogue]) -> Vec<FieldCode> {
    let own = services.iter().flat_map(|service| service.field_codes);
    field_code::FIELD_CODES.iter().chain(own).copied().collect()
}

/// The catalogue of `services` as a Markdown document: the text of `docs/errors.md`.
#[must_use]
pub fn markdown(services: &[Catalogue]) -> String {
    let mut text = String::from(
        "# Errors\n\n\
         REST answers every 4xx and 5xx with `application/problem+json` (RFC 9457): `type`, `title`, \
         `status`, `detail`, `code`, `request_id`, and `errors` where single members are at fault. gRPC \
         carries the same code as the reason of `google.rpc.ErrorInfo` with the domain `latchkey`, \
         single faults as `BadRequest` and the delay before another try as `RetryInfo`. Rely on the \
         codes; the texts may change.\n",
    );
    for code in codes(services) {
        let _ = write!(
            text,
            "\n## {slug}\n\n{meaning}\n\n- REST: {http}\n- gRPC: {grpc} ({number})\n- What to do: {advice}\n",
            slug = code.as_str(),
            meaning = code.meaning(),
            http = code.http(),
            grpc = grpc_name(code.grpc()),
            number = code.grpc() as i32,
            advice = code.advice(),
        );
    }
    text.push_str(
        "\n## Codes of fields\n\nWith `validation_failed`, each entry of `errors` has one of these.\n\n\
         | code | the rule |\n|---|---|\n",
    );
    for FieldCode { code, rule } in field_codes(services) {
        let _ = writeln!(text, "| `{code}` | {rule} |");
    }
    text
}

/// The name of a gRPC status code as the specification writes it, such as `NOT_FOUND`.
#[must_use]
pub const fn grpc_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
