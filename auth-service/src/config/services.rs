//! What other services present.

use service_kit::settings::{Secret, Source, bearer_secret};

service_kit::settings! {
    "Other services"
    /// The tokens of other services.
    pub struct ServiceSettings {
        /// What other services present to introspect tokens and delete accounts, at least 32 bytes of
        /// printable ASCII without spaces. Unset: those calls are refused.
        token: Option<Secret> = secret SERVICE_TOKEN(bearer_secret);
        /// An earlier SERVICE_TOKEN that is still accepted beside it, until every service has the new one.
        previous: Option<Secret> = secret SERVICE_TOKEN_PREVIOUS(bearer_secret);
    }
}

impl ServiceSettings {
    /// Every token that is accepted.
    pub(super) fn tokens(self, source: &mut Source) -> Vec<Secret> {
        if self.token.is_none() && self.previous.is_some() {
            source.fault(&SERVICE_TOKEN_PREVIOUS, "is only for use beside SERVICE_TOKEN");
        }
        self.token.into_iter().chain(self.previous).collect()
    }
}
