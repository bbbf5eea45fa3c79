//! An auth service of which only `AccountService` is there.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use latchkey_contracts::auth::v1::{
    DeleteAccountRequest, DeleteAccountResponse, ListDeletedAccountsRequest,
    ListDeletedAccountsResponse,
    account_service_server::{AccountService, AccountServiceServer},
};
use service_kit::listen::{Limits, Listener, Protocol};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status};

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) authorization: String,
    pub(crate) request_id: String,
    pub(crate) traceparent: String,
}

#[derive(Debug, Default)]
struct State {
    told: Vec<Told>,
    failures: VecDeque<Code>,
    deleted: Vec<String>,
    asked: Vec<String>,
    /// Cursors of another generation are unknown.
    generation: u32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts(Arc<Mutex<State>>);

impl Accounts {
    /// An auth service that answers the first calls with these failures.
    pub(crate) fn failing(failures: &[Code]) -> Self {
        let accounts = Self::default();
        accounts.0.lock().unwrap().failures.extend(failures);
        accounts
    }

    /// Serves until the guard is dropped.
    pub(crate) async fn serve(&self, address: SocketAddr) -> (SocketAddr, DropGuard) {
        let listener =
            Listener::bind("accounts", address, Protocol::Grpc, Limits::admin()).await.unwrap();
        let address = listener.address();
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(AccountServiceServer::new(self.clone()));
        let shutdown = CancellationToken::new();
        let shared = service_kit::edge::Edge {
            service: "accounts",
            metrics: service_kit::metrics::Metrics::default(),
            traces: service_kit::trace::Traces::default(),
            trusted_proxies: Default::default(),
            allowed_origins: Vec::new(),
            tls: false,
            draining: shutdown.clone(),
        };
        let router = service_kit::grpc::finish(&shared, &[], routes.routes()).unwrap();
        tokio::spawn(listener.serve(router, shutdown.clone()));
        (address, shutdown.drop_guard())
    }

    /// Lists an account as deleted.
    pub(crate) fn list_as_deleted(&self, id: impl ToString) {
        self.0.lock().unwrap().deleted.push(id.to_string());
    }

    /// Forgets every cursor, as after a backup was restored.
    pub(crate) fn forget_cursors(&self) {
        self.0.lock().unwrap().generation += 1;
    }

    /// The cursors that were presented.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    /// All calls so far, also those that failed.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap().told.clone()
    }
}

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, Status> {
        let text = |name| {
            let value = request.metadata().get(name);
            value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let told = Told {
            id: request.get_ref().id.clone(),
            authorization: text("authorization"),
            request_id: text("x-request-id"),
            traceparent: text("traceparent"),
        };
        let mut state = self.0.lock().unwrap();
        state.told.push(told);
        match state.failures.pop_front() {
            Some(code) => Err(Status::new(code, "not now")),
            None => Ok(Response::new(DeleteAccountResponse {})),
        }
    }

    async fn list_deleted_accounts(
        &self,
        request: Request<ListDeletedAccountsRequest>,
    ) -> Result<Response<ListDeletedAccountsResponse>, Status> {
        let cursor = request.into_inner().cursor;
        let mut state = self.0.lock().unwrap();
        state.asked.push(cursor.clone());
        let generation = state.generation;
        let known = cursor.strip_prefix(&format!("{generation}:")).and_then(|at| at.parse().ok());
        let from: usize = known.unwrap_or(0);
        // Small pages, so that there is more than one.
        let to = state.deleted.len().min(from + 2);
        Ok(Response::new(ListDeletedAccountsResponse {
            ids: state.deleted[from..to].to_vec(),
            next_cursor: format!("{generation}:{to}"),
            more: to < state.deleted.len(),
            reset: known.is_none() && !cursor.is_empty(),
        }))
    }
}
