//! What is particular to REST: bodies, header fields, paths.

use reqwest::Method;
use serde_json::{Value, json};
use test_kit::{Engine, send};
use uuid::Uuid;

use crate::support::{Person, Running, faults, on_both_engines, outcome};

on_both_engines!(
    an_answer_before_the_body_ends_the_connection,
    get_edit_put_works,
    what_a_put_leaves_out_is_cleared_and_what_a_patch_leaves_out_stays,
    all_faults_of_a_body_are_told_at_once,
    read_only_members_may_only_be_as_they_are,
    anything_but_an_object_of_the_right_type_is_refused,
    another_profile_is_forbidden_before_the_body_is_looked_at,
    texts_come_back_as_they_went_in,
    a_page_links_to_the_next_one,
    every_answer_has_its_header_fields,
);

async fn get_edit_put_works(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let first = service.get(&person, person.id).await;
    assert_eq!(outcome(&first), "200");
    let mut profile = first.json;
    let members: Vec<_> = profile.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["bio", "created_at", "email", "id", "name", "updated_at"]);
    assert_eq!(profile["email"], json!(person.email));
    assert_eq!(profile["created_at"], profile["updated_at"]);

    // As it is: the empty name of the beginning included.
    let same = service.put(&person, &profile).await;
    assert_eq!(outcome(&same), "200", "{}", same.text);
    profile["updated_at"] = same.json["updated_at"].clone();
    profile["name"] = "Ada".into();
    let changed = service.put(&person, &profile).await;
    assert_eq!(outcome(&changed), "200", "{}", changed.text);
    assert_eq!(changed.json["name"], "Ada");
    assert!(changed.json["updated_at"].as_str() > same.json["updated_at"].as_str());
    assert_ne!(changed.header("etag"), same.header("etag"));
    assert_eq!(service.get(&person, person.id).await.text, changed.text);
}

