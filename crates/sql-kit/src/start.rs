//! The preparation of a database before the first request.

use std::{fmt, pin::Pin, time::Duration};

/// How long to wait before a retry.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A preparation in progress. It is retried while the database is unavailable. It runs in the
/// background, so a timeout of a wait does not restart it, even if a migration takes long.
pub struct Starting<E>(Option<Preparation<E>>);

type Preparation<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

impl<E> fmt::Debug for Starting<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Starting").field("is_over", &self.0.is_none()).finish()
    }
}

impl<E: 'static> Starting<E> {
    /// Starts the preparation. `is_transient` decides after which errors it is retried.
    pub fn begin<F>(
        prepare: impl Fn() -> F + Send + 'static,
        is_transient: impl Fn(&E) -> bool + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send,
    {
        Self(Some(Box::pin(async move {
            let mut is_told = false;
            loop {
                match prepare().await {
                    Err(error) if is_transient(&error) => {}
                    result => return result,
                }
                if !is_told {
                    tracing::warn!("the database cannot be used yet: trying again every second");
                    is_told = true;
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        })))
    }

    /// Waits for at most this time. If the preparation takes longer, [`Starting::finish`] continues to
    /// wait for it.
    ///
    /// # Errors
    ///
    /// The permanent error that prevents the start.
    pub async fn wait(&mut self, patience: Duration) -> Result<(), E> {
        let Some(preparation) = &mut self.0 else { return Ok(()) };
        match tokio::time::timeout(patience, preparation).await {
            Ok(result) => {
                self.0 = None;
                result
            }
            Err(_) => Ok(()),
        }
    }

    /// Waits until the preparation has ended.
    ///
    /// # Errors
    ///
    /// The permanent error that prevents the start.
    pub async fn finish(self) -> Result<(), E> {
        match self.0 {
            Some(preparation) => preparation.await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    use super::*;

    #[tokio::test]
    async fn what_takes_long_is_begun_once_and_what_fails_for_now_again() {
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let mut starting = Starting::begin(
            move || {
                let number = count.fetch_add(1, Relaxed);
                async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if number == 0 { Err("away") } else { Ok(()) }
                }
            },
            |error| *error == "away",
        );
        starting.wait(Duration::from_millis(50)).await.unwrap();
        starting.wait(Duration::from_millis(1)).await.unwrap();
        assert_eq!(begun.load(Relaxed), 1);
        starting.finish().await.unwrap();
        assert_eq!(begun.load(Relaxed), 2);

        let mut failing = Starting::begin(|| async { Err("for good") }, |error| *error == "away");
        assert_eq!(failing.wait(Duration::from_secs(1)).await, Err("for good"));
        failing.finish().await.unwrap();
    }
}
