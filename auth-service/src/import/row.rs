//! One account of an import.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    domain::{AccountId, Email},
    password::{FirebaseParameters, MOST_MEMORY_HARD, PasswordHash, Scheme},
};

/// An account that is ready to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id; a new one if the line has none.
    pub id: AccountId,
    /// Its email.
    pub email: Email,
    /// The hash of its password, or the marker for an account without a password.
    pub password_hash: PasswordHash,
    /// When it was created; the present time if the line does not say.
    pub created_at: DateTime<Utc>,
    /// Whether its email has been confirmed.
    pub email_verified: bool,
    /// Whether it is disabled.
    pub disabled: bool,
}

/// Why a line is refused. The text may name members but never quotes other content of the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The members of a line.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Members {
    pub(super) id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) created_at: Option<String>,
    pub(super) email_verified: Option<bool>,
    pub(super) disabled: Option<bool>,
}

impl Members {
    pub(super) fn from_json(line: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(line).map_err(|error| {
            let text = error.to_string();
            // Other messages of the parser may quote the line, which can contain a password hash.
            let told = ["unknown field", "duplicate field"].iter().any(|it| text.starts_with(it));
            match text.split_once(", expected").or_else(|| text.split_once(" at line")) {
                Some((what, _)) if told => Refusal(what.replacen("field", "member", 1)),
                _ => {
                    Refusal("is not one JSON object whose members have the right types".to_owned())
                }
            }
        })
    }
}

/// The rules for lines.
#[derive(Debug)]
pub struct RowRules {
    firebase: Option<FirebaseParameters>,
    /// The memory-hard schemes in use. Every login costs as much as all of them.
    memory_hard: BTreeSet<Scheme>,
}

impl RowRules {
    /// The rules for a database that already stores hashes of these schemes.
    #[must_use]
    pub fn new(
        firebase: Option<FirebaseParameters>,
        stored: impl IntoIterator<Item = Scheme>,
    ) -> Self {
        let memory_hard = stored.into_iter().filter(|scheme| scheme.takes_memory()).collect();
        Self { firebase, memory_hard }
    }

    pub(super) fn read(&mut self, members: Members, now: DateTime<Utc>) -> Result<Row, Refusal> {
        let refused = |what: &str| Refusal(what.to_owned());
        let email = members.email.ok_or_else(|| refused("has no email"))?;
        let email = Email::parse(&email).map_err(|(_, rule)| Refusal(format!("email {rule}")))?;
        let id = match members.id {
            None => AccountId::generate(),
            Some(text) => {
                let id = Uuid::try_parse(&text).ok().filter(|id| {
                    !id.is_nil() && id.hyphenated().to_string() == text.to_ascii_lowercase()
                });
                AccountId(id.ok_or_else(|| refused("id is not a UUID in its usual form"))?)
            }
        };
        let created_at = match members.created_at {
            None => now,
            Some(text) => {
                let time = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc());
                let time = time.and_then(|t| DateTime::from_timestamp_micros(t.timestamp_micros()));
                time.filter(|time| *time <= now && time.timestamp() >= 0)
                    .ok_or_else(|| refused("created_at is not a past time as of RFC 3339"))?
            }
        };
        Ok(Row {
            id,
            email,
            password_hash: self.hash(members.password_hash)?,
            created_at,
            email_verified: members.email_verified.unwrap_or(false),
            disabled: members.disabled.unwrap_or(false),
        })
    }

    /// Parses a hash. Without one, the account has no password.
    pub(crate) fn hash(&mut self, text: Option<String>) -> Result<PasswordHash, Refusal> {
        let Some(text) = text else {
            return Ok(PasswordHash::none());
        };
        let whole = self.firebase.as_ref().and_then(|parameters| parameters.complete(&text));
        let hash = PasswordHash::import(&whole.unwrap_or(text))
            .map_err(|reason| Refusal(format!("password_hash cannot be used: {reason}")))?;
        if let Some(scheme) = hash.scheme().filter(|scheme| scheme.takes_memory()) {
            if !self.memory_hard.contains(&scheme) && self.memory_hard.len() >= MOST_MEMORY_HARD {
                return Err(Refusal(format!(
                    "password_hash cannot be used: hashes with {MOST_MEMORY_HARD} other sets of \
                     parameters that take memory are in use, and every login costs each of them"
                )));
            }
            self.memory_hard.insert(scheme);
        }
        Ok(hash)
    }
}
