//! gRPC: the services of `auth.v1`.

mod admin;
mod credentials;
mod sessions;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION, request::Parts};
use latchkey_contracts::auth::v1::{
    DeleteAccountRequest, DeleteAccountResponse, FILE_DESCRIPTOR_SET, IntrospectTokenRequest,
    IntrospectTokenResponse, ListDeletedAccountsRequest, ListDeletedAccountsResponse, LoginRequest,
    LoginResponse, RegisterRequest, RegisterResponse,
    account_service_server::{AccountService, AccountServiceServer},
    admin_service_server::AdminServiceServer,
    auth_service_server::{AuthService, AuthServiceServer},
    credential_service_server::CredentialServiceServer,
    session_service_server::SessionServiceServer,
};
use prost_types::Timestamp;
use service_kit::{
    access,
    error::ApiError,
    grpc::{Admit, Admitted},
    json::fault,
    settings::Secret,
    tls::ClientCertificate,
};
use subtle::{Choice, ConstantTimeEq as _};
use tonic::{Request, Response, Status};

use self::{admin::Operators, credentials::without_nul, sessions::Callers};
use crate::{
    domain::{AccountId, Registration},
    edge,
    error::Error,
    events::Actor,
    field_code,
    service::{Credentials, Service},
};

/// The names of the services, for the health service.
pub const SERVICES: &[&str] = &[
    "auth.v1.AuthService",
    "auth.v1.AccountService",
    "auth.v1.SessionService",
    "auth.v1.CredentialService",
    "auth.v1.AdminService",
];
/// The descriptors that reflection offers besides that of the health service.
pub const DESCRIPTORS: &[u8] = FILE_DESCRIPTOR_SET;

/// How many deleted accounts a page has if the caller does not say.
const DELETED_DEFAULT: u32 = 500;
/// The most deleted accounts that a page can have.
const DELETED_MAX: u32 = 1000;

/// The credentials for the calls that are restricted to services and operators.
#[derive(Debug)]
pub struct ServiceCredentials {
    /// The tokens of other services. Any one of them is accepted.
    pub service_tokens: Vec<Secret>,
    /// The token of operators, if there is one.
    pub admin_token: Option<Secret>,
    /// The names in client certificates of operators.
    pub admin_names: Vec<String>,
}

/// Adds the services of `auth.v1`.
pub fn add_services(
    routes: &mut tonic::service::RoutesBuilder,
    service: Arc<Service>,
    openers: ServiceCredentials,
) {
    let api = Api { service };
    let operators = Operators { token: openers.admin_token, names: openers.admin_names.into() };
    let tokens = openers.service_tokens.into();
    let services = Services { tokens, operators: operators.clone() };
    routes.add_service(Admitted::new(AdminServiceServer::new(api.clone()), operators));
    routes.add_service(Admitted::new(AuthServiceServer::new(api.clone()), services.clone()));
    let callers = Callers(Arc::clone(&api.service));
    let credentials = CredentialServiceServer::new(api.clone());
    routes.add_service(Admitted::new(credentials, callers.clone()));
    routes.add_service(Admitted::new(SessionServiceServer::new(api.clone()), callers));
    routes.add_service(Admitted::new(AccountServiceServer::new(api), services));
}

#[derive(Debug, Clone)]
struct Api {
    service: Arc<Service>,
}

/// Admits other services to the calls that are restricted to them.
#[derive(Debug, Clone)]
struct Services {
    /// The tokens of services. Any one of them is accepted.
    tokens: Arc<[Secret]>,
    /// Recognises operators, whose client certificates do not count as services.
    operators: Operators,
}

/// What the `Authorization` header of a call contains.
enum BearerToken<'a> {
    /// There is no header, or its scheme is not Bearer.
    Nothing,
    /// A secret. It may contain characters that cannot be in an access token, because the settings allow
    /// them in service tokens.
    Secret(&'a str),
    /// Its bytes cannot be a secret.
    Unusable,
}

impl<'a> BearerToken<'a> {
    /// Fails if there is more than one header.
    fn of(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        Ok(match (fields.next().map(HeaderValue::to_str), fields.next()) {
            (None, _) => Self::Nothing,
            (Some(_), Some(_)) => return Err(Error::AmbiguousCredentials.into()),
            (Some(Ok(text)), None) => {
                let (scheme, secret) = text.split_once(' ').unwrap_or((text, ""));
                if scheme.eq_ignore_ascii_case("bearer") {
                    Self::Secret(secret.trim_matches(' '))
                } else {
                    Self::Nothing
                }
            }
            (Some(Err(_)), None) => Self::Unusable,
        })
    }
}

/// Whether a token is in the list. Each comparison takes constant time, and all entries are compared, so
/// that the duration does not reveal which one matched.
fn is_one_of(presented: &str, tokens: &[Secret]) -> bool {
    tokens
        .iter()
        .map(|token| token.expose().as_bytes().ct_eq(presented.as_bytes()))
        .fold(Choice::from(0), |known, equal| known | equal)
        .into()
}

