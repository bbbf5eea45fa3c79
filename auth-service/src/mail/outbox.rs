//! The outbox of mail: what is written in the transaction of what it tells, sealed, and sent by a worker
//! until it has arrived or no longer matters.

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
    templates::Templates,
    transport::{DELIVERY_TIMEOUT, Sender},
};
use crate::{error::Error, keys::Sealer};

/// The table `mails`.
pub static MAILS: Table = outbox::table!(
    table: "mails", id: "id", metrics: "auth.mail.outbox", event: "mail", what: "mails"
);

/// After this time a notice without a link is given up.
const NOTICE_LIFETIME: TimeDelta = TimeDelta::days(3);

/// How long a mail waits for the answer to the request that asked for it.
const AFTER_ANSWER: Duration = Duration::from_millis(50);

const SETTINGS: outbox::Settings = outbox::Settings {
    concurrency: 4,
    delivery_timeout: DELIVERY_TIMEOUT.saturating_add(Duration::from_secs(5)),
    poll_interval: Duration::from_secs(1),
    backoff: Backoff { first: Duration::from_secs(10), most: Duration::from_secs(600) },
};

/// What an entry holds, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Content {
    kind: String,
    mail: Rendered,
}

/// A mail that is ready to be written to the outbox.
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

/// Writes mails, and has them sent. Clones share everything.
#[derive(Debug, Clone)]
pub struct Mailer {
    outbox: Outbox,
    clock: Clock,
    templates: Arc<Templates>,
    sender: Arc<Sender>,
    service: Arc<OnceLock<String>>,
    /// Known once the database has been seen.
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

    /// Takes up the key under which mails are sealed. The first one stays.
    pub fn use_sealer(&self, sealer: Sealer) {
        let _ = self.sealer.set(sealer);
    }

    /// Has mails speak in this name, unless their sender has one.
    pub fn use_name(&self, name: &str) {
        let _ = self.service.set(name.to_owned());
    }

    /// Puts a mail into words and seals it.
    ///
    /// # Errors
    ///
    /// [`Error::DatabaseUnavailable`] before the key is there; [`Error::Internal`] where a template fails.
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
    /// Those of the database.
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

    /// Takes a mail out of the outbox again, in the transaction of `unit`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn remove(&self, unit: &mut Unit, id: Uuid) -> Result<(), sqlx::Error> {
        self.outbox.remove(unit, id).await.map(|_| ())
    }

    /// Has the worker look at once: call it when the transaction is committed.
    pub fn wake(&self) {
        self.outbox.wake();
    }

    /// Has the worker look a moment later, when the request that asks for a mail has been answered: whether
    /// there is one to send must not be told by what sending it takes from the answer.
    pub fn wake_after_answer(&self) {
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AFTER_ANSWER).await;
            outbox.wake();
        });
    }

    /// Sends what is in the outbox, for ever. Dropped, it gives nothing back: see [`Worker::release`].
    #[must_use]
    pub fn worker(&self, metrics: &Metrics) -> (Worker<Deliverer>, Backlog) {
        let backlog = Backlog::new(self.outbox.clone(), metrics);
        let deliverer =
            Deliverer { sender: Arc::clone(&self.sender), sealer: Arc::clone(&self.sealer) };
        (Worker::new(self.outbox.clone(), backlog.clone(), SETTINGS, deliverer), backlog)
    }
}

/// Opens mails and sends them.
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
            // Even a refusal may be of the moment, a wrong password in SMTP_URL for instance: a mail is
            // given up when it no longer matters, and not before.
            Err(failure) => Outcome::retry(format!("{}: {failure}", failure.kind.as_str())),
        }
    }
}
