//! Webhooks: events are sent to the operator's receiver as they happen, in the format of Standard
//! Webhooks (<https://www.standardwebhooks.com/>). A webhook is added to an outbox in the transaction
//! of its event, and a worker sends it until the receiver has accepted it: at least once, and in order
//! for each account. Logins and registrations never wait for the receiver.

mod sender;
mod signature;

use chrono::TimeDelta;
use outbox::Table;

pub use self::{
    sender::{Deliverer, Sender, TIMEOUT, worker},
    signature::{SigningKey, signature},
};

/// The table `webhooks`.
pub static WEBHOOKS: Table = outbox::table!(
    table: "webhooks", id: "id", metrics: "auth.webhook.outbox", event: "webhook", what: "webhooks"
);

/// A webhook that could not be delivered is discarded after this time.
pub const LIFETIME: TimeDelta = TimeDelta::days(3);
