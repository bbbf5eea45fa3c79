//! The auth service as its users meet it: over REST and gRPC, on both engines.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod accounts_command;
mod admin;
mod boot;
mod credentials;
mod deletions;
mod events;
mod grpc;
mod hashes;
mod keys;
mod keys_command;
mod log_pipe;
mod logs;
mod metrics;
mod openapi;
mod overload;
mod probes;
mod process;
mod pruning;
mod rest;
mod sessions;
mod start;
mod stopping;
mod store;
mod stored_hashes;
mod support;
mod throttle;
mod tls;
mod upgrades;
