//! Values that are loaded from files, and loaded again when the files change.

use std::{
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::settings::{Setting, read_bytes};

/// How often the files are compared with the loaded content. Notifications by the file system are not used,
/// because they miss how Kubernetes updates files: it changes the directory behind a symbolic link.
const INTERVAL: Duration = Duration::from_secs(5);

/// A setting and its fault.
pub(super) type Fault = (Setting, String);

/// A file that a setting names.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) setting: Setting,
    pub(super) path: String,
}

impl Source {
    pub(super) fn read(&self) -> Result<Vec<u8>, Fault> {
        let Self { setting, path } = self;
        read_bytes(path).map(|bytes| bytes.to_vec()).map_err(|what| (*setting, what))
    }

    pub(super) fn fault(&self, what: &str) -> Fault {
        (self.setting, format!("{} {what}", self.path))
    }

    pub(super) fn certificates(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(self.fault("holds no certificate in PEM")),
        }
    }

    /// When the first certificate in `chain`, the one that is presented, expires, in seconds since 1970. Only the
    /// date is read; whether the certificate complies with RFC 5280 is up to the clients.
    pub(super) fn end(&self, chain: &[CertificateDer<'_>]) -> Result<i64, Fault> {
        let first = chain.first().ok_or_else(|| self.fault("holds no certificate in PEM"))?;
        let (_, certificate) = x509_parser::parse_x509_certificate(first)
            .map_err(|_| self.fault("holds a certificate that cannot be read"))?;
        Ok(certificate.validity().not_after.timestamp())
    }

    pub(super) fn private_key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
        PrivateKeyDer::from_pem_slice(pem).map_err(|_| self.fault("holds no private key in PEM"))
    }

    pub(super) fn roots(&self, pem: &[u8]) -> Result<RootCertStore, Fault> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(pem)? {
            roots
                .add(certificate)
                .map_err(|_| self.fault("holds a certificate that is of no authority"))?;
        }
        Ok(roots)
    }
}

/// A value that is reloaded when its files change.
#[derive(Debug)]
pub(super) struct Renewed<T> {
    sources: Vec<Source>,
    make: Make<T>,
    value: RwLock<Arc<T>>,
}

type Make<T> = fn(&[Source], &[Vec<u8>]) -> Result<T, Fault>;

impl<T: Send + Sync + 'static> Renewed<T> {
    /// Loads the value and, inside a runtime, watches the files for as long as the value is in use.
    pub(super) fn load(sources: Vec<Source>, make: Make<T>) -> Result<Arc<Self>, Fault> {
        let contents = sources.iter().map(Source::read).collect::<Result<Vec<_>, _>>()?;
        let value = RwLock::new(Arc::new(make(&sources, &contents)?));
        let renewed = Arc::new(Self { sources, make, value });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(watch(Arc::downgrade(&renewed), contents));
        }
        Ok(renewed)
    }

    /// The current value.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn renew(&self, contents: &[Vec<u8>]) -> Result<(), Fault> {
        let value = Arc::new((self.make)(&self.sources, contents)?);
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }
}

/// Watches the files until the value is no longer used. Invalid content is logged once and ignored, because a
/// certificate and its key are rarely replaced at the same moment.
async fn watch<T: Send + Sync + 'static>(renewed: Weak<Renewed<T>>, mut known: Vec<Vec<u8>>) {
    let mut unreadable = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(renewed) = renewed.upgrade() else {
            return;
        };
        let read: Result<Vec<_>, _> = renewed.sources.iter().map(Source::read).collect();
        let contents = match read {
            Ok(contents) => contents,
            Err((setting, what)) => {
                if unreadable.as_ref() != Some(&what) {
                    refuse(setting, &what);
                    unreadable = Some(what);
                }
                continue;
            }
        };
        let was_unreadable = unreadable.take().is_some();
        if contents == known {
            if was_unreadable {
                tracing::info!(event = "tls.renewed", "the TLS files can be read again");
            }
            continue;
        }
        match renewed.renew(&contents) {
            Ok(()) => tracing::info!(event = "tls.renewed", "renewed TLS files are in use"),
            Err((setting, what)) => refuse(setting, &what),
        }
        known = contents;
    }
}

fn refuse(setting: Setting, what: &str) {
    tracing::warn!(
        event = "tls.refused",
        setting = setting.var,
        what,
        "renewed TLS files cannot be used: the earlier ones stay"
    );
}
