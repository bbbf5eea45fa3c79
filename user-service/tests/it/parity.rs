//! One rule, two edges: the same input has the same outcome on REST and on gRPC.

use latchkey_contracts::user::v1::{
    DeleteUserRequest, GetUserRequest, ListUsersRequest, UpdateUserRequest, User,
};
use prost_types::FieldMask;
use reqwest::Method;
use serde_json::json;
use test_kit::{Engine, send};
use tonic::Status;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::support::{Person, Running, on_both_engines, outcome};

on_both_engines!(the_edges_agree);

/// What a caller does.
#[derive(Debug, Clone)]
enum Action {
    Get(String),
    List { size: i32, token: &'static str },
    Update { id: String, name: String, bio: String, etag: &'static str },
    Delete { id: String, etag: &'static str },
}

/// Of both edges: the stable code of the error, or `ok`.
async fn outcomes(service: &Running, person: &Person, action: Action) -> (String, String) {
    let mut users = service.users().await;
    let path = |id: &str| format!("/users/{id}");
    let (request, grpc) = match action {
        Action::Get(id) => (
            service.by(person, Method::GET, &path(&id)),
            users.get_user(person.ask(GetUserRequest { id })).await.map(drop),
        ),
        Action::List { size, token } => {
            let query = format!("/users?page_size={size}&page_token={token}");
            let message = ListUsersRequest { page_size: size, page_token: token.to_owned() };
            (
                service.by(person, Method::GET, &query),
                users.list_users(person.ask(message)).await.map(drop),
            )
        }
        Action::Update { id, name, bio, etag } => {
            let request = service.by(person, Method::PUT, &path(&id));
            let request = if etag.is_empty() { request } else { request.header("if-match", etag) };
            let message = UpdateUserRequest {
                user: Some(User { id, name: name.clone(), bio: bio.clone(), ..User::default() }),
                update_mask: Some(FieldMask { paths: vec!["*".to_owned()] }),
                etag: etag.to_owned(),
            };
            (
                request.json(&json!({ "name": name, "bio": bio })),
                users.update_user(person.ask(message)).await.map(drop),
            )
        }
        Action::Delete { id, etag } => {
            let request = service.by(person, Method::DELETE, &path(&id));
            let request = if etag.is_empty() { request } else { request.header("if-match", etag) };
            let message = DeleteUserRequest { id, etag: etag.to_owned() };
            (request, users.delete_user(person.ask(message)).await.map(drop))
        }
    };
    let answer = send(request).await;
    let rest = if answer.status.is_success() { "ok".to_owned() } else { answer.code().to_owned() };
    (rest, grpc.map_or_else(|status| reason(&status), |()| "ok".to_owned()))
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

async fn the_edges_agree(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let (person, other) = (Person::new(), Person::new());
    service.get(&other, other.id).await;
    let (own, others, nobodys) =
        (person.id.to_string(), other.id.to_string(), Uuid::now_v7().to_string());
    let update = |id: &str, name: &str, bio: &str, etag| Action::Update {
        id: id.to_owned(),
        name: name.to_owned(),
        bio: bio.to_owned(),
        etag,
    };
    let delete = |id: &str, etag| Action::Delete { id: id.to_owned(), etag };
    let stale = r#""v0""#;
    let (long, upper) = ("x".repeat(201), own.to_uppercase());
    let cases = [
        (Action::Get(own.clone()), "ok"),
        (Action::Get(others.clone()), "ok"),
        (Action::Get(nobodys.clone()), "user_not_found"),
        (Action::Get(upper.clone()), "validation_failed"),
        (Action::Get("1".to_owned()), "validation_failed"),
        (Action::List { size: 0, token: "" }, "ok"),
        (Action::List { size: i32::MAX, token: "" }, "ok"),
        (Action::List { size: -1, token: "" }, "validation_failed"),
        (Action::List { size: i32::MIN, token: "x" }, "validation_failed"),
        (Action::List { size: 1, token: "x" }, "invalid_page_token"),
        (update(&own, "name", "bio", ""), "ok"),
        (update(&own, "", "", ""), "ok"),
        (update(&own, &long, "", ""), "validation_failed"),
        (update(&own, "a\tb", "", ""), "validation_failed"),
        (update(&own, "", "\u{b}", ""), "validation_failed"),
        (update(&own, "", "a\n\tb", ""), "ok"),
        (update(&own, "name", "", stale), "precondition_failed"),
        (update(&own, &long, "", stale), "precondition_failed"),
        (update(&others, &long, "", stale), "forbidden"),
        (update(&nobodys, "name", "", ""), "forbidden"),
        (update(&upper, "name", "", ""), "validation_failed"),
        (delete(&others, ""), "forbidden"),
        (delete(&nobodys, stale), "forbidden"),
        (delete("", ""), "validation_failed"),
        (delete(&own, stale), "precondition_failed"),
    ];
    for (action, expected) in cases {
        // An empty id is another path on REST.
        let rest_differs = matches!(&action, Action::Delete { id, .. } if id.is_empty());
        let (rest, grpc) = outcomes(&service, &person, action.clone()).await;
        assert_eq!(grpc, expected, "gRPC: {action:?}");
        assert!(rest == expected || rest_differs, "REST: {action:?}: {rest}");
    }

    assert_eq!(outcome(&service.delete(&person).await), "204");
    let deleted = [
        (Action::Get(own.clone()), "account_deleted"),
        (Action::Get(others), "account_deleted"),
        (Action::Get("1".to_owned()), "account_deleted"),
        (Action::List { size: -1, token: "" }, "account_deleted"),
        (update(&own, "name", "", stale), "account_deleted"),
        (update(&nobodys, "name", "", ""), "account_deleted"),
        (delete(&nobodys, ""), "account_deleted"),
        (delete(&own, stale), "user_not_found"),
        (delete(&own, ""), "user_not_found"),
    ];
    for (action, expected) in deleted {
        let outcomes = outcomes(&service, &person, action.clone()).await;
        assert_eq!(outcomes, (expected.to_owned(), expected.to_owned()), "{action:?}");
    }
}
