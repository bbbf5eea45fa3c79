//! The state of a connection, as far as the edges need it.

use std::{sync::Arc, time::Duration};

use http::Extensions;

use super::usage::{ConnectionUsage, Reservation};
use crate::{code, error::ApiError};

/// How long a large response waits for memory.
const RESERVATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Marks a request that the process has no capacity for. It is in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overloaded;

impl Overloaded {
    /// The error for such a request.
    pub(crate) fn refusal(extensions: &Extensions) -> Option<ApiError> {
        extensions.get::<Self>().map(|_| overloaded("too many requests are under way"))
    }
}

fn overloaded(detail: &'static str) -> ApiError {
    ApiError::new(code::OVERLOADED, detail).retry_after(Duration::from_secs(1))
}

/// The memory budget for large responses. Clients may request many and read none, so a potentially
/// large response is only produced when there is room for it.
#[derive(Debug, Clone, Default)]
pub struct AnswerMemory(Option<Arc<ConnectionUsage>>);

impl AnswerMemory {
    pub(super) const fn new(usage: Arc<ConnectionUsage>) -> Self {
        Self(Some(usage))
    }

    /// The budget of the connection on which a request with these extensions arrived.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Reserves room for a response of at most `bytes`, and waits until there is some. Store the
    /// returned reservation in the extensions of the response: it is then reduced to the actual
    /// size, and kept until the response has been read.
    ///
    /// # Errors
    ///
    /// `overloaded` if there is no room within 10 seconds.
    pub async fn reserve(&self, bytes: usize) -> Result<Option<Reservation>, ApiError> {
        let Some(usage) = &self.0 else {
            return Ok(None);
        };
        match tokio::time::timeout(RESERVATION_TIMEOUT, Reservation::wait(usage, bytes)).await {
            Ok(Some(reservation)) => Ok(Some(reservation)),
            Ok(None) | Err(_) => Err(overloaded("too many answers wait to be read")),
        }
    }
}
