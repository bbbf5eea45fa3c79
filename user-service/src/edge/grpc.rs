//! gRPC: the service of `user.v1`.

mod update;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use latchkey_contracts::user::v1::{
    DeleteUserRequest, DeleteUserResponse, FILE_DESCRIPTOR_SET, GetUserRequest, GetUserResponse,
    ListUsersRequest, ListUsersResponse, UpdateUserRequest, UpdateUserResponse, User,
    user_service_server::{UserService, UserServiceServer},
};
use prost_types::Timestamp;
use service_kit::{context::RequestContext, error::ApiError};
use token_verifier::Verifier;
use tonic::{Request, Response, Status};

use super::{authenticate, fault, origin, refuse};
use crate::{
    domain::{Broken, Caller, PageSize, Profile, UserId},
    error::Error,
    etag::Preconditions,
    service::{Found, Page, Service},
};

/// The names of the services, for health.
pub const SERVICES: &[&str] = &["user.v1.UserService"];
/// What reflection describes beside the health service.
pub const DESCRIPTORS: &[u8] = FILE_DESCRIPTOR_SET;

/// Adds the service of `user.v1`.
pub fn add_services(
    routes: &mut tonic::service::RoutesBuilder,
    service: Arc<Service>,
    verifier: Verifier,
) {
    routes.add_service(UserServiceServer::new(Api { service, verifier }));
}

#[derive(Debug)]
struct Api {
    service: Arc<Service>,
    verifier: Verifier,
}

impl Api {
    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        Ok(authenticate(&self.verifier, request.metadata().as_ref()).await?)
    }

    /// Takes a parsed value, or refuses the request because of it.
    async fn checked<T>(
        &self,
        caller: &Caller,
        pointer: &str,
        parsed: Result<T, Broken>,
    ) -> Result<T, Status> {
        match parsed {
            Ok(value) => Ok(value),
            Err(broken) => {
                let error = Error::Invalid(vec![fault(pointer, broken)]);
                Err(refuse(&self.service, caller, error).await.into())
            }
        }
    }
}

fn refused(error: Error) -> Status {
    ApiError::from(error).into()
}

#[tonic::async_trait]
impl UserService for Api {
    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let caller = self.caller(&request).await?;
        let id = self.checked(&caller, "/id", UserId::parse(&request.get_ref().id)).await?;
        let found = self.service.get(&caller, id, &Preconditions::default()).await;
        match found.map_err(refused)? {
            Found::Profile(profile) => {
                Ok(Response::new(GetUserResponse { user: Some(user(profile)) }))
            }
            Found::NotModified(_) => Err(refused(Error::Internal)),
        }
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let caller = self.caller(&request).await?;
        let ListUsersRequest { page_size, page_token } = request.into_inner();
        let size = PageSize::from_number(page_size);
        let size = self.checked(&caller, "/page_size", size).await?;
        let page = self.service.list(&caller, size, &page_token).await.map_err(refused)?;
        let Page { profiles, next_page_token } = page;
        let users = profiles.into_iter().map(user).collect();
        Ok(Response::new(ListUsersResponse { users, next_page_token }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<UpdateUserResponse>, Status> {
        let caller = self.caller(&request).await?;
        let UpdateUserRequest { user: wanted, update_mask, etag } = request.into_inner();
        let wanted = wanted.ok_or(("required", "is required"));
        let wanted = self.checked(&caller, "/user", wanted).await?;
        let id = self.checked(&caller, "/user/id", UserId::parse(&wanted.id)).await?;
        let preconditions = Preconditions::exactly(&etag);
        let service = &self.service;
        let present = service.authorize(&caller, id, &preconditions).await.map_err(refused)?;
        let changed = service
            .update(&caller, present, &preconditions, |present| {
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
        let caller = self.caller(&request).await?;
        let context = request.extensions().get::<RequestContext>();
        let origin = origin(context.ok_or_else(|| refused(Error::Internal))?);
        let DeleteUserRequest { id, etag } = request.into_inner();
        let id = self.checked(&caller, "/id", UserId::parse(&id)).await?;
        let preconditions = Preconditions::exactly(&etag);
        self.service.delete(&caller, id, &preconditions, &origin).await.map_err(refused)?;
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
