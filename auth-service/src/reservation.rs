//! A login under way, as the throttle counts it.

use std::sync::Arc;

use service_kit::client_address::Network;

use crate::{
    store::{Outcome, Store, StoreError},
    throttle::{FailureLimits, Subject},
};

/// An attempt that was counted and has to be settled. Dropped before that, because the client has
/// left or something failed, it did not happen.
#[derive(Debug)]
pub(crate) struct Reservation {
    store: Arc<dyn Store>,
    subject: Subject,
    network: Network,
    limits: FailureLimits,
    settled: bool,
}

impl Reservation {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        subject: Subject,
        network: Network,
        limits: FailureLimits,
    ) -> Self {
        Self { store, subject, network, limits, settled: false }
    }

    /// Says how the attempt has ended. A wrong password that cannot be noted must not be answered as
    /// one: it would be a free guess.
    pub(crate) async fn settle(mut self, outcome: Outcome) -> Result<(), StoreError> {
        let done = self
            .store
            .settle_attempt(self.subject, self.network, outcome, self.limits, sql_kit::now())
            .await;
        self.settled = true;
        match done {
            Err(error) if outcome == Outcome::Succeeded => {
                // It costs the person one of their tries for a minute, not the login.
                tracing::warn!(%error, "cannot settle an attempt");
                Ok(())
            }
            done => done,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the attempt with it.
        let (false, Ok(runtime)) = (self.settled, tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (store, limits) = (Arc::clone(&self.store), self.limits);
        let (subject, network) = (self.subject, self.network);
        runtime.spawn(async move {
            let now = sql_kit::now();
            // If this fails it stops counting after a while.
            let _ = store.settle_attempt(subject, network, Outcome::Abandoned, limits, now).await;
        });
    }
}
