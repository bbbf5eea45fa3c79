//! Page tokens: text is opened; bytes are sealed as a place and changed.

#![no_main]

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use user_service::{
    domain::UserId,
    page_token::{Cursor, KEY_BYTES, PageKey},
};
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    let key = PageKey::new(&[7; KEY_BYTES]);
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(cursor) = key.open(text)
    {
        assert_eq!(key.seal(cursor), text, "one place has two tokens");
    }

    // Eight bytes of time, sixteen of id, and where to change the token and into what.
    let Some((micros, rest)) = data.split_first_chunk() else { return };
    let Some((id, [place, byte, ..])) = rest.split_first_chunk() else { return };
    let Some(created_at) = DateTime::from_timestamp_micros(i64::from_be_bytes(*micros)) else {
        return;
    };
    let cursor = Cursor { created_at, id: UserId(Uuid::from_bytes(*id)) };
    let token = key.seal(cursor);
    assert_eq!(key.open(&token), Some(cursor));

    let mut changed = token.clone().into_bytes();
    let place = usize::from(*place) % changed.len();
    changed[place] = byte & 0x7f;
    let changed = String::from_utf8(changed).expect("ASCII");
    assert!(changed == token || key.open(&changed).is_none(), "a changed token opens");
});
