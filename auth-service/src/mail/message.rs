//! The content of mails, before it is rendered.

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

            /// Its name in logs and metrics, and of its templates.
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
    /// A notice to an address that already has an account: somebody tried to use it for another
    /// account.
    EmailTaken = "email_taken";
    /// The password was changed by somebody who knew it.
    PasswordChanged = "password_changed";
    /// The password was set with a link.
    PasswordWasReset = "password_was_reset";
    /// A notice to the present address: a change of address was requested and waits to be
    /// confirmed.
    EmailChangeRequested = "email_change_requested";
    /// A notice to the previous and the new address: the address was changed.
    EmailChanged = "email_changed";
    /// The account was deleted by its owner.
    AccountDeleted = "account_deleted";
}

/// A mail before it is rendered.
#[derive(Debug)]
pub struct Message<'a> {
    /// Which mail it is.
    pub kind: Kind,
    /// The recipient.
    pub to: &'a Email,
    /// When the event happened that the mail is about.
    pub time: DateTime<Utc>,
    /// The link and its lifetime, if the mail has one.
    pub link: Option<(&'a Secret, Duration)>,
    /// The address before a change.
    pub previous_email: Option<&'a Email>,
    /// The address after a change.
    pub new_email: Option<&'a Email>,
}

impl<'a> Message<'a> {
    /// Creates a mail without a link or a change of address.
    #[must_use]
    pub const fn new(kind: Kind, to: &'a Email, time: DateTime<Utc>) -> Self {
        Self { kind, to, time, link: None, previous_email: None, new_email: None }
    }

    /// Adds a link with this lifetime.
    #[must_use]
    pub const fn link(mut self, link: &'a Secret, lifetime: Duration) -> Self {
        self.link = Some((link, lifetime));
        self
    }

    /// Adds the addresses before and after a change.
    #[must_use]
    pub const fn change(mut self, previous: &'a Email, new: &'a Email) -> Self {
        self.previous_email = Some(previous);
        self.new_email = Some(new);
        self
    }
}

/// A rendered mail. It is stored encrypted in the outbox.
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
    /// The link that it contains, for the log line of the development mode.
    pub link: Option<String>,
}

/// Prints nothing, because a mail contains an address and perhaps a secret link.
impl std::fmt::Debug for Rendered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Rendered([redacted])")
    }
}
