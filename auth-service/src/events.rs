//! Events: what happened to accounts, and who did it, for whoever has to answer for it later. Each is
//! written in the transaction of what it tells ([`Store::record`]), so that neither can be there without
//! the other. `docs/events.md` lists them for operators and receivers of webhooks.
//!
//! An event holds no secret and no address: what it may tell beside its account is the fields of its
//! variant of [`Event`], and nothing else.
//!
//! [`Store::record`]: crate::store::Store::record

use std::fmt;

use outbox::Origin;
use serde_json::{Map, Value, json};
use service_kit::client_address::Network;
use uuid::Uuid;

/// Something that happened. Its name and its data are a promise to whoever reads the table or receives
/// webhooks: names stay, and members are only added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An account came into being by a registration.
    AccountRegistered {
        /// Whether its address was confirmed at once, by the link that made it.
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
    /// An operator has taken back the limits on failed logins of an account.
    AccountUnlocked,
    /// Accounts were imported, in one run.
    AccountsImported {
        /// How many were taken.
        taken: u64,
        /// How many lines were refused.
        refused: u64,
    },
    /// Accounts were exported, password hashes included.
    AccountsExported {
        /// How many.
        accounts: u64,
    },
    /// Logins to an account have failed, and a limit on them is used up, or the right password has come.
    LoginFailed {
        /// How many count against the limit; without one, against that of the network.
        failures: u32,
        /// The limit that is used up, by its name in `RateLimit-Policy`; nothing where the right password
        /// has come.
        policy: Option<&'static str>,
    },
    /// The right password of an account has come from a network from which it had not come within 30 days.
    LoginFromNewNetwork,
    /// A login with `offline_access` has begun a session.
    SessionBegun {
        /// Its id.
        session: Uuid,
    },
    /// A session was ended.
    SessionEnded {
        /// Its id.
        session: Uuid,
        /// What has ended it.
        by: SessionEnd,
    },
    /// All sessions and access tokens of an account were ended.
    AllSessionsEnded,
    /// A refresh token was presented that somebody else has used, and its session was ended.
    SessionReuseDetected {
        /// Its id.
        session: Uuid,
    },
    /// The password was changed by somebody who knew it.
    PasswordChanged,
    /// An operator has had a link sent to choose a new password.
    PasswordResetRequested,
    /// A new password was chosen by a link.
    PasswordReset,
    /// The address of an account was confirmed.
    EmailVerified,
    /// Another address was asked for, which is not confirmed yet.
    EmailChangeRequested,
    /// The account has another address, which is confirmed.
    EmailChanged,
}

/// What has ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// A logout with one of its refresh tokens.
    Logout,
    /// Its owner, from the list of sessions.
    Owner,
    /// The account had more sessions than it may have, and this one was unused for longest.
    Limit,
}

impl Event {
    /// Its name, which the log has too where it tells the same.
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

    /// What it tells beside its account.
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

/// Who did what an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The account: somebody who presented its password, a token of it, or a link that it was mailed.
    Account,
    /// Anybody.
    Anonymous,
    /// Somebody at the command line, beside the database.
    Operator,
    /// A back office, over `AdminService`, that presents `ADMIN_TOKEN`.
    Admin,
    /// A back office that presents a client certificate with this name.
    Certificate(String),
    /// Another service, over `AccountService`.
    Service,
}

/// As the table and the log have it.
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

/// Who did something, and by which request.
#[derive(Debug, Clone)]
pub struct Cause<'a> {
    /// Who did it.
    pub actor: Actor,
    /// From where; nothing at the command line.
    pub network: Option<Network>,
    /// The request; at the command line an id that was made for the command, or an empty one.
    pub origin: &'a Origin,
}

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Requester {
    /// The client's network.
    pub network: Network,
    /// The request.
    pub origin: Origin,
}

impl Requester {
    /// The cause of what `actor` does by this request.
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
