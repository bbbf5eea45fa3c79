//! The auth service as its users meet it: over REST and gRPC, on both engines.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod boot;
mod grpc;
mod keys;
mod logs;
mod metrics;
mod openapi;
mod probes;
mod process;
mod rest;
mod start;
mod stopping;
mod store;
mod support;
mod throttle;
mod tls;
