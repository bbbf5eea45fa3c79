//! The field mask of `UpdateUser`.

use latchkey_contracts::user::v1::User;
use prost_types::FieldMask;
use service_kit::error::Fault;

use crate::{
    domain::{Bio, Broken, Edit, Name},
    edge::fault,
};

const READ_ONLY: [&str; 5] = ["id", "email", "created_at", "updated_at", "etag"];

/// What `mask` names of `user`, with all faults at once. Without a mask: what is set.
pub(super) fn edit(user: User, mask: Option<FieldMask>) -> Result<Edit, Vec<Fault>> {
    let mut faults = Vec::new();
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

fn refused_path(path: &str) -> Broken {
    if READ_ONLY.contains(&path) {
        ("read_only", "must not name a member that cannot be changed")
    } else {
        ("unknown_member", "must name name, bio or *")
    }
}

fn checked<T>(pointer: &str, value: Result<T, Broken>, faults: &mut Vec<Fault>) -> Option<T> {
    value.map_err(|broken| faults.push(fault(pointer, broken))).ok()
}
