//! A profile exists from its owner's first authenticated request of any kind.

use reqwest::Method;
use serde_json::json;
use test_kit::{Engine, send};
use user_service::config;
use uuid::Uuid;

use crate::support::{Person, Running, count, on_both_engines, outcome, unix_now};

on_both_engines!(
    a_hundred_first_requests_make_one_profile,
    any_request_makes_the_profile,
    no_request_without_a_valid_token_makes_one,
    a_newer_token_changes_the_email_and_an_older_one_does_not,
    an_email_that_changes_within_a_second_is_taken_over,
    a_newer_token_that_says_the_same_counts_too,
    a_parameter_given_twice_is_refused_after_the_token,
    a_token_without_an_email_is_fine,
    emails_can_be_shown_to_all,
);

async fn a_hundred_first_requests_make_one_profile(engine: Engine) {
    let (service, database) = Running::start(engine).await;
    let person = Person::new();
    let requests = (0..100).map(|index| {
        let method = if index % 2 == 0 { Method::GET } else { Method::PATCH };
        let request = service.by(&person, method.clone(), &person.path());
        send(if method == Method::PATCH { request.json(&json!({})) } else { request })
    });
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(outcome(&answer), "200", "{}", answer.text);
    }
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 1);
}

async fn any_request_makes_the_profile(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let witness = Person::new();
    let other = Uuid::now_v7();
    let requests = [
        (Method::GET, format!("/users/{other}"), "404 user_not_found"),
        (Method::PUT, format!("/users/{other}"), "403 forbidden"),
        (Method::DELETE, format!("/users/{other}"), "403 forbidden"),
        (Method::GET, "/users/1".to_owned(), "400 validation_failed"),
        (Method::GET, "/users/%ff".to_owned(), "400 validation_failed"),
        (Method::GET, "/users".to_owned(), "200"),
        (Method::GET, "/users?page_size=x".to_owned(), "400 validation_failed"),
        (Method::GET, "/users?page_token=x".to_owned(), "400 invalid_page_token"),
        (Method::POST, "/users".to_owned(), "405 method_not_allowed"),
        (Method::POST, format!("/users/{other}"), "405 method_not_allowed"),
        (Method::GET, "/users/".to_owned(), "404 not_found"),
        (Method::GET, format!("/users/{other}/more/of/it"), "404 not_found"),
        (Method::GET, "/users//x".to_owned(), "404 not_found"),
    ];
    for (method, path, expected) in requests {
        let person = Person::new();
        let answer = send(service.by(&person, method.clone(), &path)).await;
        assert_eq!(outcome(&answer), expected, "{method} {path}: {}", answer.text);
        let answer = service.get(&witness, person.id).await;
        assert_eq!(outcome(&answer), "200", "{method} {path} made no profile");
        assert_eq!((&answer.json["name"], &answer.json["bio"]), (&json!(""), &json!("")));
    }
    let person = Person::new();
    let answer = send(service.by(&person, Method::PUT, &person.path()).body("{")).await;
    assert_eq!(outcome(&answer), "415 unsupported_media_type");
    assert_eq!(outcome(&service.get(&witness, person.id).await), "200");
}

async fn no_request_without_a_valid_token_makes_one(engine: Engine) {
    let (service, database) = Running::start(engine).await;
    let path = Person::new().path();
    for path in [&path, "/users", "/users/", "/users/x", "/users/x/y", "/users//x"] {
        for method in [Method::GET, Method::PUT, Method::POST, Method::OPTIONS] {
            let answer = send(service.rest.request(method.clone(), path)).await;
            assert_eq!(outcome(&answer), "401 unauthenticated", "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="latchkey""#);
            let answer = send(service.rest.request(method, path).bearer_auth("a.b.c")).await;
            assert_eq!(outcome(&answer), "401 invalid_token");
            let challenge = r#"Bearer realm="latchkey", error="invalid_token""#;
            assert_eq!(answer.header("www-authenticate"), challenge);
        }
    }
    let person = Person::new();
    let twice = service.by(&person, Method::GET, &person.path()).bearer_auth(&person.token);
    assert_eq!(outcome(&send(twice).await), "400 malformed_request");
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 0);
}