async fn what_a_put_leaves_out_is_cleared_and_what_a_patch_leaves_out_stays(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let both = |answer: &test_kit::Answer| {
        assert_eq!(outcome(answer), "200", "{}", answer.text);
        (answer.json["name"].clone(), answer.json["bio"].clone())
    };
    let put = service.put(&person, &json!({ "name": "a", "bio": "b" })).await;
    assert_eq!(both(&put), (json!("a"), json!("b")));
    let patched = service.patch(&person, &json!({ "name": "c" })).await;
    assert_eq!(both(&patched), (json!("c"), json!("b")));
    let patched = service.patch(&person, &json!({})).await;
    assert_eq!(both(&patched), (json!("c"), json!("b")));
    let patched = service.patch(&person, &json!({ "bio": null })).await;
    assert_eq!(both(&patched), (json!("c"), json!("")));
    service.patch(&person, &json!({ "bio": "d" })).await;
    let put = service.put(&person, &json!({ "name": "e" })).await;
    assert_eq!(both(&put), (json!("e"), json!("")));
    let merge = service.by(&person, Method::PATCH, &person.path());
    let merge = merge.header("content-type", "application/merge-patch+json; charset=utf-8");
    assert_eq!(both(&send(merge.body(r#"{"bio":"f"}"#)).await), (json!("e"), json!("f")));
}

async fn all_faults_of_a_body_are_told_at_once(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let long = "x".repeat(201);
    let puts: &[(Value, &[&str])] = &[
        (json!({}), &["/name required"]),
        (json!({ "name": null }), &["/name not_a_string"]),
        (json!({ "name": 1, "bio": [] }), &["/bio not_a_string", "/name not_a_string"]),
        (json!({ "name": "", "bio": null }), &["/bio not_a_string"]),
        (
            json!({ "name": long, "bio": "\u{7}" }),
            &["/bio control_character", "/name name_too_long"],
        ),
        (json!({ "name": "a\nb" }), &["/name control_character"]),
        (json!({ "name": "", "bio": "x".repeat(4001) }), &["/bio bio_too_long"]),
        (
            json!({ "nom": 1, "a/b": 2, "id": person.email, "bio": 3 }),
            &[
                "/a~1b unknown_member",
                "/bio not_a_string",
                "/id read_only",
                "/name required",
                "/nom unknown_member",
            ],
        ),
    ];
    for (body, expected) in puts {
        let answer = service.put(&person, body).await;
        assert_eq!(outcome(&answer), "400 validation_failed", "{body}");
        assert_eq!(faults(&answer), *expected, "{body}");
    }
    let patches: &[(Value, &[&str])] = &[
        (json!({ "name": null }), &["/name not_a_string"]),
        (json!({ "email": null, "x": null }), &["/email read_only", "/x unknown_member"]),
        (json!({ "bio": {} }), &["/bio not_a_string"]),
    ];
    for (body, expected) in patches {
        let answer = service.patch(&person, body).await;
        assert_eq!(outcome(&answer), "400 validation_failed", "{body}");
        assert_eq!(faults(&answer), *expected, "{body}");
    }
    let profile = service.get(&person, person.id).await;
    assert!(profile.header("etag").starts_with(r#""v1-"#), "nothing has changed");
}

async fn read_only_members_may_only_be_as_they_are(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let stored = service.get(&person, person.id).await.json;
    let created = stored["created_at"].as_str().unwrap();
    // The same moment, in another time zone and with more digits.
    let time: chrono::DateTime<chrono::FixedOffset> = created.parse().unwrap();
    let zone = chrono::FixedOffset::east_opt(5400).unwrap();
    let elsewhere = time.with_timezone(&zone).to_rfc3339_opts(chrono::SecondsFormat::Nanos, false);
    let allowed = [
        json!({ "id": person.id }),
        json!({ "email": person.email }),
        json!({ "created_at": created }),
        json!({ "created_at": elsewhere }),
    ];
    for body in allowed {
        let answer = service.patch(&person, &body).await;
        assert_eq!(outcome(&answer), "200", "{body}: {}", answer.text);
    }
    let refused = [
        json!({ "id": Uuid::now_v7() }),
        json!({ "id": person.id.to_string().to_uppercase() }),
        json!({ "id": 1 }),
        json!({ "email": "other@example.com" }),
        json!({ "email": person.email.to_uppercase() }),
        json!({ "created_at": "2020-01-01T00:00:00Z" }),
        json!({ "created_at": "yesterday" }),
        json!({ "created_at": 0 }),
        // It was so once, but the changes above have been since.
        json!({ "updated_at": created }),
    ];
    for body in refused {
        let answer = service.patch(&person, &body).await;
        let name = body.as_object().unwrap().keys().next().unwrap();
        assert_eq!(faults(&answer), [format!("/{name} read_only")], "{body}");
    }
}

async fn anything_but_an_object_of_the_right_type_is_refused(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let large = format!(r#"{{"name":"","bio":"{}"}}"#, "x".repeat(70_000));
    let cases: &[(&str, &[u8], &str)] = &[
        ("application/json", b"", "400 malformed_json"),
        ("application/json", b"[]", "400 malformed_json"),
        ("application/json", b"null", "400 malformed_json"),
        ("application/json", br#"{"name":"a"}{"#, "400 malformed_json"),
        ("application/json", br#"{"name":"a","name":"b"}"#, "400 malformed_json"),
        ("application/json", b"{\"name\":\"\xff\"}", "400 malformed_json"),
        ("application/json", br#"{"name":"\u0000"}"#, "400 malformed_json"),
        ("application/json", br#"{"name":"\ud800"}"#, "400 malformed_json"),
        ("application/json", large.as_bytes(), "413 payload_too_large"),
        ("text/plain", br#"{"name":"a"}"#, "415 unsupported_media_type"),
        ("application/x-www-form-urlencoded", b"name=a", "415 unsupported_media_type"),
    ];
    for (media_type, body, expected) in cases {
        for method in [Method::PUT, Method::PATCH] {
            let request = service.by(&person, method.clone(), &person.path());
            let request = request.header("content-type", *media_type).body(body.to_vec());
            let answer = send(request).await;
            assert_eq!(outcome(&answer), *expected, "{method} {media_type}: {}", answer.text);
            if method == Method::PATCH && answer.status == 415 {
                let accepted = "application/merge-patch+json, application/json";
                assert_eq!(answer.header("accept-patch"), accepted);
            }
        }
    }
    let request = service.by(&person, Method::PUT, &person.path());
    let request = request.header("content-type", "application/merge-patch+json");
    let answer = send(request.body(r#"{"name":"a"}"#)).await;
    assert_eq!(outcome(&answer), "415 unsupported_media_type", "PUT replaces, it does not merge");
}

async fn another_profile_is_forbidden_before_the_body_is_looked_at(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let (person, other) = (Person::new(), Person::new());
    service.get(&other, other.id).await;
    for id in [other.id, Uuid::now_v7(), Uuid::nil()] {
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            for body in ["", "{", r#"{"name":"x"}"#] {
                let path = format!("/users/{id}");
                let answer = send(service.by(&person, method.clone(), &path).body(body)).await;
                assert_eq!(outcome(&answer), "403 forbidden", "{method} {path} {body}");
            }
        }
    }
    let upper = format!("/users/{}", other.id.to_string().to_uppercase());
    let answer = send(service.by(&person, Method::PUT, &upper)).await;
    assert_eq!(faults(&answer), ["/id not_a_uuid"]);
}

async fn texts_come_back_as_they_went_in(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let texts =
        [" spaces ", "e\u{301} is not é", "🦊\u{200d}", "'; DROP TABLE profiles; --", "\u{feff}"];
    for text in texts.into_iter().chain([&*"é".repeat(200)]) {
        let body = json!({ "name": text, "bio": format!("{text}\n\t") });
        let answer = service.put(&person, &body).await;
        assert_eq!(outcome(&answer), "200", "{text:?}");
        let read = service.get(&person, person.id).await;
        assert_eq!((&read.json["name"], &read.json["bio"]), (&body["name"], &body["bio"]));
    }
}

async fn a_page_links_to_the_next_one(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let people: Vec<_> = (0..5).map(|_| Person::new()).collect();
    for person in &people {
        service.get(person, person.id).await;
    }
    let (mut path, mut walked, mut pages) = ("/users?page_size=2".to_owned(), Vec::new(), 0);
    loop {
        let answer = send(service.by(&people[0], Method::GET, &path)).await;
        assert_eq!(outcome(&answer), "200", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store");
        for user in answer.json["users"].as_array().unwrap() {
            let own = user["id"] == json!(people[0].id);
            assert_eq!(user.get("email").is_some(), own, "{user}");
            walked.push(user["id"].clone());
        }
        pages += 1;
        let token = answer.json["next_page_token"].as_str().unwrap();
        if token.is_empty() {
            assert_eq!(answer.header("link"), "");
            break;
        }
        let next = format!("/users?page_size=2&page_token={token}");
        assert_eq!(answer.header("link"), format!(r#"<{next}>; rel="next""#));
        path = next;
    }
    assert_eq!(pages, 3);
    assert_eq!(walked, people.iter().map(|person| json!(person.id)).collect::<Vec<_>>());

    for (query, expected) in [
        ("page_size=", "400 validation_failed"),
        ("page_size=0", "200"),
        ("page_size=99999999999999999999999", "200"),
        ("page_token=", "200"),
        ("other=1", "400 validation_failed"),
        ("page_size=x&other=1", "400 validation_failed"),
        ("page_size=-1", "400 validation_failed"),
        ("page_size=1.5", "400 validation_failed"),
        ("page_size=%2B1", "400 validation_failed"),
        ("page_size=1&page_size=1", "400 malformed_request"),
        ("page_token=AAAA", "400 invalid_page_token"),
        ("page_token=%00", "400 invalid_page_token"),
    ] {
        let answer = send(service.by(&people[0], Method::GET, &format!("/users?{query}"))).await;
        assert_eq!(outcome(&answer), expected, "{query}: {}", answer.text);
        if expected.ends_with("validation_failed") {
            let (unknown, size) = ("/other unknown_parameter", "/page_size invalid_page_size");
            let expected: &[&str] = match query {
                "other=1" => &[unknown],
                "page_size=x&other=1" => &[unknown, size],
                _ => &[size],
            };
            assert_eq!(faults(&answer), expected);
        }
    }
}

async fn every_answer_has_its_header_fields(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let requests = [
        (Method::GET, person.path()),
        (Method::GET, "/users".to_owned()),
        (Method::GET, "/users/x".to_owned()),
        (Method::GET, "/nowhere".to_owned()),
        (Method::DELETE, "/users".to_owned()),
        (Method::OPTIONS, person.path()),
        (Method::DELETE, person.path()),
        (Method::GET, person.path()),
    ];
    for (method, path) in requests {
        let request = service.by(&person, method.clone(), &path).header("x-request-id", "given-1");
        let answer = send(request).await;
        assert_eq!(answer.header("x-request-id"), "given-1", "{method} {path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        if answer.status.is_client_error() {
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(answer.json["status"], json!(answer.status.as_u16()));
            assert_eq!(answer.json["request_id"], "given-1");
        }
        if answer.status == 405 {
            assert!(answer.header("allow").contains("GET"), "{method} {path} has no Allow");
        }
    }
    let head = send(service.by(&Person::new(), Method::HEAD, "/users")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
}

async fn an_answer_before_the_body_ends_the_connection(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let body = json!({"name": "x".repeat(10_000)});
    let foreign = format!("/users/{}", Uuid::now_v7());
    let unread = send(service.by(&person, Method::PUT, &foreign).json(&body)).await;
    assert_eq!((unread.status.as_u16(), unread.header("connection")), (403, "close"));
    let read = service.put(&person, &json!({"name": "Jane"})).await;
    assert_eq!((read.status.as_u16(), read.header("connection")), (200, ""));
}
