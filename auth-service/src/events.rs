//! Audit events: what happened to accounts, and who did it. An event is written in the transaction of the
//! change that it describes ([`Store::record`]), so neither can exist without the other. `docs/events.md`
//! lists them for operators and receivers of webhooks.
//!
//! An event contains no secret and no email address. Besides its account it has only the fields of its
//! variant of [`Event`].
//!
//! [`Store::record`]: crate::store::Store::record

use std::fmt;

use outbox::Origin;
use serde_json::{Map, Value, json};
use service_kit::client_address::Network;
use uuid::Uuid;

/// An event. Its name and data are a stable interface for readers of the table and receivers of webhooks:
/// names never change, and members are only added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An account was created by a registration.
    AccountRegistered {
        /// Whether its address was already confirmed, because the link in a mail created it.
        email_verified: bool,
    },
    /// An operator has created an account.
    AccountCreated,
    /// An account was deleted.
    AccountDeleted,
    /// An operator has disabled an account.
    AccountDisabled,
    /// An operator has enabled an account again.
    AccountEnabled,
    /// An operator has reset the limits on failed logins of an account.
    AccountUnlocked,
    /// A run of the import has added accounts.
    AccountsImported {
        /// How many accounts were added.
        taken: u64,
        /// How many lines were refused.
        refused: u64,
    },
    /// Accounts were exported, password hashes included.
    AccountsExported {
        /// The number of accounts.
        accounts: u64,
    },
    /// Logins to an account have failed. Recorded when a limit is exhausted, or when the right password
    /// arrives after failures.
    LoginFailed {
        /// How many failures count against the limit. If `policy` is `None`, those that count against the
        /// limit for this network.
        failures: u32,
        /// The name of the exhausted limit in `RateLimit-Policy`; `None` if the right password has
        /// arrived.
        policy: Option<&'static str>,
    },
    /// The right password was sent from a network from which it had not been sent in the last 30 days.
    LoginFromNewNetwork,
    /// A login with `offline_access` has started a session.
    SessionBegun {
        /// Its id.
        session: Uuid,
    },
    /// A session was ended.
    SessionEnded {
        /// Its id.
        session: Uuid,
        /// What ended it.
        by: SessionEnd,
    },
    /// All sessions and access tokens of an account were ended.
    AllSessionsEnded,
    /// A refresh token was presented that somebody else had already used, so its session was ended.
    SessionReuseDetected {
        /// Its id.
        session: Uuid,
    },
    /// The password was changed by somebody who knew it.
    PasswordChanged,
    /// An operator has requested a password reset link for the account.
    PasswordResetRequested,
    /// A new password was set with a link from a mail.
    PasswordReset,
    /// The address of an account was confirmed.
    EmailVerified,
    /// A change of the address was requested. The new address is not confirmed yet.
    EmailChangeRequested,
    /// The account has a new, confirmed address.
    EmailChanged,
}

/// What ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// A logout with one of its refresh tokens.
    Logout,
    /// The owner, from the list of sessions.
    Owner,
    /// The account exceeded its limit of sessions, and this one had been unused for longest.
    Limit,
}

