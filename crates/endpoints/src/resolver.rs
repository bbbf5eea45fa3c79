//! DNS look-ups.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RData, RecordType, rdata::SRV},
    },
};
use thiserror::Error;
use tokio::{net::lookup_host, time::timeout};

use crate::url::Name as Service;

/// The timeout of one query to a name server. The retry and the next server get the same time again.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The time limit of a look-up, including all search domains and all targets of an SRV name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);

/// How long an answer of the system's own resolver or of `/etc/hosts` counts. These have no TTL.
const SYSTEM_TTL: Duration = Duration::from_secs(5);

/// The most targets of an SRV name that are used. The lowest priority numbers come first.
const MAX_TARGETS: usize = 64;

/// Why the addresses of a name are unknown. The text is meant for the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// DNS does not know the name (RFC 1035 section 4.1.1: NXDOMAIN).
    #[error("the name {0} does not exist in DNS")]
    Unknown(String),
    /// The name has no address or no SRV record.
    #[error("the name {0} has no address in DNS")]
    Empty(String),
    /// No name server answers, or all of them fail.
    #[error("DNS has no answer for the name {0}: {1}")]
    Away(String, String),
}

/// Where addresses are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    servers: Option<Arc<[SocketAddr]>>,
}

/// An address of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: SocketAddr,
    /// The lowest comes first (RFC 2782).
    pub(crate) priority: u16,
    /// The share of the calls among addresses of the same priority.
    pub(crate) weight: u32,
    /// The target of the SRV record.
    pub(crate) target: Option<Arc<str>>,
}

/// The result of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) found: Vec<Found>,
    /// The targets whose look-up failed, so that they may have addresses all the same.
    pub(crate) missing: Vec<Arc<str>>,
    pub(crate) ttl: Duration,
}

impl Resolver {
    /// Uses the name servers, the search domains and the hosts of this machine: `/etc/resolv.conf` and
    /// `/etc/hosts`. A host that DNS does not know is also looked up by the system's own resolver, which may
    /// have other sources (nsswitch.conf). Without `/etc/resolv.conf`, all hosts are.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Uses these name servers instead of those in `/etc/resolv.conf`. Names are looked up as they are, without
    /// search domains; `/etc/hosts` still counts.
    #[must_use]
    pub fn of_servers(servers: impl Into<Arc<[SocketAddr]>>) -> Self {
        Self { servers: Some(servers.into()) }
    }

    pub(crate) async fn resolve(&self, name: &Service) -> Result<Answer, ResolveError> {
        let looked_up = async {
            match name {
                Service::Address(address) => Ok(Answer::of_addresses([*address], Duration::MAX)),
                Service::Host(host, port) => self.host(host, *port).await,
                Service::Srv(name) => self.srv(name).await,
            }
        };
        timeout(LOOKUP_TIMEOUT, looked_up).await.unwrap_or_else(|_| {
            Err(ResolveError::Away(name.to_string(), "no answer in time".to_owned()))
        })
    }

    async fn host(&self, host: &str, port: u16) -> Result<Answer, ResolveError> {
        // A host in `/etc/hosts` is not looked up in DNS, which may be unavailable.
        let own = hosts_file(host).into_iter().map(|address| SocketAddr::new(address, port));
        let own = Answer::of_addresses(own, SYSTEM_TTL);
        if !own.found.is_empty() {
            return Ok(own);
        }
        let client = self.client();
        let fault = match &client {
            Ok(client) => match client.lookup_ip(host).await {
                Ok(lookup) => {
                    let addresses: Vec<_> =
                        lookup.iter().map(|address| SocketAddr::new(address, port)).collect();
                    if !addresses.is_empty() {
                        return Ok(Answer::of_addresses(addresses, ttl(lookup.as_lookup())));
                    }
                    ResolveError::Empty(host.to_owned())
                }
                Err(error) => fault(host, &error),
            },
            Err(error) => ResolveError::Away(host.to_owned(), error.to_string()),
        };
        // If the name servers do not answer, the system's resolver would only wait for the same ones.
        let may_know = client.is_err() || !matches!(fault, ResolveError::Away(..));
        if self.servers.is_none()
            && may_know
            && let Ok(addresses) = lookup_host((host, port)).await
        {
            let answer = Answer::of_addresses(addresses, SYSTEM_TTL);
            if !answer.found.is_empty() {
                return Ok(answer);
            }
        }
        Err(fault)
    }

