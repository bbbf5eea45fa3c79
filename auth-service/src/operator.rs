//! The service layer for the commands of operators: the same rules on the same database, but without
//! edges, background tasks or tokens.

use service_kit::metrics::Metrics;

use crate::{
    BuildError,
    config::{KeySource, Settings},
    existing_store,
    hashing::Hashing,
    mail::own_url,
    root_secret::RootSecret,
    service::{Parts, Service},
    use_root,
};

/// The service on an existing database. Without `KEY_ENCRYPTION_KEY` or given keys it cannot derive the
/// keys for attempts and mail, so it can read or write neither.
///
/// # Errors
///
/// If the database is unavailable, does not exist or is not migrated, or was made with another
/// `KEY_ENCRYPTION_KEY`.
pub(crate) async fn service(settings: Settings) -> Result<Service, BuildError> {
    let metrics = Metrics::default();
    let store = existing_store(&settings.database).await?;
    let store = if settings.webhooks.is_some() { store.with_webhooks() } else { store };
    // Commands check no passwords, so one thread is enough.
    let hashing = Hashing::start(
        1,
        1,
        settings.hash_queue_timeout,
        settings.scheme.expected_time(),
        settings.hash_memory,
        &metrics,
    )
    .map_err(|error| BuildError::System(error.to_string()))?;
    let mail = settings.mail.map(|config| crate::mail(&store, config));
    let (is_tls, address) = (settings.runtime.tls.is_some(), settings.addresses.http);
    if let Some(mail) = &mail {
        // If the system chooses the port, only the running service knows it.
        if let Some(base) = own_url(is_tls, address).filter(|_| address.port() != 0) {
            mail.links.use_base(base);
        }
        if let Some(host) = mail.links.host() {
            mail.mailer.use_name(host);
        }
    }
    let root = match (&settings.sealer, settings.keys) {
        (Some(sealer), _) => Some(RootSecret::load(&store, sealer).await?),
        (None, Some(KeySource::Given { secret, .. })) => Some(RootSecret::of(&secret)),
        (None, _) => None,
    };
    let service = Service::new(
        Parts {
            store,
            hashing,
            scheme: settings.scheme,
            issuer: settings.issuer,
            limits: settings.limits,
            password_rules: settings.password_rules,
            // Operators never choose passwords, so there is nothing to look up.
            breaches: None,
            sessions: settings.sessions,
            registration: settings.registration,
            mail,
        },
        &metrics,
    );
    if let Some(root) = root {
        use_root(&service, &root)?;
    }
    service.set_prepared();
    Ok(service)
}
