//! The service as the commands of operators use it: the same rules on the same database, without edges,
//! background work and tokens.

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

/// The service on a database that is there already. Without `KEY_ENCRYPTION_KEY`, or keys that are given,
/// it cannot tell which attempts and mails are whose.
///
/// # Errors
///
/// Where the database is away, does not exist or is not migrated, or was made with another
/// `KEY_ENCRYPTION_KEY`.
pub(crate) async fn service(settings: Settings) -> Result<Service, BuildError> {
    let metrics = Metrics::default();
    let store = existing_store(&settings.database).await?;
    let store = if settings.webhooks.is_some() { store.with_webhooks() } else { store };
    // No command checks a password.
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
        // A port that the system chooses is known to the running service alone.
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
            // An operator never chooses a password.
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
