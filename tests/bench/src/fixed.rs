//! One and the same profile for every request.

use std::net::SocketAddr;

use axum::{Router, body::Bytes, http::header::CONTENT_TYPE, routing::get};
use chrono::DateTime;
use latchkey_contracts::user::v1::{
    DeleteUserRequest, DeleteUserResponse, GetUserRequest, GetUserResponse, ListUsersRequest,
    ListUsersResponse, UpdateUserRequest, UpdateUserResponse, User,
    user_service_server::{UserService, UserServiceServer},
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status, service::Routes};
use uuid::Uuid;

use crate::{Failure, Profile};

const ID: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_0001);
const NAME: &str = "Person 1";
const BIO: &str = "A text about this person, of a usual length. ";
const SECONDS: i64 = 1_700_000_000;
const MICROS: u32 = 123_456;

/// Serves `GET /users/{id}` at the first address and `GetUser` at the second.
pub(crate) async fn serve(rest: SocketAddr, grpc: SocketAddr) -> Result<(), Failure> {
    let at = DateTime::from_timestamp(SECONDS, MICROS * 1000).ok_or("no such time")?;
    let profile =
        Profile { id: ID, name: NAME.into(), bio: BIO.repeat(3), created_at: at, updated_at: at };
    let body = Bytes::from(serde_json::to_vec(&profile)?);
    let answer = move || async move { ([(CONTENT_TYPE, "application/json")], body) };
    let rest = crate::serve(rest, Router::new().route("/users/{id}", get(answer)));
    let routes = Routes::new(UserServiceServer::new(Fixed)).into_axum_router();
    tokio::try_join!(rest, crate::serve(grpc, routes))?;
    Ok(())
}

struct Fixed;

#[tonic::async_trait]
impl UserService for Fixed {
    async fn get_user(
        &self,
        _: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let at = Timestamp { seconds: SECONDS, nanos: 123_456_000 };
        let user = User {
            id: ID.to_string(),
            name: NAME.into(),
            email: None,
            bio: BIO.repeat(3),
            created_at: Some(at),
            updated_at: Some(at),
            etag: "\"1\"".into(),
        };
        Ok(Response::new(GetUserResponse { user: Some(user) }))
    }

    async fn list_users(
        &self,
        _: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_user(
        &self,
        _: Request<UpdateUserRequest>,
    ) -> Result<Response<UpdateUserResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_user(
        &self,
        _: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
