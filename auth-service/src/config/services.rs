//! What other services and operators present.

use service_kit::{
    settings::{Secret, Source, bearer_secret},
    tls::TLS_CLIENT_CA_FILE,
};

use crate::edge::grpc::ServiceCredentials;

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

service_kit::settings! {
    "Operators"
    /// What operators present.
    pub struct AdminSettings {
        /// What a back office presents to call auth.v1.AdminService, at least 32 bytes of printable ASCII
        /// without spaces; another one than SERVICE_TOKEN. Unset: those calls are refused.
        token: Option<Secret> = secret ADMIN_TOKEN(bearer_secret);
        /// The names of client certificates that open auth.v1.AdminService under mutual TLS, separated by
        /// commas: a common name, or a DNS name or URI among the alternative names. Such a certificate is
        /// an operator's, and no service's. Empty: none.
        names: Vec<String> = value ADMIN_CERT_NAMES("", names);
    }
}

fn names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

impl ServiceSettings {
    /// The credentials of services and of operators. A fault is recorded if they are the same.
    pub(super) fn openers(self, admin: AdminSettings, source: &mut Source) -> ServiceCredentials {
        if self.token.is_none() && self.previous.is_some() {
            source.fault(&SERVICE_TOKEN_PREVIOUS, "is only for use beside SERVICE_TOKEN");
        }
        for (token, setting) in
            [(&self.token, &SERVICE_TOKEN), (&self.previous, &SERVICE_TOKEN_PREVIOUS)]
        {
            if let (Some(token), Some(admin)) = (token, &admin.token)
                && token.expose() == admin.expose()
            {
                let what =
                    format!("must differ from {}: who has it would be an operator", setting.var);
                source.fault(&ADMIN_TOKEN, what);
            }
        }
        if !admin.names.is_empty() && !source.is_set(&TLS_CLIENT_CA_FILE) {
            source.fault(&ADMIN_CERT_NAMES, "is only for mutual TLS: give TLS_CLIENT_CA_FILE too");
        }
        ServiceCredentials {
            service_tokens: self.token.into_iter().chain(self.previous).collect(),
            admin_token: admin.token,
            admin_names: admin.names,
        }
    }
}
