//! The same over gRPC.

use auth_service::config;
use latchkey_contracts::auth::v1::{
    ChangeEmailRequest, ChangePasswordRequest, DeleteOwnAccountRequest, ForgotPasswordRequest,
    ResetPasswordRequest, SendVerificationRequest, VerifyEmailRequest,
    credential_service_client::CredentialServiceClient,
};
use test_kit::{ENGINES, Engine, channel};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::{OTHER_PASSWORD, Service, assert_refused};
use crate::support::{PASSWORD, Running};

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[track_caller]
fn assert_status<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) {
    let status = answer.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
}

#[tokio::test]
async fn one_rule_two_edges() {
    for engine in ENGINES {
        let service = Service::start(engine, &[(config::EMAIL_VERIFICATION, "required")]).await;
        let mut client = CredentialServiceClient::new(channel(service.running.grpc).await);
        service.register("a@b.com", PASSWORD).await;
        service.mailbox.next("email_verification", "a@b.com").await;
        let email = || "a@b.com".to_owned();
        client.send_verification(SendVerificationRequest { email: email() }).await.unwrap();
        let token = service.mailbox.next("email_verification", "a@b.com").await.token();
        client.verify_email(VerifyEmailRequest { token: token.clone() }).await.unwrap();
        let again = client.verify_email(VerifyEmailRequest { token }).await;
        assert_status(again, Code::InvalidArgument, "invalid_link");

        client.forgot_password(ForgotPasswordRequest { email: email() }).await.unwrap();
        let token = service.mailbox.next("password_reset", "a@b.com").await.token();
        let reset =
            |new: &str| ResetPasswordRequest { token: token.clone(), new_password: new.to_owned() };
        let weak = client.reset_password(reset("short")).await;
        assert_status(weak, Code::InvalidArgument, "validation_failed");
        client.reset_password(reset(OTHER_PASSWORD)).await.unwrap();
        let malformed = client.forgot_password(ForgotPasswordRequest::default()).await;
        assert_status(malformed, Code::InvalidArgument, "validation_failed");

        let access = service.login("a@b.com", OTHER_PASSWORD).await;
        let access = access.json["access_token"].as_str().unwrap();
        let change = |current: &str| ChangePasswordRequest {
            current_password: current.to_owned(),
            new_password: PASSWORD.to_owned(),
        };
        let anonymous = client.change_password(change(OTHER_PASSWORD)).await;
        assert_status(anonymous, Code::Unauthenticated, "unauthenticated");
        let wrong = client.change_password(with(change("wrong one"), access)).await;
        assert_status(wrong, Code::PermissionDenied, "invalid_credentials");
        let issued = client.change_password(with(change(OTHER_PASSWORD), access)).await.unwrap();
        let access = issued.into_inner().access_token;

        let change = ChangeEmailRequest {
            email: "new@b.com".to_owned(),
            current_password: PASSWORD.to_owned(),
        };
        client.change_email(with(change, &access)).await.unwrap();
        let token = service.mailbox.next("email_change", "new@b.com").await.token();
        client.verify_email(VerifyEmailRequest { token }).await.unwrap();
        let access = service.running.login("new@b.com").await;
        let delete =
            |current: &str| DeleteOwnAccountRequest { current_password: current.to_owned() };
        let wrong = client.delete_own_account(with(delete("wrong one"), &access)).await;
        assert_status(wrong, Code::PermissionDenied, "invalid_credentials");
        client.delete_own_account(with(delete(PASSWORD), &access)).await.unwrap();
        assert_refused(&service.login("new@b.com", PASSWORD).await, 401, "invalid_credentials");
    }
}

#[tokio::test]
async fn without_mail_and_with_registration_closed() {
    let overrides = [(config::REGISTRATION, "closed")];
    let service = Running::start_with(Engine::Sqlite, &overrides).await;
    let mut client = CredentialServiceClient::new(channel(service.grpc).await);
    let forgot = client.forgot_password(ForgotPasswordRequest::default()).await;
    assert_status(forgot, Code::NotFound, "mail_disabled");
    let reset = client.reset_password(ResetPasswordRequest::default()).await;
    assert_status(reset, Code::NotFound, "mail_disabled");
    let anonymous = client.change_email(ChangeEmailRequest::default()).await;
    assert_status(anonymous, Code::Unauthenticated, "unauthenticated");
    let mut accounts = latchkey_contracts::auth::v1::auth_service_client::AuthServiceClient::new(
        channel(service.grpc).await,
    );
    let register =
        accounts.register(latchkey_contracts::auth::v1::RegisterRequest::default()).await;
    assert_status(register, Code::PermissionDenied, "registration_closed");
}
