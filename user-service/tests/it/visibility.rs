//! Who sees what, and `me`.

use latchkey_contracts::user::v1::{
    DeleteUserRequest, GetUserRequest, ListUsersRequest, UpdateUserRequest, User,
};
use reqwest::Method;
use serde_json::json;
use test_kit::{Engine, TestDatabase, send};
use tonic::Code;
use user_service::config;

use crate::support::{Person, Running, faults, on_both_engines, outcome};

on_both_engines!(
    me_is_the_caller_on_rest,
    me_is_the_caller_on_grpc,
    profiles_can_be_for_their_owners_only,
);

async fn me_is_the_caller_on_rest(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let by = |method| service.by(&person, method, "/users/me");
    let first = send(by(Method::GET)).await;
    assert_eq!(outcome(&first), "200");
    assert_eq!(first.json["id"], json!(person.id));
    assert_eq!(first.text, service.get(&person, person.id).await.text);
    let tagged = by(Method::GET).header("if-none-match", first.header("etag"));
    assert_eq!(send(tagged).await.status, 304);
    let put = send(by(Method::PUT).json(&json!({ "id": person.id, "name": "a" }))).await;
    assert_eq!((outcome(&put).as_str(), &put.json["name"]), ("200", &json!("a")));
    let patched = send(by(Method::PATCH).json(&json!({ "bio": "b" }))).await;
    assert_eq!((outcome(&patched).as_str(), &patched.json["bio"]), ("200", &json!("b")));
    // In a body the id is an id.
    let wrong = send(by(Method::PATCH).json(&json!({ "id": "me" }))).await;
    assert_eq!(faults(&wrong), ["/id read_only"]);
    for path in ["/users/Me", "/users/me%20", "/users/%6de/x"] {
        let answer = send(service.by(&person, Method::GET, path)).await;
        assert!(answer.status.is_client_error(), "{path}");
    }
    assert_eq!(outcome(&send(by(Method::DELETE)).await), "204");
    assert_eq!(outcome(&send(by(Method::DELETE)).await), "404 user_not_found");
    assert_eq!(outcome(&send(by(Method::GET)).await), "401 account_deleted");
}

async fn me_is_the_caller_on_grpc(engine: Engine) {
    let (service, _database) = Running::start(engine).await;
    let person = Person::new();
    let mut users = service.users().await;
    let me = || "me".to_owned();
    let request = person.ask(GetUserRequest { id: me() });
    let first = users.get_user(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!(first.id, person.id.to_string());
    let wanted = User { id: me(), name: "a".to_owned(), ..User::default() };
    let request = UpdateUserRequest { user: Some(wanted), ..UpdateUserRequest::default() };
    let changed = users.update_user(person.ask(request)).await.unwrap().into_inner().user.unwrap();
    assert_eq!((changed.id, changed.name.as_str()), (person.id.to_string(), "a"));
    let request = || person.ask(DeleteUserRequest { id: me(), etag: String::new() });
    users.delete_user(request()).await.unwrap();
    assert_eq!(users.delete_user(request()).await.unwrap_err().code(), Code::NotFound);
    let refused = users.get_user(person.ask(GetUserRequest { id: me() })).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

async fn profiles_can_be_for_their_owners_only(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let owner = [
        (config::PROFILE_VISIBILITY, "owner"),
        // Who does not see the profile does not see the email either.
        (config::PROFILE_EMAIL_VISIBILITY, "members"),
    ];
    let service = Running::start_on(&database, &owner).await;
    let (person, other) = (Person::new(), Person::new());
    for each in [&person, &other] {
        assert_eq!(outcome(&service.get(each, each.id).await), "200");
    }
    let hidden = service.get(&person, other.id).await;
    let missing = service.get(&person, Person::new().id).await;
    assert_eq!(outcome(&hidden), "404 user_not_found");
    assert_eq!(hidden.json["detail"], missing.json["detail"]);
    let put = service.by(&person, Method::PUT, &other.path()).body("{");
    assert_eq!(outcome(&send(put).await), "403 forbidden");

    let list = send(service.by(&person, Method::GET, "/users?page_size=1")).await;
    assert_eq!(list.json["users"].as_array().map(Vec::len), Some(1));
    assert_eq!(list.json["users"][0]["id"], json!(person.id));
    assert_eq!(list.json["users"][0]["email"], json!(person.email));
    assert_eq!(list.json["next_page_token"], "");
    let token = send(service.by(&person, Method::GET, "/users?page_token=x")).await;
    assert_eq!(outcome(&token), "400 invalid_page_token");
    // A first request of this kind makes the profile too.
    let fresh = Person::new();
    let list = send(service.by(&fresh, Method::GET, "/users")).await;
    assert_eq!(list.json["users"][0]["id"], json!(fresh.id));

    let mut users = service.users().await;
    let request = person.ask(GetUserRequest { id: other.id.to_string() });
    assert_eq!(users.get_user(request).await.unwrap_err().code(), Code::NotFound);
    let listed = users.list_users(person.ask(ListUsersRequest::default())).await.unwrap();
    let ids: Vec<_> = listed.into_inner().users.into_iter().map(|user| user.id).collect();
    assert_eq!(ids, [person.id.to_string()]);
    service.stop().await;

    // A token of the other setting's list is none of this one's.
    let service = Running::start_on(&database, &[]).await;
    let list = send(service.by(&person, Method::GET, "/users?page_size=1")).await;
    let path = format!("/users?page_token={}", list.json["next_page_token"].as_str().unwrap());
    service.stop().await;
    let service = Running::start_on(&database, &owner).await;
    let refused = send(service.by(&person, Method::GET, &path)).await;
    assert_eq!(outcome(&refused), "400 invalid_page_token");
}
