//! The body of PUT /users/{id}.

#![no_main]

use libfuzzer_sys::fuzz_target;
use user_service::edge::rest::body::Body;

fuzz_target!(|body: &[u8]| {
    if let Some(edit) = latchkey_fuzz::edit(body, Body::put) {
        assert!(
            edit.name.is_some() && edit.bio.is_some(),
            "a replacement leaves nothing as it was"
        );
    }
});
