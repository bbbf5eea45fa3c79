#![doc = include_str!("../README.md")]

mod claims;
mod clock;
mod json;
mod key;
mod key_set;
mod public_key;
mod revocation;
mod rules;
mod spki;
mod verified;
mod verifier;
mod verify;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "jwks")]
mod back_off;
#[cfg(feature = "jwks")]
mod feed;
#[cfg(feature = "jwks")]
mod fetch;
#[cfg(feature = "jwks")]
mod jwks;
#[cfg(feature = "tonic")]
pub mod tonic;

pub use crate::claims::Claims;
#[cfg(feature = "jwks")]
pub use crate::feed::{FeedOutcome, RevocationFeed, RevocationSource, revocations_beside};
#[cfg(feature = "jwks")]
pub use crate::fetch::{Access, UrlError};
#[cfg(feature = "jwks")]
pub use crate::jwks::{JwksCache, REFETCH_COOLDOWN};
pub use crate::key::{Algorithm, KeyError, VerificationKey};
pub use crate::key_set::KeySet;
pub use crate::revocation::{
    MAX_REVOCATIONS, RevocationDigest, RevocationEntry, RevocationError, RevocationList,
    RevocationPage,
};
pub use crate::rules::{MAX_EXP_LEEWAY, Rules};
pub use crate::verifier::{AuthError, Verifier, bearer_token};
pub use crate::verify::{MAX_TOKEN_BYTES, VerifyError, verify};
#[cfg(feature = "jwks")]
pub use endpoints::Resolver;
