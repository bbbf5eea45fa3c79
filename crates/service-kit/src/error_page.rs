//! `GET /errors`: the catalogue of errors as a page, with an anchor for each code. The `type` of a
//! problem document links to it.

use std::fmt::Write as _;

use axum::{
    Router,
    body::Bytes,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, header};

use crate::catalogue::{Catalogue, FieldCode, codes, field_codes, grpc_name};

/// The page may only load its style sheet.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);
const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Errors</title>
<link rel=\"stylesheet\" href=\"docs/errors.css\">
</head>
<body>
<h1>Errors</h1>
";

/// The page of a service with these codes. Its style sheet is served among the files of `/docs`.
pub(crate) fn routes(own: Catalogue) -> Router {
    let html = Bytes::from(html(own));
    Router::new().route("/errors", get(move || async { page(html) }))
}

fn page(html: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ];
    (headers, html).into_response()
}

/// Renders the page. Writing to a `String` cannot fail.
fn html(own: Catalogue) -> String {
    let mut text = String::from(HEAD);
    let _ = writeln!(
        text,
        "<p>{}</p>",
        prose(
            "A problem document has one of these in `code`; on gRPC it is the reason of `ErrorInfo`. \
             Rely on the codes; the texts may change."
        )
    );
    for code in codes(&[own]) {
        let (slug, grpc) = (code.as_str(), code.grpc());
        let _ = writeln!(
            text,
            "<h2 id=\"{slug}\">{slug}</h2>\n<p>{meaning}</p>\n<ul>\n<li>REST: {http}</li>\n\
             <li>gRPC: {name} ({number})</li>\n<li>What to do: {advice}</li>\n</ul>",
            meaning = prose(code.meaning()),
            http = code.http(),
            name = grpc_name(grpc),
            number = grpc as i32,
            advice = prose(code.advice()),
        );
    }
    let _ = writeln!(
        text,
        "<h1>Codes of fields</h1>\n<p>{}</p>\n<dl>",
        prose("With `validation_failed`, each entry of `errors` has one of these.")
    );
    for FieldCode { code, rule } in field_codes(&[own]) {
        let _ = writeln!(text, "<dt id=\"{code}\">{code}</dt>\n<dd>{}</dd>", prose(rule));
    }
    text.push_str("</dl>\n</body>\n</html>\n");
    text
}

/// Converts a text of the catalogue to HTML. Text between backticks is code.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for (number, part) in text.split('`').enumerate() {
        let is_code = number % 2 == 1;
        let part = part.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if is_code {
            let _ = write!(html, "<code>{part}</code>");
        } else {
            html.push_str(&part);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Code, Entry};

    const OWN: &[Code] = &[Code::new(&Entry {
        slug: "of_a_service",
        http: http::StatusCode::CONFLICT,
        grpc: tonic::Code::Aborted,
        title: "Of a service",
        meaning: "It is `one`.",
        advice: "None.",
    })];

    #[test]
    fn every_code_has_one_anchor() {
        let own = Catalogue { codes: OWN, field_codes: &[] };
        let html = html(own);
        let codes = codes(&[own]).into_iter().map(|code| code.as_str());
        for code in codes.chain(field_codes(&[own]).into_iter().map(|field| field.code)) {
            assert_eq!(html.matches(&format!("id=\"{code}\"")).count(), 1, "{code}");
        }
        assert!(!html.contains('`'));
    }

    #[test]
    fn texts_are_escaped_and_code_is_marked() {
        assert_eq!(prose("a `<b>` & c"), "a <code>&lt;b&gt;</code> &amp; c");
    }
}
