//! What a mail tells.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use service_kit::settings::Secret;

use crate::domain::Email;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {
        /// The kinds of mail.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its name: in logs and metrics, and of its templates.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The embedded templates: text, HTML.
            pub(super) const fn embedded(self) -> [&'static str; 2] {
                match self {
                    $(Self::$kind => [
                        include_str!(concat!("templates/", $name, ".txt")),
                        include_str!(concat!("templates/", $name, ".html")),
                    ],)*
                }
            }
        }
    };
}

kinds! {
    /// A link to choose a new password.
    PasswordReset = "password_reset";
    /// A link to choose the first password of an account that an operator has created.
    AccountCreated = "account_created";
    /// A link to confirm the address of an account, or of a registration.
    EmailVerification = "email_verification";
    /// A link, to the new address, to confirm a change of address.
    EmailChange = "email_change";
    /// To an address that has an account: somebody wanted another account to have it.
    EmailTaken = "email_taken";
    /// The password was changed by who knew it.
    PasswordChanged = "password_changed";
    /// The password was set by a link.
    PasswordWasReset = "password_was_reset";
    /// To the present address: a change of address waits for the new one.
    EmailChangeRequested = "email_change_requested";
    /// To the previous and the new address: the address was changed.
    EmailChanged = "email_changed";
    /// The account was deleted by its owner.
    AccountDeleted = "account_deleted";
}

/// A mail before it is put into words.
#[derive(Debug)]
pub struct Message<'a> {
    /// What it tells.
    pub kind: Kind,
    /// Whom.
    pub to: &'a Email,
    /// When that happened.
    pub time: DateTime<Utc>,
    /// The link and how long it works, where there is one.
    pub link: Option<(&'a Secret, Duration)>,
    /// The address before, of a change.
    pub previous_email: Option<&'a Email>,
    /// The address after, of a change.
    pub new_email: Option<&'a Email>,
}

impl<'a> Message<'a> {
    /// A mail without link and addresses.
    #[must_use]
    pub const fn new(kind: Kind, to: &'a Email, time: DateTime<Utc>) -> Self {
        Self { kind, to, time, link: None, previous_email: None, new_email: None }
    }

    /// With a link that works for a time.
    #[must_use]
    pub const fn link(mut self, link: &'a Secret, lifetime: Duration) -> Self {
        self.link = Some((link, lifetime));
        self
    }

    /// About a change of address.
    #[must_use]
    pub const fn change(mut self, previous: &'a Email, new: &'a Email) -> Self {
        self.previous_email = Some(previous);
        self.new_email = Some(new);
        self
    }
}

/// A mail in words: what the outbox keeps, sealed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Rendered {
    /// The address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same in HTML.
    pub html: String,
    /// The link in it, for the log line of the development mode.
    pub link: Option<String>,
}

/// A mail holds an address and perhaps a link that is a secret.
impl std::fmt::Debug for Rendered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Rendered([redacted])")
    }
}
