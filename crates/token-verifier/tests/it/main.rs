//! Tests of the crate from outside, with keys that are made at run time; only `vectors` has its own.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test itself does"
)]

mod accepted;
mod any_text;
mod doors;
mod forge;
mod forged;
mod jwks;
mod keys;
mod revocation_vectors;
mod revocations;
mod revoked;
mod vectors;
mod verified;
