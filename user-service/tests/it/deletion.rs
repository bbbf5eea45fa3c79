//! A deletion arrives at the auth service, whatever happens to either side.

use std::time::Duration;

use reqwest::Method;
use test_kit::{Engine, TestDatabase, send};
use tonic::Code;
use user_service::{
    config,
    domain::{Caller, Profile, UserId},
};

use crate::support::{
    Person, Running, SERVICE_TOKEN, accounts::Accounts, count, on_both_engines, open_store, outcome,
};

on_both_engines!(
    a_deletion_is_told_until_it_succeeds,
    deletions_survive_an_outage_and_a_restart,
    many_replicas_lose_nothing,
    accounts_deleted_elsewhere_take_their_profiles_along,
    a_list_that_is_read_anew_does_no_harm,
    replicas_follow_the_list_together,
    every_deletion_is_told_again_once_however_many_there_are,
    a_profile_is_not_made_while_its_account_is_forgotten,
);

const PENDING: &str = "SELECT count(*) FROM outbox";

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not in 15 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn start(database: &TestDatabase, url: &str) -> Running {
    let told = [(config::AUTH_GRPC_URL, url), (config::SERVICE_TOKEN, SERVICE_TOKEN)];
    Running::start_on(database, &told).await
}

async fn a_deletion_is_told_until_it_succeeds(engine: Engine) {
    let accounts = Accounts::failing(&[Code::Unavailable, Code::Internal]);
    let (address, _guard) = accounts.serve("127.0.0.1:0".parse().unwrap()).await;
    let database = TestDatabase::create(engine).await;
    let service = start(&database, &format!("http://{address}")).await;
    let (person, witness) = (Person::new(), Person::new());
    service.get(&person, person.id).await;
    let request = service.by(&person, Method::DELETE, &person.path());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request =
        request.header("x-request-id", "request-of-the-test").header("traceparent", trace);
    let answer = send(request).await;
    assert_eq!((outcome(&answer).as_str(), answer.text.as_str()), ("204", ""));

    assert_eq!(outcome(&service.get(&person, person.id).await), "401 account_deleted");
    assert_eq!(outcome(&service.get(&witness, person.id).await), "404 user_not_found");
    assert_eq!(outcome(&service.delete(&person).await), "404 user_not_found");
    let list = send(service.by(&person, Method::GET, "/users")).await;
    assert_eq!(outcome(&list), "401 account_deleted");
    let challenge = r#"Bearer realm="latchkey", error="invalid_token""#;
    assert_eq!(list.header("www-authenticate"), challenge);

    eventually("it is told", async || accounts.told().len() == 3).await;
    eventually("the entry is gone", async || count(&database, PENDING).await == 0).await;
    for told in accounts.told() {
        assert_eq!(told.id, person.id.to_string());
        assert_eq!(told.authorization, format!("Bearer {SERVICE_TOKEN}"));
        assert_eq!(told.request_id, "request-of-the-test");
        assert_eq!(told.traceparent, trace);
    }
    // And not again.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(accounts.told().len(), 3);
}

async fn deletions_survive_an_outage_and_a_restart(engine: Engine) {
    let accounts = Accounts::default();
    // A port that nobody listens on until later.
    let (address, guard) = accounts.serve("127.0.0.1:0".parse().unwrap()).await;
    drop(guard);
    let database = TestDatabase::create(engine).await;
    // Without an address the entries wait.
    let service = Running::start_on(&database, &[]).await;
    let people: Vec<_> = (0..20).map(|_| Person::new()).collect();
    for person in &people[..10] {
        service.get(person, person.id).await;
        assert_eq!(outcome(&service.delete(person).await), "204");
    }
    service.stop().await;
    assert_eq!(count(&database, PENDING).await, 10);

    let service = start(&database, &format!("http://{address}")).await;
    for person in &people[10..] {
        service.get(person, person.id).await;
        assert_eq!(outcome(&service.delete(person).await), "204");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(count(&database, PENDING).await, 20);
    let (_address, _guard) = accounts.serve(address).await;
    eventually("all entries are gone", async || count(&database, PENDING).await == 0).await;
    for person in &people {
        let id = person.id.to_string();
        assert!(accounts.told().iter().any(|told| told.id == id));
    }
}

async fn many_replicas_lose_nothing(engine: Engine) {
    let accounts = Accounts::default();
    let (address, _guard) = accounts.serve("127.0.0.1:0".parse().unwrap()).await;
    let url = format!("http://{address}");
    let database = TestDatabase::create(engine).await;
    let (one, other) = (start(&database, &url).await, start(&database, &url).await);
    let people: Vec<_> = (0..30).map(|_| Person::new()).collect();
    for (index, person) in people.iter().enumerate() {
        let replica = if index % 2 == 0 { &one } else { &other };
        replica.get(person, person.id).await;
        assert_eq!(outcome(&replica.delete(person).await), "204");
        assert_eq!(outcome(&other.get(person, person.id).await), "401 account_deleted");
    }
    eventually("all entries are gone", async || count(&database, PENDING).await == 0).await;
    let mut ids: Vec<_> = accounts.told().into_iter().map(|told| told.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), people.len());
}

/// Whether each is refused as deleted.
async fn all_are_gone(service: &Running, people: &[Person]) -> bool {
    for person in people {
        if outcome(&service.get(person, person.id).await) != "401 account_deleted" {
            return false;
        }
    }
    true
}

