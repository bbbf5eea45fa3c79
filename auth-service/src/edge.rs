//! The two edges: thin adapters over [`crate::service::Service`].

pub mod grpc;
pub mod rest;
