//! The body of POST /auth/login. No rule but those of form: a login is refused or tried.

#![no_main]

use auth_service::domain::{Email, PASSWORD_MAX_BYTES, Password};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Some((email, password, faults)) = latchkey_fuzz::credentials(body) else {
        return;
    };
    latchkey_fuzz::assert_well_formed(&faults);
    let (Some(email), Some(password)) = (email, password) else {
        assert!(!faults.is_empty(), "refused without a fault");
        return;
    };
    if let Ok(email) = Email::parse(&email) {
        assert_eq!(Email::parse(email.as_str()), Ok(email.clone()));
    }
    let normal = Password::normalize(&password);
    assert!(Password::normalize(normal.as_str()) == normal);
    if normal.is_possible() {
        assert!((1..=PASSWORD_MAX_BYTES).contains(&normal.as_str().len()));
    }
});
