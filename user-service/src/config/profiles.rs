//! What is shown of profiles.

use service_kit::settings::parsed;

use crate::domain::EmailVisibility;

service_kit::settings! {
    "Profiles"
    /// What is shown of profiles.
    pub struct ProfileSettings {
        /// Who sees the email of a profile: owner, or members for every caller.
        email_visibility: EmailVisibility =
            value PROFILE_EMAIL_VISIBILITY("owner", parsed("owner or members"));
    }
}
