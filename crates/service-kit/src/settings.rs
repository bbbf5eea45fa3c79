//! Settings. A value comes from a flag, an environment variable or a line of `.env`, in this order
//! of precedence; a secret may also come from a file. All faults are reported at once, with the
//! name of the variable and never with the value of a secret.
//!
//! A setting is declared once, in a group, with [`settings!`](crate::settings!): its variable, its
//! default, how it is parsed, and the sentence that `--help` and the reference show.

mod declare;
mod dotenv;
mod flags;
mod names;
mod parse;
mod secret;
mod source;
mod text_file;
mod unknown;

pub use declare::{Group, Setting};
pub use flags::{Flag, HELP, reference, variables, with_flags, with_named_flags};
pub use names::Names;
pub use parse::{address, bearer_secret, boolean, integer, number, parsed, seconds, text};
pub use secret::Secret;
pub use source::{SettingsError, Source, note_unknown};
pub use text_file::{read_bytes, read_text};

#[doc(hidden)]
pub use declare::help as __help;
