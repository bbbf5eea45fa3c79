//! A service's server: its listeners with both edges, health and metrics, from binding to the end.

use std::{net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use crate::{
    edge::Edge,
    grpc,
    health::{Check, Health},
    listen::{Listener, Protocol},
    metrics::Metrics,
    otlp::Otlp,
    runtime::RuntimeSettings,
    shutdown,
    tls::ServerTls,
    trace::Traces,
};

/// What makes a server.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The service's name in logs and probes.
    pub service: &'static str,
    /// The service's version.
    pub version: &'static str,
    /// Where it listens.
    pub addresses: Addresses,
    /// What every service has.
    pub runtime: &'a RuntimeSettings,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// Where traces and metrics are sent.
    pub otlp: Otlp,
    /// What it cannot work without.
    pub checks: Vec<Check>,
    /// The names of its gRPC services, for health.
    pub grpc_services: &'static [&'static str],
    /// Their descriptors, for reflection.
    pub descriptors: &'static [u8],
}

/// A server, listening but not accepting yet.
#[derive(Debug)]
pub struct Server {
    listeners: Listeners,
    rest: Router,
    grpc: Router,
    metrics: Metrics,
    otlp: Otlp,
    health: Health,
    shutdown: CancellationToken,
    grace: Duration,
}

impl Server {
    /// Binds the listeners and puts the edges together: `rest` makes the routes of one, `grpc` adds
    /// the services of the other, beside health and reflection.
    ///
    /// # Errors
    ///
    /// A text with the address that cannot be bound.
    pub async fn bind(
        plan: Plan<'_>,
        rest: impl FnOnce(&Edge, &Health) -> Router,
        grpc: impl FnOnce(&mut RoutesBuilder),
        shutdown: CancellationToken,
    ) -> Result<Self, String> {
        let Plan { service, version, addresses, runtime, metrics, otlp, checks, .. } = plan;
        let listeners = Listeners::bind(service, addresses, runtime.tls.as_ref()).await?;
        let shared = Edge {
            service,
            metrics: metrics.clone(),
            traces: Traces::new(&otlp),
            allowed_origins: runtime.allowed_origins.clone(),
            tls: runtime.tls.is_some(),
            shutdown: shutdown.clone(),
        };
        let health = Health::start(service, version, checks, shutdown.clone());
        health.observe(&metrics);
        let rest = rest(&shared, &health);
        let mut routes = tonic::service::Routes::builder();
        grpc(&mut routes);
        routes.add_service(health.grpc_server(plan.grpc_services));
        if runtime.reflection {
            grpc::add_reflection(&mut routes, plan.descriptors)
                .map_err(|error| error.to_string())?;
        }
        let grpc = grpc::finish(&shared, routes.routes());
        let grace = runtime.shutdown_grace;
        Ok(Self { listeners, rest, grpc, metrics, otlp, health, shutdown, grace })
    }

    /// The bound address of the REST edge.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.listeners.rest.address()
    }

    /// The bound address of the gRPC edge.
    #[must_use]
    pub const fn grpc_address(&self) -> SocketAddr {
        self.listeners.grpc.address()
    }

    /// The bound address of the metrics, if they are on.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.listeners.metrics.as_ref().map(Listener::address)
    }

    /// The state of the service's health.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Serves until the shutdown that was given to [`Server::bind`], and a little longer for what
    /// was accepted before. `background` works meanwhile; if it ends, that ends the server too.
    ///
    /// # Errors
    ///
    /// What `background` returned.
    pub async fn run<E>(self, background: impl Future<Output = E>) -> Result<(), E> {
        let Self { listeners, rest, grpc, metrics, otlp, shutdown, grace, .. } = self;
        let mut serving = pin!(listeners.serve(rest, grpc, &metrics, shutdown.clone(), grace));
        let ended = tokio::select! {
            () = &mut serving => Ok(()),
            error = background => {
                // Requests under way get their answer; the process then ends with the reason.
                shutdown.cancel();
                serving.await;
                Err(error)
            }
        };
        otlp.shut_down().await;
        ended
    }
}

/// The addresses of a service's listeners.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Of the REST edge.
    pub http: SocketAddr,
    /// Of the gRPC edge.
    pub grpc: SocketAddr,
    /// Of the metrics, if they are on.
    pub metrics: Option<SocketAddr>,
}

#[derive(Debug)]
struct Listeners {
    rest: Listener,
    grpc: Listener,
    metrics: Option<Listener>,
}

impl Listeners {
    /// Binds all and logs the addresses.
    async fn bind(
        service: &'static str,
        addresses: Addresses,
        tls: Option<&ServerTls>,
    ) -> Result<Self, String> {
        let bind = async |name: &str, address, protocol| {
            Listener::bind(address, protocol)
                .await
                .map_err(|error| format!("{name}: cannot listen on {address}: {error}"))
        };
        let rest = bind("HTTP_ADDR", addresses.http, Protocol::Rest).await?.with_tls(tls.cloned());
        let grpc = bind("GRPC_ADDR", addresses.grpc, Protocol::Grpc).await?.with_tls(tls.cloned());
        let metrics = match addresses.metrics {
            Some(address) => Some(bind("METRICS_ADDR", address, Protocol::Rest).await?),
            None => None,
        };
        let metrics_address = metrics.as_ref().map(|listener| listener.address().to_string());
        tracing::info!(
            service,
            http = %rest.address(),
            grpc = %grpc.address(),
            metrics = metrics_address.as_deref().unwrap_or("off"),
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
        Ok(Self { rest, grpc, metrics })
    }

    /// Serves all until `shutdown`, then lets accepted requests finish within `grace`.
    async fn serve(
        self,
        rest: Router,
        grpc: Router,
        metrics: &Metrics,
        shutdown: CancellationToken,
        grace: Duration,
    ) {
        let scrapes = async {
            if let Some(listener) = self.metrics {
                listener.serve(metrics.router(), shutdown.clone()).await;
            }
        };
        let all = async {
            tokio::join!(
                self.rest.serve(rest, shutdown.clone()),
                self.grpc.serve(grpc, shutdown.clone()),
                scrapes,
            );
        };
        shutdown::within_grace(&shutdown, grace, all).await;
    }
}
