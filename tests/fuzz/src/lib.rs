//! What several targets share: the form of a fault, and the reading of bodies.

use chrono::DateTime;
use service_kit::{error::Fault, json::Fields};
use user_service::{
    Error,
    domain::{BIO_MAX, Bio, Caller, Edit, NAME_MAX, Name, Profile},
    edge::rest::body::Body,
};
use uuid::Uuid;

/// Panics where a fault does not point at one member of the body: `/`, then its name with `~` and
/// `/` escaped (RFC 6901, section 3).
pub fn assert_well_formed(faults: &[Fault]) {
    for Fault { pointer, .. } in faults {
        let name = pointer.strip_prefix('/').expect("a pointer begins with a slash");
        assert!(!name.contains('/'), "{pointer:?} points deeper than one member");
        let escapes = name.split('~').skip(1);
        assert!(
            escapes.map(str::chars).all(|mut rest| matches!(rest.next(), Some('0' | '1'))),
            "{pointer:?} has a tilde that escapes nothing"
        );
    }
}

/// Reads the body of a registration or a login as the handlers of the auth service do: the email,
/// the password, the faults so far. `None` where it is not an object.
#[must_use]
pub fn credentials(body: &[u8]) -> Option<(Option<String>, Option<String>, Vec<Fault>)> {
    let mut fields = Fields::parse(body).ok()?;
    let mut faults = Vec::new();
    let email = fields.required_string("email", &mut faults);
    let password = fields.required_string("password", &mut faults);
    fields.finish(&mut faults);
    Some((email, password, faults))
}

/// Reads the body of a change of a profile with `read`, and panics where what is accepted breaks
/// the limits of a profile, or what is refused has no fault. `None` where it is refused.
#[must_use]
pub fn edit(body: &[u8], read: fn(Fields) -> Body) -> Option<Edit> {
    let fields = Fields::parse(body).ok()?;
    let email = Some("ada@example.com".to_owned());
    let caller = Caller::new(Uuid::from_u128(7), email, 1_750_000_000);
    let profile = Profile::first(&caller, DateTime::UNIX_EPOCH);
    match read(fields).against(&profile) {
        Ok(edit) => {
            let name = edit.name.clone().map(Name::into_text).unwrap_or_default();
            assert!(name.chars().count() <= NAME_MAX && !name.chars().any(char::is_control));
            let bio = edit.bio.clone().map(Bio::into_text).unwrap_or_default();
            assert!(bio.chars().count() <= BIO_MAX && !bio.contains(['\0', '\r', '\u{1b}']));
            Some(edit)
        }
        Err(Error::Invalid(faults)) => {
            assert!(!faults.is_empty(), "refused without a fault");
            assert_well_formed(&faults);
            None
        }
        Err(error) => panic!("{error}"),
    }
}
