//! The responses that hyper sends itself to requests that it cannot parse. They have a status but no
//! body and never reach the service, so the problem document is inserted when they are written.

use std::{io::IoSlice, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;

use crate::{access, context::RequestContext, rest};

/// hyper's own responses are shorter than this, in bytes.
const MAX_LENGTH: usize = 256;

/// What is known about a request that cannot be parsed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) service: &'static str,
    pub(super) peer: SocketAddr,
}

/// The response with a problem document to write instead of `slices`, if these are a response of
/// hyper itself; its access line is written, with the time that it `took`. Only call it while no request is in progress on the
/// connection.
pub(super) fn with_problem(
    slices: &[IoSlice<'_>],
    origin: Origin,
    took: Duration,
) -> Option<Bytes> {
    if slices.iter().map(|slice| slice.len()).sum::<usize>() > MAX_LENGTH {
        return None;
    }
    let written: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    let text = std::str::from_utf8(&written).ok()?;
    let head = text.strip_prefix("HTTP/1.1 ")?.strip_suffix("\r\n\r\n")?;
    let status: StatusCode = head.get(..3)?.parse().ok()?;
    // Responses of the service have a request id.
    let is_bare = (status.is_client_error() || status.is_server_error())
        && head.contains("\r\ncontent-length: 0")
        && !head.contains("x-request-id");
    if !is_bare {
        return None;
    }
    let context = RequestContext::from_headers(&http::HeaderMap::new());
    let document = rest::problem_of_framework(status, &context);
    let context = Arc::new(context);
    access::line_of_unparsed(origin.service, &context, status, origin.peer.ip(), took);
    let head = head.replace("\r\ncontent-length: 0", "");
    let request_id = &context.request_id;
    let answer = format!(
        "HTTP/1.1 {head}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nx-request-id: {request_id}\r\ncontent-length: {}\r\n\r\n",
        document.len()
    );
    Some([answer.as_bytes(), &document].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> Option<String> {
        let origin = Origin { service: "test", peer: "127.0.0.1:1".parse().unwrap() };
        let answer = with_problem(&[IoSlice::new(text.as_bytes())], origin, Duration::ZERO)?;
        Some(String::from_utf8(answer.to_vec()).unwrap())
    }

    #[test]
    fn a_bare_refusal_gets_a_problem_document_and_nothing_else_does() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                    content-length: 0\r\ndate: x\r\n\r\n";
        let answer = replaced(bare).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 431);
        assert_eq!(problem["code"], "malformed_request");
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 1\r\n\r\nx",
            "{\"bio\":\"HTTP/1.1 400\"}",
        ] {
            assert_eq!(replaced(other), None, "{other}");
        }
    }
}
