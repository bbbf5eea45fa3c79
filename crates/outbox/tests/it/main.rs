//! The promises of an outbox, on both engines.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

mod operators;
mod worker;
