//! Background tasks of the service: they prepare the database, refresh keys and counts, remove old rows,
//! and deliver outboxes.

use std::{sync::Arc, time::Duration};

use outbox::{Backlog, Worker};
use sql_kit::Starting;

use crate::{
    BuildError, Keys,
    keys::Sealer,
    mail::Deliverer,
    root_secret::RootSecret,
    service::{EventRules, Service},
    sessions::RefreshTokenKey,
    store::{Store, StoreError},
    use_root, webhooks,
};

/// The interval at which old rows are removed and the rest is counted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// The interval at which the schemes of stored hashes are read, because an import in another process may
/// have added new ones. The query only takes a few steps in an index.
const WORK_INTERVAL: Duration = Duration::from_secs(5);

/// Prepares the database before the first request, and maintains it afterwards.
#[derive(Debug)]
pub(crate) struct BackgroundTasks {
    pub(crate) store: Store,
    pub(crate) service: Arc<Service>,
    pub(crate) keys: Keys,
    pub(crate) sealer: Option<Arc<Sealer>>,
    pub(crate) migrate: bool,
    /// The worker that sends mail, if mail is on.
    pub(crate) post: Option<(Worker<Deliverer>, Backlog)>,
    /// How long events are kept.
    pub(crate) events: EventRules,
    /// The worker that sends webhooks, if there is a receiver.
    pub(crate) webhooks: Option<(Worker<webhooks::Deliverer>, Backlog)>,
}

impl BackgroundTasks {
    /// Does everything that is needed before the first request.
    ///
    /// # Errors
    ///
    /// Permanent errors, and temporary ones after which this should be retried.
    pub(crate) async fn run(&self) -> Result<(), BuildError> {
        // The ping sets the clock. A read-only database may be a standby that is about to be promoted.
        match self.store.ping().await {
            Ok(()) | Err(StoreError::ReadOnly) => {}
            Err(error) => return Err(error.into()),
        }
        if self.migrate {
            self.store.migrate().await?;
        } else {
            self.store.check_migrated().await?;
        }
        self.store.align_positions().await?;
        let ring = match &self.keys {
            Keys::Managed(keys) => keys.load(keys.now().await?).await?,
            Keys::Given(ring, _) => ring.clone(),
        };
        let loaded = match &self.sealer {
            Some(sealer) => Some(RootSecret::load(&self.store, sealer).await?),
            None => None,
        };
        let root = match (&loaded, &self.keys) {
            (Some(root), _) | (None, Keys::Given(_, root)) => root,
            (None, Keys::Managed(_)) => {
                return Err(BuildError::System("no KEY_ENCRYPTION_KEY".to_owned()));
            }
        };
        if let Some(root) = &loaded {
            let key = RefreshTokenKey::new(&root.derive("refresh tokens")[..]);
            self.service.use_refresh_token_key(key);
        }
        use_root(&self.service, root)?;
        // If this fails, the work of logins is slightly less equal until the next refresh.
        let _ = self.service.refresh_work().await;
        self.service.count_rows().await;
        self.service.publish_keys(ring);
        self.service.set_prepared();
        Ok(())
    }

    /// Prepares the database unless that is done, and then runs all background tasks. Returns only on an
    /// error that a retry cannot fix.
    pub(crate) async fn keep(&self, starting: Starting<BuildError>) -> BuildError {
        if let Err(error) = starting.finish().await {
            return error;
        }
        let work = async {
            loop {
                tokio::time::sleep(WORK_INTERVAL).await;
                let _ = self.service.refresh_work().await;
            }
        };
        let prune = async {
            loop {
                tokio::time::sleep(PRUNE_INTERVAL).await;
                self.service.prune().await;
                self.prune_events().await;
                self.service.count_rows().await;
            }
        };
        let keys = async {
            match &self.keys {
                Keys::Managed(keys) => {
                    keys.keep_current(|ring| self.service.publish_keys(ring)).await
                }
                Keys::Given(..) => std::future::pending().await,
            }
        };
        let (post, webhooks) = (carry(self.post.as_ref()), carry(self.webhooks.as_ref()));
        // None of these futures ends. They are boxed because together they are large.
        tokio::join!(
            Box::pin(work),
            Box::pin(prune),
            Box::pin(keys),
            Box::pin(post),
            Box::pin(webhooks)
        );
        BuildError::System("the background work has ended".to_owned())
    }

    /// Removes the events that exceed the retention time or the maximum number.
    async fn prune_events(&self) {
        let (EventRules { retention, most }, now) = (self.events, self.store.now());
        let pruned = async {
            self.store.prune_events(now - retention, most.into()).await?;
            if self.webhooks.is_none() {
                self.store.remove_expired_webhooks(now).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = pruned.await {
            error.note("cannot remove the events that are no longer kept");
        }
    }
}

/// Delivers an outbox, forever. Does nothing if there is no outbox.
async fn carry<D: outbox::Deliver>(outbox: Option<&(Worker<D>, Backlog)>) {
    match outbox {
        Some((worker, backlog)) => {
            tokio::join!(worker.run(), backlog.watch());
        }
        None => std::future::pending().await,
    }
}
