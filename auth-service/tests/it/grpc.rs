//! The gRPC edge.

use std::time::Duration;

use latchkey_contracts::auth::v1::{
    DeleteAccountRequest, IntrospectTokenRequest, LoginRequest, RegisterRequest,
    account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
};
use test_kit::{ENGINES, Engine, channel};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{PASSWORD, Running, SERVICE_TOKEN};

async fn client(service: &Running) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(channel(service.grpc).await)
}

fn as_service<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn registration(email: &str, password: &str) -> RegisterRequest {
    RegisterRequest { email: email.to_owned(), password: password.to_owned() }
}

fn login(email: &str, password: &str) -> LoginRequest {
    LoginRequest { email: email.to_owned(), password: password.to_owned(), ..Default::default() }
}

/// The stable code, which the details of every error name.
fn reason_of(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "latchkey");
    info.reason
}

#[tokio::test]
async fn an_account_lives_from_registration_to_deletion() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        let mut client = client(&service).await;
        let account =
            client.register(registration("A@b.com", PASSWORD)).await.unwrap().into_inner();
        assert_eq!(account.email, "a@b.com");
        let issued = client.login(login("a@b.com", PASSWORD)).await.unwrap().into_inner();
        assert_eq!((issued.token_type.as_str(), issued.expires_in), ("Bearer", 3600));

        let question = IntrospectTokenRequest { token: issued.access_token.clone() };
        let answer =
            client.introspect_token(as_service(question.clone(), SERVICE_TOKEN)).await.unwrap();
        let answer = answer.into_inner();
        assert!(answer.active);
        assert_eq!(answer.sub, account.id);
        assert_eq!(answer.email, "a@b.com");
        assert_eq!(answer.aud, ["latchkey"]);
        assert_eq!(answer.exp, answer.iat + 3600);

        let mut accounts = AccountServiceClient::new(channel(service.grpc).await);
        for _ in 0..2 {
            let request = DeleteAccountRequest { id: account.id.clone() };
            accounts.delete_account(as_service(request, SERVICE_TOKEN)).await.unwrap();
        }
        let refused = client.login(login("a@b.com", PASSWORD)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let answer = client.introspect_token(as_service(question, SERVICE_TOKEN)).await.unwrap();
        assert_eq!(answer.into_inner(), Default::default());
    }
}

#[tokio::test]
async fn errors_carry_the_code_and_the_faults() {
    let service = Running::start(Engine::Sqlite).await;
    let mut client = client(&service).await;
    client.register(registration("a@b.com", PASSWORD)).await.unwrap();
    let duplicate = client.register(registration("A@B.com", PASSWORD)).await.unwrap_err();
    let invalid = client.register(registration("bad", "short")).await.unwrap_err();
    let wrong = client.login(login("a@b.com", "wrong")).await.unwrap_err();
    let cases = [
        (&duplicate, Code::AlreadyExists, "email_already_registered"),
        (&invalid, Code::InvalidArgument, "validation_failed"),
        (&wrong, Code::Unauthenticated, "invalid_credentials"),
    ];
    for (status, code, reason) in cases {
        assert_eq!((status.code(), reason_of(status).as_str()), (code, reason));
        assert!(status.metadata().contains_key("x-request-id"));
    }
    let fields: Vec<_> = invalid
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(fields, ["email", "password"]);
}

