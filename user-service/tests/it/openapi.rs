//! The description of the REST edge, and the page that shows it.

use reqwest::Method;
use test_kit::{Engine, TestDatabase, openapi, send};
use tokio_util::sync::CancellationToken;
use user_service::App;

use crate::support::{Person, Running, outcome, settings};

#[tokio::test(flavor = "multi_thread")]
async fn the_document_describes_exactly_this_service() {
    let (service, _database) = Running::start(Engine::Sqlite).await;
    let database = TestDatabase::create(Engine::Sqlite).await;
    let app = App::build(settings(&database.url, &[]), CancellationToken::new()).await.unwrap();
    let document =
        openapi::check(&app, user_service::code::CATALOGUE, &service.rest, &Person::new().token)
            .await;
    assert_eq!(document["info"]["version"], user_service::VERSION);
    openapi::check_page(&service.rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_a_change_works() {
    let (service, _database) = Running::start(Engine::Sqlite).await;
    let document = service.rest.get("/openapi.json").await.json;
    let person = Person::new();
    let mut tried = 0;
    for (name, method) in [("put", Method::PUT), ("patch", Method::PATCH)] {
        let body = &document["paths"]["/users/{id}"][name]["requestBody"];
        for (media_type, content) in body["content"].as_object().unwrap() {
            for (example, body) in content["examples"].as_object().unwrap() {
                let request = service
                    .by(&person, method.clone(), &person.path())
                    .header("content-type", media_type)
                    .body(body["value"].to_string());
                let answer = send(request).await;
                assert_eq!(outcome(&answer), "200", "{name} {example}: {}", answer.text);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 6);
}
