//! Deletions are synchronised in both directions: this service reports its own to the auth service, and
//! polls the auth service for the accounts that were deleted there.

pub mod incoming;
pub mod outgoing;

use std::{sync::Arc, time::Duration};

use endpoints::{CallError, Endpoints, Failure, ToAddress};
use latchkey_contracts::auth::v1::account_service_client::AccountServiceClient;
use service_kit::{settings::Secret, tls::Connector, trace::Traces};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue, errors::InvalidMetadataValue},
    transport::Channel,
};

use crate::{config::AuthGrpc, store::Origin};

/// How long the auth service may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

type Client = AccountServiceClient<Channel>;

/// `auth.v1.AccountService` of the auth service. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Accounts {
    endpoints: Endpoints<Client>,
    authorization: Option<MetadataValue<Ascii>>,
    traces: Traces,
}

impl Accounts {
    /// A client for the accounts at `auth`. It presents `token`, or only a client certificate if there is no
    /// token. The first call opens the connection.
    ///
    /// # Errors
    ///
    /// If the token is not valid as a header value.
    pub fn new(
        auth: AuthGrpc,
        token: Option<&Secret>,
        traces: Traces,
    ) -> Result<Self, InvalidMetadataValue> {
        let authorization = token.map(bearer).transpose()?;
        let AuthGrpc { url, resolver, endpoint, tls } = auth;
        let endpoint = endpoint
            .connect_timeout(ANSWER_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let endpoints = Endpoints::new(url, resolver, move |address| {
            AccountServiceClient::new(match &tls {
                Some(tls) => {
                    endpoint.connect_with_connector_lazy(Connector::new(tls.clone()).to(address))
                }
                None => endpoint.connect_with_connector_lazy(ToAddress(address)),
            })
        });
        Ok(Self { endpoints, authorization, traces })
    }

    /// Makes one call of `method` on behalf of the request `origin`, within [`ANSWER_TIMEOUT`]. A retry may
    /// send it to several replicas, or twice to the same one, so every call must be idempotent.
    async fn call<M: Clone, A, F>(
        &self,
        method: &'static str,
        message: M,
        origin: Option<&Origin>,
        send: impl Fn(Client, Request<M>) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<tonic::Response<A>, Status>>,
    {
        let call = self.traces.call(method, origin.map_or("", |origin| &origin.traceparent));
        let traceparent = call.traceparent();
        let answer = self.endpoints.call(ANSWER_TIMEOUT, |client| {
            let answer = send(client, self.request(message.clone(), origin, &traceparent));
            async move {
                answer.await.map_err(|status| {
                    // A status with a source was created by the client: the call did not arrive, or its
                    // response did not.
                    let is_local = std::error::Error::source(&status).is_some();
                    let is_away = is_local || status.code() == Code::Unavailable;
                    if is_away { Failure::Address(status) } else { Failure::Answered(status) }
                })
            }
        });
        let answer = answer.await.map_err(|error| match error {
            CallError::Resolve(error) => {
                let mut status = Status::unavailable("no address");
                status.set_source(Arc::new(error));
                status
            }
            CallError::Failed(status) => status,
            CallError::Timeout(_) => Status::deadline_exceeded("no answer"),
        });
        if let Err(status) = &answer {
            call.fail(status.code());
        }
        answer.map(tonic::Response::into_inner)
    }

    fn request<M>(&self, message: M, origin: Option<&Origin>, traceparent: &str) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(ANSWER_TIMEOUT);
        let metadata = request.metadata_mut();
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        let request_id = origin.map_or("", |origin| &origin.request_id);
        for (name, value) in [("x-request-id", request_id), ("traceparent", traceparent)] {
            if let Some(value) = value.parse().ok().filter(|_| !value.is_empty()) {
                metadata.insert(name, value);
            }
        }
        request
    }
}

/// What to log about a failed call: its code and the local cause. The message of the other side is left out,
/// because it could contain anything.
fn reason(status: &Status) -> String {
    let first = std::error::Error::source(status);
    let causes = std::iter::successors(first, |error| error.source());
    match causes.last() {
        Some(cause) => format!("{:?}: {cause}", status.code()),
        None => format!("{:?}", status.code()),
    }
}

fn bearer(token: &Secret) -> Result<MetadataValue<Ascii>, InvalidMetadataValue> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose()).parse()?;
    value.set_sensitive(true);
    Ok(value)
}
