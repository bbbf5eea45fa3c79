//! TLS of the listeners.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::CertificateDer,
    server::{NoClientAuth, WebPkiClientVerifier},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{
    TLS_CERT_FILE, TLS_CLIENT_CA_FILE, TLS_KEY_FILE,
    files::{Fault, Renewed, Source},
};
use crate::{
    listen::Protocol,
    metrics::{Metrics, Unit},
};

/// The timeout of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The verified client certificate of a connection, issued by one of the authorities in
/// `TLS_CLIENT_CA_FILE`. It is in the extensions of its requests.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Its common names, and the DNS names and URIs in its subject alternative names.
    names: Arc<[String]>,
}

impl ClientCertificate {
    /// The names in a verified certificate. If they cannot be parsed, the list is empty.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let names = x509_parser::parse_x509_certificate(certificate)
            .map(|(_, certificate)| names(&certificate))
            .unwrap_or_default();
        Self { names: names.into() }
    }

    /// Whether the certificate has this name, ignoring letter case.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.into_iter().flat_map(|found| &found.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some(*name),
        _ => None,
    });
    common.chain(alternative).map(str::to_owned).collect()
}

/// The certificate of the listeners, and the authorities for client certificates on the gRPC edge.
#[derive(Debug, Clone)]
pub struct ServerTls {
    configs: Arc<Renewed<Configs>>,
    mutual: bool,
}

#[derive(Debug)]
struct Configs {
    rest: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since 1970.
    end: i64,
}

impl ServerTls {
    pub(super) fn load(
        cert: String,
        key: String,
        client_ca: Option<String>,
    ) -> Result<Self, Fault> {
        let mutual = client_ca.is_some();
        let source = |setting, path| Source { setting, path };
        let mut sources = vec![source(TLS_CERT_FILE, cert), source(TLS_KEY_FILE, key)];
        sources.extend(client_ca.map(|path| source(TLS_CLIENT_CA_FILE, path)));
        Ok(Self { configs: Renewed::load(sources, configs)?, mutual })
    }

    /// Whether the gRPC edge requires client certificates.
    #[must_use]
    pub const fn is_mutual(&self) -> bool {
        self.mutual
    }

    /// Publishes in `metrics` when the current certificate expires.
    pub(crate) fn observe(&self, metrics: &Metrics) {
        let configs = Arc::clone(&self.configs);
        metrics.gauge(
            "tls.certificate.end_time",
            "When the certificate of the listeners ends, since 1970",
            Unit::Seconds,
            // Seconds in this century are exact in a double.
            move || Some(configs.get().end as f64),
        );
    }

    /// Does the server's handshake.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        protocol: Protocol,
    ) -> io::Result<TlsStream<TcpStream>> {
        let configs = self.configs.get();
        let config = match protocol {
            Protocol::Rest => &configs.rest,
            Protocol::Grpc => &configs.grpc,
        };
        let handshake = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await?
    }
}

fn configs(sources: &[Source], contents: &[Vec<u8>]) -> Result<Configs, Fault> {
    let ([cert, key, ca @ ..], [cert_pem, key_pem, ca_pem @ ..]) = (sources, contents) else {
        return Err((TLS_CERT_FILE, "is missing".to_owned()));
    };
    let chain = cert.certificates(cert_pem)?;
    let end = cert.end(&chain)?;
    let private_key = key.private_key(key_pem)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let client_verifier = match (ca, ca_pem) {
        ([ca], [pem]) => WebPkiClientVerifier::builder_with_provider(
            ca.roots(pem)?.into(),
            Arc::clone(&provider),
        )
        .build()
        .map_err(|error| ca.fault(&error.to_string()))?,
        _ => Arc::new(NoClientAuth),
    };
    let config = |verifier, protocols: &[&[u8]]| {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| cert.fault(&error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private_key.clone_key())
            .map_err(|error| key.fault(&format!("does not fit TLS_CERT_FILE: {error}")))?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    };
    Ok(Configs {
        rest: config(Arc::new(NoClientAuth), &[b"h2", b"http/1.1"])?,
        grpc: config(client_verifier, &[b"h2"])?,
        end,
    })
}
