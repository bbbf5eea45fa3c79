//! The retention of events, and the webhook receiver.

use std::time::Duration;

use chrono::TimeDelta;
use http::Uri;
use service_kit::{
    http_client::{HttpClient, https_or_loopback},
    settings::{Source, number, seconds, text},
    tls::Authorities,
};

use crate::{
    service::EventRules,
    webhooks::{Sender, SigningKey, TIMEOUT},
};

/// Ten years, in seconds.
const DECADE: u64 = 315_360_000;
/// How much of a response is read, so that the connection can be reused.
const ANSWER_BYTES: usize = 64 * 1024;

service_kit::settings! {
    "Events"
    /// How long events are kept, and who is told of them.
    pub struct EventSettings {
        /// How long an event is kept, in seconds, 1 to 315360000.
        retention: Duration = value EVENTS_RETENTION("7776000", seconds(1, DECADE));
        /// How many events are kept at most, 0 to 1000000000; 0: any number. The oldest go first.
        most: u32 = value EVENTS_MAX_ROWS("1000000", number(0, 1_000_000_000));
        /// A receiver that is told of every event, by Standard Webhooks: https, or http to this machine.
        /// Unset: nobody is told.
        url: Option<Uri> = secret_as WEBHOOK_URL(https_or_loopback);
        /// What signs webhooks: whsec_ and 24 to 64 bytes in base64. Required with WEBHOOK_URL.
        key: Option<SigningKey> = secret_as WEBHOOK_SECRET(str::parse);
        /// An earlier or a coming WEBHOOK_SECRET that signs too, until the receiver knows the other one.
        previous: Option<SigningKey> = secret_as WEBHOOK_SECRET_PREVIOUS(str::parse);
        /// A PEM file with the authorities that are trusted for WEBHOOK_URL, in place of those of the
        /// system.
        ca_file: Option<String> = optional WEBHOOK_CA_FILE(text);
    }
}

/// Whether a webhook receiver is set. A command that changes the database must then queue webhooks too.
#[must_use]
pub fn has_webhooks(source: &Source) -> bool {
    source.is_set(&WEBHOOK_URL)
}

impl EventSettings {
    /// How long events are kept.
    pub(super) fn rules(&self) -> EventRules {
        let retention = TimeDelta::from_std(self.retention).unwrap_or(TimeDelta::MAX);
        EventRules { retention, most: self.most }
    }

    /// The webhook sender, if a receiver is set. If one is set and `None` is returned, a fault was
    /// recorded.
    pub(super) fn sender(self, source: &mut Source) -> Option<Sender> {
        if !source.is_set(&WEBHOOK_URL) {
            return None;
        }
        if !source.is_set(&WEBHOOK_SECRET) {
            source.fault(&WEBHOOK_SECRET, "is required with WEBHOOK_URL");
        }
        let authorities = match self.ca_file {
            Some(path) => Authorities::File(WEBHOOK_CA_FILE, path),
            None => Authorities::System,
        };
        let client = authorities.roots().and_then(|roots| {
            HttpClient::trusting(roots, TIMEOUT, ANSWER_BYTES)
                .map_err(|error| (WEBHOOK_CA_FILE, error.to_string()))
        });
        let client = client.map_err(|(setting, what)| source.fault(&setting, what));
        let keys = [self.key?].into_iter().chain(self.previous).collect();
        Some(Sender::new(client.ok()?, self.url?, keys))
    }
}
