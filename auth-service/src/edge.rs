//! The two edges: thin adapters over [`crate::service::Service`].

pub mod grpc;
pub mod rest;

use std::sync::Arc;

use http::{Extensions, HeaderMap, header};
use outbox::Origin;
use service_kit::{client_address::network, context::RequestContext, error::Fault, json::fault};
use uuid::Uuid;

use crate::{
    error::Error,
    field_code,
    service::{Requester, Service},
};

/// Where a request comes from.
fn requester(extensions: &Extensions) -> Requester {
    let context = extensions.get::<Arc<RequestContext>>();
    let origin = Origin {
        request_id: context.map(|context| context.request_id.clone()).unwrap_or_default(),
        traceparent: context.map(|context| context.traceparent()).unwrap_or_default(),
    };
    Requester { network: network(extensions), origin }
}

/// The `User-Agent` of a request.
fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).map(|agent| agent.as_bytes());
    String::from_utf8_lossy(agent.unwrap_or_default()).into_owned()
}

/// The fault of a request for a refresh token if the service issues none.
fn offline_access_fault(service: &Service, offline_access: bool) -> Option<Fault> {
    (offline_access && !service.offers_refresh_tokens()).then(|| {
        fault(
            "offline_access",
            field_code::NOT_SUPPORTED,
            "refresh tokens are off (REFRESH_TOKENS)",
        )
    })
}

/// Parses the id of an account or a session.
fn id(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).ok().filter(|id| id.to_string() == *text).ok_or_else(|| {
        let rule = "must be a UUID in lower case with hyphens";
        Error::Invalid(vec![fault("id", field_code::NOT_A_UUID, rule)])
    })
}
