//! The names of the settings of the two services in this command. A setting that only one service has
//! keeps its name. One that both have is named `AUTH_…` and `USER_…`; the name without a prefix sets
//! both, unless they must differ, as two listeners cannot share an address.

use std::collections::{BTreeMap, BTreeSet};

use service_kit::{
    runtime::LogSettings,
    settings::{Flag, Group, Names, Setting},
};

/// The explanation of the names in `--help`.
pub(crate) const HELP: &str = "\
A setting that both services have counts for both; with AUTH_ or USER_ before it, it counts for one alone: \
AUTH_SHUTDOWN_GRACE, --user-tls-cert-file. Addresses and DATABASE_URL have no form for both, and LOG_FORMAT \
and LOG_LEVEL none for one.";

/// What this command generates or knows by itself where a setting is not given, for `--help`.
const MADE: &[(&str, &str)] = &[
    ("KEY_ENCRYPTION_KEY", "generated in <DATA_DIR>/key-encryption-key"),
    ("SERVICE_TOKEN", "generated in <DATA_DIR>/service-token"),
    ("SMTP_URL", "files in <DATA_DIR>/mail"),
    ("JWKS_URL", "the keys of this auth service"),
    ("AUTH_GRPC_URL", "this auth service"),
];

/// One of the two services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// The prefix of its settings.
    pub(crate) prefix: &'static str,
    /// Its name in the help.
    title: &'static str,
    /// The file name of its database.
    pub(crate) database: &'static str,
    /// Its settings.
    pub(crate) groups: &'static [Group],
    others: &'static [Group],
}

/// The auth service.
pub(crate) const AUTH: Service = Service {
    prefix: "AUTH",
    title: "Auth service",
    database: "auth.db",
    groups: auth_service::config::GROUPS,
    others: user_service::config::GROUPS,
};

/// The user service.
pub(crate) const USER: Service = Service {
    prefix: "USER",
    title: "User service",
    database: "user.db",
    groups: user_service::config::GROUPS,
    others: auth_service::config::GROUPS,
};

/// Which services a setting applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Only one service has it, or it belongs to the process, such as the log.
    Plain,
    /// Both services have it and may share a value.
    Shared,
    /// Both services have it, but with different values.
    Separate,
}

impl Service {
    fn settings(&self) -> impl Iterator<Item = (&'static Group, &'static Setting)> {
        self.groups.iter().flat_map(|group| group.settings.iter().map(move |one| (group, one)))
    }

    fn scope(&self, setting: &Setting) -> Scope {
        let of_process = LogSettings::GROUP.settings.iter().any(|one| one.var == setting.var);
        let mut others = self.others.iter().flat_map(|group| group.settings);
        match others.find(|other| other.var == setting.var) {
            Some(_) if of_process => Scope::Plain,
            None => Scope::Plain,
            // Different defaults mean that the values cannot be the same.
            Some(other) => match (setting.default, other.default) {
                (Some(one), Some(other)) if one != other => Scope::Separate,
                _ => Scope::Shared,
            },
        }
    }

    fn prefixed(&self, setting: &Setting) -> String {
        format!("{}_{}", self.prefix, setting.var)
    }

    /// The names of its settings.
    pub(crate) fn names(&self) -> Names {
        let mut names = Names::default();
        for (_, setting) in self.settings() {
            match self.scope(setting) {
                Scope::Plain => {}
                Scope::Shared => {
                    names.set(setting, vec![self.prefixed(setting), setting.var.to_owned()]);
                }
                Scope::Separate => names.set(setting, vec![self.prefixed(setting)]),
            }
        }
        names
    }

    /// The default of a setting here, if it differs from that of the service.
    pub(crate) fn default(&self, setting: &Setting) -> Option<String> {
        let default = setting.default.filter(|_| self.scope(setting) == Scope::Separate)?;
        default.strip_prefix("0.0.0.0:").map(|port| format!("127.0.0.1:{port}"))
    }

    /// The settings whose default differs here.
    pub(crate) fn defaults(&self) -> impl Iterator<Item = (&'static Setting, String)> {
        self.settings()
            .filter_map(|(_, setting)| self.default(setting).map(|default| (setting, default)))
    }

