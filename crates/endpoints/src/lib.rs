//! Client-side discovery and load balancing: finds the addresses of a service by DNS, spreads calls over them, and
//! excludes failing ones.
//!
//! A [`ServiceUrl`] names a service by an address, by a name with one or many addresses, or by an SRV name
//! (RFC 2782) such as `srv+https://_jwks._tcp.auth.example/keys`. [`Endpoints`] keeps its addresses:
//!
//! - **Refreshed** when the TTL of the answer is over, which is limited to 1 s to 60 s, and as soon as an address
//!   failed. Each look-up reads `/etc/resolv.conf` and `/etc/hosts` again.
//! - **Kept** while DNS is unavailable, has no records or does not know the name, because none of that means that the
//!   service is gone. If no answer has ever arrived, calls fail with the reason, and DNS is asked again after 1 s.
//! - **Balanced**: calls take turns over the working addresses of the lowest priority number, evenly or in proportion
//!   to the weights of the SRV records.
//! - **Failover**: if an address fails, the next one is tried at once; if it has not answered after a quarter of a
//!   second (RFC 8305 section 5), the next one is tried in parallel. Failing and slow addresses are excluded for 1 s,
//!   growing to 30 s, unless there is no other.
//!
//! A call may therefore be sent more than once, so it must be idempotent.

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
