//! What is particular to gRPC: masks, tags, health, reflection, details of errors.

use futures_util::stream;
use latchkey_contracts::user::v1::{
    DeleteUserRequest, GetUserRequest, ListUsersRequest, UpdateUserRequest, User,
};
use prost_types::FieldMask;
use test_kit::Engine;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{Person, Running, on_both_engines};

on_both_engines!(
    a_mask_says_what_changes,
    all_faults_of_an_update_are_told_at_once,
    a_member_that_cannot_change_must_be_as_it_is,
    a_tag_guards_a_change,
    a_user_has_all_that_rest_shows,
    calls_need_a_token,
    health_and_reflection_know_the_service,
);

fn update(person: &Person, name: &str, bio: &str, mask: Option<&[&str]>) -> UpdateUserRequest {
    UpdateUserRequest {
        user: Some(User {
            id: person.id.to_string(),
            name: name.to_owned(),
            bio: bio.to_owned(),
            ..User::default()
        }),
        update_mask: mask.map(|paths| FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        etag: String::new(),
    }
}

/// Name, bio and mask of an update.
type Input<'a> = (&'a str, &'a str, Option<&'a [&'a str]>);

/// The stable code and the fields at fault.
fn details(status: &Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "latchkey");
    let mut fields: Vec<_> = details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|fault| fault.field.clone()).collect())
        .unwrap_or_default();
    fields.sort();
    (status.code(), info.reason.clone(), fields)
}

async fn a_mask_says_what_changes(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let mut users = service.users().await;
    let person = Person::new();
    // Each builds on the one before.
    let steps: &[(Input<'_>, (&str, &str))] = &[
        (("a", "b", None), ("a", "b")),
        (("", "c", None), ("a", "c")),
        (("d", "", Some(&[])), ("d", "c")),
        (("", "", None), ("d", "c")),
        (("e", "f", Some(&["name"])), ("e", "c")),
        (("g", "", Some(&["bio", "bio"])), ("e", "")),
        (("h", "", Some(&["*"])), ("h", "")),
        (("", "i", Some(&["*", "name"])), ("", "i")),
    ];
    for ((name, bio, mask), expected) in steps {
        let request = person.ask(update(&person, name, bio, *mask));
        let changed = users.update_user(request).await.unwrap().into_inner().user.unwrap();
        assert_eq!((changed.name.as_str(), changed.bio.as_str()), *expected, "{mask:?}");
    }
}

async fn all_faults_of_an_update_are_told_at_once(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let mut users = service.users().await;
    let person = Person::new();
    let long = "x".repeat(201);
    let cases: &[(Input<'_>, &[&str])] = &[
        ((&long, "\u{1b}", None), &["user.bio", "user.name"]),
        (
            (&long, "", Some(&["email", "x", "name"])),
            &["update_mask.paths", "update_mask.paths", "user.name"],
        ),
        (("", "", Some(&["name.first"])), &["update_mask.paths"]),
        (("", "", Some(&["Name"])), &["update_mask.paths"]),
        (("", "", Some(&[""])), &["update_mask.paths"]),
    ];
    for ((name, bio, mask), fields) in cases {
        let request = person.ask(update(&person, name, bio, *mask));
        let (code, reason, found) = details(&users.update_user(request).await.unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "validation_failed"));
        assert_eq!(found, *fields, "{mask:?}");
    }
    // What the mask does not name is not read.
    let request = person.ask(update(&person, &long, "", Some(&["bio"])));
    users.update_user(request).await.unwrap();

    let request = person.ask(UpdateUserRequest::default());
    let (code, _, fields) = details(&users.update_user(request).await.unwrap_err());
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["user".to_owned()]));
    let nobody = UpdateUserRequest { user: Some(User::default()), ..Default::default() };
    let refused = users.update_user(person.ask(nobody)).await.unwrap_err();
    assert_eq!(details(&refused).2, ["user.id"]);
}

async fn a_tag_guards_a_change(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let mut users = service.users().await;
    let person = Person::new();
    let id = person.id.to_string();
    let get = GetUserRequest { id: id.clone() };
    let first = users.get_user(person.ask(get)).await.unwrap().into_inner().user.unwrap();
    let mut request = update(&person, "a", "", None);
    request.etag = first.etag.clone();
    let second = users.update_user(person.ask(request.clone())).await.unwrap();
    let second = second.into_inner().user.unwrap();
    assert_ne!(second.etag, first.etag);
    // Also before the mask is looked at.
    request.update_mask = Some(FieldMask { paths: vec!["x".to_owned()] });
    let stale = users.update_user(person.ask(request)).await.unwrap_err();
    assert_eq!(details(&stale).0, Code::Aborted);
    for etag in [first.etag.as_str(), "*", "v2", "W/\"v2\""] {
        let request = DeleteUserRequest { id: id.clone(), etag: etag.to_owned() };
        let stale = users.delete_user(person.ask(request)).await.unwrap_err();
        assert_eq!(
            (details(&stale).0, &*details(&stale).1),
            (Code::Aborted, "precondition_failed")
        );
    }
    let request = DeleteUserRequest { id, etag: second.etag };
    users.delete_user(person.ask(request)).await.unwrap();
}

