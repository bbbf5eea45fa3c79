//! The addresses of a service: found by DNS, spread over, with the dead ones left out.
//!
//! A [`ServiceUrl`] names a service by an address, by a name with one or many addresses, or by an SRV name
//! (RFC 2782) such as `srv+https://_jwks._tcp.auth.example/keys`. [`Endpoints`] keeps what DNS said of it:
//!
//! - **Resolved anew** when the TTL of the answer is over, which counts as at least 1 s and at most 60 s, and as
//!   soon as an address failed. `/etc/resolv.conf` and `/etc/hosts` are read each time.
//! - **Kept** while DNS is away, has no records or does not know the name: none of that says that the service
//!   is gone. Whoever has never got an answer is told why, and DNS is asked again after 1 s.
//! - **Spread**: calls go to the addresses in turn, or in the proportions of the SRV records' weights, among those
//!   of the lowest priority that work.
//! - **Tried in turn**: an address that fails makes way for the next at once, one that does not answer after a quarter
//!   of a second (RFC 8305 section 5): it is asked beside the next. Both are then left out for 1 s, growing to 30 s, unless
//!   there is no other.
//!
//! So what is called must bear being called twice.

mod connector;
mod endpoints;
mod members;
mod resolver;
mod url;

pub use crate::{
    connector::ToAddress,
    endpoints::{CallError, Endpoints, Failure},
    resolver::{ResolveError, Resolver},
    url::{ServiceUrl, UrlError, has_valid_port},
};
