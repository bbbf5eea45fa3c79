//! TLS of outgoing calls.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::files::{Fault, Renewed, Source};
use crate::settings::Setting;

/// The authorities that a call trusts.
#[derive(Debug, Clone, Default)]
pub enum Authorities {
    /// The authorities of the system.
    #[default]
    System,
    /// The authorities in the PEM file that a setting names.
    File(Setting, String),
}

impl Authorities {
    /// The certificates of the authorities. A file is read only once.
    ///
    /// # Errors
    ///
    /// The setting whose file cannot be used, and the reason.
    pub fn roots(self) -> Result<RootCertStore, (Setting, String)> {
        match self {
            Self::System => Ok(system_roots()),
            Self::File(setting, path) => {
                let source = Source { setting, path };
                source.roots(&source.read()?)
            }
        }
    }
}

/// The TLS configuration of a client: the trusted authorities and, for mutual TLS, a certificate.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<Renewed<Arc<ClientConfig>>>,
    has_identity: bool,
}

impl ClientTls {
    /// Loads the files. `identity` is a certificate and its key.
    ///
    /// # Errors
    ///
    /// The setting whose file cannot be used, and the reason.
    pub fn load(
        authorities: Authorities,
        identity: Option<[(Setting, String); 2]>,
    ) -> Result<Self, (Setting, String)> {
        let has_identity = identity.is_some();
        let source = |(setting, path)| Source { setting, path };
        let mut sources: Vec<Source> = identity.into_iter().flatten().map(source).collect();
        if let Authorities::File(setting, path) = authorities {
            sources.push(source((setting, path)));
        }
        Ok(Self { config: Renewed::load(sources, client_config)?, has_identity })
    }

    /// Whether the client presents a certificate.
    #[must_use]
    pub const fn has_identity(&self) -> bool {
        self.has_identity
    }
}

fn client_config(sources: &[Source], contents: &[Vec<u8>]) -> Result<Arc<ClientConfig>, Fault> {
    let (identity, ca) = match (sources, contents) {
        ([cert, key, ca @ ..], [cert_pem, key_pem, ca_pem @ ..]) => {
            (Some((cert, cert_pem, key, key_pem)), ca.first().zip(ca_pem.first()))
        }
        (ca, ca_pem) => (None, ca.first().zip(ca_pem.first())),
    };
    let roots = match ca {
        Some((ca, pem)) => ca.roots(pem)?,
        None => system_roots(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| internal(sources, &error))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, cert_pem, key, key_pem)) => builder
            .with_client_auth_cert(cert.certificates(cert_pem)?, key.private_key(key_pem)?)
            .map_err(|error| key.fault(&format!("does not fit its certificate: {error}")))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn internal(sources: &[Source], error: &rustls::Error) -> Fault {
    let setting = sources.first().map_or(super::TLS_CERT_FILE, |source| source.setting);
    (setting, error.to_string())
}

/// If there are none, every server is refused, and the failing call reports it.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Connects to HTTP/2 servers over TLS, for a gRPC channel.
#[derive(Debug, Clone)]
pub struct Connector {
    tls: ClientTls,
    address: Option<SocketAddr>,
}

impl Connector {
    /// Creates a connector to the host in each URL.
    #[must_use]
    pub const fn new(tls: ClientTls) -> Self {
        Self { tls, address: None }
    }

    /// Always connects to this address. The certificate must still be valid for the host in the
    /// URL.
    #[must_use]
    pub fn to(self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "not the URL of a server");
        // An IPv6 address has brackets in a URL (RFC 3986) but not in a certificate.
        let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| invalid())?;
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?,
        };
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&*self.tls.config.get()));
        Ok(TokioIo::new(connector.connect(name, stream).await?))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// TLS without verification of the server, for the probe. It only asks the service on its own
/// machine, for nothing secret, at an address for which the certificate need not be valid.
#[derive(Debug)]
pub struct ProbeTls(Arc<CryptoProvider>);

impl ProbeTls {
    /// Does the client's handshake.
    ///
    /// # Errors
    ///
    /// If the peer does not use TLS.
    pub async fn connect(stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let address = stream.peer_addr()?.ip();
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Self(provider)))
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config)).connect(address.into(), stream).await
    }
}

impl ServerCertVerifier for ProbeTls {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
