//! The TLS parameters of a Postgres URL (PostgreSQL documentation, "SSL Support").

use std::fs;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::Given;

/// How the servers are reached.
pub(super) struct Tls {
    pub(super) mode: PgSslMode,
    authorities: Option<String>,
    /// The files of a client certificate and its key.
    identity: Option<(String, String)>,
}

impl Tls {
    /// Parses the parameters and checks that the files exist and are valid, because a missing file is a
    /// configuration error and not an outage. The files are read again for each connection.
    pub(super) fn read(given: &Given) -> Result<Self, String> {
        let get = |name: &str| given.get(name).map(String::as_str);
        let asked = get("sslmode").map(mode).transpose()?;
        let (mode, authorities) = match (asked, get("sslrootcert")) {
            // Public authorities certify anybody, so the host name must be verified too.
            (None | Some(PgSslMode::VerifyFull), Some("system")) => (PgSslMode::VerifyFull, None),
            (Some(_), Some("system")) => {
                return Err("has sslrootcert=system, which needs sslmode=verify-full".to_owned());
            }
            // Like libpq, verify the certificate if an authority is given.
            (Some(PgSslMode::Require), Some(file)) => (PgSslMode::VerifyCa, Some(file)),
            (Some(mode @ (PgSslMode::VerifyCa | PgSslMode::VerifyFull)), Some(file)) => {
                (mode, Some(file))
            }
            (_, Some(_)) => {
                return Err(
                    "has sslrootcert, but no sslmode that checks by it: add sslmode=verify-full"
                        .to_owned(),
                );
            }
            (mode, None) => (mode.unwrap_or(PgSslMode::Prefer), None),
        };
        if let Some(file) = authorities {
            certificates(file, "sslrootcert")?;
        }
        let identity = match (get("sslcert"), get("sslkey")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                certificates(certificate, "sslcert")?;
                let pem = contents(key, "sslkey")?;
                PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                    "has an sslkey whose file holds no private key in PEM".to_owned()
                })?;
                Some((certificate.to_owned(), key.to_owned()))
            }
            _ => return Err("has one of sslcert and sslkey without the other".to_owned()),
        };
        Ok(Self { mode, authorities: authorities.map(str::to_owned), identity })
    }

    pub(super) fn apply(&self, mut server: PgConnectOptions) -> PgConnectOptions {
        server = server.ssl_mode(self.mode);
        if let Some(file) = &self.authorities {
            server = server.ssl_root_cert(file);
        }
        if let Some((certificate, key)) = &self.identity {
            server = server.ssl_client_cert(certificate).ssl_client_key(key);
        }
        server
    }
}

fn mode(text: &str) -> Result<PgSslMode, String> {
    Ok(match text {
        "disable" => PgSslMode::Disable,
        "allow" => PgSslMode::Allow,
        "prefer" => PgSslMode::Prefer,
        "require" => PgSslMode::Require,
        "verify-ca" => PgSslMode::VerifyCa,
        "verify-full" => PgSslMode::VerifyFull,
        _ => {
            return Err("has an sslmode other than disable, allow, prefer, require, verify-ca or \
                        verify-full"
                .to_owned());
        }
    })
}

fn contents(file: &str, parameter: &str) -> Result<Vec<u8>, String> {
    fs::read(file)
        .map_err(|error| format!("has an {parameter} whose file {file} cannot be read: {error}"))
}

fn certificates(file: &str, parameter: &str) -> Result<(), String> {
    let pem = contents(file, parameter)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(format!("has an {parameter} whose file {file} holds no certificate in PEM")),
    }
}
