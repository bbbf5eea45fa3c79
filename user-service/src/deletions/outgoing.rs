//! Reports each deletion to the auth service until that has succeeded.

use std::time::Duration;

use latchkey_contracts::auth::v1::DeleteAccountRequest;
use outbox::{Backoff, Deliver, Entry, Outcome, Retry, Settings};
use tonic::Code;

use super::{ANSWER_TIMEOUT, Accounts, reason};

/// How the worker delivers the outbox of deletions.
pub const SETTINGS: Settings = Settings {
    concurrency: 16,
    delivery_timeout: ANSWER_TIMEOUT,
    poll_interval: Duration::from_secs(1),
    backoff: Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) },
};

/// The longest backoff while the auth service cannot be reached at all. It is short because a
/// deletion must arrive within seconds of the auth service's return, and a refused connection is
/// cheap.
const MOST_WHILE_AWAY: Duration = Duration::from_secs(4);

impl Deliver for Accounts {
    async fn deliver(&self, entry: &Entry) -> Outcome {
        let message = DeleteAccountRequest { id: entry.id.to_string() };
        let call = self.call(
            "auth.v1.AccountService/DeleteAccount",
            message,
            Some(&entry.origin),
            |mut client, request| async move { client.delete_account(request).await },
        );
        match call.await {
            Ok(_) => Outcome::Delivered,
            Err(status) => Outcome::Retry(Retry {
                reason: reason(&status),
                at_least: Duration::ZERO,
                at_most: match status.code() {
                    Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                        Some(MOST_WHILE_AWAY)
                    }
                    _ => None,
                },
            }),
        }
    }
}
