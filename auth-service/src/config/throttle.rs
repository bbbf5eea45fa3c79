//! How often something may be tried.

use std::time::Duration;

use service_kit::settings::{number, seconds};

use crate::{
    service::Limits,
    throttle::{FailureLimits, NetworkLimit, policy},
};

service_kit::settings! {
    "Limits"
    /// The limits on logins and registrations.
    pub struct LimitSettings {
        /// How many failed logins one network may have on one account in a window, 0 to 1000000; 0: no
        /// limit.
        failures_per_pair: u32 = value LOGIN_FAILURES_PER_PAIR("10", number(0, 1_000_000));
        /// How many failed logins all networks together may have on one account in a window, 0 to
        /// 1000000; 0: no limit.
        failures_per_account: u32 = value LOGIN_FAILURES_PER_ACCOUNT("100", number(0, 1_000_000));
        /// The window in which failed logins are counted, in seconds, 1 to 86400.
        window: Duration = value LOGIN_FAILURE_WINDOW("900", seconds(1, 86_400));
        /// How many logins one network may try in a minute, 0 to 1000000; 0: no limit.
        logins: u32 = value LOGINS_PER_MINUTE("60", number(0, 1_000_000));
        /// How many accounts one network may register in a minute, 0 to 1000000; 0: no limit.
        registrations: u32 = value REGISTRATIONS_PER_MINUTE("60", number(0, 1_000_000));
    }
}

impl From<LimitSettings> for Limits {
    fn from(settings: LimitSettings) -> Self {
        Self {
            failures: FailureLimits {
                per_pair: settings.failures_per_pair,
                per_account: settings.failures_per_account,
                window: settings.window,
            },
            logins: NetworkLimit::new(policy::LOGINS, settings.logins),
            registrations: NetworkLimit::new(policy::REGISTRATIONS, settings.registrations),
        }
    }
}
