//! What operators do from the command line.

use std::process::{Command, Output};

use serde_json::{Value, json};
use test_kit::{Engine, TestDatabase};
use uuid::Uuid;

use crate::support::{Person, Running, count, on_both_engines, outcome};

on_both_engines!(an_operator_sees_exports_and_deletes_a_profile, the_outbox_is_in_their_hands);

fn run(database: &TestDatabase, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_user-service"))
        .args(arguments)
        .current_dir(database.folder())
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{all}{}", String::from_utf8_lossy(&output.stderr));
    all
}

async fn an_operator_sees_exports_and_deletes_a_profile(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let service = Running::start_on(&database, &[]).await;
    let person = Person::new();
    service.put(&person, &json!({ "name": "Ada", "bio": "two\nlines" })).await;
    let id = person.id.to_string();

    let shown = text(&run(&database, &["profiles", "show", &id]));
    assert!(shown.contains("name     Ada") && shown.contains(&person.email), "{shown}");
    let shown = text(&run(&database, &["profiles", "show", &id, "--json"]));
    let own = service.get(&person, person.id).await.json;
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), own);
    let exported = text(&run(&database, &["profiles", "export", &id]));
    let exported: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(exported, json!({ "id": id, "profile": own, "deleted_at": null }));

    text(&run(&database, &["profiles", "delete", &id]));
    assert_eq!(outcome(&service.get(&person, person.id).await), "401 account_deleted");
    assert_eq!(count(&database, "SELECT count(*) FROM outbox").await, 1);
    let exported = text(&run(&database, &["profiles", "export", &id]));
    let exported: Value = serde_json::from_str(&exported).unwrap();
    assert!(exported["profile"].is_null() && exported["deleted_at"].is_string(), "{exported}");

    let unknown = Uuid::now_v7().to_string();
    for arguments in
        [["profiles", "show", &id], ["profiles", "delete", &id], ["profiles", "export", &unknown]]
    {
        let refused = run(&database, &arguments);
        assert_eq!(refused.status.code(), Some(4), "{arguments:?}");
        assert!(refused.stdout.is_empty(), "{arguments:?}");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains("there is no profile with this id"), "{told}");
    }
    assert!(!run(&database, &["profiles", "show", "me"]).status.success());
}

async fn the_outbox_is_in_their_hands(engine: Engine) {
    let database = TestDatabase::create(engine).await;
    let service = Running::start_on(&database, &[]).await;
    let people = [Person::new(), Person::new()];
    for person in &people {
        service.get(person, person.id).await;
        assert_eq!(outcome(&service.delete(person).await), "204");
    }
    let listed = text(&run(&database, &["outbox", "list"]));
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    for (line, person) in lines[1..].iter().zip(&people) {
        assert!(line.starts_with(&person.id.to_string()), "{listed}");
    }
    let listed = text(&run(&database, &["outbox", "list", "--json", "--limit", "1"]));
    let entry: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&entry["id"], &entry["attempts"]), (&json!(people[0].id), &json!(0)));
    let retried = text(&run(&database, &["outbox", "retry"]));
    assert!(retried.starts_with("2 entries"), "{retried}");
    let id = people[0].id.to_string();
    text(&run(&database, &["outbox", "discard", &id]));
    assert_eq!(count(&database, "SELECT count(*) FROM outbox").await, 1);
    let refused = run(&database, &["outbox", "discard", &id]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not in the outbox"));
    // The tombstone stays: the profile does not come back.
    assert_eq!(outcome(&service.get(&people[0], people[0].id).await), "401 account_deleted");
}
