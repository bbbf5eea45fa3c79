//! The server of a service: its listeners with both edges, health and metrics, from binding to the
//! end.

mod listeners;

use std::{net::SocketAddr, pin::pin};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

pub use self::listeners::Addresses;
use self::listeners::{Listeners, Routers};
use crate::{
    admin,
    edge::Edge,
    grpc,
    health::{Check, Health, Successes},
    listen::{Listener, NetworkLimit},
    metrics::Metrics,
    otlp::Otlp,
    runtime::RuntimeSettings,
    shutdown::{Stop, StopTimes},
    telemetry,
    trace::Traces,
};

/// The configuration of a server.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The service's name in logs and probes.
    pub service: &'static str,
    /// The service's version.
    pub version: &'static str,
    /// The addresses of its listeners.
    pub addresses: Addresses,
    /// The settings that all services have in common.
    pub runtime: &'a RuntimeSettings,
    /// Counts requests.
    pub metrics: Metrics,
    /// The exporters of traces and metrics.
    pub otlp: Otlp,
    /// The readiness checks.
    pub checks: Vec<Check>,
    /// The record of successful operations, for readiness.
    pub successes: Successes,
    /// The names of its gRPC services, for the health service.
    pub grpc_services: &'static [&'static str],
    /// Their descriptors, for reflection.
    pub descriptors: &'static [u8],
}

/// A server. It is bound to its addresses but does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    listeners: Listeners,
    routers: Routers,
    otlp: Otlp,
    health: Health,
    stop: Stop,
}

impl Server {
    /// Binds the listeners and builds the edges: `rest` returns the routes of the REST edge; `grpc`
    /// adds the services of the gRPC edge, in addition to health and reflection.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound. The text contains the address.
    pub async fn bind(
        plan: Plan<'_>,
        rest: impl FnOnce(&Edge, &Health) -> Router,
        grpc: impl FnOnce(&mut RoutesBuilder),
        shutdown: CancellationToken,
    ) -> Result<Self, String> {
        let Plan { service, version, addresses, runtime, metrics, otlp, checks, successes, .. } =
            plan;
        let network = NetworkLimit {
            most: runtime.edge.connections_per_network,
            proxies: runtime.edge.trusted_proxies.clone(),
        };
        let tls = runtime.tls.as_ref();
        let listeners = Listeners::bind(service, addresses, tls, network).await?;
        let times =
            StopTimes { delay: runtime.edge.shutdown_delay, grace: runtime.edge.shutdown_grace };
        let stop = Stop::follow(shutdown.clone(), times);
        let help = "Lines of the log that were dropped because nobody read them";
        metrics.counter("log.lines_dropped", help, telemetry::dropped_lines);
        let shared = Edge {
            service,
            metrics: metrics.clone(),
            traces: Traces::new(&otlp),
            trusted_proxies: runtime.edge.trusted_proxies.clone(),
            allowed_origins: runtime.edge.allowed_origins.clone(),
            tls: runtime.tls.is_some(),
            draining: stop.draining().clone(),
        };
        let health = Health::start(service, version, checks, successes, shutdown);
        health.observe(&metrics);
        if let Some(tls) = &runtime.tls {
            tls.observe(&metrics);
        }
        let rest = rest(&shared, &health);
        let mut routes = tonic::service::Routes::builder();
        grpc(&mut routes);
        routes.add_service(health.grpc_server(plan.grpc_services));
        if runtime.edge.reflection {
            grpc::add_reflection(&mut routes, plan.descriptors)
                .map_err(|error| error.to_string())?;
        }
        let grpc = grpc::finish(&shared, plan.descriptors, routes.routes())
            .map_err(|error| error.to_string())?;
        let admin = admin::router(&shared, &metrics, &health);
        let routers = Routers { rest, grpc, admin };
        Ok(Self { listeners, routers, otlp, health, stop })
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

    /// The bound address of the listener for operators, if it is on.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.listeners.admin.as_ref().map(Listener::address)
    }

    /// The state of the service's health.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Serves until the shutdown that was given to [`Server::bind`], and then finishes the requests
    /// that were already accepted. `background` runs at the same time; if it ends, the server ends
    /// too. `close` runs last. Everything ends within `SHUTDOWN_GRACE`.
    ///
    /// # Errors
    ///
    /// The error that `background` returned.
    pub async fn run<E>(
        self,
        background: impl Future<Output = E>,
        close: impl Future<Output = ()>,
    ) -> Result<(), E> {
        let Self { listeners, routers, otlp, stop, .. } = self;
        let serving = listeners.serve(routers, stop.draining().clone());
        let mut serving = pin!(stop.bound(serving));
        let ended = tokio::select! {
            () = &mut serving => Ok(()),
            error = background => {
                // Requests in progress are finished; then the process ends with the error.
                stop.at_once();
                serving.await;
                Err(error)
            }
        };
        let last = async {
            tokio::join!(otlp.shut_down(), close);
        };
        stop.close(last).await;
        ended
    }
}
