//! What an edge is told of the connection that a request came on.

use std::{sync::Arc, time::Duration};

use http::Extensions;

use super::usage::{ConnectionUsage, Reservation};
use crate::{code, error::ApiError};

/// How long a large answer waits for memory.
const RESERVATION_TIMEOUT: Duration = Duration::from_secs(10);

/// In the extensions of a request that the process has no room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overloaded;

impl Overloaded {
    /// The refusal of such a request.
    pub(crate) fn refusal(extensions: &Extensions) -> Option<ApiError> {
        extensions.get::<Self>().map(|_| overloaded("too many requests are under way"))
    }
}

fn overloaded(detail: &'static str) -> ApiError {
    ApiError::new(code::OVERLOADED, detail).retry_after(Duration::from_secs(1))
}

/// The memory for large answers. Clients may ask for many and read none, so an answer that can be
/// large is made only when there is room for it.
#[derive(Debug, Clone, Default)]
pub struct AnswerMemory(Option<Arc<ConnectionUsage>>);

impl AnswerMemory {
    pub(super) const fn new(usage: Arc<ConnectionUsage>) -> Self {
        Self(Some(usage))
    }

    /// That of the connection which a request with these extensions came on.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Waits for room for an answer of at most `bytes`. Put what is returned into the extensions of
    /// the answer: there it is reduced to what the answer needs, and kept until that has been read.
    ///
    /// # Errors
    ///
    /// `overloaded` where there is no room within 10 seconds.
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
