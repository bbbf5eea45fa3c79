//! How the auth service is reached.

use service_kit::{
    settings::{Secret, Source, bearer_secret, text},
    tls::{Authorities, ClientTls},
};
use tonic::transport::Endpoint;

service_kit::settings! {
    "The auth service"
    /// Where the auth service is.
    pub struct AuthSettings {
        /// The gRPC edge of the auth service, such as http://auth:50051, which is told of deletions and asked for its own.
        /// Unset: they wait.
        url: Option<(Endpoint, bool)> = optional AUTH_GRPC_URL(endpoint);
        /// What is presented to the auth service: its SERVICE_TOKEN, at least 32 bytes of printable ASCII
        /// without spaces.
        service_token: Option<Secret> = secret SERVICE_TOKEN(bearer_secret);
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

/// How the auth service is reached.
#[derive(Debug)]
pub struct AuthGrpc {
    /// Where it is.
    pub endpoint: Endpoint,
    /// TLS on the way there.
    pub tls: Option<ClientTls>,
}

impl AuthGrpc {
    /// Whether a client certificate is presented there.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.tls.as_ref().is_some_and(ClientTls::has_identity)
    }
}

/// Reads where the auth service is. Every `None` of a given URL comes with a fault.
pub(super) fn auth_grpc(url: Option<(Endpoint, bool)>, source: &mut Source) -> Option<AuthGrpc> {
    let TlsClientSettings { ca, cert, key } = TlsClientSettings::read(source);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some([(TLS_CLIENT_CERT_FILE, cert), (TLS_CLIENT_KEY_FILE, key)]),
        (None, None) => None,
        _ => {
            source.fault(&TLS_CLIENT_CERT_FILE, "must be given together with TLS_CLIENT_KEY_FILE");
            None
        }
    };
    let (endpoint, is_tls) = url?;
    if !is_tls {
        if identity.is_some() {
            source.fault(&TLS_CLIENT_CERT_FILE, "is only for an AUTH_GRPC_URL that is https");
        }
        return Some(AuthGrpc { endpoint, tls: None });
    }
    let authorities = ca.map_or(Authorities::System, |path| Authorities::File(TLS_CA_FILE, path));
    match ClientTls::load(authorities, identity) {
        Ok(tls) => Some(AuthGrpc { endpoint, tls: Some(tls) }),
        Err((setting, what)) => {
            source.fault(&setting, what);
            None
        }
    }
}

/// Reads a URL of scheme and authority alone, and whether it asks for TLS.
fn endpoint(url: &str) -> Result<(Endpoint, bool), String> {
    let fault = || "is not a URL such as http://auth:50051".to_owned();
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| fault())?;
    let uri = endpoint.uri();
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(fault()),
    };
    // The parser takes any digits as a port.
    let plain = uri.host().is_some_and(|host| !host.is_empty())
        && uri.authority().is_some_and(token_verifier::has_valid_port)
        && uri.path().trim_start_matches('/').is_empty()
        && !url.contains('@');
    let authority = uri.authority().filter(|_| plain).ok_or_else(fault)?;
    if !is_tls {
        return Ok((endpoint, false));
    }
    // tonic would add TLS of its own to an https URL; ours comes with the connector.
    let below = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| fault())?;
    Ok((below.origin(uri.clone()), true))
}