#[tokio::test]
async fn introspection_and_deletion_are_for_services_alone() {
    let service = Running::start(Engine::Sqlite).await;
    let mut client = client(&service).await;
    let mut accounts = AccountServiceClient::new(channel(service.grpc).await);
    for token in ["", "wrong", &SERVICE_TOKEN[1..]] {
        let question = IntrospectTokenRequest { token: "x".to_owned() };
        let refused = client.introspect_token(as_service(question, token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{token:?}");
        let request = DeleteAccountRequest { id: "x".to_owned() };
        let refused = accounts.delete_account(as_service(request, token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{token:?}");
    }
    for token in ["", "x", "a.b.c", &"x".repeat(60_000)] {
        let question = IntrospectTokenRequest { token: token.to_owned() };
        let answer = client.introspect_token(as_service(question, SERVICE_TOKEN)).await.unwrap();
        assert!(!answer.into_inner().active);
    }
    let request = DeleteAccountRequest { id: "not a uuid".to_owned() };
    let refused = accounts.delete_account(as_service(request, SERVICE_TOKEN)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_service_token_can_be_changed_without_a_refused_call() {
    // Whatever the settings take, a call can carry.
    let earlier = "earlier-token-of-32-bytes-or-more!\"#$%&'()*,:;<>?@[\\]^`{|}";
    let overrides = [(auth_service::config::SERVICE_TOKEN_PREVIOUS, earlier)];
    let service = Running::start_with(Engine::Sqlite, &overrides).await;
    let mut client = client(&service).await;
    for (token, code) in
        [(SERVICE_TOKEN, None), (earlier, None), (&earlier[1..], Some(Code::Unauthenticated))]
    {
        let question = IntrospectTokenRequest { token: "x".to_owned() };
        let answer = client.introspect_token(as_service(question, token)).await;
        assert_eq!(answer.err().map(|status| status.code()), code, "{token}");
    }
}

#[tokio::test]
async fn a_deadline_is_honoured() {
    let service = Running::start(Engine::Sqlite).await;
    let message = login("a@b.com", PASSWORD);
    let headers = test_kit::raw_grpc(
        service.grpc,
        "/auth.v1.AuthService/Login",
        &prost::Message::encode_to_vec(&message),
        &[("grpc-timeout", "1m")],
    )
    .await;
    assert_eq!(headers["grpc-status"], "4");

    // A deadline that has passed already: nothing begins.
    let registration = registration("late@b.com", PASSWORD);
    for timeout in ["0S", "0m", "1n"] {
        let headers = test_kit::raw_grpc(
            service.grpc,
            "/auth.v1.AuthService/Register",
            &prost::Message::encode_to_vec(&registration),
            &[("grpc-timeout", timeout)],
        )
        .await;
        assert_eq!(headers["grpc-status"], "4", "{timeout}");
    }
    client(&service).await.register(registration).await.unwrap();
}

#[tokio::test]
async fn what_tonic_itself_refuses_gets_a_status_of_the_contract() {
    let service = Running::start(Engine::Sqlite).await;
    let call = |path: &'static str, message: &'static [u8]| {
        test_kit::raw_grpc(service.grpc, path, message, &[("x-request-id", "mine")])
    };
    let undecodable = call("/auth.v1.AuthService/Login", b"\xff\xff\xff").await;
    let unknown_method = call("/auth.v1.AuthService/Nothing", b"").await;
    let unknown_service = call("/nothing.v1.Nothing/Nothing", b"").await;
    assert_eq!(unknown_service["x-request-id"], "mine");
    let login = "/auth.v1.AuthService/Login";
    let compressed =
        test_kit::raw_grpc(service.grpc, login, b"", &[("grpc-encoding", "gzip")]).await;
    assert_eq!(compressed["grpc-accept-encoding"], "identity");
    for (headers, code, reason) in [
        (undecodable, Code::InvalidArgument, "malformed_request"),
        (unknown_method, Code::Unimplemented, "unimplemented"),
        (unknown_service, Code::Unimplemented, "unimplemented"),
        (compressed, Code::Unimplemented, "unimplemented"),
    ] {
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!((status.code(), reason_of(&status).as_str()), (code, reason), "{status:?}");
    }
}

#[tokio::test]
async fn services_are_known_before_their_messages_are_read() {
    let service = Running::start(Engine::Sqlite).await;
    // Nothing of this can be decoded: whoever reads it first says so.
    let call = |path| test_kit::raw_grpc(service.grpc, path, b"\xff\xff\xff", &[]);
    for path in [
        "/auth.v1.AuthService/IntrospectToken",
        "/auth.v1.AccountService/DeleteAccount",
        "/auth.v1.AccountService/Nothing",
        "/auth.v1.SessionService/ListSessions",
        "/auth.v1.SessionService/EndSession",
        "/auth.v1.SessionService/EndAllSessions",
        "/auth.v1.AdminService/ListAccounts",
        "/auth.v1.AdminService/Nothing",
    ] {
        assert_eq!(call(path).await["grpc-status"], "16", "{path}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let service = Running::start(Engine::Sqlite).await;
    let mut client = client(&service).await;
    let status = client.login(login("a@b.com", &"x".repeat(65_536))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let status = client.login(login("a@b.com", &"x".repeat(60_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
}

#[tokio::test]
async fn health_covers_every_service_and_streams_end_at_the_stop() {
    let service = Running::start(Engine::Sqlite).await;
    let mut health = HealthClient::new(channel(service.grpc).await);
    let ask = |name: &str| HealthCheckRequest { service: name.to_owned() };
    for name in ["", "auth.v1.AuthService", "auth.v1.AccountService", "auth.v1.AdminService"] {
        let answer = health.check(ask(name)).await.unwrap().into_inner();
        assert_eq!(answer.status().as_str_name(), "SERVING", "{name}");
    }
    let unknown = health.check(ask("unknown.v1.Service")).await.unwrap_err();
    assert_eq!((unknown.code(), reason_of(&unknown).as_str()), (Code::NotFound, "not_found"));

    let mut unknown = health.watch(ask("unknown.v1.Service")).await.unwrap().into_inner();
    let first = unknown.message().await.unwrap().unwrap();
    assert_eq!(first.status().as_str_name(), "SERVICE_UNKNOWN");

    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status().as_str_name(), "SERVING");
    tokio::time::timeout(Duration::from_secs(5), service.stop()).await.unwrap();
    let rest = async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(5), rest).await.unwrap().unwrap_err();
    let expected = (Code::Unavailable, "service_unavailable");
    assert_eq!((end.code(), reason_of(&end).as_str()), expected);
}
