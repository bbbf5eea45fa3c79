//! Middleware around every call. It authenticates the caller before the message is read, and counts
//! every call as a request, even if its message cannot be decoded.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use service_kit::error::ApiError;
use token_verifier::Verifier;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service as Layered;

use crate::{
    edge::authenticate,
    service::{Service, Visit},
};

/// Wraps a gRPC service and stores an [`Arc`] of [`Visit`] in the extensions of each call.
#[derive(Debug, Clone)]
pub(super) struct Visited<S> {
    inner: S,
    service: Arc<Service>,
    verifier: Verifier,
}

impl<S> Visited<S> {
    pub(super) const fn new(inner: S, service: Arc<Service>, verifier: Verifier) -> Self {
        Self { inner, service, verifier }
    }
}

impl<S: NamedService> NamedService for Visited<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = Result<http::Response<Body>, Infallible>;

impl<S> Layered<http::Request<Body>> for Visited<S>
where
    S: Layered<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Self { inner, service, verifier } = self.clone();
        // `poll_ready` was called on this instance, so the call must not use the clone, which may
        // not be ready.
        let mut inner = std::mem::replace(&mut self.inner, inner);
        Box::pin(async move {
            let caller = match authenticate(&service, &verifier, request.headers()).await {
                Ok(caller) => caller,
                Err(error) => return Ok(Status::from(error).into_http()),
            };
            let visit = Arc::new(Visit::new(caller));
            request.extensions_mut().insert(Arc::clone(&visit));
            let answer = inner.call(request).await?;
            match service.conclude(&visit).await {
                Ok(()) => Ok(answer),
                Err(error) => Ok(Status::from(ApiError::from(error)).into_http()),
            }
        })
    }
}
