//! `auth.v1.CredentialService`.

use latchkey_contracts::auth::v1::{
    ChangeEmailRequest, ChangeEmailResponse, ChangePasswordRequest, ChangePasswordResponse,
    DeleteOwnAccountRequest, DeleteOwnAccountResponse, ForgotPasswordRequest,
    ForgotPasswordResponse, ResetPasswordRequest, ResetPasswordResponse, SendVerificationRequest,
    SendVerificationResponse, VerifyEmailRequest, VerifyEmailResponse,
    credential_service_server::CredentialService,
};
use service_kit::{error::ApiError, json::fault};
use tonic::{Request, Response, Status};

use super::{Api, refused, seconds, sessions::caller};
use crate::{code, domain::Email, edge, error::Error};

impl Api {
    pub(super) fn needs_mail(&self) -> Result<(), Status> {
        self.service.mail().map(|_| ()).map_err(refused)
    }
}

/// Refuses texts with a NUL. REST refuses a JSON body with one, so both edges agree.
pub(super) fn without_nul(texts: &[&str]) -> Result<(), Status> {
    if texts.iter().any(|text| text.contains('\0')) {
        let text = "a string contains a NUL character";
        return Err(ApiError::new(code::MALFORMED_REQUEST, text).into());
    }
    Ok(())
}

pub(super) fn email(text: &str) -> Result<Email, Status> {
    Email::parse(text)
        .map_err(|(code, rule)| refused(Error::Invalid(vec![fault("email", code, rule)])))
}

#[tonic::async_trait]
impl CredentialService for Api {
    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let caller = caller(&request)?;
        let by = edge::requester(request.extensions());
        let ChangePasswordRequest { current_password, new_password } = request.into_inner();
        without_nul(&[&current_password, &new_password])?;
        let issued = self.service.change_password(&caller, &current_password, &new_password, &by);
        let issued = issued.await.map_err(refused)?;
        Ok(Response::new(ChangePasswordResponse {
            access_token: issued.access_token,
            token_type: "Bearer".to_owned(),
            expires_in: seconds(issued.expires_in),
        }))
    }

    async fn forgot_password(
        &self,
        request: Request<ForgotPasswordRequest>,
    ) -> Result<Response<ForgotPasswordResponse>, Status> {
        self.needs_mail()?;
        let by = edge::requester(request.extensions());
        let email = email(&request.get_ref().email)?;
        self.service.forgot_password(&email, &by).await.map_err(refused)?;
        Ok(Response::new(ForgotPasswordResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        self.needs_mail()?;
        let by = edge::requester(request.extensions());
        let ResetPasswordRequest { token, new_password } = request.into_inner();
        without_nul(&[&token, &new_password])?;
        self.service.reset_password(&token, &new_password, &by).await.map_err(refused)?;
        Ok(Response::new(ResetPasswordResponse {}))
    }

    async fn send_verification(
        &self,
        request: Request<SendVerificationRequest>,
    ) -> Result<Response<SendVerificationResponse>, Status> {
        self.needs_mail()?;
        let by = edge::requester(request.extensions());
        let email = email(&request.get_ref().email)?;
        self.service.send_verification(&email, &by).await.map_err(refused)?;
        Ok(Response::new(SendVerificationResponse {}))
    }

    async fn verify_email(
        &self,
        request: Request<VerifyEmailRequest>,
    ) -> Result<Response<VerifyEmailResponse>, Status> {
        self.needs_mail()?;
        let by = edge::requester(request.extensions());
        let token = &request.get_ref().token;
        without_nul(&[token])?;
        self.service.verify_email(token, &by).await.map_err(refused)?;
        Ok(Response::new(VerifyEmailResponse {}))
    }

    async fn change_email(
        &self,
        request: Request<ChangeEmailRequest>,
    ) -> Result<Response<ChangeEmailResponse>, Status> {
        let caller = caller(&request)?;
        self.needs_mail()?;
        let by = edge::requester(request.extensions());
        let ChangeEmailRequest { email: text, current_password } = request.into_inner();
        without_nul(&[&current_password])?;
        let email = email(&text)?;
        let begun = self.service.change_email(&caller, &email, &current_password, &by);
        begun.await.map_err(refused)?;
        Ok(Response::new(ChangeEmailResponse {}))
    }

    async fn delete_own_account(
        &self,
        request: Request<DeleteOwnAccountRequest>,
    ) -> Result<Response<DeleteOwnAccountResponse>, Status> {
        let caller = caller(&request)?;
        let by = edge::requester(request.extensions());
        let current_password = &request.get_ref().current_password;
        without_nul(&[current_password])?;
        let deleted = self.service.delete_own_account(&caller, current_password, &by);
        deleted.await.map_err(refused)?;
        Ok(Response::new(DeleteOwnAccountResponse {}))
    }
}
