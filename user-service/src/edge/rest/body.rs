//! The bodies of PUT and PATCH.

use chrono::{DateTime, Utc};
use serde_json::Value;
use service_kit::{
    error::Fault,
    json::{Fields, fault},
};

use crate::{
    domain::{Bio, Broken, Edit, Name, Profile},
    error::Error,
    field_code,
};

/// Members that a client receives and may send back, but cannot change.
const READ_ONLY: [&str; 4] = ["id", "email", "created_at", "updated_at"];

/// The change that a body requests, and the faults found so far.
pub struct Body {
    edit: Edit,
    read_only: Vec<(&'static str, Value)>,
    faults: Vec<Fault>,
}

impl Body {
    /// Reads a replacement: the name is required, and an absent bio becomes empty.
    pub fn put(mut fields: Fields) -> Self {
        let mut faults = Vec::new();
        let name = fields
            .required_string("name", &mut faults)
            .and_then(|text| checked("name", Name::parse(text), &mut faults));
        let bio = match fields.take("bio") {
            None => Some(Bio::empty()),
            Some(value) => bio(value, &mut faults),
        };
        Self::finish(fields, Edit { name, bio }, faults)
    }

    /// Reads a merge patch (RFC 7396): an absent member stays, and null removes it. The name cannot
    /// be removed, but may be empty.
    pub fn patch(mut fields: Fields) -> Self {
        let mut faults = Vec::new();
        let name = fields
            .take("name")
            .and_then(|value| string("name", value, &mut faults))
            .and_then(|text| checked("name", Name::parse(text), &mut faults));
        let bio = match fields.take("bio") {
            None => None,
            Some(Value::Null) => Some(Bio::empty()),
            Some(value) => bio(value, &mut faults),
        };
        Self::finish(fields, Edit { name, bio }, faults)
    }

    fn finish(mut fields: Fields, edit: Edit, mut faults: Vec<Fault>) -> Self {
        let read_only = READ_ONLY
            .into_iter()
            .filter_map(|name| fields.take(name).map(|value| (name, value)))
            .collect();
        fields.finish(&mut faults);
        Self { edit, read_only, faults }
    }

    /// The change from the version `present` that the body requests.
    ///
    /// # Errors
    ///
    /// All faults of the body, including each read-only member that differs from `present`.
    pub fn against(&self, present: &Profile) -> Result<Edit, Error> {
        let mut faults = self.faults.clone();
        for (name, value) in &self.read_only {
            if !is_unchanged(name, value, present) {
                faults.push(fault(name, field_code::READ_ONLY, "must be as it is, or absent"));
            }
        }
        if faults.is_empty() { Ok(self.edit.clone()) } else { Err(Error::Invalid(faults)) }
    }
}

fn is_unchanged(name: &str, value: &Value, present: &Profile) -> bool {
    match name {
        "id" => value.as_str() == Some(present.id.to_string().as_str()),
        // An absent email is null in JSON.
        "email" => match &present.email {
            Some(email) => value.as_str() == Some(email),
            None => value.is_null(),
        },
        "created_at" => instant(value) == Some(present.created_at),
        "updated_at" => instant(value) == Some(present.updated_at),
        _ => false,
    }
}

/// Times are compared as instants, because a client may format the same time differently.
fn instant(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

fn bio(value: Value, faults: &mut Vec<Fault>) -> Option<Bio> {
    string("bio", value, faults).and_then(|text| checked("bio", Bio::parse(text), faults))
}

fn string(name: &str, value: Value, faults: &mut Vec<Fault>) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => {
            faults.push(fault(name, field_code::NOT_A_STRING, "must be a string"));
            None
        }
    }
}

fn checked<T>(name: &str, value: Result<T, Vec<Broken>>, faults: &mut Vec<Fault>) -> Option<T> {
    let told = |broken: Vec<Broken>| {
        faults.extend(broken.into_iter().map(|(code, detail)| fault(name, code, detail)));
    };
    value.map_err(told).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};
    use serde_json::Map;
    use uuid::Uuid;

    use super::*;
    use crate::domain::Caller;

    fn profile() -> Profile {
        let caller = Caller::new(Uuid::from_u128(7), Some("ada@example.com".to_owned()), 0);
        Profile::first(&caller, DateTime::UNIX_EPOCH)
    }

    fn value() -> impl Strategy<Value = Value> {
        let whole = serde_json::json!(profile().id.to_string());
        prop_oneof![
            "[a-c \\n\\t\u{1}\u{e9}]{0,6}".prop_map(Value::from),
            Just(Value::from("é".repeat(201))),
            Just(Value::from("1970-01-01T01:00:00+01:00")),
            Just(whole),
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
        ]
    }

    /// Objects with some of the known members, and sometimes an unknown one.
    fn members() -> impl Strategy<Value = Map<String, Value>> {
        let names = ["name", "bio", "id", "email", "created_at", "updated_at", "x/~"];
        names
            .map(|name| option::of(value()).prop_map(move |value| Some((name.to_owned(), value?))))
            .prop_map(|members| members.into_iter().flatten().collect())
    }

    proptest! {
        #[test]
        fn a_body_is_an_edit_or_has_faults(members in members(), replaces in any::<bool>()) {
            let fields = Fields::parse(Value::from(members.clone()).to_string().as_bytes());
            let read = if replaces { Body::put } else { Body::patch };
            match read(fields.unwrap()).against(&profile()) {
                Ok(edit) => {
                    prop_assert_eq!(edit.name.is_some(), members.contains_key("name"));
                    prop_assert_eq!(edit.bio.is_some(), replaces || members.contains_key("bio"));
                    prop_assert!(!members.contains_key("x/~"));
                }
                Err(Error::Invalid(faults)) => {
                    prop_assert!(!faults.is_empty());
                    let known = |pointer: &str| match pointer {
                        "/name" => true,
                        "/x~1~0" => members.contains_key("x/~"),
                        _ => members.contains_key(&pointer[1..]),
                    };
                    prop_assert!(faults.iter().all(|fault| known(&fault.pointer)), "{faults:?}");
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