async fn a_newer_token_changes_the_email_and_an_older_one_does_not(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let id = Uuid::now_v7();
    let middle = Person::with(id, Some("middle@example.com"), 200);
    let older = Person::with(id, Some("older@example.com"), 300);
    let newer = Person::with(id, Some("newer@example.com"), 100);
    let silent = Person::with(id, None, 0);
    let first = service.get(&middle, id).await;
    assert_eq!(first.json["email"], "middle@example.com");

    let same = service.get(&older, id).await;
    assert_eq!((same.text.as_str(), same.header("etag")), (&*first.text, first.header("etag")));
    // Any request takes it over, here one that is refused.
    send(service.by(&newer, Method::GET, "/users/x")).await;
    let changed = service.get(&older, id).await;
    assert_eq!(changed.json["email"], "newer@example.com");
    assert_ne!(changed.header("etag"), first.header("etag"));
    assert!(changed.json["updated_at"].as_str() > first.json["updated_at"].as_str());
    assert_eq!(changed.json["created_at"], first.json["created_at"]);
    for person in [&middle, &silent, &newer] {
        assert_eq!(service.get(person, id).await.text, changed.text);
    }
}

async fn an_email_that_changes_within_a_second_is_taken_over(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let (id, now) = (Uuid::now_v7(), unix_now());
    for email in ["before@example.com", "after@example.com"] {
        let claims = json!({ "sub": id, "email": email, "iat": now, "exp": now + 3600 });
        let person = Person::of(&claims);
        let versions = [service.get(&person, id).await, service.get(&person, id).await];
        assert!(versions.iter().all(|answer| answer.json["email"] == email), "{versions:?}");
        assert_eq!(versions[0].header("etag"), versions[1].header("etag"));
    }
}

async fn a_token_without_an_email_is_fine(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let id = Uuid::now_v7();
    let silent = Person::with(id, None, 0);
    let answer = service.get(&silent, id).await;
    assert_eq!(outcome(&answer), "200");
    assert!(answer.json.get("email").is_none(), "{}", answer.text);
    // The first email comes from any token, even an older one.
    let telling = Person::with(id, Some("a@example.com"), 100);
    assert_eq!(service.get(&telling, id).await.json["email"], "a@example.com");
    assert_eq!(service.get(&silent, id).await.json["email"], "a@example.com");
}

async fn emails_can_be_shown_to_all(engine: Engine) {
    let (service, database) = Running::start(engine).await;
    let (person, other) = (Person::new(), Person::new());
    service.get(&other, other.id).await;
    let hidden = service.get(&person, other.id).await;
    assert!(hidden.json.get("email").is_none(), "{}", hidden.text);
    service.stop().await;

    let members = [(config::PROFILE_EMAIL_VISIBILITY, "members")];
    let service = Running::start_on(&database, &members).await;
    assert_eq!(service.get(&person, other.id).await.json["email"], json!(other.email));
}

async fn a_newer_token_that_says_the_same_counts_too(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let id = Uuid::now_v7();
    let first = Person::with(id, Some("old@example.com"), 300);
    let stale = Person::with(id, Some("stale@example.com"), 200);
    let newest = Person::with(id, Some("old@example.com"), 100);
    let before = service.get(&first, id).await;
    for person in [&newest, &stale] {
        assert_eq!(service.get(person, id).await.json["email"], "old@example.com");
    }
    // To be told the same again is no change.
    assert_eq!(service.get(&newest, id).await.header("etag"), before.header("etag"));
}

async fn a_parameter_given_twice_is_refused_after_the_token(engine: Engine) {
    let (service, database) = Running::start(engine).await;
    let path = "/users?page_size=1&page_size=2";
    assert_eq!(service.rest.get(path).await.status, 401);
    let answer = send(service.by(&Person::new(), Method::GET, path)).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "malformed_request"));
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 1);
    assert_eq!(service.rest.get("/livez?a=1&a=2").await.status, 400);
}
