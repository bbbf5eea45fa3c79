//! Which client a request comes from, for limits per network: the socket's peer, or what trusted
//! proxies say of it.

use std::net::{IpAddr, Ipv6Addr};

use http::{Extensions, HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

use crate::listen::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The network of a client: one IPv4 address, or an IPv6 prefix of 64 bits, which is what one
/// customer of a provider has to himself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address. An IPv4 address in IPv6 form counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from_bits(prefix)))
            }
            address => Self(address),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The proxies whose word on the client's address counts (`TRUSTED_PROXIES`).
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl std::str::FromStr for TrustedProxies {
    type Err = String;

    /// Reads networks in CIDR notation or single addresses, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                let network = entry.parse().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
                network.map_err(|_| format!("{entry} is not a network such as 10.0.0.0/8"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl TrustedProxies {
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The network of the client that sent a request. `X-Forwarded-For` and `Forwarded` (RFC 7239)
    /// count only if the socket's peer is trusted, and then from the right up to the first address
    /// that is not: what stands further left is the client's own word. Where both are given and
    /// differ, one of them is made up, and the peer itself counts.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap, extensions: &Extensions) -> Network {
        let peer = extensions
            .get::<Peer>()
            .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |Peer(address)| address.ip());
        if !self.contains(peer) {
            return Network::of(peer);
        }
        let by_list = headers
            .contains_key(&X_FORWARDED_FOR)
            .then(|| self.last_untrusted(elements(headers, &X_FORWARDED_FOR).map(address)));
        let by_standard = headers
            .contains_key(FORWARDED)
            .then(|| self.last_untrusted(elements(headers, &FORWARDED).map(forwarded_for)));
        let client = match (by_list, by_standard) {
            (Some(one), Some(other)) if one != other => None,
            (one, other) => one.or(other).flatten(),
        };
        let client = client.unwrap_or(peer);
        Network::of(client)
    }

    /// From the right, the first address that is no trusted proxy's. One that cannot be read ends
    /// the search: nothing left of it can be believed.
    fn last_untrusted(&self, addresses: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let addresses: Vec<_> = addresses.collect();
        for address in addresses.into_iter().rev() {
            let address = address?;
            if !self.contains(address) {
                return Some(address);
            }
        }
        None
    }
}

/// The elements of a list field over all its lines (RFC 9110, section 5.6.1).
fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.to_str().unwrap_or("?").split(','))
        .map(str::trim)
}

/// An address, with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|address: std::net::SocketAddr| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// The `for` parameter of an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| address(value.trim_matches('"')))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, peer: &str, fields: &[(&'static str, &str)]) -> String {
        let trusted: TrustedProxies = trusted.parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let mut extensions = Extensions::new();
        extensions.insert(Peer(std::net::SocketAddr::new(peer.parse().unwrap(), 1)));
        trusted.client(&headers, &extensions).to_string()
    }

    #[test]
    fn without_trust_only_the_peer_counts() {
        let spoofed = [("x-forwarded-for", "9.9.9.9"), ("forwarded", "for=9.9.9.9")];
        assert_eq!(client("", "1.2.3.4", &spoofed), "1.2.3.4");
        assert_eq!(client("10.0.0.0/8", "1.2.3.4", &spoofed), "1.2.3.4");
    }

    #[test]
    fn a_trusted_proxy_is_read_from_the_right() {
        let trusted = "10.0.0.0/8, 192.168.0.1";
        let of = |value| client(trusted, "10.0.0.1", &[("x-forwarded-for", value)]);
        assert_eq!(of("9.9.9.9, 1.2.3.4"), "1.2.3.4");
        assert_eq!(of("9.9.9.9, 1.2.3.4, 10.1.1.1, 192.168.0.1"), "1.2.3.4");
        assert_eq!(of("1.2.3.4:5678"), "1.2.3.4");
        assert_eq!(of("10.1.1.1"), "10.0.0.1");
        assert_eq!(of("1.2.3.4, garbage"), "10.0.0.1");
        let two = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(client(trusted, "10.0.0.1", &two), "1.2.3.4");
        let of = |value| client(trusted, "::ffff:10.0.0.1", &[("forwarded", value)]);
        assert_eq!(of("for=9.9.9.9, For=\"[2001:db8:1:2:3::4]:80\";proto=https"), "2001:db8:1:2::");
        assert_eq!(of("proto=https"), "10.0.0.1");
    }

    #[test]
    fn two_fields_that_differ_are_not_believed() {
        let both = |one, other| {
            client("10.0.0.1", "10.0.0.1", &[("x-forwarded-for", one), ("forwarded", other)])
        };
        assert_eq!(both("1.2.3.4", "for=1.2.3.4"), "1.2.3.4");
        assert_eq!(both("1.2.3.4", "for=9.9.9.9"), "10.0.0.1");
        assert_eq!(both("10.0.0.1", "for=9.9.9.9"), "10.0.0.1");
    }

    #[test]
    fn an_ipv6_customer_is_one_network() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
        assert!("10.0.0.0/8,nonsense".parse::<TrustedProxies>().is_err());
    }
}
