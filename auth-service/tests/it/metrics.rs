//! The metrics, as Prometheus scrapes them.

use auth_service::config;
use serde_json::json;
use test_kit::{Client, ENGINES};

use crate::support::Running;

#[tokio::test]
async fn requests_hashing_throttling_and_connections_are_counted() {
    for engine in ENGINES {
        let service = Running::start_with(engine, &[(config::LOGINS_PER_MINUTE, "1")]).await;
        let metrics = Client::new(service.admin.unwrap());
        service.register("a@b.com").await;
        service.login("a@b.com").await;
        let body = json!({"email": "a@b.com", "password": "x"});
        assert_eq!(service.rest.post("/auth/login", &body).await.status, 429);
        for path in ["/made/up", "/by/clients"] {
            service.rest.get(path).await;
        }
        // Some services refuse a caller before they look for the method.
        for name in ["AuthService", "AccountService", "AdminService", "SessionService", "Made"] {
            let path = format!("/auth.v1.{name}/MadeUp");
            test_kit::raw_grpc(service.grpc, &path, b"", &[]).await;
        }
        let text = metrics.get("/metrics").await.text;
        for line in [
            "http_server_request_duration_seconds_count{http_request_method=\"POST\",http_route=\"/auth/login\",http_response_status_code=\"429\"} 1",
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_route=\"unmatched\",http_response_status_code=\"404\"} 2",
            "rpc_server_call_duration_seconds_count{rpc_method=\"unmatched\",rpc_response_status_code=\"UNAUTHENTICATED\"} 2",
            "rpc_server_call_duration_seconds_count{rpc_method=\"unmatched\",rpc_response_status_code=\"UNIMPLEMENTED\"} 3",
            "auth_hash_queue_depth 0.0",
            "auth_hash_queue_wait_seconds_count{outcome=\"started\"} 2",
            "auth_throttled_requests_total{policy=\"logins-per-network\"} 1",
            "db_client_operation_duration_seconds_count{db_system_name=",
            "health_check_status{check=\"database\"} 1.0",
            "db_client_connection_count{db_client_connection_state=\"idle\"}",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.to_lowercase().contains("made"), "{text}");
    }
}
