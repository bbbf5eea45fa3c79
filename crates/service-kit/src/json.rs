//! Strict JSON bodies: a single object in UTF-8 (RFC 8259) without duplicate members (RFC 7493, section 2.3)
//! and without NUL in strings. All faults of its members are reported at once.

use std::{borrow::Cow, fmt, time::Duration};

use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use http_body_util::BodyExt as _;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use tokio::time::Instant;

use crate::{
    catalogue::FieldCode,
    code,
    error::{ApiError, Fault},
    field_code,
};

/// The largest body that is accepted, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of an oversized body is read and discarded, so that the client, which is still sending, receives
/// the response instead of a connection reset.
const MAX_DISCARDED: usize = 8 * 1024 * 1024;

/// Reads a request body as a JSON object. Its media type must be one of `accepted`.
///
/// # Errors
///
/// 415 for another media type, 413 over [`MAX_BODY`], 408 for a body that stalls, 400 for one that
/// is not a JSON object.
pub async fn read(request: Request, accepted: &[&str]) -> Result<Fields, ApiError> {
    if !is_accepted(request.headers(), accepted) {
        return Err(ApiError::new(
            code::UNSUPPORTED_MEDIA_TYPE,
            format!("the Content-Type must be {}, in UTF-8 and not encoded", accepted.join(" or ")),
        ));
    }
    if is_refused_unread(request.headers()) {
        return Err(too_large());
    }
    Fields::parse(&collect(request.into_body()).await?)
}

fn is_accepted(headers: &HeaderMap, accepted: &[&str]) -> bool {
    // Several lines contradict each other or make no sense (RFC 9110, section 5.3), and other programs may
    // use another one.
    if [CONTENT_TYPE, CONTENT_ENCODING].iter().any(|name| headers.get_all(name).iter().count() > 1)
    {
        return false;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let mut parts = text(CONTENT_TYPE).unwrap_or_default().split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_utf8 = parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        !name.eq_ignore_ascii_case("charset")
            || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    let is_plain = text(CONTENT_ENCODING).is_none_or(|name| name.eq_ignore_ascii_case("identity"));
    accepted.contains(&media_type.as_str()) && is_utf8 && is_plain
}

/// Whether a body need not be read at all: its Content-Length is too large, and its sender waits for our
/// response or would send more than we discard.
fn is_refused_unread(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let most = if headers.contains_key(EXPECT) { MAX_BODY } else { MAX_DISCARDED };
    length.is_some_and(|length: u64| length > most as u64)
}

fn too_large() -> ApiError {
    ApiError::new(code::PAYLOAD_TOO_LARGE, "the body is over 64 KiB")
}

async fn collect(mut body: axum::body::Body) -> Result<Bytes, ApiError> {
    let deadline = Instant::now() + BODY_TIMEOUT;
    let mut kept = BytesMut::new();
    let mut discarded = 0;
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            // The body is already known to be too large, so it need not be complete.
            Err(_) if discarded > 0 => break,
            Err(_) => {
                let text = "the body did not arrive in time";
                return Err(ApiError::new(code::REQUEST_TIMEOUT, text));
            }
        };
        let frame = frame
            .map_err(|_| ApiError::new(code::MALFORMED_REQUEST, "the body ended too early"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if discarded > 0 || kept.len() + data.len() > MAX_BODY {
            discarded += data.len();
            if discarded > MAX_DISCARDED {
                break;
            }
        } else {
            kept.extend_from_slice(&data);
        }
    }
    if discarded > 0 {
        return Err(too_large());
    }
    Ok(kept.freeze())
}

/// The members of a body. Take each member that the endpoint knows, then call [`Fields::finish`], which adds
/// a fault for each remaining one.
#[derive(Debug)]
pub struct Fields {
    members: Map<String, Value>,
}

impl Fields {
    /// Parses a body.
    ///
    /// # Errors
    ///
    /// `malformed_json` if it is not exactly one JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let malformed = |detail: Cow<'static, str>| ApiError::new(code::MALFORMED_JSON, detail);
        if std::str::from_utf8(body).is_err() {
            return Err(malformed("the body is not UTF-8".into()));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let value = Strict
            .deserialize(&mut deserializer)
            .and_then(|value| deserializer.end().map(|()| value))
            .map_err(|error| {
                let (line, column) = (error.line(), error.column());
                let what = match error.classify() {
                    serde_json::error::Category::Data => "breaks a rule",
                    serde_json::error::Category::Eof => "ends too early",
                    _ => "is not valid JSON",
                };
                malformed(format!("the body {what} at line {line}, column {column}").into())
            })?;
        match value {
            Value::Object(members) => Ok(Self { members }),
            _ => Err(malformed("the body is not a JSON object".into())),
        }
    }

    /// Takes a required member, which must be a string.
    pub fn required_string(&mut self, name: &str, faults: &mut Vec<Fault>) -> Option<String> {
        match self.members.remove(name) {
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                faults.push(fault(name, field_code::NOT_A_STRING, "must be a string"));
                None
            }
            None => {
                faults.push(fault(name, field_code::REQUIRED, "is required"));
                None
            }
        }
    }

    /// Takes an optional member, which must be a boolean.
    pub fn optional_bool(&mut self, name: &str, faults: &mut Vec<Fault>) -> Option<bool> {
        match self.members.remove(name)? {
            Value::Bool(value) => Some(value),
            _ => {
                faults.push(fault(name, field_code::NOT_A_BOOLEAN, "must be true or false"));
                None
            }
        }
    }

    /// Takes a member of any type.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name)
    }

    /// Adds a fault for each member that was not taken.
    pub fn finish(self, faults: &mut Vec<Fault>) {
        for name in self.members.keys() {
            faults.push(fault(name, field_code::UNKNOWN_MEMBER, "is not a member of this object"));
        }
    }
}

