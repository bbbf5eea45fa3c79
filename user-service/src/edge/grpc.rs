//! gRPC: the service of `user.v1`.

mod update;
mod visited;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use latchkey_contracts::user::v1::{
    DeleteUserRequest, DeleteUserResponse, FILE_DESCRIPTOR_SET, GetUserRequest, GetUserResponse,
    ListUsersRequest, ListUsersResponse, UpdateUserRequest, UpdateUserResponse, User,
    user_service_server::{UserService, UserServiceServer},
};
use prost_types::Timestamp;
use service_kit::{context::RequestContext, error::ApiError, listen::AnswerMemory};
use token_verifier::Verifier;
use tonic::{Request, Response, Status};

use self::visited::Visited;
use super::{fault, origin, page_bytes};
use crate::{
    domain::{Broken, PageSize, Profile, Target},
    error::Error,
    etag::Preconditions,
    field_code,
    service::{Page, Service, Visit},
};

/// The names of the services, for the health service.
pub const SERVICES: &[&str] = &["user.v1.UserService"];
/// The descriptors that reflection offers besides that of the health service.
pub const DESCRIPTORS: &[u8] = FILE_DESCRIPTOR_SET;

/// Adds the service of `user.v1`.
pub fn add_services(
    routes: &mut tonic::service::RoutesBuilder,
    service: Arc<Service>,
    verifier: Verifier,
) {
    let api = UserServiceServer::new(Api { service: Arc::clone(&service) });
    routes.add_service(Visited::new(api, service, verifier));
}

#[derive(Debug)]
struct Api {
    service: Arc<Service>,
}

fn refused(error: Error) -> Status {
    ApiError::from(error).into()
}

/// Unwraps a parsed value, or returns the error for the request.
fn checked<T>(pointer: &str, parsed: Result<T, Broken>) -> Result<T, Status> {
    parsed.map_err(|broken| refused(Error::Invalid(vec![fault(pointer, broken)])))
}

/// Reads a value that [`Visited`] has stored in the extensions.
fn extension<T, M>(request: &Request<M>) -> Result<&T, Status>
where
    T: Send + Sync + 'static,
{
    request.extensions().get().ok_or_else(|| refused(Error::Internal))
}

#[tonic::async_trait]
impl UserService for Api {
    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let visit: &Arc<Visit> = extension(&request)?;
        let target = checked("/id", Target::parse(&request.get_ref().id))?;
        let profile = self.service.get(visit, target).await.map_err(refused)?;
        Ok(Response::new(GetUserResponse { user: Some(user(profile)) }))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let visit: &Arc<Visit> = extension(&request)?;
        let ListUsersRequest { page_size, page_token } = request.get_ref();
        let size = checked("/page_size", PageSize::from_number(*page_size))?;
        let reservation = AnswerMemory::of(request.extensions()).reserve(page_bytes(size)).await?;
        let page = self.service.list(visit, size, page_token).await.map_err(refused)?;
        let Page { profiles, next_page_token } = page;
        let users = profiles.into_iter().map(user).collect();
        let mut response = Response::new(ListUsersResponse { users, next_page_token });
        if let Some(reservation) = reservation {
            response.extensions_mut().insert(reservation);
        }
        Ok(response)
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<UpdateUserResponse>, Status> {
        let visit: &Arc<Visit> = extension(&request)?;
        let UpdateUserRequest { user: wanted, update_mask, etag } = request.get_ref();
        let wanted =
            checked("/user", wanted.as_ref().ok_or((field_code::REQUIRED, "is required")))?;
        let target = checked("/user/id", Target::parse(&wanted.id))?;
        let preconditions = Preconditions::exactly(etag);
        let service = &self.service;
        let present = service.authorize(visit, target, &preconditions).await.map_err(refused)?;
        let changed = service
            .update(visit, present, &preconditions, |present| {
                update::edit(wanted.clone(), update_mask.clone(), present).map_err(Error::Invalid)
            })
            .await
            .map_err(refused)?;
        Ok(Response::new(UpdateUserResponse { user: Some(user(changed)) }))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let visit: &Arc<Visit> = extension(&request)?;
        let origin = origin(extension::<Arc<RequestContext>, _>(&request)?);
        let DeleteUserRequest { id, etag } = request.get_ref();
        let target = checked("/id", Target::parse(id))?;
        let preconditions = Preconditions::exactly(etag);
        self.service.delete(visit, target, &preconditions, &origin).await.map_err(refused)?;
        Ok(Response::new(DeleteUserResponse {}))
    }
}

fn user(profile: Profile) -> User {
    User {
        etag: profile.etag(),
        id: profile.id.to_string(),
        name: profile.name,
        email: profile.email,
        bio: profile.bio,
        created_at: Some(timestamp(profile.created_at)),
        updated_at: Some(timestamp(profile.updated_at)),
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