async fn accounts_deleted_elsewhere_take_their_profiles_along(engine: Engine) {
    let accounts = Accounts::default();
    let (address, guard) = accounts.serve("127.0.0.1:0".parse().unwrap()).await;
    let database = TestDatabase::create(engine).await;
    let service = start(&database, &format!("http://{address}")).await;
    let witness = Person::new();
    let people: Vec<_> = (0..5).map(|_| Person::new()).collect();
    for person in &people[..4] {
        service.get(person, person.id).await;
    }
    // The fifth has no profile yet, and must not get one either.
    for person in &people {
        accounts.list_as_deleted(person.id);
    }
    accounts.list_as_deleted("what is no id");
    eventually("all are gone", async || all_are_gone(&service, &people).await).await;
    assert_eq!(outcome(&service.get(&witness, people[0].id).await), "404 user_not_found");
    assert_eq!(count(&database, "SELECT count(*) FROM tombstones").await, 5);
    // The auth service knows; it is not told.
    assert_eq!(count(&database, PENDING).await, 0);

    // What is deleted while it is away comes with its return, and after our own restart.
    drop(guard);
    let late = [Person::new(), Person::new()];
    for person in &late {
        service.get(person, person.id).await;
    }
    accounts.list_as_deleted(late[0].id);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(outcome(&service.get(&late[0], late[0].id).await), "200");
    let (_, guard) = accounts.serve(address).await;
    eventually("the late one is gone", async || all_are_gone(&service, &late[..1]).await).await;
    service.stop().await;
    accounts.list_as_deleted(late[1].id);
    let asked = accounts.asked().len();
    let service = start(&database, &format!("http://{address}")).await;
    eventually("the last one is gone", async || all_are_gone(&service, &late[1..]).await).await;
    // It goes on where it was.
    assert_eq!(accounts.asked()[asked], "0:7");
    drop(guard);
}

async fn a_list_that_is_read_anew_does_no_harm(engine: Engine) {
    let accounts = Accounts::default();
    let (address, _guard) = accounts.serve("127.0.0.1:0".parse().unwrap()).await;
    let database = TestDatabase::create(engine).await;
    let service = start(&database, &format!("http://{address}")).await;
    let people = [Person::new(), Person::new()];
    for person in &people {
        service.get(person, person.id).await;
    }
    // Deleted here, and so listed there: that must not go round in circles.
    assert_eq!(outcome(&service.delete(&people[0]).await), "204");
    eventually("it is told", async || accounts.told().len() == 1).await;
    accounts.list_as_deleted(people[0].id);
    eventually("it is read", async || accounts.asked().last().is_some_and(|at| at == "0:1")).await;
    accounts.forget_cursors();
    accounts.list_as_deleted(people[1].id);
    eventually("both are gone", async || all_are_gone(&service, &people).await).await;
    eventually("it is read", async || accounts.asked().last().is_some_and(|at| at == "1:2")).await;
    // An auth service that has forgotten the cursor may have forgotten the deletion too.
    eventually("it is told again", async || accounts.told().len() == 2).await;
    eventually("none waits", async || count(&database, PENDING).await == 0).await;
    assert!(accounts.told().iter().all(|told| told.id == people[0].id.to_string()));
    assert_eq!(count(&database, "SELECT count(*) FROM tombstones").await, 2);
}

async fn replicas_follow_the_list_together(engine: Engine) {
    let accounts = Accounts::default();
    let (address, _guard) = accounts.serve("127.0.0.1:0".parse().unwrap()).await;
    let url = format!("http://{address}");
    let database = TestDatabase::create(engine).await;
    let (one, other) = (start(&database, &url).await, start(&database, &url).await);
    let people: Vec<_> = (0..30).map(|_| Person::new()).collect();
    for person in &people {
        one.get(person, person.id).await;
        accounts.list_as_deleted(person.id);
    }
    eventually("all are gone", async || all_are_gone(&other, &people).await).await;
    assert_eq!(count(&database, "SELECT count(*) FROM tombstones").await, 30);
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 0);
}

async fn a_profile_is_not_made_while_its_account_is_forgotten(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let store = open_store(&database);
    store.migrate().await.unwrap();
    let mut cursor = String::new();
    for round in 0..40 {
        let caller = Caller::new(uuid::Uuid::now_v7(), None, 0);
        let first = Profile::first(&caller, store.clock().now());
        let creators: Vec<_> = (0..4)
            .map(|_| {
                let (store, first) = (store.clone(), first.clone());
                tokio::spawn(async move { store.create_profile(&first).await.unwrap() })
            })
            .collect();
        let next = round.to_string();
        let forgotten = store.forget(&[caller.id], &cursor, &next).await.unwrap();
        assert!(forgotten.is_some());
        // A replica that comes late changes nothing.
        assert_eq!(store.forget(&[], &cursor, "late").await, Ok(None));
        cursor = next;
        for creator in creators {
            creator.await.unwrap();
        }
    }
    assert_eq!(store.deletions_cursor().await, Ok(cursor));
    assert_eq!(count(&database, "SELECT count(*) FROM profiles").await, 0);
    assert_eq!(count(&database, "SELECT count(*) FROM tombstones").await, 40);
}

async fn every_deletion_is_told_again_once_however_many_there_are(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let store = open_store(&database);
    store.migrate().await.unwrap();
    assert_eq!(store.tell_again(None).await, Ok(None));
    let ids: Vec<_> = (0..2_345).map(|_| UserId(uuid::Uuid::new_v4())).collect();
    store.forget(&ids, "", "1").await.unwrap().unwrap();
    for _ in 0..2 {
        let (mut told, mut batches) = (None, 0);
        while let Some(last) = store.tell_again(told).await.unwrap() {
            told = Some(last);
            batches += 1;
        }
        assert_eq!(batches, 3);
        assert_eq!(count(&database, "SELECT count(*) FROM outbox").await, 2_345);
    }
}
