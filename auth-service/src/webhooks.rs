//! Webhooks: events, told to a receiver of the operator's as they happen, by Standard Webhooks
//! (<https://www.standardwebhooks.com/>). Each is written to an outbox in the transaction of its event,
//! and sent by a worker until the receiver has taken it: at least once, and in order for each account.
//! Nobody who logs in or registers waits for the receiver.

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

/// After this time a webhook that could not be delivered is given up.
pub const LIFETIME: TimeDelta = TimeDelta::days(3);
