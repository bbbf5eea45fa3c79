//! What all services need and none owns: settings, telemetry, request identity, errors for both
//! edges, strict JSON, health, listeners, shutdown. It does not depend on messages of `proto/`, SQL
//! or domain types.

pub mod access;
pub mod admin;
pub mod api_docs;
mod body;
pub mod catalogue;
pub mod client_address;
pub mod clock;
pub mod code;
pub mod context;
pub mod edge;
pub mod error;
mod error_page;
pub mod field_code;
pub mod grpc;
pub mod health;
pub mod http_client;
pub mod json;
pub mod listen;
pub mod metrics;
pub mod otlp;
pub mod output;
pub mod page_token;
pub mod probe;
pub mod rest;
pub mod runtime;
pub mod server;
pub mod settings;
pub mod shutdown;
mod target;
pub mod telemetry;
pub mod tls;
pub mod trace;
