//! Checks that a service's OpenAPI document is correct.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use http::Method;
use serde_json::Value;
use service_kit::catalogue::{Catalogue, codes, field_codes};

use crate::{Client, send};

/// Checks the document against the running service: it must have exactly the routes of the service, each with exactly
/// its methods and no duplicate query parameter, and every error must be in the catalogue, which includes the service's
/// `own` codes. The `Debug` output of `app` must contain the router as a field `rest`. Returns the document.
///
/// # Panics
///
/// If the document is wrong.
pub async fn check(app: &impl Debug, own: Catalogue, client: &Client, token: &str) -> Value {
    let answer = client.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json;
    assert_eq!(document["openapi"], "3.1.0", "{}", answer.text);

    let described: BTreeMap<String, BTreeSet<String>> = members(&document["paths"])
        .map(|(path, item)| {
            let methods = members(item).map(|(method, _)| method.to_uppercase());
            (path.clone(), methods.filter(|method| method != "PARAMETERS").collect())
        })
        .collect();
    let mut served = BTreeMap::new();
    for path in paths(app) {
        // No route handles OPTIONS, so the error response lists the methods of the route.
        let request = client.request(Method::OPTIONS, &path.replace(['{', '}'], ""));
        let answer = send(request.bearer_auth(token)).await;
        // Some routes always answer 404.
        if answer.status != 404 {
            assert_eq!(answer.status, 405, "{path}");
            let methods: BTreeSet<String> =
                answer.header("allow").split(',').map(|method| method.trim().to_owned()).collect();
            served.insert(path, methods);
        }
    }
    for methods in served.values_mut() {
        // A route with GET also has HEAD (RFC 9110, section 9.3.2).
        assert!(methods.remove("HEAD") == methods.contains("GET"));
    }
    assert_eq!(described, served);
    for (path, _) in described.iter().filter(|(_, methods)| methods.contains("GET")) {
        let path = format!("{}?a=1&a=2", path.replace(['{', '}'], ""));
        let answer = send(client.request(Method::GET, &path).bearer_auth(token)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "malformed_request"), "{path}");
    }
    check_errors(&document, own);
    document
}

/// Finds the paths of a router in its `Debug` output, because axum has no API for that.
fn paths(app: &impl Debug) -> BTreeSet<String> {
    let text = format!("{app:?}");
    let (_, rest) = text.split_once("rest: Router").expect("a router named rest");
    let (paths, _) = rest.split_once("fallback_router").expect("a print of an axum router");
    let path = |piece: &str| Some(piece.split_once("): \"")?.1.split('"').next()?.to_owned());
    let paths: BTreeSet<_> = paths.split("RouteId(").skip(1).filter_map(path).collect();
    assert!(paths.contains("/openapi.json"), "axum prints its routers in another way now: {text}");
    paths
}

fn check_errors(document: &Value, own: Catalogue) {
    let codes = codes(&[own]);
    let mut named = BTreeSet::new();
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item).filter(|(name, _)| *name != "parameters") {
            for (status, response) in members(&operation["responses"]) {
                let place = format!("{method} {path} {status}");
                let response = resolve(document, response);
                assert!(response["headers"]["X-Request-Id"].is_object(), "{place}");
                let problem = &response["content"]["application/problem+json"];
                let mut examples = BTreeSet::new();
                for (_, example) in members(&problem["examples"]) {
                    let example = &example["value"];
                    let code = codes.iter().find(|code| example["code"] == code.as_str());
                    let code = code.unwrap_or_else(|| panic!("{place}: {example}"));
                    // A wrong current password has the same code as a failed login.
                    let is_forbidden = code.as_str() == "invalid_credentials" && *status == "403";
                    assert!(is_forbidden || code.http().as_str() == status, "{place}");
                    assert_eq!(example["status"].to_string(), *status, "{place}");
                    assert_eq!(example["title"], code.title(), "{place}");
                    assert_eq!(example["type"], format!("/errors#{}", code.as_str()), "{place}");
                    examples.insert(code.as_str().to_owned());
                }
                let codes = &problem["schema"]["allOf"][1]["properties"]["code"]["enum"];
                assert_eq!(strings(codes), examples, "{place}");
                named.extend(examples);
            }
        }
    }
    let codes = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    assert_eq!(strings(codes), named);
    let codes = &document["components"]["schemas"]["Fault"]["properties"]["code"]["enum"];
    let known: BTreeSet<_> =
        field_codes(&[own]).iter().map(|field| field.code.to_owned()).collect();
    assert_eq!(strings(codes), known);
}

/// Follows the `$ref` of a response, if it has one.
fn resolve<'a>(document: &'a Value, response: &'a Value) -> &'a Value {
    match response["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect(reference),
        None => response,
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn strings(array: &Value) -> BTreeSet<String> {
    let texts = array.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().expect("a string").to_owned()).collect()
}

/// Checks that the page and all files that it loads are served without authentication, with a policy that forbids
/// inline content.
///
/// # Panics
///
/// If they are not.
pub async fn check_page(client: &Client) {
    let page = client.get("/docs").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let files: Vec<_> = page.text.split('"').filter(|text| text.starts_with("docs/")).collect();
    assert_eq!(files.len(), 5, "{}", page.text);
    for path in files.into_iter().map(|file| format!("/{file}")).chain(["/docs".to_owned()]) {
        let response = client.request(Method::GET, &path).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        let tag = response.headers()["etag"].clone();
        let again = send(client.request(Method::GET, &path).header("if-none-match", tag)).await;
        assert_eq!(again.status, 304, "{path}");
        assert_eq!(again.header("cache-control"), "no-cache", "{path}");
    }
    for path in ["/", "/docs/"] {
        let plain = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let plain = plain.build().expect("a client");
        let asked = client.request(Method::GET, path).build().expect("a request");
        let answer = plain.execute(asked).await.expect("an answer");
        assert!(answer.status().is_redirection(), "{path}: {}", answer.status());
        assert_eq!(answer.headers()["location"], "/docs", "{path}");
    }
    let errors = client.get("/errors").await;
    assert_eq!(errors.header("content-type"), "text/html; charset=utf-8");
    let policy = errors.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    for anchor in ["invalid_token", "not_a_string"] {
        assert!(errors.text.contains(&format!("id=\"{anchor}\"")), "{anchor}");
    }
    assert_eq!(client.get("/docs/errors.css").await.status, 200);
    let missing = client.get("/docs/other.js").await;
    assert_eq!((missing.status.as_u16(), missing.code()), (404, "not_found"));
}
