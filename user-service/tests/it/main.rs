//! The user service as its users meet it: over REST and gRPC, on both engines.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

mod commands;
mod creation;
mod deletion;
mod etags;
mod grpc;
mod log_pipe;
mod logs;
mod openapi;
mod outage;
mod pages;
mod parity;
mod read_only;
mod reads;
mod rest;
mod revocations;
mod settings;
mod store;
mod visibility;
