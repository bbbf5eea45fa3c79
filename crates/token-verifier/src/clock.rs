//! The current time in whole seconds since the Unix epoch. It is injected, so that tests can set
//! it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A clock before 1970 counts as 1970, when no present token is valid yet.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock that is passed in where no other is given"
)]
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
