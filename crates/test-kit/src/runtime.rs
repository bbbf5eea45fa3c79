//! Threads of their own for a service that runs in the process of its test.

use std::future::Future;

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// A runtime beside that of the test.
///
/// A test that waits for a command, and blocks its thread meanwhile, would otherwise also stop the service.
/// If the service then holds a lock in the database, the command waits for it in vain. What still runs is
/// ended when this is dropped.
#[derive(Debug)]
pub struct ServiceRuntime(Option<Runtime>);

impl ServiceRuntime {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If there can be no more threads.
    #[must_use]
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self(Some(runtime.expect("a runtime")))
    }

    /// Runs a part of the service.
    ///
    /// # Panics
    ///
    /// Never: only a drop takes the runtime away.
    pub fn spawn<T: Send + 'static>(
        &self,
        part: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.as_ref().expect("a runtime until the drop").spawn(part)
    }
}

impl Drop for ServiceRuntime {
    fn drop(&mut self) {
        // A runtime must not be waited for in a task, which is where tests are dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