/// The prefixes of the calls that are restricted to services.
const FOR_SERVICES: [&str; 2] =
    ["/auth.v1.AuthService/IntrospectToken", "/auth.v1.AccountService/"];

#[tonic::async_trait]
impl Admit for Services {
    /// Admits a service: a call with a service token or, if it has no token, with a client certificate
    /// that is not an operator's.
    async fn admit(&self, head: &mut Parts) -> Result<(), ApiError> {
        let path = head.uri.path();
        if !FOR_SERVICES.iter().any(|begin| path.starts_with(begin)) {
            return Ok(());
        }
        let known = match BearerToken::of(&head.headers)? {
            BearerToken::Secret(presented) => is_one_of(presented, &self.tokens),
            BearerToken::Nothing => head
                .extensions
                .get::<ClientCertificate>()
                .is_some_and(|certificate| self.operators.name_of(certificate).is_none()),
            BearerToken::Unusable => false,
        };
        if known { Ok(()) } else { Err(Error::UnknownService.into()) }
    }
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn refused(error: Error) -> Status {
    ApiError::from(error).into()
}

#[tonic::async_trait]
impl AuthService for Api {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.service.may_register().map_err(refused)?;
        let by = edge::requester(request.extensions());
        let RegisterRequest { email, password } = request.into_inner();
        let mut faults = Vec::new();
        let registration = Registration::parse(
            Some(&email),
            Some(&password),
            self.service.password_rules(),
            &mut faults,
        );
        let registration = registration.ok_or_else(|| refused(Error::Invalid(faults)))?;
        let account = self.service.register(registration, &by).await.map_err(refused)?;
        Ok(Response::new(RegisterResponse {
            id: account.id.to_string(),
            email: account.email.as_str().to_owned(),
            created_at: Some(Timestamp {
                seconds: account.created_at.timestamp(),
                nanos: account.created_at.timestamp_subsec_nanos().cast_signed(),
            }),
        }))
    }

    async fn login(
        &self,
        request: Request<LoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        let by = edge::requester(request.extensions());
        let agent = edge::user_agent(request.metadata().as_ref());
        let LoginRequest { email, password, offline_access } = request.into_inner();
        // A NUL in a JSON string makes REST refuse the whole body, so gRPC refuses the message as well.
        without_nul(&[&email, &password])?;
        if let Some(fault) = edge::offline_access_fault(&self.service, offline_access) {
            return Err(refused(Error::Invalid(vec![fault])));
        }
        let credentials = Credentials {
            email: &email,
            password: &password,
            offline_access: offline_access.then_some(&agent),
        };
        let issued = self.service.login(credentials, &by).await.map_err(refused)?;
        let (refresh_token, refresh_token_expires_in) =
            issued.refresh.map(|refresh| (refresh.token, refresh.expires_in)).unzip();
        Ok(Response::new(LoginResponse {
            access_token: issued.access_token,
            token_type: "Bearer".to_owned(),
            expires_in: seconds(issued.expires_in),
            refresh_token: refresh_token.unwrap_or_default(),
            refresh_token_expires_in: seconds(refresh_token_expires_in.unwrap_or_default()),
        }))
    }

    async fn introspect_token(
        &self,
        request: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        let claims = self.service.introspect(&request.get_ref().token).await.map_err(refused)?;
        Ok(Response::new(claims.map_or_else(IntrospectTokenResponse::default, |claims| {
            IntrospectTokenResponse {
                active: true,
                sub: claims.sub.to_string(),
                email: claims.email.unwrap_or_default(),
                iat: claims.iat,
                exp: claims.exp,
                iss: claims.iss.unwrap_or_default(),
                aud: claims.aud,
                jti: claims.jti.unwrap_or_default(),
            }
        })))
    }
}

#[tonic::async_trait]
impl AccountService for Api {
    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, Status> {
        let by = edge::requester(request.extensions());
        let id = edge::id(&request.get_ref().id).map_err(refused)?;
        let cause = by.acting_as(Actor::Service);
        self.service.delete_account(AccountId(id), &cause).await.map_err(refused)?;
        Ok(Response::new(DeleteAccountResponse {}))
    }

    async fn list_deleted_accounts(
        &self,
        request: Request<ListDeletedAccountsRequest>,
    ) -> Result<Response<ListDeletedAccountsResponse>, Status> {
        access::note_poll();
        let ListDeletedAccountsRequest { cursor, page_size } = request.get_ref();
        let limit = match u32::try_from(*page_size) {
            Ok(0) => DELETED_DEFAULT,
            Ok(size) => size.min(DELETED_MAX),
            Err(_) => {
                let rule = "must be a whole number, 0 or more";
                return Err(refused(Error::Invalid(vec![fault(
                    "page_size",
                    field_code::INVALID_PAGE_SIZE,
                    rule,
                )])));
            }
        };
        let page = self.service.deleted_accounts(cursor, limit).await.map_err(refused)?;
        Ok(Response::new(ListDeletedAccountsResponse {
            ids: page.accounts.iter().map(ToString::to_string).collect(),
            next_cursor: page.next_cursor,
            more: page.more,
            reset: page.reset,
        }))
    }
}
