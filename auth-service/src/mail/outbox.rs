//! The outbox of mail. A mail is encrypted and stored in the transaction of the change that it reports. A
//! worker sends it, with retries until it is delivered or obsolete.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use outbox::{Backlog, Backoff, Deliver, Entry, NewEntry, Origin, Outbox, Outcome, Table, Worker};
use serde::{Deserialize, Serialize};
use service_kit::{clock::Clock, metrics::Metrics};
use sql_kit::{Sql, Unit};
use uuid::Uuid;

use super::{
    message::{Kind, Message, Rendered},
    smtp::DELIVERY_TIMEOUT,
    templates::Templates,
    transport::Sender,
};
use crate::{error::Error, keys::Sealer};

/// The table `mails`.
pub static MAILS: Table = outbox::table!(
    table: "mails", id: "id", metrics: "auth.mail.outbox", event: "mail", what: "mails"
);

/// A notice without a link is discarded after this time.
const NOTICE_LIFETIME: TimeDelta = TimeDelta::days(3);

/// How long a mail waits, so that the response to the request that caused it is sent first.
const AFTER_ANSWER: Duration = Duration::from_millis(50);

const SETTINGS: outbox::Settings = outbox::Settings {
    concurrency: 4,
    delivery_timeout: DELIVERY_TIMEOUT.saturating_add(Duration::from_secs(5)),
    poll_interval: Duration::from_secs(1),
    backoff: Backoff { first: Duration::from_secs(10), most: Duration::from_secs(600) },
};

/// The content of an entry, before it is encrypted.
#[derive(Serialize, Deserialize)]
struct Content {
    kind: String,
    mail: Rendered,
}

/// A rendered and encrypted mail that can be added to the outbox.
#[derive(Debug)]
pub struct Outgoing {
    id: Uuid,
    sealed: Vec<u8>,
    expires_at: DateTime<Utc>,
}

impl Outgoing {
    /// Its id in the outbox.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }
}

/// Writes mails and has them sent. Clones share the outbox and the keys.
#[derive(Debug, Clone)]
pub struct Mailer {
    outbox: Outbox,
    clock: Clock,
    templates: Arc<Templates>,
    sender: Arc<Sender>,
    service: Arc<OnceLock<String>>,
    /// Empty until the key has been loaded from the database.
    sealer: Arc<OnceLock<Sealer>>,
}

impl Mailer {
    /// A mailer whose outbox is in `sql`.
    #[must_use]
    pub fn new(sql: Sql, templates: Templates, sender: Sender) -> Self {
        let service = Arc::new(OnceLock::new());
        if let Some(name) = sender.name() {
            let _ = service.set(name.to_owned());
        }
        Self {
            clock: sql.clock().clone(),
            outbox: Outbox::new(sql, &MAILS),
            templates: Arc::new(templates),
            sender: Arc::new(sender),
            service,
            sealer: Arc::default(),
        }
    }

    /// Sets the key that encrypts mails. Only the first call has an effect.
    pub fn use_sealer(&self, sealer: Sealer) {
        let _ = self.sealer.set(sealer);
    }

    /// Sets the name of the service in mails. A name in `MAIL_FROM` takes precedence.
    pub fn use_name(&self, name: &str) {
        let _ = self.service.set(name.to_owned());
    }

    /// Renders and encrypts a mail.
    ///
    /// # Errors
    ///
    /// [`Error::DatabaseUnavailable`] if the key has not been loaded yet; [`Error::Internal`] if a template
    /// fails.
    pub fn write(&self, message: &Message<'_>) -> Result<Outgoing, Error> {
        let sealer = self.sealer.get().ok_or(Error::DatabaseUnavailable)?;
        let service = self.service.get().map_or("this service", String::as_str);
        let mail = self.templates.render(message, service).map_err(|error| {
            tracing::error!(%error, "a mail cannot be written");
            Error::Internal
        })?;
        let lifetime = message.link.map_or(NOTICE_LIFETIME, |(_, lifetime)| {
            TimeDelta::from_std(lifetime).unwrap_or(NOTICE_LIFETIME)
        });
        let content = Content { kind: message.kind.as_str().to_owned(), mail };
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(&content).unwrap_or_default());
        let id = Uuid::now_v7();
        let sealed = sealer.seal(&id.to_string(), &plain).map_err(|error| {
            tracing::error!(%error, "a mail cannot be sealed");
            Error::Internal
        })?;
        Ok(Outgoing { id, sealed, expires_at: self.clock.now() + lifetime })
    }

    /// Adds a mail to the outbox, in the transaction of `unit`.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn add(
        &self,
        unit: &mut Unit,
        mail: &Outgoing,
        origin: &Origin,
    ) -> Result<(), sqlx::Error> {
        let entry = NewEntry {
            id: mail.id,
            order_key: None,
            payload: &mail.sealed,
            origin,
            expires_at: Some(mail.expires_at),
        };
        self.outbox.add(unit, &entry).await.map(|_| ())
    }

    /// Removes a mail from the outbox, in the transaction of `unit`.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn remove(&self, unit: &mut Unit, id: Uuid) -> Result<(), sqlx::Error> {
        self.outbox.remove(unit, id).await.map(|_| ())
    }

    /// Wakes the worker. Call it after the transaction is committed.
    pub fn wake(&self) {
        self.outbox.wake();
    }

    /// Wakes the worker after a short delay, when the response has been sent. Otherwise sending a mail
    /// could slow down the response, and its duration would reveal whether there is a mail.
    pub fn wake_after_answer(&self) {
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AFTER_ANSWER).await;
            outbox.wake();
        });
    }

    /// The worker that delivers the outbox, forever. Dropping its future does not release its leases;
    /// [`Worker::release`] does.
    #[must_use]
    pub fn worker(&self, metrics: &Metrics) -> (Worker<Deliverer>, Backlog) {
        let backlog = Backlog::new(self.outbox.clone(), metrics);
        let deliverer =
            Deliverer { sender: Arc::clone(&self.sender), sealer: Arc::clone(&self.sealer) };
        (Worker::new(self.outbox.clone(), backlog.clone(), SETTINGS, deliverer), backlog)
    }
}

/// Decrypts mails and sends them.
#[derive(Debug)]
pub struct Deliverer {
    sender: Arc<Sender>,
    sealer: Arc<OnceLock<Sealer>>,
}

impl Deliver for Deliverer {
    async fn deliver(&self, entry: &Entry) -> Outcome {
        let Some(sealer) = self.sealer.get() else {
            return Outcome::retry("the key is not there yet");
        };
        let id = entry.id.to_string();
        let Ok(plain) = sealer.open(&id, &entry.payload) else {
            return Outcome::Discard("it was sealed under another key".to_owned());
        };
        let Ok(Content { kind, mail }) = serde_json::from_slice(&plain) else {
            return Outcome::Discard("it cannot be read".to_owned());
        };
        let Some(kind) = Kind::ALL.iter().copied().find(|known| known.as_str() == kind) else {
            return Outcome::Discard("it is of an unknown kind".to_owned());
        };
        match self.sender.send(&mail, kind, entry.id, entry.created_at).await {
            Ok(()) => {
                let kind = kind.as_str();
                tracing::info!(event = "mail.sent", mail = %entry.id, kind, "mail sent");
                Outcome::Delivered
            }
            // Even a 5xx reply can be temporary, for example because of a wrong password in SMTP_URL. So a
            // mail is retried until it is obsolete.
            Err(failure) => Outcome::retry(format!("{}: {failure}", failure.kind.as_str())),
        }
    }
}
