//! Webhooks: events, told to a receiver of the operator's.

use chrono::TimeDelta;
use outbox::Table;

/// The table `webhooks`.
pub static WEBHOOKS: Table = outbox::table!(
    table: "webhooks", id: "id", metrics: "auth.webhook.outbox", event: "webhook", what: "webhooks"
);

/// After this time a webhook that could not be delivered is given up.
pub const LIFETIME: TimeDelta = TimeDelta::days(3);
