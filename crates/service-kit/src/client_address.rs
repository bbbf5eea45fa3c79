//! Determines the client of a request, for limits per network: the peer of the socket, or the address that
//! trusted proxies report.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{Extensions, HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

use crate::listen::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The network of a client: one IPv4 address, or an IPv6 prefix of 64 bits, which providers usually assign to
/// one customer.
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

/// The network of a request, which both edges store in its extensions.
#[must_use]
pub fn network(extensions: &Extensions) -> Network {
    let network = extensions.get::<Network>().copied();
    network.unwrap_or_else(|| Network::of(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The proxies that are trusted to report the client's address (`TRUSTED_PROXIES`).
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// When a header from an untrusted peer was last logged.
    noted: Arc<Mutex<Option<Instant>>>,
}

/// The minimum interval between two log lines about untrusted headers.
const NOTE_INTERVAL: Duration = Duration::from_secs(3600);

impl std::str::FromStr for TrustedProxies {
    type Err = String;

    /// Parses networks in CIDR notation or single addresses, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                let network = entry.parse().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
                network.map_err(|_| format!("{entry} is not a network such as 10.0.0.0/8"))
            })
            .collect::<Result<_, _>>()
            .map(|networks| Self { networks, noted: Arc::default() })
    }
}

impl TrustedProxies {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The network of the client that sent a request.
    ///
    /// `X-Forwarded-For` and `Forwarded` (RFC 7239) count only if the peer of the socket is trusted.
    /// Addresses are then read from the right, up to the first one that is not a trusted proxy; anything
    /// further left may have been made up by the client. The peer itself counts in these cases: both headers
    /// are present and differ, so that one of them is forged; or the address that would count cannot be
    /// parsed, or is in a malformed header (an unterminated quoted string, or a repeated `for` in one
    /// element). A header without an address, such as a `Forwarded` without `for`, is ignored and so
    /// contradicts nothing.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap, extensions: &Extensions) -> Network {
        let peer = extensions
            .get::<Peer>()
            .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |Peer(address)| address.ip());
        if !self.contains(peer) {
            self.note_untrusted(headers, peer);
            return Network::of(peer);
        }
        let by_list = self.last_untrusted(addresses_of_list(headers));
        let by_standard = self.last_untrusted(addresses_of_standard(headers));
        let client = match (by_list, by_standard) {
            (Some(one), Some(other)) if one != other => None,
            (one, other) => one.or(other).flatten(),
        };
        let client = client.unwrap_or(peer);
        Network::of(client)
    }

    /// Logs an ignored header once per hour. It may be an attack, or a proxy that is missing in the setting,
    /// so that all its clients count as one.
    fn note_untrusted(&self, headers: &HeaderMap, peer: IpAddr) {
        let fields = [X_FORWARDED_FOR, FORWARDED];
        let Some(field) = fields.iter().find(|name| headers.contains_key(*name)) else {
            return;
        };
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_none_or(|at| at.elapsed() >= NOTE_INTERVAL) {
            *noted = Some(Instant::now());
            drop(noted);
            tracing::warn!(
                event = "forwarded.untrusted",
                peer = %Network::of(peer),
                field = field.as_str(),
                "not believed: if this is your proxy, name it in TRUSTED_PROXIES"
            );
        }
    }

    /// The first address from the right that is not a trusted proxy. An address that cannot be parsed ends
    /// the search, because anything left of it is unreliable. The outer `None` means that there is no
    /// address.
    fn last_untrusted(&self, addresses: Vec<Option<IpAddr>>) -> Option<Option<IpAddr>> {
        let is_client = |address: &Option<IpAddr>| address.is_none_or(|one| !self.contains(one));
        (!addresses.is_empty()).then(|| addresses.into_iter().rev().find(is_client).flatten())
    }
}

/// The addresses in `X-Forwarded-For`, from left to right; `None` for one that cannot be parsed.
fn addresses_of_list(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    lines(headers, &X_FORWARDED_FOR)
        .flat_map(|line| line.split(','))
        .map(str::trim)
        // Empty list elements are ignored (RFC 9110, section 5.6.1).
        .filter(|element| !element.is_empty())
        .map(address)
        .collect()
}

/// The addresses in `Forwarded`. Every parameter is optional (RFC 7239, section 4): an element without `for`
/// contains no address. A malformed element counts as an address that cannot be parsed.
fn addresses_of_standard(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    lines(headers, &FORWARDED)
        .flat_map(|line| match outside_quotes(line, ',') {
            Some(elements) => elements.into_iter().filter_map(address_of_element).collect(),
            // An unterminated quoted string may have been injected anywhere, so the whole header is
            // unreliable.
            None => vec![None],
        })
        .collect()
}