async fn a_user_has_all_that_rest_shows(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let mut users = service.users().await;
    let (person, other) = (Person::new(), Person::new());
    let rest = service.put(&person, &serde_json::json!({ "name": "n", "bio": "b" })).await;
    let id = person.id.to_string();
    let get = GetUserRequest { id: id.clone() };
    let own = users.get_user(person.ask(get.clone())).await.unwrap().into_inner().user.unwrap();
    assert_eq!((own.id, own.name, own.bio), (id, "n".to_owned(), "b".to_owned()));
    assert_eq!(own.email.as_deref(), Some(person.email.as_str()));
    assert_eq!(own.etag, rest.header("etag"));
    let time = |time: Option<prost_types::Timestamp>| {
        let time = time.unwrap();
        chrono::DateTime::from_timestamp(time.seconds, time.nanos.cast_unsigned())
            .unwrap()
            .to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    };
    assert_eq!(serde_json::json!(time(own.created_at)), rest.json["created_at"]);
    assert_eq!(serde_json::json!(time(own.updated_at)), rest.json["updated_at"]);

    let seen = users.get_user(other.ask(get)).await.unwrap().into_inner().user.unwrap();
    assert_eq!((seen.name.as_str(), seen.email), ("n", None));
    let list = users.list_users(other.ask(ListUsersRequest::default())).await.unwrap().into_inner();
    let emails: Vec<_> = list.users.into_iter().map(|user| user.email).collect();
    assert_eq!(emails, [None, Some(other.email)]);
}

async fn calls_need_a_token(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let mut users = service.users().await;
    let refused = users.list_users(ListUsersRequest::default()).await.unwrap_err();
    assert_eq!(details(&refused).0, Code::Unauthenticated);
    assert_eq!(details(&refused).1, "unauthenticated");
    let mut forged = Person::new();
    forged.token.push('x');
    let refused = users.list_users(forged.ask(ListUsersRequest::default())).await.unwrap_err();
    assert_eq!(
        (details(&refused).0, &*details(&refused).1),
        (Code::Unauthenticated, "invalid_token")
    );
    let person = Person::new();
    let mut twice = person.ask(ListUsersRequest::default());
    let value = twice.metadata().get("authorization").unwrap().clone();
    twice.metadata_mut().append("authorization", value);
    let refused = users.list_users(twice).await.unwrap_err();
    assert_eq!(details(&refused).0, Code::InvalidArgument);
}

async fn health_and_reflection_know_the_service(engine: Engine) {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let (service, _database) = Running::start(engine).await;
    let channel = test_kit::channel(service.grpc).await;
    let mut health = HealthClient::new(channel.clone());
    for name in ["", "user.v1.UserService"] {
        let request = HealthCheckRequest { service: name.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{name:?} serves");
    }
    let request = HealthCheckRequest { service: "nothing".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let unknown = ServerReflectionRequest {
        message_request: Some(MessageRequest::FileContainingSymbol("no.Such".to_owned())),
        ..list.clone()
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(stream::iter([unknown, list])).await.unwrap();
    let mut answers = answers.into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let code = match answer {
        MessageResponse::ErrorResponse(error) => Some(error.error_code),
        _ => None,
    };
    assert_eq!(code, Some(Code::NotFound as i32));
    // The stream goes on.
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let services = match answer {
        MessageResponse::ListServicesResponse(list) => list.service,
        _ => Vec::new(),
    };
    let names: Vec<_> = services.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"user.v1.UserService".to_owned()), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
}

async fn a_member_that_cannot_change_must_be_as_it_is(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let mut users = service.users().await;
    let person = Person::new();
    let id = person.id.to_string();
    let got = users.get_user(person.ask(GetUserRequest { id })).await.unwrap().into_inner();
    let mut edited = got.user.unwrap();
    edited.name = "Jane".to_owned();
    let all = Some(FieldMask { paths: vec!["*".to_owned()] });
    for mask in [all.clone(), None] {
        // Get, edit, update works with everything that was got.
        let request = UpdateUserRequest {
            user: Some(User { updated_at: None, ..edited.clone() }),
            update_mask: mask.clone(),
            etag: String::new(),
        };
        users.update_user(person.ask(request.clone())).await.unwrap();
        let mut other = request;
        if let Some(user) = &mut other.user {
            user.email = Some("other@example.com".to_owned());
            user.created_at = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        }
        let refused = users.update_user(person.ask(other)).await.unwrap_err();
        let (code, reason, fields) = details(&refused);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "validation_failed"));
        assert_eq!(fields, ["user.created_at", "user.email"]);
    }
}
