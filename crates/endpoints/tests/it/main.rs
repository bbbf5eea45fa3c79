//! The addresses of a service, with a name server and with replicas on the loopback interface.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod calls;
mod dns;
mod names;
