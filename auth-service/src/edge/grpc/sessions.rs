//! `auth.v1.SessionService`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::request::Parts;
use latchkey_contracts::auth::v1::{
    EndAllSessionsRequest, EndAllSessionsResponse, EndSessionRequest, EndSessionResponse,
    ListSessionsRequest, ListSessionsResponse, LogoutRequest, LogoutResponse, RefreshRequest,
    RefreshResponse, Session, session_service_server::SessionService,
};
use prost_types::Timestamp;
use service_kit::{error::ApiError, grpc::Admit};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, credentials::without_nul, refused, seconds};
use crate::{
    edge,
    error::Error,
    service::{Caller, Service},
    store::SessionRecord,
};

/// Verifies the access token of the calls that need one, before their messages are read.
#[derive(Debug, Clone)]
pub(super) struct Callers(pub(super) Arc<Service>);

const FOR_CALLERS: [&str; 6] = [
    "/auth.v1.CredentialService/ChangePassword",
    "/auth.v1.CredentialService/ChangeEmail",
    "/auth.v1.CredentialService/DeleteOwnAccount",
    "/auth.v1.SessionService/ListSessions",
    "/auth.v1.SessionService/EndSession",
    "/auth.v1.SessionService/EndAllSessions",
];

#[tonic::async_trait]
impl Admit for Callers {
    async fn admit(&self, head: &mut Parts) -> Result<(), ApiError> {
        if FOR_CALLERS.contains(&head.uri.path()) {
            let caller = self.0.authenticate(&head.headers).await?;
            head.extensions.insert(Arc::new(caller));
        }
        Ok(())
    }
}

/// The caller that [`Callers`] has admitted.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    request.extensions().get().cloned().ok_or_else(|| refused(Error::Internal))
}

#[tonic::async_trait]
impl SessionService for Api {
    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<RefreshResponse>, Status> {
        let by = edge::requester(request.extensions());
        let token = request.into_inner().refresh_token;
        without_nul(&[&token])?;
        let issued = self.service.refresh(&token, &by).await.map_err(refused)?;
        let (refresh_token, refresh_token_expires_in) =
            issued.refresh.map(|refresh| (refresh.token, refresh.expires_in)).unzip();
        Ok(Response::new(RefreshResponse {
            access_token: issued.access_token,
            token_type: "Bearer".to_owned(),
            expires_in: seconds(issued.expires_in),
            refresh_token: refresh_token.unwrap_or_default(),
            refresh_token_expires_in: seconds(refresh_token_expires_in.unwrap_or_default()),
        }))
    }

    async fn logout(
        &self,
        request: Request<LogoutRequest>,
    ) -> Result<Response<LogoutResponse>, Status> {
        let by = edge::requester(request.extensions());
        let token = request.into_inner().refresh_token;
        without_nul(&[&token])?;
        self.service.logout(&token, &by).await.map_err(refused)?;
        Ok(Response::new(LogoutResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let caller = caller(&request)?;
        let sessions = self.service.list_sessions(&caller).await.map_err(refused)?;
        let current = caller.session;
        let sessions = sessions.into_iter().map(|record| session(record, current)).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn end_session(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        let caller = caller(&request)?;
        let id = edge::id(&request.get_ref().id).map_err(refused)?;
        let by = edge::requester(request.extensions());
        self.service.end_session(&caller, id, &by).await.map_err(refused)?;
        Ok(Response::new(EndSessionResponse {}))
    }

    async fn end_all_sessions(
        &self,
        request: Request<EndAllSessionsRequest>,
    ) -> Result<Response<EndAllSessionsResponse>, Status> {
        let caller = caller(&request)?;
        let by = edge::requester(request.extensions());
        self.service.end_all_sessions(&caller, &by).await.map_err(refused)?;
        Ok(Response::new(EndAllSessionsResponse {}))
    }
}

/// Converts a session to its message. `current` is the caller's own session, if any.
pub(super) fn session(record: SessionRecord, current: Option<Uuid>) -> Session {
    Session {
        current: current == Some(record.id),
        id: record.id.to_string(),
        created_at: Some(timestamp(record.created_at)),
        last_used_at: Some(timestamp(record.last_used_at)),
        expires_at: Some(timestamp(record.expires_at)),
        network: record.network,
        user_agent: record.user_agent,
    }
}

pub(super) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
