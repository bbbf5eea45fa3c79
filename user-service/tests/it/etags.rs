//! Entity tags: nobody overwrites what they have not seen.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use test_kit::{Engine, send};

use crate::support::{Person, Running, on_both_engines, outcome};

on_both_engines!(
    of_many_writers_with_one_tag_one_succeeds,
    writers_without_a_tag_all_succeed,
    a_stale_tag_is_told_before_the_body_is_read,
    a_precondition_holds_for_reading_too,
    of_many_deletions_one_succeeds,
);

async fn of_many_writers_with_one_tag_one_succeeds(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let mut etag = service.get(&person, person.id).await.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    for _ in 0..3 {
        // All the same body: what counts is the tag, not whether something changes.
        let writers = (0..20).map(|_| {
            let request = service.by(&person, Method::PUT, &person.path());
            send(request.header("if-match", &etag).json(&json!({ "name": "same" })))
        });
        let answers = join_all(writers).await;
        let won: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(won.len(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(outcome(answer), "412 precondition_failed");
        }
        assert_ne!(won[0].header("etag"), etag);
        etag = won[0].header("etag").to_owned();
        assert_eq!(service.get(&person, person.id).await.header("etag"), etag);
    }
}

async fn writers_without_a_tag_all_succeed(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let writers = (0..20).map(|index| {
        let body = if index % 2 == 0 { json!({ "name": "n" }) } else { json!({ "bio": "b" }) };
        let request = service.by(&person, Method::PATCH, &person.path());
        send(request.json(&body))
    });
    let mut times: Vec<_> = join_all(writers)
        .await
        .iter()
        .map(|answer| {
            assert_eq!(outcome(answer), "200", "{}", answer.text);
            answer.json["updated_at"].as_str().unwrap().to_owned()
        })
        .collect();
    times.sort();
    times.dedup();
    assert_eq!(times.len(), 20, "every change has a time of its own");
    let last = service.get(&person, person.id).await;
    assert_eq!((&last.json["name"], &last.json["bio"]), (&json!("n"), &json!("b")));
    assert_eq!(last.json["updated_at"], json!(times[19]));
}

async fn a_stale_tag_is_told_before_the_body_is_read(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let (person, other) = (Person::new(), Person::new());
    let etag = service.get(&person, person.id).await.header("etag").to_owned();
    let weak = format!("W/{etag}");
    let list = format!(r#""x", {etag}"#);
    let cases = [
        (Method::PUT, r#""v0""#, "412 precondition_failed"),
        (Method::PATCH, r#""v0""#, "412 precondition_failed"),
        (Method::DELETE, r#""v0""#, "412 precondition_failed"),
        (Method::PUT, &weak, "412 precondition_failed"),
        (Method::PUT, "v1", "400 malformed_request"),
        (Method::PUT, "\"é\"", "412 precondition_failed"),
        // These hold, and so the body is read, which is none.
        (Method::PUT, &list, "415 unsupported_media_type"),
        (Method::PATCH, "*", "415 unsupported_media_type"),
    ];
    for (method, tag, expected) in cases {
        let request = service.by(&person, method.clone(), &person.path());
        let answer = send(request.header("if-match", tag.as_bytes()).body("{")).await;
        assert_eq!(outcome(&answer), expected, "{method} {tag}: {}", answer.text);
    }
    // Another's profile is forbidden whatever its tag.
    let request = service.by(&other, Method::PUT, &person.path());
    let answer = send(request.header("if-match", r#""v0""#).body("{")).await;
    assert_eq!(outcome(&answer), "403 forbidden");
    // Lines of one field are one list.
    let request = service.by(&person, Method::DELETE, &person.path());
    let answer = send(request.header("if-match", r#""x""#).header("if-match", &etag)).await;
    assert_eq!(outcome(&answer), "204");
}

async fn a_precondition_holds_for_reading_too(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let etag = service.get(&person, person.id).await.header("etag").to_owned();
    for tag in [etag.clone(), format!("W/{etag}"), "*".to_owned()] {
        let request = service.by(&person, Method::GET, &person.path());
        let answer = send(request.header("if-none-match", tag)).await;
        assert_eq!((outcome(&answer).as_str(), answer.text.as_str()), ("304", ""));
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let request = service.by(&person, Method::GET, &person.path());
    assert_eq!(outcome(&send(request.header("if-none-match", r#""x""#)).await), "200");
    let request = service.by(&person, Method::GET, &person.path());
    let answer = send(request.header("if-match", r#""x""#)).await;
    assert_eq!(outcome(&answer), "412 precondition_failed");
    let request = service.by(&person, Method::PUT, &person.path());
    let answer = send(request.header("if-none-match", "*").json(&json!({ "name": "" }))).await;
    assert_eq!(outcome(&answer), "412 precondition_failed");
}

async fn of_many_deletions_one_succeeds(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    service.get(&person, person.id).await;
    let deletions = (0..20).map(|_| service.delete(&person));
    let mut outcomes: Vec<_> = join_all(deletions).await.iter().map(outcome).collect();
    outcomes.sort();
    assert_eq!(outcomes[0], "204");
    assert!(outcomes[1..].iter().all(|outcome| outcome == "404 user_not_found"), "{outcomes:?}");
}
