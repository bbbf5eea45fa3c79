//! The settings of the two services when they run together: each gets the address of the other, and
//! missing secrets are generated in the data directory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ArgMatches;
use service_kit::{
    settings::{Setting, Source},
    tls::TLS_CERT_FILE,
};

use crate::{
    data::DataDir,
    names::{AUTH, Service, USER},
};

/// The error of a command.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// The settings of both services.
#[derive(Debug)]
pub(crate) struct Stack<'a> {
    flags: &'a ArgMatches,
    data: &'a DataDir,
}

impl<'a> Stack<'a> {
    pub(crate) const fn new(flags: &'a ArgMatches, data: &'a DataDir) -> Self {
        Self { flags, data }
    }

    fn source(&self, service: Service, database: &Setting) -> Source {
        let mut source = Source::by_names(service.groups, service.names(), self.flags);
        for (setting, default) in service.defaults() {
            source.set_default(setting, default);
        }
        source.set_default(database, self.data.database_url(service.database));
        source
    }

    /// The settings of the auth service.
    pub(crate) fn auth(&self) -> Result<Source, Failure> {
        use auth_service::config;

        let mut source = self.source(AUTH, &config::DATABASE_URL);
        for (setting, file) in [
            (config::KEY_ENCRYPTION_KEY, "key-encryption-key"),
            (config::SERVICE_TOKEN, "service-token"),
        ] {
            if source.is_set(&setting) {
                continue;
            }
            let path = self.data.path(file);
            if setting.var == config::KEY_ENCRYPTION_KEY.var {
                self.check_key(&source, &path)?;
            }
            if let Some(secret) = self.data.secret(file)? {
                source.set_from(&setting, path.display().to_string(), secret);
            }
        }
        // Without a mail server, mail is written to files, and the log names them.
        source.set(&config::MAIL_DIR, self.mail_path().display().to_string());
        Ok(source)
    }

    /// Checks that no key is made for a database that was encrypted with another one.
    fn check_key(&self, source: &Source, key: &Path) -> Result<(), Failure> {
        use auth_service::config;

        let database = self.data.path(AUTH.database);
        let url = source.secret(&config::DATABASE_URL);
        let is_here = url.is_some_and(|url| url.expose() == self.data.database_url(AUTH.database));
        let others = [config::JWT_SECRET, config::JWT_SIGNING_KEY_FILE];
        let is_needed = is_here && others.iter().all(|setting| !source.is_set(setting));
        if is_needed && self.data.makes() && database.exists() && !key.exists() {
            return Err(format!(
                "{} is missing, and the database at {} was encrypted with it: put the file back, or give \
                 the key as {}",
                key.display(),
                database.display(),
                config::KEY_ENCRYPTION_KEY.var
            )
            .into());
        }
        Ok(())
    }

    /// The text of an error of a service, with the names that its settings have here. A secret that was
    /// generated is named by its file.
    pub(crate) fn explain(&self, service: Service, text: &str) -> String {
        use auth_service::config;

        let mut names = service.names();
        if let Ok(source) = self.auth() {
            for setting in [config::KEY_ENCRYPTION_KEY, config::SERVICE_TOKEN] {
                names.set(&setting, vec![source.name(&setting)]);
            }
        }
        names.translate(text)
    }

    /// The settings of the user service, given the addresses on which the auth service listens.
    pub(crate) fn user(&self, http: SocketAddr, grpc: SocketAddr) -> Result<Source, Failure> {
        use user_service::config;

        let auth = self.auth()?;
        let mut source = self.source(USER, &config::DATABASE_URL);
        // Both services have these settings, and their values must be the same, because one verifies
        // what the other signs.
        for setting in [
            auth_service::config::SERVICE_TOKEN,
            auth_service::config::JWT_ISSUER,
            auth_service::config::JWT_AUDIENCE,
        ] {
            let of_auth = auth.secret(&setting).map(|value| value.expose().to_owned());
            if let Some(value) = of_auth.or_else(|| setting.default.map(str::to_owned))
                && !source.is_set(&setting)
            {
                source.set_from(&setting, auth.name(&setting), value);
            }
        }
        // The certificate must then be valid for this address too.
        let scheme = if auth.is_set(&TLS_CERT_FILE) { "https" } else { "http" };
        source.set_default(&config::AUTH_GRPC_URL, format!("{scheme}://{grpc}"));
        let given = [config::JWKS_URL, config::JWT_SECRET, config::JWT_PUBLIC_KEY_FILE];
        if given.iter().all(|setting| !source.is_set(setting)) {
            match auth.secret(&config::JWT_SECRET) {
                Some(secret) => source.set(&config::JWT_SECRET, secret.expose()),
                None => source
                    .set(&config::JWKS_URL, format!("{scheme}://{http}/.well-known/jwks.json")),
            }
        }
        Ok(source)
    }

    fn mail_path(&self) -> PathBuf {
        self.data.path("mail")
    }

    /// The data directory, if it is deleted at the end.
    pub(crate) fn temporary_folder(&self) -> Option<PathBuf> {
        self.data.temporary()
    }

    /// The folder into which mail is written, if there is no mail server.
    pub(crate) fn mail_folder(&self) -> Result<Option<PathBuf>, Failure> {
        let has_server = self.auth()?.is_set(&auth_service::config::SMTP_URL);
        Ok((!has_server).then(|| self.mail_path()))
    }

    /// Whether a setting names the issuer.
    pub(crate) fn has_issuer(&self) -> bool {
        let source = self.source(AUTH, &auth_service::config::DATABASE_URL);
        source.is_set(&auth_service::config::JWT_ISSUER)
    }

    /// Whether the user service accepts the tokens of this auth service, and no setting names another
    /// list of revocations.
    pub(crate) fn follows_own_revocations(&self) -> bool {
        use user_service::config;

        let source = self.source(USER, &config::DATABASE_URL);
        let others = [config::JWKS_URL, config::JWT_PUBLIC_KEY_FILE, config::REVOCATIONS_URL];
        others.iter().all(|setting| !source.is_set(setting))
    }

    /// The settings of the user service, given the addresses in the settings of the auth service.
    pub(crate) fn user_beside_auth(&self) -> Result<Source, Failure> {
        let mut auth = self.auth()?;
        let addresses = auth_service::config::ListenerSettings::read(&mut auth);
        self.user(addresses.http, addresses.grpc)
    }

    /// Reads and validates the settings of both services. Returns those of the auth service and the
    /// longer of the two grace periods. A fault of a setting that both have is reported once.
    pub(crate) fn read(&self) -> Result<(auth_service::config::Settings, Duration), Failure> {
        let auth = auth_service::config::Settings::read(&mut self.auth()?);
        // Read only to find faults. The actual addresses are known once the auth service listens.
        let user = user_service::config::Settings::read(&mut self.user_beside_auth()?);
        Ok(match (auth, user) {
            (Ok(auth), Ok(user)) => {
                let graces = [&auth.runtime, &user.runtime].map(|kit| kit.edge.shutdown_grace);
                (auth, graces[0].max(graces[1]))
            }
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error.into()),
            (Err(auth), Err(user)) => return Err(auth.and(user).into()),
        })
    }
}
