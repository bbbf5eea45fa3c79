//! The body of POST /auth/register.

#![no_main]

use auth_service::{
    blocklist::Blocklist,
    domain::{Email, PASSWORD_MAX_BYTES, Password, PasswordRules, Registration},
};
use libfuzzer_sys::fuzz_target;

const MIN_LENGTH: usize = 8;

fuzz_target!(|body: &[u8]| {
    let Some((email, password, mut faults)) = latchkey_fuzz::credentials(body) else {
        return;
    };
    let rules = PasswordRules { min_length: MIN_LENGTH, blocklist: Blocklist::default() };
    let before = faults.len();
    let registration =
        Registration::parse(email.as_deref(), password.as_deref(), &rules, &mut faults);
    latchkey_fuzz::assert_well_formed(&faults);

    let Some(Registration { email: accepted, password: kept }) = registration else {
        assert!(!faults.is_empty(), "refused without a fault");
        return;
    };
    assert_eq!(faults.len(), before, "accepted with a fault");
    assert_eq!(Email::parse(accepted.as_str()), Ok(accepted.clone()));
    assert_eq!(email.map(|sent| sent.to_ascii_lowercase()).as_deref(), Some(accepted.as_str()));
    assert!(kept.is_possible() && kept.as_str().len() <= PASSWORD_MAX_BYTES);
    assert!(kept.as_str().chars().count() >= MIN_LENGTH);
    // Who registers with it can log in with it.
    assert!(Password::normalize(&password.unwrap_or_default()) == kept);
    assert!(Password::normalize(kept.as_str()) == kept);
});
