//! Sends webhooks.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use outbox::{Backlog, Backoff, Deliver, Entry, Outbox, Outcome, Retry, Worker};
use service_kit::{clock::Clock, http_client::HttpClient, metrics::Metrics};

use super::signature::{SigningKey, signature};

/// The time limit of an attempt, from the name lookup to the headers of the response.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest `Retry-After` of a receiver that is respected.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long to wait after a 410 (Gone).
const GONE_WAIT: Duration = Duration::from_secs(600);

const SETTINGS: outbox::Settings = outbox::Settings {
    concurrency: 8,
    delivery_timeout: TIMEOUT.saturating_add(Duration::from_secs(5)),
    poll_interval: Duration::from_secs(1),
    backoff: Backoff { first: Duration::from_secs(5), most: Duration::from_secs(600) },
};

/// Signs webhooks and sends them to their receiver.
#[derive(Debug, Clone)]
pub struct Sender {
    client: HttpClient,
    url: Uri,
    keys: Vec<SigningKey>,
}

impl Sender {
    /// A sender to `url`. Every key in `keys` adds a signature.
    #[must_use]
    pub const fn new(client: HttpClient, url: Uri, keys: Vec<SigningKey>) -> Self {
        Self { client, url, keys }
    }

    fn request(
        &self,
        id: &str,
        timestamp: i64,
        body: &[u8],
    ) -> Result<Request<Bytes>, http::Error> {
        Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("latchkey-auth-service/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature(&self.keys, id, timestamp, body))
            .body(Bytes::copy_from_slice(body))
    }
}

/// The worker that delivers the outbox, forever.
#[must_use]
pub fn worker(
    outbox: &Outbox,
    sender: Sender,
    clock: Clock,
    metrics: &Metrics,
) -> (Worker<Deliverer>, Backlog) {
    let backlog = Backlog::new(outbox.clone(), metrics);
    let deliverer = Deliverer { sender, clock };
    (Worker::new(outbox.clone(), backlog.clone(), SETTINGS, deliverer), backlog)
}

/// Makes the delivery attempts.
#[derive(Debug)]
pub struct Deliverer {
    sender: Sender,
    clock: Clock,
}

impl Deliver for Deliverer {
    async fn deliver(&self, entry: &Entry) -> Outcome {
        // The timestamp of this attempt and not of the event, because receivers refuse old timestamps.
        let timestamp = self.clock.now().timestamp();
        let request = self.sender.request(&entry.id.to_string(), timestamp, &entry.payload);
        let Ok(request) = request else {
            return Outcome::Discard("it cannot be sent".to_owned());
        };
        match self.sender.client.send_for_head(request).await {
            Ok(head) => judge(head.status, &head.headers),
            Err(error) => Outcome::retry(error.to_string()),
        }
    }
}

/// Interprets a response. Everything except success is retried, because a receiver that is being
/// deployed may return anything for a while. That includes 410, with which a receiver ends its
/// subscription in Standard Webhooks: here the subscription is a setting, which the operator removes.
fn judge(status: StatusCode, headers: &HeaderMap) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered;
    }
    let at_least = match status {
        StatusCode::GONE => GONE_WAIT,
        _ => headers.get(RETRY_AFTER).and_then(seconds).unwrap_or_default(),
    };
    let reason = match status.as_u16() {
        300..=399 => format!("status {} (redirects are not followed)", status.as_u16()),
        410 => {
            "status 410: the receiver says that its address is gone; correct or remove WEBHOOK_URL"
                .to_owned()
        }
        status => format!("status {status}"),
    };
    Outcome::Retry(Retry { reason, at_least, at_most: None })
}

/// Parses `Retry-After` in seconds (RFC 9110, section 10.2.3). Dates are ignored.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(status: u16, retry_after: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        match judge(StatusCode::from_u16(status).unwrap(), &headers) {
            Outcome::Retry(retry) => Some(retry.at_least.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn success_alone_is_delivery_and_a_receiver_may_ask_to_wait() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(wait(status, None), None, "{status}");
        }
        for status in [301, 302, 307, 400, 401, 404, 422, 500, 503] {
            assert_eq!(wait(status, None), Some(0), "{status}");
        }
        assert_eq!(wait(410, None), Some(600));
        assert_eq!(wait(429, Some("30")), Some(30));
        assert_eq!(wait(503, Some("999999999")), Some(3600));
        for nonsense in ["-1", "x", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(wait(503, Some(nonsense)), Some(0), "{nonsense}");
        }
    }
}