impl Event {
    /// The name of the event. Log lines about the same event use it too.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AccountRegistered { .. } => "account.registered",
            Self::AccountCreated => "account.created",
            Self::AccountDeleted => "account.deleted",
            Self::AccountDisabled => "account.disabled",
            Self::AccountEnabled => "account.enabled",
            Self::AccountUnlocked => "account.unlocked",
            Self::AccountsImported { .. } => "accounts.imported",
            Self::AccountsExported { .. } => "accounts.exported",
            Self::LoginFailed { .. } => "login.failed",
            Self::LoginFromNewNetwork => "login.new_network",
            Self::SessionBegun { .. } => "session.begun",
            Self::SessionEnded { .. } => "session.ended",
            Self::AllSessionsEnded => "session.all_ended",
            Self::SessionReuseDetected { .. } => "session.reuse_detected",
            Self::PasswordChanged => "password.changed",
            Self::PasswordResetRequested => "password.reset_requested",
            Self::PasswordReset => "password.reset",
            Self::EmailVerified => "email.verified",
            Self::EmailChangeRequested => "email.change_requested",
            Self::EmailChanged => "email.changed",
        }
    }

    /// The data of the event, besides its account.
    #[must_use]
    pub fn data(&self) -> Map<String, Value> {
        let data = match self {
            Self::AccountRegistered { email_verified } => {
                json!({ "email_verified": email_verified })
            }
            Self::AccountsImported { taken, refused } => {
                json!({ "taken": taken, "refused": refused })
            }
            Self::AccountsExported { accounts } => json!({ "accounts": accounts }),
            Self::LoginFailed { failures, policy } => {
                json!({ "failures": failures, "policy": policy })
            }
            Self::SessionBegun { session } | Self::SessionReuseDetected { session } => {
                json!({ "session": session.to_string() })
            }
            Self::SessionEnded { session, by } => {
                let by = match by {
                    SessionEnd::Logout => "logout",
                    SessionEnd::Owner => "owner",
                    SessionEnd::Limit => "limit",
                };
                json!({ "session": session.to_string(), "by": by })
            }
            Self::AccountCreated
            | Self::AccountDeleted
            | Self::AccountDisabled
            | Self::AccountEnabled
            | Self::AccountUnlocked
            | Self::LoginFromNewNetwork
            | Self::AllSessionsEnded
            | Self::PasswordChanged
            | Self::PasswordResetRequested
            | Self::PasswordReset
            | Self::EmailVerified
            | Self::EmailChangeRequested
            | Self::EmailChanged => Value::Null,
        };
        match data {
            Value::Object(data) => data,
            _ => Map::new(),
        }
    }
}

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The owner of the account: somebody with its password, one of its tokens, or a link that was mailed
    /// to it.
    Account,
    /// An unauthenticated client.
    Anonymous,
    /// An operator at the command line, with direct access to the database.
    Operator,
    /// A back office that calls `AdminService` with `ADMIN_TOKEN`.
    Admin,
    /// A back office that calls `AdminService` with a client certificate of this name.
    Certificate(String),
    /// Another service that calls `AccountService`.
    Service,
}

/// The form in the table and in the log.
impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => formatter.write_str("account"),
            Self::Anonymous => formatter.write_str("anonymous"),
            Self::Operator => formatter.write_str("operator"),
            Self::Admin => formatter.write_str("admin"),
            Self::Certificate(name) => write!(formatter, "certificate:{name}"),
            Self::Service => formatter.write_str("service"),
        }
    }
}

/// Who did something, from where, and by which request.
#[derive(Debug, Clone)]
pub struct Cause<'a> {
    /// Who did it.
    pub actor: Actor,
    /// The client's network; `None` at the command line.
    pub network: Option<Network>,
    /// The request. At the command line, an id that was generated for the command, or an empty one.
    pub origin: &'a Origin,
}

/// The origin of a request.
#[derive(Debug, Clone)]
pub struct Requester {
    /// The client's network.
    pub network: Network,
    /// The request.
    pub origin: Origin,
}

impl Requester {
    /// The cause of an action that `actor` takes with this request.
    #[must_use]
    pub const fn acting_as(&self, actor: Actor) -> Cause<'_> {
        Cause { actor, network: Some(self.network), origin: &self.origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_an_object_with_no_member_that_every_event_has() {
        let session = Uuid::nil();
        for event in [
            Event::AccountRegistered { email_verified: true },
            Event::AccountsImported { taken: 2, refused: 1 },
            Event::AccountsExported { accounts: 2 },
            Event::LoginFailed { failures: 10, policy: None },
            Event::SessionBegun { session },
            Event::SessionEnded { session, by: SessionEnd::Limit },
            Event::SessionReuseDetected { session },
        ] {
            let data = event.data();
            assert!(!data.is_empty(), "{event:?}");
            for common in ["account", "actor", "network", "request_id"] {
                assert!(!data.contains_key(common), "{event:?}");
            }
        }
        assert!(Event::PasswordChanged.data().is_empty());
    }
}