    /// The flags that only this service has.
    fn flags(&self, scope: Scope) -> impl Iterator<Item = Flag> {
        self.settings().filter(move |(_, one)| self.scope(one) == scope).map(move |(group, one)| {
            let made = match one.var {
                "DATABASE_URL" => Some(format!("sqlite://<DATA_DIR>/{}", self.database)),
                var => {
                    MADE.iter().find(|(name, _)| *name == var).map(|(_, made)| (*made).to_owned())
                }
            };
            Flag {
                group: match scope {
                    Scope::Separate => self.title.to_owned(),
                    _ => group.title.to_owned(),
                },
                name: if scope == Scope::Plain { one.var.to_owned() } else { self.prefixed(one) },
                setting: *one,
                default: made.or_else(|| self.default(one)),
                // It is shown under its name without a prefix.
                hidden: scope == Scope::Shared,
            }
        })
    }
}

/// The settings for which each service has a value of its own.
pub(crate) fn separate() -> impl Iterator<Item = Flag> {
    let of = |service: Service| service.flags(Scope::Separate).collect::<Vec<_>>();
    of(AUTH).into_iter().chain(of(USER))
}

/// The flags of both services: those that only one has, those that both share, and those that set a
/// shared one for a single service.
pub(crate) fn flags() -> Vec<Flag> {
    let mut seen = BTreeSet::new();
    let plain = [AUTH, USER].into_iter().flat_map(|service| {
        let shared = service.flags(Scope::Shared).map(|flag| Flag {
            name: flag.setting.var.to_owned(),
            hidden: false,
            ..flag
        });
        service.flags(Scope::Plain).chain(shared).collect::<Vec<_>>()
    });
    let alone = [AUTH, USER]
        .into_iter()
        .flat_map(|service| service.flags(Scope::Shared).collect::<Vec<_>>());
    separate().chain(plain).chain(alone).filter(|flag| seen.insert(flag.name.clone())).collect()
}

/// Variables that are not read here, each with the one to use instead.
pub(crate) fn elsewhere() -> BTreeMap<String, String> {
    let mut elsewhere = BTreeMap::new();
    for service in [AUTH, USER] {
        for (_, setting) in service.settings() {
            match service.scope(setting) {
                Scope::Shared => {}
                Scope::Plain => {
                    elsewhere.insert(service.prefixed(setting), setting.var.to_owned());
                }
                Scope::Separate => {
                    let var = setting.var;
                    elsewhere.insert(var.to_owned(), format!("AUTH_{var} and USER_{var}"));
                }
            }
        }
    }
    elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_both_has_a_prefix_and_one_of_one_has_none() {
        let first =
            |service: Service, setting: &Setting| service.names().of(setting).swap_remove(0);
        use auth_service::config as auth;
        use user_service::config as user;

        assert_eq!(first(AUTH, &auth::HTTP_ADDR), "AUTH_HTTP_ADDR");
        assert_eq!(USER.names().of(&user::DATABASE_URL), ["USER_DATABASE_URL"]);
        assert_eq!(AUTH.names().of(&auth::BCRYPT_COST), ["BCRYPT_COST"]);
        assert_eq!(USER.names().of(&user::JWT_SECRET), ["USER_JWT_SECRET", "JWT_SECRET"]);
        assert_eq!(AUTH.names().of(&LogSettings::GROUP.settings[0]), ["LOG_FORMAT"]);
    }

    #[test]
    fn every_setting_of_both_services_has_a_flag_and_a_line_in_the_help() {
        let flags = flags();
        for service in [AUTH, USER] {
            for (_, setting) in service.settings() {
                for name in service.names().of(setting) {
                    assert_eq!(flags.iter().filter(|flag| flag.name == name).count(), 1, "{name}");
                }
                let is_shown = |flag: &&Flag| !flag.hidden && flag.setting.var == setting.var;
                assert!(flags.iter().any(|flag| is_shown(&flag)), "{}", setting.var);
            }
        }
    }

    #[test]
    fn what_is_not_read_is_told() {
        let elsewhere = elsewhere();
        assert_eq!(elsewhere["DATABASE_URL"], "AUTH_DATABASE_URL and USER_DATABASE_URL");
        assert_eq!(elsewhere["AUTH_BCRYPT_COST"], "BCRYPT_COST");
        assert_eq!(elsewhere.get("JWT_SECRET"), None);
    }
}
