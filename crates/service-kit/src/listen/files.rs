//! The number of connections that the limit of open files allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections that a public listener holds.
const MAX_CONNECTIONS: usize = 8192;
/// The most connections that the listener for operators holds.
pub(super) const MAX_ADMIN_CONNECTIONS: usize = 128;

/// Each of the two public listeners may use three eighths of the file descriptors. The rest is for
/// the listener for operators, the database, the log, and connections that are being closed. The
/// usual soft limit of 1024 only exists for programs that cannot handle more, so it is raised as far
/// as permitted and needed.
pub(super) fn max_public_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = 4 * MAX_CONNECTIONS as u64;
    let wanted = limit.maximum.map_or(needed, |most| most.min(needed));
    let mut files = limit.current.unwrap_or(needed);
    if files < wanted {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            files = wanted;
        }
    }
    (usize::try_from(files).unwrap_or(usize::MAX) / 8 * 3).clamp(16, MAX_CONNECTIONS)
}
