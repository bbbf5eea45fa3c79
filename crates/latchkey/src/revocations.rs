//! The list of revoked tokens, which the user service reads in the same process rather than over HTTP.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use auth_service::service::Service;
use token_verifier::{RevocationFeed, RevocationPage, RevocationSource};

/// Reads the revocations of an auth service in the same process.
struct Own(Arc<Service>);

#[async_trait]
impl RevocationSource for Own {
    async fn page(
        &self,
        after: Option<&str>,
    ) -> Result<RevocationPage, Box<dyn Error + Send + Sync>> {
        Ok(self.0.revocations(after).await?)
    }
}

/// The revocation feed of this auth service.
pub(crate) fn feed(auth: &auth_service::App) -> RevocationFeed {
    RevocationFeed::from_source(Arc::new(Own(Arc::clone(auth.service()))))
}
