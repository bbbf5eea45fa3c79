//! `auth.v1.AdminService`, and its authentication of operators.

use std::sync::Arc;

use http::request::Parts;
use latchkey_contracts::auth::v1::{
    Account, CreateAccountRequest, CreateAccountResponse, DisableAccountRequest,
    DisableAccountResponse, EnableAccountRequest, EnableAccountResponse, EndAccountSessionsRequest,
    EndAccountSessionsResponse, Event, GetAccountRequest, GetAccountResponse, ListAccountsRequest,
    ListAccountsResponse, ListEventsRequest, ListEventsResponse, LoginFailures, LoginNetwork,
    RemoveAccountRequest, RemoveAccountResponse, SendPasswordResetRequest,
    SendPasswordResetResponse, UnlockAccountRequest, UnlockAccountResponse,
    admin_service_server::AdminService,
};
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Value as Json};
use service_kit::{error::ApiError, grpc::Admit, settings::Secret, tls::ClientCertificate};
use tonic::{Request, Response, Status};

use super::{
    Api, BearerToken,
    credentials::{email, without_nul},
    is_one_of, refused,
    sessions::{session, timestamp},
};
use crate::{
    domain::AccountKey,
    edge,
    error::Error,
    events::{Actor, Requester},
    service::admin::{AccountFilter, Created, NewAccount, page_size},
    store::{AccountRecord, EventRecord},
};

/// The credentials of operators.
#[derive(Debug, Clone)]
pub(super) struct Operators {
    /// The admin token.
    pub(super) token: Option<Secret>,
    /// The names in client certificates of operators.
    pub(super) names: Arc<[String]>,
}

impl Operators {
    /// The name in a certificate that identifies an operator, if there is one.
    pub(super) fn name_of(&self, certificate: &ClientCertificate) -> Option<&str> {
        self.names.iter().find(|name| certificate.has_name(name)).map(String::as_str)
    }

    fn actor(&self, head: &Parts) -> Result<Option<Actor>, ApiError> {
        Ok(match BearerToken::of(&head.headers)? {
            BearerToken::Secret(presented) => {
                is_one_of(presented, self.token.as_slice()).then_some(Actor::Admin)
            }
            BearerToken::Nothing => head
                .extensions
                .get::<ClientCertificate>()
                .and_then(|certificate| self.name_of(certificate))
                .map(|name| Actor::Certificate(name.to_owned())),
            BearerToken::Unusable => None,
        })
    }
}

#[tonic::async_trait]
impl Admit for Operators {
    /// Admits an operator: a call with the admin token or, if it has no token, with a client
    /// certificate that has one of their names.
    async fn admit(&self, head: &mut Parts) -> Result<(), ApiError> {
        let Some(actor) = self.actor(head)? else {
            tracing::warn!(event = "admin.unauthenticated", "refused");
            return Err(Error::UnknownOperator.into());
        };
        head.extensions.insert(actor);
        Ok(())
    }
}

/// The requester and the operator that [`Operators`] has admitted.
fn acting<T>(request: &Request<T>) -> Result<(Requester, Actor), Status> {
    let actor = request.extensions().get().cloned().ok_or_else(|| refused(Error::Internal))?;
    Ok((edge::requester(request.extensions()), actor))
}

fn key(text: &str) -> Result<AccountKey, Status> {
    AccountKey::parse(text).map_err(|fault| refused(Error::Invalid(vec![fault])))
}

fn account(record: &AccountRecord) -> Account {
    Account {
        id: record.id.to_string(),
        email: record.email.as_str().to_owned(),
        created_at: Some(timestamp(record.created_at)),
        email_verified: record.email_verified,
        disabled: record.disabled,
        password_scheme: record
            .password_hash
            .scheme()
            .map(|scheme| scheme.to_string())
            .unwrap_or_default(),
    }
}

fn event((record, page_token): (EventRecord, String)) -> Event {
    Event {
        id: record.id.to_string(),
        r#type: record.name,
        occurred_at: Some(timestamp(record.occurred_at)),
        actor: record.actor,
        account_id: record.account.map(|account| account.to_string()).unwrap_or_default(),
        network: record.network.unwrap_or_default(),
        request_id: record.request_id.unwrap_or_default(),
        data: Some(structure(record.data)),
        page_token,
    }
}

fn structure(members: Map<String, Json>) -> Struct {
    let fields = members.into_iter().map(|(name, member)| (name, value(member)));
    Struct { fields: fields.collect() }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() })
        }
        Json::Object(members) => Kind::StructValue(structure(members)),
    };
    Value { kind: Some(kind) }
}