/// The address in an element of `Forwarded`, if it has one; `Some(None)` if it cannot be parsed. A repeated
/// parameter is malformed (RFC 7239, section 4): readers that take the first and readers that take the last
/// one would see different clients.
fn address_of_element(element: &str) -> Option<Option<IpAddr>> {
    let pairs = outside_quotes(element, ';')?;
    let mut named = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let (first, second) = (named.next()?, named.next());
    let unquoted = || match first.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(first),
    };
    Some(if second.is_some() { None } else { unquoted().and_then(address) })
}

/// All lines of a header. A line that is not text counts as an address that cannot be parsed.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or("for=?"))
}

/// Splits a text outside of quoted strings (RFC 9110, section 5.6.4), whose content a client may control, for
/// example with its Host header. `None` if a quoted string is not terminated.
fn outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text
        .split(|c: char| {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                _ => {}
            }
            c == separator && !is_quoted
        })
        .collect();
    (!is_quoted).then_some(parts)
}

/// Parses an address, with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|address: std::net::SocketAddr| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
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
    fn a_field_that_names_no_address_contradicts_nothing() {
        let list = ("x-forwarded-for", "203.0.113.7");
        for silent in ["proto=https;host=x.com", "", ";", "by=10.0.0.1", "proto=https, host=\"a\""]
        {
            let fields = [list, ("forwarded", silent)];
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", &fields), "203.0.113.7", "{silent}");
        }
        let standard = ("forwarded", "for=203.0.113.7");
        for silent in ["", " ", ","] {
            let fields = [("x-forwarded-for", silent), standard];
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", &fields), "203.0.113.7", "{silent}");
        }
        // The last element with an address counts. An element with a hidden address counts as one.
        let of = |value| client("10.0.0.1", "10.0.0.1", &[("forwarded", value)]);
        assert_eq!(of("for=1.2.3.4, proto=https"), "1.2.3.4");
        assert_eq!(of("for=1.2.3.4, for=_hidden"), "10.0.0.1");
        assert_eq!(
            client("10.0.0.1", "10.0.0.1", &[list, ("forwarded", "for=unknown")]),
            "10.0.0.1"
        );
    }

    #[test]
    fn what_stands_in_quotes_is_no_parameter() {
        let of = |value| client("10.0.0.1", "10.0.0.1", &[("forwarded", value)]);
        assert_eq!(of("host=\"x,for=9.9.9.9\";for=1.2.3.4"), "1.2.3.4");
        assert_eq!(of("host=\"x;for=9.9.9.9\";for=1.2.3.4"), "1.2.3.4");
        assert_eq!(of("host=\"x\\\",for=9.9.9.9\";for=1.2.3.4"), "1.2.3.4");
    }

    #[test]
    fn a_malformed_field_is_not_believed() {
        let of = |value| client("10.0.0.1", "10.0.0.1", &[("forwarded", value)]);
        for malformed in [
            "for=1.2.3.4, for=\"9.9.9.9",
            "host=\"x;for=9.9.9.9",
            "for=9.9.9.9;host=\"x",
            "for=1.2.3.4;for=9.9.9.9",
            "for=9.9.9.9;proto=https;FOR=9.9.9.9",
            "for=9.9.9.9\"",
            "for=\"9.9.9.9\"x",
            "for=\"\"9.9.9.9\"\"",
            "host=\"x\\\"",
        ] {
            assert_eq!(of(malformed), "10.0.0.1", "{malformed}");
            let with = |list| {
                let fields = [("x-forwarded-for", list), ("forwarded", malformed)];
                client("10.0.0.1", "10.0.0.1", &fields)
            };
            assert_eq!(with("9.9.9.9"), "10.0.0.1", "{malformed}");
        }
        // Only the element that counts must be valid. The client may have sent anything left of it.
        assert_eq!(of("for=9.9.9.9;for=8.8.8.8, for=1.2.3.4"), "1.2.3.4");
        let two = [("forwarded", "for=\"9.9.9.9"), ("forwarded", "for=1.2.3.4")];
        assert_eq!(client("10.0.0.1", "10.0.0.1", &two), "1.2.3.4");
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
    fn a_field_of_somebody_else_is_noted_once_an_hour() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let noted = || *trusted.noted.lock().unwrap();
        let mut headers = HeaderMap::new();
        let _ = trusted.client(&headers, &Extensions::new());
        assert_eq!(noted(), None);
        headers.insert(FORWARDED, "for=1.2.3.4".parse().unwrap());
        let _ = trusted.client(&headers, &Extensions::new());
        let first = noted();
        assert!(first.is_some());
        let _ = trusted.clone().client(&headers, &Extensions::new());
        assert_eq!(noted(), first);
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
