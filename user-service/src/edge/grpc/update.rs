//! The field mask of `UpdateUser`.

use latchkey_contracts::user::v1::User;
use prost_types::{FieldMask, Timestamp};
use service_kit::error::Fault;

use super::timestamp;
use crate::{
    domain::{Bio, Broken, Edit, Name, Profile},
    edge::fault,
    field_code,
};

const READ_ONLY: [&str; 5] = ["id", "email", "created_at", "updated_at", "etag"];

/// The fields of `user` that `mask` selects, or else all faults at once. Without a mask, the fields
/// that are set are selected.
pub(super) fn edit(
    user: User,
    mask: Option<FieldMask>,
    present: &Profile,
) -> Result<Edit, Vec<Fault>> {
    let mut faults = read_only_faults(&user, mask.as_ref(), present);
    let (mut name, mut bio) = (false, false);
    match mask.map(|mask| mask.paths).filter(|paths| !paths.is_empty()) {
        None => (name, bio) = (!user.name.is_empty(), !user.bio.is_empty()),
        Some(paths) => {
            for path in &paths {
                match path.as_str() {
                    "name" => name = true,
                    "bio" => bio = true,
                    "*" => (name, bio) = (true, true),
                    path => faults.push(fault("/update_mask/paths", refused_path(path))),
                }
            }
        }
    }
    let name = name.then(|| checked("/user/name", Name::parse(user.name), &mut faults)).flatten();
    let bio = bio.then(|| checked("/user/bio", Bio::parse(user.bio), &mut faults)).flatten();
    if faults.is_empty() { Ok(Edit { name, bio }) } else { Err(faults) }
}

/// Checks the read-only fields if the mask covers all of `user`: those that are set must equal the
/// present values, as on REST.
fn read_only_faults(user: &User, mask: Option<&FieldMask>, present: &Profile) -> Vec<Fault> {
    let whole =
        mask.is_none_or(|mask| mask.paths.is_empty() || mask.paths.iter().any(|path| path == "*"));
    if !whole {
        return Vec::new();
    }
    let changed = |wanted: &Option<Timestamp>, present| {
        wanted.as_ref().is_some_and(|wanted| *wanted != timestamp(present))
    };
    [
        ("/user/email", user.email.is_some() && user.email != present.email),
        ("/user/created_at", changed(&user.created_at, present.created_at)),
        ("/user/updated_at", changed(&user.updated_at, present.updated_at)),
    ]
    .into_iter()
    .filter(|(_, changed)| *changed)
    .map(|(pointer, _)| fault(pointer, (field_code::READ_ONLY, "must be as it is, or unset")))
    .collect()
}

fn refused_path(path: &str) -> Broken {
    if READ_ONLY.contains(&path) {
        (field_code::READ_ONLY, "must not name a member that cannot be changed")
    } else {
        (field_code::UNKNOWN_MEMBER, "must name name, bio or *")
    }
}

fn checked<T>(pointer: &str, value: Result<T, Vec<Broken>>, faults: &mut Vec<Fault>) -> Option<T> {
    let told =
        |broken: Vec<Broken>| faults.extend(broken.into_iter().map(|rule| fault(pointer, rule)));
    value.map_err(told).ok()
}
