//! Where the service listens.

use std::net::SocketAddr;

use service_kit::{admin, server::Addresses, settings::address};

service_kit::settings! {
    "Addresses"
    /// The addresses of the listeners.
    pub struct ListenerSettings {
        /// The address of the REST edge.
        http: SocketAddr = value HTTP_ADDR("0.0.0.0:4000", address);
        /// The address of the gRPC edge.
        grpc: SocketAddr = value GRPC_ADDR("0.0.0.0:50052", address);
        /// The address for operators: /metrics, /livez, /readyz, /health. Empty or off: none.
        admin: Option<SocketAddr> = value_or_empty ADMIN_ADDR("127.0.0.1:9465", admin::address);
    }
}

impl From<ListenerSettings> for Addresses {
    fn from(ListenerSettings { http, grpc, admin }: ListenerSettings) -> Self {
        Self { http, grpc, admin }
    }
}
