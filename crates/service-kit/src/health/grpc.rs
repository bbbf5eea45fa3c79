//! The probe over gRPC: `grpc.health.v1.Health`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::HealthServer,
};

use super::{Health, Status};
use crate::{code, error::ApiError};

impl Health {
    /// The gRPC health service (`grpc.health.v1.Health`). It reports the same state for `""` and
    /// for each of `services`.
    #[must_use]
    pub fn grpc_server(&self, services: &'static [&'static str]) -> HealthServer<HealthApi> {
        HealthServer::new(HealthApi { health: self.clone(), services })
    }
}

/// The gRPC health service. The one in tonic-health returns an error for a `Watch` of an unknown
/// service, but health.proto requires SERVICE_UNKNOWN and an open stream.
#[derive(Debug)]
pub struct HealthApi {
    health: Health,
    services: &'static [&'static str],
}

impl HealthApi {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

fn serving(status: Status) -> HealthCheckResponse {
    let status = match status {
        Status::Ok => ServingStatus::Serving,
        Status::Unavailable => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}

type WatchStream =
    Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, tonic::Status>> + Send + 'static>>;

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for HealthApi {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(ApiError::new(code::NOT_FOUND, "unknown service").into());
        }
        Ok(tonic::Response::new(serving(self.health.current().await.status)))
    }

    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<WatchStream>, tonic::Status> {
        if !self.knows(&request.get_ref().service) {
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            let once = stream::once(async move { Ok(unknown) });
            // The set of services never changes, so nothing else follows.
            return Ok(tonic::Response::new(Box::pin(once.chain(stream::pending()))));
        }
        // Sends the current state and then each change, but not every check.
        let changes =
            stream::unfold((self.health.results.clone(), None), |(mut results, last)| async move {
                let status = match last {
                    None => results.borrow_and_update().report.status,
                    Some(last) => {
                        let changed = results.wait_for(|results| results.report.status != last);
                        changed.await.ok()?.report.status
                    }
                };
                Some((Ok(serving(status)), (results, Some(status))))
            });
        Ok(tonic::Response::new(Box::pin(changes)))
    }
}