/// A fault of the member `name` of the body.
#[must_use]
pub fn fault(name: &str, code: FieldCode, detail: impl Into<Cow<'static, str>>) -> Fault {
    // The escapes of JSON pointers (RFC 6901, section 3).
    let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    Fault { pointer, code, detail: detail.into() }
}

/// A JSON value without duplicate members and without NUL in strings.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn text<E: de::Error>(text: String) -> Result<String, E> {
    // Postgres cannot store NUL, and no field needs it.
    if text.contains('\0') { Err(E::custom("NUL in a string")) } else { Ok(text) }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        text(value.to_owned()).map(Value::String)
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        text(value).map(Value::String)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(Strict)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let name = text(name)?;
            let value = access.next_value_seed(Strict)?;
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    #[test]
    fn one_object_is_read() {
        let mut fields = Fields::parse(br#" {"a":"x","b":1} "#).unwrap();
        let mut faults = Vec::new();
        assert_eq!(fields.required_string("a", &mut faults).as_deref(), Some("x"));
        assert_eq!(faults, []);
        fields.finish(&mut faults);
        assert_eq!(
            faults,
            [fault("b", field_code::UNKNOWN_MEMBER, "is not a member of this object")]
        );
    }

    #[test]
    fn anything_else_is_malformed() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let bodies: &[&[u8]] = &[
            b"",
            b" ",
            b"null",
            b"[]",
            b"\"a\"",
            b"1",
            b"{",
            b"{\"a\":}",
            b"{\"a\":\"x\"}{",
            b"{\"a\":\"x\"} trailing",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":{\"b\":1,\"b\":1}}",
            b"{\"a\":\"\\u0061\",\"\\u0061\":1}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\\u0000\"}",
            b"{\"\\u0000\":1}",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":1e999}",
            b"{'a':1}",
            b"{\"a\":NaN}",
            b"{\"a\":1,}",
            deep.as_bytes(),
        ];
        for body in bodies {
            let error = Fields::parse(body).unwrap_err();
            assert_eq!(error.code(), code::MALFORMED_JSON, "{:?}", String::from_utf8_lossy(body));
        }
    }

    /// Without serde_json's feature `float_roundtrip` the last digit of this number would change.
    #[test]
    fn a_number_is_read_as_it_is_written() {
        let body = b"{\"a\":1.681563223214655e54}";
        assert_eq!(parsed(body).unwrap().to_string().as_bytes(), b"{\"a\":1.681563223214655e+54}");
    }

    #[test]
    fn a_pointer_is_escaped() {
        assert_eq!(fault("a/b~c", field_code::REQUIRED, "y").pointer, "/a~1b~0c");
    }

    /// Values of every type, including characters that need escapes in JSON and in pointers.
    fn value() -> impl Strategy<Value = Value> {
        let text = || "[a-c\"\\\\/~\u{1}\u{e9}\u{1f600}]{0,4}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                collection::btree_map(text(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn parsed(body: &[u8]) -> Option<Value> {
        Fields::parse(body).ok().map(|fields| Value::Object(fields.members))
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_object_or_malformed(body in any::<Vec<u8>>()) {
            if let Err(error) = Fields::parse(&body) {
                prop_assert_eq!(error.code(), code::MALFORMED_JSON);
            }
        }

        #[test]
        fn an_object_is_read_as_it_was_written(value in value()) {
            let text = value.to_string();
            prop_assert_eq!(parsed(text.as_bytes()), value.is_object().then_some(value));
        }

        #[test]
        fn a_pointer_is_the_name_of_a_member(name in "[a-c~/01\u{e9}]{0,8}") {
            let pointer = fault(&name, field_code::REQUIRED, "y").pointer;
            let escaped = pointer.strip_prefix('/').unwrap();
            prop_assert!(!escaped.contains('/'));
            prop_assert_eq!(escaped.replace("~1", "/").replace("~0", "~"), name);
        }

        /// Almost valid JSON: one byte of an object is changed.
        #[test]
        fn what_is_read_can_be_written_and_read_again(
            value in value(), place in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut body = format!("{{\"a\":{value}}}").into_bytes();
            let place = place.index(body.len());
            body[place] = byte;
            if let Some(value) = parsed(&body) {
                prop_assert_eq!(parsed(value.to_string().as_bytes()), Some(value));
            }
        }
    }
}
