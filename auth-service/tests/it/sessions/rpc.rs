//! The same over gRPC.

use latchkey_contracts::auth::v1::{
    EndAllSessionsRequest, EndSessionRequest, ListSessionsRequest, LoginRequest, LogoutRequest,
    RefreshRequest, auth_service_client::AuthServiceClient,
    session_service_client::SessionServiceClient,
};
use test_kit::{ENGINES, channel};
use uuid::Uuid;

use super::{EMAIL, started};
use crate::support::PASSWORD;

#[tokio::test]
async fn grpc_does_the_same() {
    for engine in ENGINES {
        let service = started(engine).await;
        let mut logins = AuthServiceClient::new(channel(service.grpc).await);
        let mut login = async |offline_access| {
            let request = LoginRequest {
                email: EMAIL.to_owned(),
                password: PASSWORD.to_owned(),
                offline_access,
            };
            logins.login(request).await.unwrap().into_inner()
        };
        let plain = login(false).await;
        assert_eq!((plain.refresh_token.as_str(), plain.refresh_token_expires_in), ("", 0));
        let first = login(true).await;
        let mut sessions = SessionServiceClient::new(channel(service.grpc).await);
        let refreshed = sessions
            .refresh(RefreshRequest { refresh_token: first.refresh_token.clone() })
            .await
            .unwrap()
            .into_inner();
        assert!(refreshed.refresh_token.starts_with("lkr_"));
        assert_eq!(refreshed.token_type, "Bearer");
        let missing = sessions.refresh(RefreshRequest::default()).await.unwrap_err();
        assert_eq!(missing.code(), tonic::Code::Unauthenticated);

        fn authorized<T>(message: T, token: &str) -> tonic::Request<T> {
            let mut request = tonic::Request::new(message);
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
            request
        }
        let token = refreshed.access_token;
        let listed = sessions
            .list_sessions(authorized(ListSessionsRequest {}, &token))
            .await
            .unwrap()
            .into_inner()
            .sessions;
        assert!(listed.len() == 1 && listed[0].current, "{engine:?} {listed:?}");
        let malformed = EndSessionRequest { id: "me".to_owned() };
        let refused = sessions.end_session(authorized(malformed, &token)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        let unknown = EndSessionRequest { id: Uuid::nil().to_string() };
        let refused = sessions.end_session(authorized(unknown, &token)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
        let all = authorized(EndAllSessionsRequest {}, &plain.access_token);
        sessions.end_all_sessions(all).await.unwrap();
        let ended = RefreshRequest { refresh_token: refreshed.refresh_token.clone() };
        assert_eq!(sessions.refresh(ended).await.unwrap_err().code(), tonic::Code::Unauthenticated);
        let logout = LogoutRequest { refresh_token: refreshed.refresh_token };
        sessions.logout(logout).await.unwrap();
    }
}
