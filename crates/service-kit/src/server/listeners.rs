//! The listeners of a server: one for each edge, and one for operators.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::{
    listen::{Limits, Listener, NetworkLimit, Protocol},
    tls::ServerTls,
};

/// The addresses of a service's listeners.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The address of the REST edge.
    pub http: SocketAddr,
    /// The address of the gRPC edge.
    pub grpc: SocketAddr,
    /// The address of the listener for operators, if it is on.
    pub admin: Option<SocketAddr>,
}

/// The routers of the listeners.
#[derive(Debug)]
pub(super) struct Routers {
    pub(super) rest: Router,
    pub(super) grpc: Router,
    pub(super) admin: Router,
}

#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) rest: Listener,
    pub(super) grpc: Listener,
    pub(super) admin: Option<Listener>,
}

impl Listeners {
    /// Binds all listeners and logs their addresses.
    pub(super) async fn bind(
        service: &'static str,
        addresses: Addresses,
        tls: Option<&ServerTls>,
        network: NetworkLimit,
    ) -> Result<Self, String> {
        let public = Limits::public(network, Arc::default());
        let bind = async |name: &str, address, protocol, limits| {
            Listener::bind(service, address, protocol, limits)
                .await
                .map_err(|error| format!("{name}: cannot listen on {address}: {error}"))
        };
        let rest = bind("HTTP_ADDR", addresses.http, Protocol::Rest, public.clone()).await?;
        let grpc = bind("GRPC_ADDR", addresses.grpc, Protocol::Grpc, public).await?;
        let [rest, grpc] = [rest, grpc].map(|listener| listener.with_tls(tls.cloned()));
        let admin = match addresses.admin {
            Some(address) => {
                Some(bind("ADMIN_ADDR", address, Protocol::Rest, Limits::admin()).await?)
            }
            None => None,
        };
        let admin_address = admin.as_ref().map(|listener| listener.address().to_string());
        tracing::info!(
            service,
            http = %rest.address(),
            grpc = %grpc.address(),
            admin = admin_address.as_deref().unwrap_or("off"),
            tls = tls.is_some(),
            mutual_tls = tls.is_some_and(ServerTls::is_mutual),
            "listening"
        );
        for listener in [&rest, &grpc] {
            if tls.is_none() && !listener.address().ip().is_loopback() {
                tracing::warn!(
                    service,
                    address = %listener.address(),
                    "plaintext on an address that others can reach: give TLS_CERT_FILE, or put TLS in \
                     front of it"
                );
            }
        }
        Ok(Self { rest, grpc, admin })
    }

    /// Serves all until `draining`, then finishes accepted requests. The listener for operators
    /// continues until the edges have ended, because an orchestrator keeps probing.
    pub(super) async fn serve(self, routers: Routers, draining: CancellationToken) {
        let edges = async {
            tokio::join!(
                self.rest.serve(routers.rest, draining.clone()),
                self.grpc.serve(routers.grpc, draining),
            );
        };
        let admin = async {
            if let Some(listener) = self.admin {
                listener.serve(routers.admin, CancellationToken::new()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = edges => {}
            () = admin => {}
        }
    }
}
