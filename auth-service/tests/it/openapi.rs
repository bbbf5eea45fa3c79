//! The description of the REST edge, and the page that shows it.

use auth_service::App;
use serde_json::Value;
use test_kit::{Engine, TestDatabase, openapi};
use tokio_util::sync::CancellationToken;

use crate::support::{Running, settings};

#[tokio::test]
async fn the_document_describes_exactly_this_service() {
    let service = Running::start(Engine::Sqlite).await;
    let database = TestDatabase::create(Engine::Sqlite).await;
    let settings = auth_service::config::Settings::read(&mut settings(&database.url, &[])).unwrap();
    let app = App::build(settings, CancellationToken::new()).await.unwrap();
    service.register("a@example.com").await;
    let token = service.login("a@example.com").await;
    let document = openapi::check(&app, auth_service::code::CATALOGUE, &service.rest, &token).await;
    assert_eq!(document["info"]["version"], auth_service::VERSION);
    openapi::check_page(&service.rest).await;
}

/// A request and what answers it are examples of the same name.
#[tokio::test]
async fn every_example_works_as_it_says() {
    let service = Running::start(Engine::Sqlite).await;
    let document = service.rest.get("/openapi.json").await.json;
    let examples = |part: &Value, media_type: &str| {
        part["content"][media_type]["examples"].as_object().cloned().unwrap_or_default()
    };
    let mut tried = 0;
    for path in ["/auth/register", "/auth/login", "/auth/refresh", "/auth/logout"] {
        let operation = &document["paths"][path]["post"];
        for (name, example) in examples(&operation["requestBody"], "application/json") {
            let answer = service.rest.post(path, &example["value"]).await;
            let response = &operation["responses"][answer.status.as_str()];
            let expected = examples(response, answer.header("content-type"));
            // An answer without a body has no example.
            let expected = expected.get(&name).map_or(&Value::Null, |example| &example["value"]);
            // What differs from one answer to the next is only there or not.
            let names = |value: &Value| {
                value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>())
            };
            assert_eq!(names(&answer.json), names(expected), "{path} {name}");
            for member in ["email", "token_type", "expires_in", "code", "detail", "errors"] {
                assert_eq!(answer.json[member], expected[member], "{path} {name}");
            }
            for (field, _) in response["headers"].as_object().unwrap() {
                assert!(answer.headers.contains_key(field.as_str()), "{path} {name}: no {field}");
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 7);
}
