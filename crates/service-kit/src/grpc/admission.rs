//! Authenticates callers before their messages are read, so that messages of unauthenticated callers
//! cost nothing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use tonic::{Status, body::Body, server::NamedService};
use tower::{Service, ServiceExt as _};

use crate::error::ApiError;

/// Decides by the headers of a call whether it is admitted. What it adds to the extensions of `head`
/// is in the extensions of the request that the method receives.
#[async_trait::async_trait]
pub trait Admit: Send + Sync + 'static {
    /// Examines the headers of a call.
    ///
    /// # Errors
    ///
    /// The error to return, if the call is not admitted.
    async fn admit(&self, head: &mut Parts) -> Result<(), ApiError>;
}

/// A gRPC service that admits calls before their messages are read.
#[derive(Debug)]
pub struct Admitted<S, A> {
    inner: S,
    admit: Arc<A>,
}

impl<S, A> Admitted<S, A> {
    /// Puts `admit` in front of `inner`.
    pub fn new(inner: S, admit: A) -> Self {
        Self { inner, admit: Arc::new(admit) }
    }
}

impl<S: Clone, A> Clone for Admitted<S, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), admit: Arc::clone(&self.admit) }
    }
}

impl<S: NamedService, A> NamedService for Admitted<S, A> {
    const NAME: &'static str = S::NAME;
}

impl<S, A> Service<Request<Body>> for Admitted<S, A>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    A: Admit,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { inner, admit } = self.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match admit.admit(&mut head).await {
                Ok(()) => inner.oneshot(Request::from_parts(head, body)).await,
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}
