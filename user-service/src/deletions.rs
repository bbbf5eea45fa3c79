//! Deletions travel both ways between the services: what is deleted here is told to the auth service,
//! and what is deleted there is asked for.

pub mod incoming;
pub mod outgoing;

use std::time::Duration;

use latchkey_contracts::auth::v1::account_service_client::AccountServiceClient;
use service_kit::{settings::Secret, tls::Connector, trace::Traces};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue, errors::InvalidMetadataValue},
    transport::Channel,
};

use crate::{config::AuthGrpc, store::Origin};

/// How long the auth service may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// `auth.v1.AccountService` of the auth service. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Accounts {
    client: AccountServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    traces: Traces,
}

impl Accounts {
    /// The accounts at `auth`, where `token`, or a client certificate alone, is presented. Nothing is
    /// connected before the first call.
    ///
    /// # Errors
    ///
    /// Where the token cannot be a header field.
    pub fn new(
        auth: AuthGrpc,
        token: Option<&Secret>,
        traces: Traces,
    ) -> Result<Self, InvalidMetadataValue> {
        let authorization = token.map(bearer).transpose()?;
        let endpoint = auth
            .endpoint
            .connect_timeout(ANSWER_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let channel = match auth.tls {
            Some(tls) => endpoint.connect_with_connector_lazy(Connector::new(tls)),
            None => endpoint.connect_lazy(),
        };
        Ok(Self { client: AccountServiceClient::new(channel), authorization, traces })
    }

    /// Makes one call of `method` on behalf of the request `origin`, within [`ANSWER_TIMEOUT`].
    async fn call<M, A>(
        &self,
        method: &'static str,
        message: M,
        origin: Option<&Origin>,
        send: impl AsyncFnOnce(
            AccountServiceClient<Channel>,
            Request<M>,
        ) -> Result<tonic::Response<A>, Status>,
    ) -> Result<A, Status> {
        let call = self.traces.call(method, origin.map_or("", |origin| &origin.traceparent));
        let mut request = Request::new(message);
        request.set_timeout(ANSWER_TIMEOUT);
        let metadata = request.metadata_mut();
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        let traceparent = call.traceparent();
        let request_id = origin.map_or("", |origin| &origin.request_id);
        for (name, value) in [("x-request-id", request_id), ("traceparent", &traceparent)] {
            if let Some(value) = value.parse().ok().filter(|_| !value.is_empty()) {
                metadata.insert(name, value);
            }
        }
        let answer = send(self.client.clone(), request);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        if let Err(status) = &answer {
            call.fail(status.code());
        }
        answer.map(tonic::Response::into_inner)
    }
}

/// What to log of a failed call: its code, and what happened on the way there. What the other side
/// says may be anything.
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
