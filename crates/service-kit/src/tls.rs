//! TLS with certificates and authorities from PEM files. The files are checked while the service runs,
//! so that renewed certificates are used without a restart.

mod client;
mod files;
mod server;

pub(crate) use client::system_roots;
pub use client::{Authorities, ClientTls, Connector, ProbeTls};
pub use server::{ClientCertificate, ServerTls};

use crate::settings::{Source, text};

crate::settings! {
    "TLS of the listeners"
    /// The files of TLS.
    pub struct TlsSettings {
        /// The certificate of both listeners, in PEM, with its intermediates after it. Unset: plaintext.
        cert: Option<String> = optional TLS_CERT_FILE(text);
        /// The private key of TLS_CERT_FILE, in PEM.
        key: Option<String> = optional TLS_KEY_FILE(text);
        /// The authorities, in PEM, of which the gRPC edge demands a client certificate (mutual TLS).
        /// Unset: none is asked for.
        client_ca: Option<String> = optional TLS_CLIENT_CA_FILE(text);
    }
}

impl TlsSettings {
    /// Loads the files. `None` means plaintext.
    pub fn load(self, source: &mut Source) -> Option<ServerTls> {
        match (self.cert, self.key, self.client_ca) {
            (Some(cert), Some(key), client_ca) => {
                let loaded = ServerTls::load(cert, key, client_ca);
                loaded.map_err(|(setting, what)| source.fault(&setting, what)).ok()
            }
            (None, None, None) => None,
            (None, None, Some(_)) => {
                source.fault(&TLS_CLIENT_CA_FILE, "is only for TLS: give TLS_CERT_FILE too");
                None
            }
            _ => {
                source.fault(&TLS_CERT_FILE, "must be given together with TLS_KEY_FILE");
                None
            }
        }
    }
}