    async fn srv(&self, name: &str) -> Result<Answer, ResolveError> {
        let away = |error: NetError| ResolveError::Away(name.to_owned(), error.to_string());
        let client = self.client().map_err(away)?;
        let lookup = client.srv_lookup(name).await.map_err(|error| fault(name, &error))?;
        let mut records: Vec<&SRV> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                // A target of "." means that the service does not exist (RFC 2782).
                RData::SRV(srv) if !srv.target.is_root() => Some(srv),
                _ => None,
            })
            .collect();
        records.sort_by_key(|record| record.priority);
        records.truncate(MAX_TARGETS);
        let targets = join_all(records.iter().map(|record| {
            let client = &client;
            async move {
                let mut target = record.target.clone();
                target.set_fqdn(true);
                let name = target.to_string();
                (record, client.lookup_ip(target).await.map_err(|error| fault(&name, &error)), name)
            }
        }))
        .await;

        let mut answer = Answer { found: Vec::new(), missing: Vec::new(), ttl: ttl(&lookup) };
        let mut first = None;
        for (record, addresses, target) in targets {
            let target: Arc<str> = target.into();
            match addresses {
                Ok(addresses) => {
                    answer.ttl = answer.ttl.min(ttl(addresses.as_lookup()));
                    let addresses: Vec<_> = addresses.iter().collect();
                    let share = share(record.weight, addresses.len());
                    answer.found.extend(addresses.into_iter().map(|address| Found {
                        address: SocketAddr::new(address, record.port),
                        priority: record.priority,
                        weight: share,
                        target: Some(Arc::clone(&target)),
                    }));
                }
                Err(error) => {
                    if matches!(error, ResolveError::Away(..)) {
                        answer.missing.push(target);
                    }
                    first = first.or(Some(error));
                }
            }
        }
        if answer.found.is_empty() {
            return Err(first.unwrap_or_else(|| ResolveError::Empty(name.to_owned())));
        }
        Ok(answer)
    }

    /// Creates a client for one look-up, so that every look-up reads the files of this machine again.
    fn client(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match &self.servers {
            None => TokioResolver::builder_tokio()?,
            Some(servers) => {
                let servers = servers.iter().copied().map(name_server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.timeout = options.timeout.min(QUERY_TIMEOUT);
        options.attempts = options.attempts.min(2);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // [`Endpoints`](crate::Endpoints) caches answers with limits of its own.
        options.cache_size = 0;
        builder.build()
    }
}

impl Answer {
    pub(crate) fn of_addresses(
        addresses: impl IntoIterator<Item = SocketAddr>,
        ttl: Duration,
    ) -> Self {
        let found = addresses.into_iter().map(|address| Found {
            address,
            priority: 0,
            weight: 1,
            target: None,
        });
        Self { found: found.collect(), missing: Vec::new(), ttl }
    }
}

/// Divides the weight of a target among its addresses. A weight of 0 means a very small share if other records
/// have more (RFC 2782), and an equal share if none has.
fn share(weight: u16, addresses: usize) -> u32 {
    let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    (u32::from(weight) * 1000 / addresses).max(1)
}

/// The addresses of a host in `/etc/hosts`.
fn hosts_file(host: &str) -> Vec<IpAddr> {
    let (Ok(hosts), Ok(name)) = (Hosts::from_system(), Name::from_utf8(host)) else {
        return Vec::new();
    };
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)))
        .flat_map(|lookup| lookup.answers().to_vec())
        .filter_map(|record| record.data.ip_addr())
        .collect()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn ttl(lookup: &Lookup) -> Duration {
    let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    Duration::from_secs(seconds.into())
}

fn fault(name: &str, error: &NetError) -> ResolveError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => {
            if *response_code == ResponseCode::NXDomain {
                ResolveError::Unknown(name.to_owned())
            } else {
                ResolveError::Empty(name.to_owned())
            }
        }
        error => ResolveError::Away(name.to_owned(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn a_target_shares_its_weight_among_its_addresses() {
        assert_eq!(share(10, 1), 10_000);
        assert_eq!(share(10, 2), 5_000);
        assert_eq!(share(0, 1), 1);
        assert_eq!(share(u16::MAX, 1), 65_535_000);
        assert_eq!(share(1, 5_000), 1);
    }
}
