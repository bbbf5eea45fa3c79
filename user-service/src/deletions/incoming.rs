//! Polls the auth service for deleted accounts and removes their profiles.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use latchkey_contracts::auth::v1::{ListDeletedAccountsRequest, ListDeletedAccountsResponse};
use outbox::Backoff;
use service_kit::metrics::{Counts, Metrics, Unit};
use tonic::{Code, Status};

use super::{Accounts, reason};
use crate::{
    domain::UserId,
    store::{Store, StoreError},
};

/// The polling interval. It is short because a profile should be removed within seconds of its account.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many accounts to request at a time. One transaction removes all of them.
const PAGE_SIZE: i32 = 500;
/// The backoff after a failure. It is short for the same reason as the interval.
const AFTER_FAILURE: Backoff =
    Backoff { first: Duration::from_secs(1), most: Duration::from_secs(5) };
/// How long to wait if the auth service is older than this service and does not have the method.
const AFTER_UNKNOWN: Duration = Duration::from_secs(60);

/// Follows the list of deleted accounts. Any number of replicas may do so at the same time.
#[derive(Debug)]
pub struct Follower {
    accounts: Accounts,
    store: Store,
    /// When the list was last read to its end.
    current: Arc<Mutex<Option<Instant>>>,
    pulls: Counts,
}

/// Why the list could not be read.
#[derive(Debug)]
enum Failure {
    /// The auth service did not answer, or its answer was invalid.
    Call(Status),
    /// The database failed. The store has logged why.
    Store,
}

impl From<StoreError> for Failure {
    fn from(_: StoreError) -> Self {
        Self::Store
    }
}

impl Follower {
    /// Creates a worker that follows the list at `accounts` and removes the profiles from `store`.
    #[must_use]
    pub fn new(accounts: Accounts, store: Store, metrics: &Metrics) -> Self {
        let current: Arc<Mutex<Option<Instant>>> = Arc::default();
        let last = Arc::clone(&current);
        metrics.gauge(
            "user.deleted_accounts.age",
            "Since the list of accounts deleted at the auth service was last read to its end",
            Unit::Seconds,
            move || {
                let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
                last.map(|last| last.elapsed().as_secs_f64())
            },
        );
        let pulls = metrics.counts(
            "user.deleted_accounts.pulls",
            "Questions for accounts deleted at the auth service, by what came of them",
            "outcome",
            &["ok", "reset", "failed"],
        );
        Self { accounts, store, current, pulls }
    }

    /// Polls forever. The future may be dropped at any time.
    pub async fn run(&self) {
        let mut failures: i64 = 0;
        loop {
            let pause = match self.pull().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => {
                    failures = 0;
                    let now = Some(Instant::now());
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = now;
                    INTERVAL
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    self.pulls.count("failed");
                    self.note(&failure, failures);
                    match failure {
                        Failure::Call(status) if status.code() == Code::Unimplemented => {
                            AFTER_UNKNOWN
                        }
                        _ => AFTER_FAILURE.delay(failures),
                    }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Logs the first failure, and after that about one per minute.
    fn note(&self, failure: &Failure, failures: i64) {
        let Failure::Call(status) = failure else {
            return;
        };
        if failures % 16 != 1 {
            return;
        }
        let reason = reason(status);
        tracing::warn!(
            event = "deleted_accounts.failed",
            reason,
            "the accounts that were deleted at the auth service are not known"
        );
    }

    /// Fetches one page. Returns whether there are more.
    async fn pull(&self) -> Result<bool, Failure> {
        let cursor = self.store.deletions_cursor().await?;
        let ListDeletedAccountsResponse { ids, next_cursor, more, reset } =
            self.ask(cursor.clone()).await.map_err(Failure::Call)?;
        self.pulls.count(if reset { "reset" } else { "ok" });
        if reset {
            tracing::warn!(
                event = "deleted_accounts.reset",
                "the auth service does not know how far its list was read: another database, a \
                 restored backup, or too long ago; the list is read anew"
            );
            // If the auth service was restored from a backup, it may have got back accounts that were
            // deleted since. So it is told about all known deletions again; for the accounts that are
            // already deleted there, this changes nothing.
            let mut told = None;
            while let Some(last) = self.store.tell_again(told).await? {
                told = Some(last);
            }
        }
        if next_cursor.is_empty() || (next_cursor == cursor && ids.is_empty()) {
            return Ok(false);
        }
        // An id that is not a UUID cannot have a profile here.
        let accounts: Vec<UserId> = ids.iter().filter_map(|id| UserId::parse(id).ok()).collect();
        match self.store.forget(&accounts, &cursor, &next_cursor).await? {
            Some(removed) => {
                for account in removed {
                    tracing::info!(
                        event = "profile.deleted",
                        %account,
                        "profile deleted with its account"
                    );
                }
                Ok(more)
            }
            // Another replica has moved the cursor in the meantime. The next page is fetched by whichever
            // replica comes first.
            None => Ok(more),
        }
    }

    async fn ask(&self, cursor: String) -> Result<ListDeletedAccountsResponse, Status> {
        let message = ListDeletedAccountsRequest { cursor, page_size: PAGE_SIZE };
        self.accounts
            .call(
                "auth.v1.AccountService/ListDeletedAccounts",
                message,
                None,
                |mut client, request| async move { client.list_deleted_accounts(request).await },
            )
            .await
    }
}
