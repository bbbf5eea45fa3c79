//! The connection to the auth service.

use std::net::{IpAddr, SocketAddr};

use endpoints::{Resolver, ServiceUrl, UrlError};
use service_kit::{
    settings::{Secret, Source, bearer_secret, read_bytes, text},
    tls::{Authorities, ClientTls},
};
use token_verifier::Access;
use tonic::transport::Endpoint;

/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

service_kit::settings! {
    "The auth service"
    /// Where the auth service is.
    pub struct AuthSettings {
        /// The gRPC edge of the auth service, such as http://auth:50051, which is told of deletions and asked for its own.
        /// Or, by an SRV name, srv+http://_grpc._tcp.auth.example. Unset: they wait.
        url: Option<GrpcUrl> = optional AUTH_GRPC_URL(grpc_url);
        /// What is presented to the auth service: its SERVICE_TOKEN, at least 32 bytes of printable ASCII
        /// without spaces.
        service_token: Option<Secret> = secret SERVICE_TOKEN(bearer_secret);
    }
}

service_kit::settings! {
    "The auth service"
    /// How its addresses are found.
    pub struct DiscoverySettings {
        /// The name servers that are asked for the addresses in JWKS_URL, REVOCATIONS_URL and AUTH_GRPC_URL: addresses,
        /// with their port where it is not 53, and commas between them, such as 127.0.0.1:8600. Names are then asked for as
        /// they stand, without search domains. Unset: those of /etc/resolv.conf.
        resolver: Option<Resolver> = optional DNS_SERVERS(name_servers);
    }
}

service_kit::settings! {
    "The auth service"
    /// TLS on the way to the auth service.
    pub struct TlsClientSettings {
        /// The authorities, in PEM, that JWKS_URL, REVOCATIONS_URL and AUTH_GRPC_URL are checked with
        /// where they are https. Unset: the system's.
        ca: Option<String> = optional TLS_CA_FILE(text);
        /// The client certificate that is presented at AUTH_GRPC_URL (mutual TLS), in PEM.
        cert: Option<String> = optional TLS_CLIENT_CERT_FILE(text);
        /// The private key of TLS_CLIENT_CERT_FILE, in PEM.
        key: Option<String> = optional TLS_CLIENT_KEY_FILE(text);
    }
}

/// The URL of a gRPC edge.
#[derive(Debug, Clone)]
pub struct GrpcUrl {
    url: ServiceUrl,
    endpoint: Endpoint,
}

/// How the auth service is reached.
#[derive(Debug)]
pub struct AuthGrpc {
    /// Where it is.
    pub url: ServiceUrl,
    /// The resolver that looks up its addresses.
    pub resolver: Resolver,
    /// The template of a connection to any of its addresses.
    pub endpoint: Endpoint,
    /// TLS for these connections.
    pub tls: Option<ClientTls>,
}

impl AuthGrpc {
    /// Whether connections present a client certificate.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.tls.as_ref().is_some_and(ClientTls::has_identity)
    }
}

/// Reads the TLS authorities and the resolver that requests to the auth service use.
pub(super) fn access(resolver: &Resolver, source: &mut Source) -> Access {
    let access = Access::default().resolved_by(resolver.clone());
    match source.optional(&TLS_CA_FILE, read_bytes) {
        Some(pem) => access.trusting(&pem),
        None => access,
    }
}

/// Reads where the auth service is. If a URL is given and `None` is returned, a fault was recorded.
pub(super) fn auth_grpc(
    url: Option<GrpcUrl>,
    resolver: Resolver,
    source: &mut Source,
) -> Option<AuthGrpc> {
    let TlsClientSettings { ca, cert, key } = TlsClientSettings::read(source);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some([(TLS_CLIENT_CERT_FILE, cert), (TLS_CLIENT_KEY_FILE, key)]),
        (None, None) => None,
        _ => {
            source.fault(&TLS_CLIENT_CERT_FILE, "must be given together with TLS_CLIENT_KEY_FILE");
            None
        }
    };
    let GrpcUrl { url, endpoint } = url?;
    if !url.is_https() {
        if identity.is_some() {
            source.fault(&TLS_CLIENT_CERT_FILE, "is only for an AUTH_GRPC_URL that is https");
        }
        return Some(AuthGrpc { url, resolver, endpoint, tls: None });
    }
    let authorities = ca.map_or(Authorities::System, |path| Authorities::File(TLS_CA_FILE, path));
    match ClientTls::load(authorities, identity) {
        Ok(tls) => Some(AuthGrpc { url, resolver, endpoint, tls: Some(tls) }),
        Err((setting, what)) => {
            source.fault(&setting, what);
            None
        }
    }
}

/// Parses a URL that has only a scheme and an authority.
fn grpc_url(text: &str) -> Result<GrpcUrl, String> {
    let fault = || "is not a URL such as http://auth:50051".to_owned();
    let url = ServiceUrl::parse(text).map_err(|error| match error {
        UrlError::SrvName | UrlError::SrvPort => error.to_string(),
        _ => fault(),
    })?;
    let uri = url.uri();
    let authority = uri.authority().filter(|_| matches!(uri.path(), "" | "/"));
    let authority = authority.filter(|_| uri.query().is_none()).ok_or_else(fault)?;
    // tonic would add TLS of its own to an https URL; ours comes with the connector.
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| fault())?;
    let endpoint = endpoint.origin(uri.clone());
    Ok(GrpcUrl { url, endpoint })
}

/// Reads the addresses of name servers.
fn name_servers(text: &str) -> Result<Resolver, String> {
    let servers: Option<Vec<SocketAddr>> =
        text.split(',').map(str::trim).map(name_server).collect();
    match servers {
        Some(servers) => Ok(Resolver::of_servers(servers)),
        None => Err("is not a list of addresses such as 10.0.0.2 or 127.0.0.1:8600".to_owned()),
    }
}

fn name_server(text: &str) -> Option<SocketAddr> {
    let alone = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    text.parse().ok().or_else(alone).filter(|server| server.port() != 0)
}
