//! TLS: certificates and authorities from PEM files, which are looked at again while the service
//! runs, so that renewed ones count without a restart.

mod client;
mod files;
mod server;

pub use client::{Authorities, ClientTls, Connector, ProbeTls};
pub use server::{ClientCertificate, ServerTls};

use crate::settings::{Setting, Source};

/// `TLS_CERT_FILE`.
pub const TLS_CERT_FILE: Setting = Setting::optional(
    "TLS_CERT_FILE",
    "The certificate of both listeners, in PEM, with its intermediates after it. Unset: plaintext",
);
/// `TLS_KEY_FILE`.
pub const TLS_KEY_FILE: Setting =
    Setting::optional("TLS_KEY_FILE", "The private key of TLS_CERT_FILE, in PEM");
/// `TLS_CLIENT_CA_FILE`.
pub const TLS_CLIENT_CA_FILE: Setting = Setting::optional(
    "TLS_CLIENT_CA_FILE",
    "The authorities, in PEM, of which the gRPC edge demands a client certificate (mutual TLS). \
     Unset: none is asked for",
);

/// Reads the TLS of the listeners; nothing means plaintext.
pub(crate) fn server(source: &mut Source) -> Option<ServerTls> {
    let paths = [&TLS_CERT_FILE, &TLS_KEY_FILE, &TLS_CLIENT_CA_FILE]
        .map(|setting| source.optional(setting, crate::settings::text));
    match paths {
        [Some(cert), Some(key), client_ca] => {
            let loaded = ServerTls::load(cert, key, client_ca);
            loaded.map_err(|(setting, what)| source.fault(&setting, what)).ok()
        }
        [None, None, None] => None,
        [None, None, Some(_)] => {
            source.fault(&TLS_CLIENT_CA_FILE, "is only for TLS: give TLS_CERT_FILE too");
            None
        }
        _ => {
            source.fault(&TLS_CERT_FILE, "must be given together with TLS_KEY_FILE");
            None
        }
    }
}
