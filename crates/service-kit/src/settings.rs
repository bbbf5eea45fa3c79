//! Settings: each is a flag, an environment variable and a line of `.env`, in this order; a secret
//! can also be in a file. All faults are reported at once, by the variable's name and never with a
//! secret's value.
//!
//! A setting is declared once, in a group, with [`settings!`](crate::settings!): its variable, its
//! default, how it is read, and the sentence that `--help` and the reference show.

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
