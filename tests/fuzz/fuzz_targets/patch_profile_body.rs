//! The body of PATCH /users/{id}.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use user_service::edge::rest::body::Body;

fuzz_target!(|body: &[u8]| {
    if let Some(edit) = latchkey_fuzz::edit(body, Body::patch) {
        let members: Value = serde_json::from_slice(body).expect("an object");
        assert_eq!(edit.name.is_some(), members.get("name").is_some());
        assert_eq!(edit.bio.is_some(), members.get("bio").is_some());
    }
});
