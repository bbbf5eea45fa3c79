//! The outbox worker: tells the auth service of each deletion until it has succeeded.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use latchkey_contracts::auth::v1::{
    DeleteAccountRequest, account_service_client::AccountServiceClient,
};
use service_kit::{settings::Secret, tls::Connector, trace::Traces};
use tokio::sync::Notify;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue, errors::InvalidMetadataValue},
    transport::Channel,
};

use crate::{
    config::AuthGrpc,
    domain::UserId,
    store::{Origin, OutboxEntry, Store},
};

/// How often the outbox is looked at when nothing wakes the worker: another replica may have left
/// an entry, or one is due again.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the auth service may take to answer.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an entry belongs to the worker that took it. Longer than it can need.
const LEASE: Duration = Duration::from_secs(15);
/// How many entries are delivered at a time.
const BATCH: u32 = 16;
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// While the auth service cannot be reached at all. Short, since a deletion must arrive within
/// seconds of its return; a refused connection costs nobody anything.
const MAX_DELAY_AWAY: Duration = Duration::from_secs(4);
/// When it answers, but not as it should.
const MAX_DELAY_REFUSED: Duration = Duration::from_secs(60);

/// Delivers the entries of the outbox.
#[derive(Debug)]
pub struct Courier {
    store: Arc<dyn Store>,
    client: AccountServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    deleted: Arc<Notify>,
    traces: Traces,
}

impl Courier {
    /// A worker that presents `token`, or a client certificate alone, at `auth` and looks at once when `deleted` is notified.
    /// Nothing is connected before the first delivery.
    ///
    /// # Errors
    ///
    /// Where the token cannot be a header field.
    pub fn new(
        store: Arc<dyn Store>,
        auth: AuthGrpc,
        token: Option<&Secret>,
        deleted: Arc<Notify>,
        traces: Traces,
    ) -> Result<Self, InvalidMetadataValue> {
        let authorization = token.map(bearer).transpose()?;
        let endpoint = auth
            .endpoint
            .connect_timeout(DELIVERY_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let channel = match auth.tls {
            Some(tls) => endpoint.connect_with_connector_lazy(Connector::new(tls)),
            None => endpoint.connect_lazy(),
        };
        let client = AccountServiceClient::new(channel);
        Ok(Self { store, client, authorization, deleted, traces })
    }

    /// Works for ever. It may be dropped at any time: what it has taken is due again when its lease
    /// ends.
    pub async fn run(&self) {
        // A predecessor that died has left leases and back-offs behind. To deliver twice does no harm.
        let _ = self.store.retry_all(sql_kit::now()).await;
        loop {
            if !self.round().await {
                tokio::select! {
                    () = self.deleted.notified() => {}
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                }
            }
        }
    }

    /// Delivers what is due. Returns whether there is probably more.
    async fn round(&self) -> bool {
        let now = sql_kit::now();
        // A failure has been logged; the next round may do better.
        let Ok(entries) = self.store.take_due(now, now + LEASE, BATCH).await else {
            return false;
        };
        let attempts = entries.iter().map(|entry| self.attempt(entry));
        let delivered = join_all(attempts).await.into_iter().filter(|delivered| *delivered).count();
        delivered > 0 && u32::try_from(entries.len()) == Ok(BATCH)
    }

    async fn attempt(&self, entry: &OutboxEntry) -> bool {
        let account = entry.account_id;
        let request_id = entry.origin.request_id.as_str();
        let trace_id = entry.origin.trace_id();
        match self.deliver(account, &entry.origin).await {
            Ok(()) => {
                let lag_ms = (sql_kit::now() - entry.created_at).num_milliseconds();
                let attempts = entry.attempts;
                tracing::info!(
                    event = "account_deletion.delivered",
                    %account, request_id, trace_id, attempts, lag_ms, "deletion delivered"
                );
                // If this fails it is delivered once more, which does no harm.
                self.store.remove_delivered(account).await.is_ok()
            }
            Err(status) => {
                let (delay, code) = (delay(&status, entry.attempts), status.code());
                // What the other side says may be anything; what happened on the way there is ours.
                let cause = root_cause(&status);
                tracing::warn!(
                    event = "account_deletion.failed",
                    %account, request_id, trace_id, attempts = entry.attempts, ?code, cause, "deletion not delivered"
                );
                // If this fails it is due when the lease ends.
                let _ = self.store.postpone(account, sql_kit::now() + delay).await;
                false
            }
        }
    }

    async fn deliver(&self, account: UserId, origin: &Origin) -> Result<(), Status> {
        let call = self.traces.call("auth.v1.AccountService/DeleteAccount", &origin.traceparent);
        let mut request = Request::new(DeleteAccountRequest { id: account.to_string() });
        request.set_timeout(DELIVERY_TIMEOUT);
        let metadata = request.metadata_mut();
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        let traceparent = call.traceparent();
        for (name, value) in [("x-request-id", &origin.request_id), ("traceparent", &traceparent)] {
            if let Ok(value) = value.parse() {
                metadata.insert(name, value);
            }
        }
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(DELIVERY_TIMEOUT, client.delete_account(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        if let Err(status) = &answer {
            call.fail(status.code());
        }
        answer.map(|_| ())
    }
}

/// Why a call did not arrive; nothing where it was answered.
fn root_cause(status: &Status) -> Option<String> {
    let first = std::error::Error::source(status)?;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.last().map(ToString::to_string)
}

fn bearer(token: &Secret) -> Result<MetadataValue<Ascii>, InvalidMetadataValue> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose()).parse()?;
    value.set_sensitive(true);
    Ok(value)
}

/// Doubles with each attempt, up to a limit; half of it by chance, so that entries that failed
/// together do not come back together.
fn delay(status: &Status, attempts: i32) -> Duration {
    let most = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => MAX_DELAY_AWAY,
        _ => MAX_DELAY_REFUSED,
    };
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    let full = (FIRST_DELAY * 2_u32.pow(doublings)).min(most);
    full.mul_f64(0.5 + 0.5 * chance())
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut byte = [0];
    // Without randomness delays are equal, which is no reason to fail.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / f64::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_limit() {
        for (status, most) in [
            (Status::unavailable(""), MAX_DELAY_AWAY),
            (Status::unauthenticated(""), MAX_DELAY_REFUSED),
        ] {
            for attempts in [1, 2, 3, 10, i32::MAX] {
                let delay = delay(&status, attempts);
                assert!(delay >= FIRST_DELAY / 2 && delay <= most, "{attempts}: {delay:?}");
            }
            assert!(delay(&status, 1) <= FIRST_DELAY);
            assert!(delay(&status, 40) >= most / 2);
        }
    }
}