#[tonic::async_trait]
impl AdminService for Api {
    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let asked = request.get_ref();
        let size = page_size(asked.page_size.into()).map_err(refused)?;
        let filter = AccountFilter::parse(&asked.email_prefix, asked.disabled).map_err(refused)?;
        let page = self.service.list_accounts(&filter, size, &asked.page_token).await;
        let page = page.map_err(refused)?;
        Ok(Response::new(ListAccountsResponse {
            accounts: page.accounts.iter().map(account).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<GetAccountResponse>, Status> {
        let key = key(&request.get_ref().account)?;
        let details = self.service.account_details(&key).await.map_err(refused)?;
        let networks = details.networks.into_iter().map(|network| LoginNetwork {
            network: network.network,
            seen_at: Some(timestamp(network.seen_at)),
        });
        let failures = details.failures.into_iter().flatten().map(|failures| LoginFailures {
            locked: failures.are_too_many(),
            network: failures.network.unwrap_or_default(),
            failures: failures.failures.try_into().unwrap_or(i32::MAX),
            until: Some(timestamp(failures.until)),
        });
        Ok(Response::new(GetAccountResponse {
            account: Some(account(&details.account)),
            sessions: details.sessions.into_iter().map(|record| session(record, None)).collect(),
            networks: networks.collect(),
            failures: failures.collect(),
        }))
    }

    async fn create_account(
        &self,
        request: Request<CreateAccountRequest>,
    ) -> Result<Response<CreateAccountResponse>, Status> {
        let (by, actor) = acting(&request)?;
        let CreateAccountRequest { email: text, email_verified, password_hash, no_link } =
            request.into_inner();
        without_nul(&[&password_hash])?;
        let password_hash = Some(password_hash).filter(|hash| !hash.is_empty());
        let new = NewAccount {
            email: email(&text)?,
            email_verified,
            send_link: password_hash.is_none() && !no_link,
            password_hash,
        };
        let created =
            self.service.create_account(new, &by.acting_as(actor)).await.map_err(refused)?;
        let Created { account: record, link_sent } = created;
        Ok(Response::new(CreateAccountResponse { account: Some(account(&record)), link_sent }))
    }

    async fn disable_account(
        &self,
        request: Request<DisableAccountRequest>,
    ) -> Result<Response<DisableAccountResponse>, Status> {
        let ((by, actor), key) = (acting(&request)?, key(&request.get_ref().account)?);
        let record =
            self.service.disable_account(&key, &by.acting_as(actor)).await.map_err(refused)?;
        Ok(Response::new(DisableAccountResponse { account: Some(account(&record)) }))
    }

    async fn enable_account(
        &self,
        request: Request<EnableAccountRequest>,
    ) -> Result<Response<EnableAccountResponse>, Status> {
        let ((by, actor), key) = (acting(&request)?, key(&request.get_ref().account)?);
        let record =
            self.service.enable_account(&key, &by.acting_as(actor)).await.map_err(refused)?;
        Ok(Response::new(EnableAccountResponse { account: Some(account(&record)) }))
    }

    async fn unlock_account(
        &self,
        request: Request<UnlockAccountRequest>,
    ) -> Result<Response<UnlockAccountResponse>, Status> {
        let ((by, actor), key) = (acting(&request)?, key(&request.get_ref().account)?);
        let record =
            self.service.unlock_account(&key, &by.acting_as(actor)).await.map_err(refused)?;
        Ok(Response::new(UnlockAccountResponse { account: Some(account(&record)) }))
    }

    async fn end_account_sessions(
        &self,
        request: Request<EndAccountSessionsRequest>,
    ) -> Result<Response<EndAccountSessionsResponse>, Status> {
        let ((by, actor), key) = (acting(&request)?, key(&request.get_ref().account)?);
        let record =
            self.service.end_account_sessions(&key, &by.acting_as(actor)).await.map_err(refused)?;
        Ok(Response::new(EndAccountSessionsResponse { account: Some(account(&record)) }))
    }

    async fn send_password_reset(
        &self,
        request: Request<SendPasswordResetRequest>,
    ) -> Result<Response<SendPasswordResetResponse>, Status> {
        self.needs_mail()?;
        let ((by, actor), key) = (acting(&request)?, key(&request.get_ref().account)?);
        let record =
            self.service.send_password_reset(&key, &by.acting_as(actor)).await.map_err(refused)?;
        Ok(Response::new(SendPasswordResetResponse { account: Some(account(&record)) }))
    }

    async fn remove_account(
        &self,
        request: Request<RemoveAccountRequest>,
    ) -> Result<Response<RemoveAccountResponse>, Status> {
        let ((by, actor), key) = (acting(&request)?, key(&request.get_ref().account)?);
        let record =
            self.service.remove_account(&key, &by.acting_as(actor)).await.map_err(refused)?;
        Ok(Response::new(RemoveAccountResponse { id: record.id.to_string() }))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let asked = request.get_ref();
        let size = page_size(asked.page_size.into()).map_err(refused)?;
        let account = match asked.account.as_str() {
            "" => None,
            text => Some(key(text)?),
        };
        let page = self.service.events(account.as_ref(), &asked.page_token, size).await;
        let page = page.map_err(refused)?;
        Ok(Response::new(ListEventsResponse {
            events: page.events.into_iter().map(event).collect(),
            next_page_token: page.next_cursor,
            more: page.more,
            behind: page.is_behind,
        }))
    }
}
