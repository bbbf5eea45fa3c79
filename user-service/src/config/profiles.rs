//! What is shown of profiles.

use service_kit::settings::parsed;

use crate::domain::{Audience, Visibility};

service_kit::settings! {
    "Profiles"
    /// What is shown of profiles.
    pub struct ProfileSettings {
        /// Who sees a profile: members for every caller, or owner; then another's is not found, and the
        /// list has one entry, one's own.
        profile_visibility: Audience =
            value PROFILE_VISIBILITY("members", parsed("owner or members"));
        /// Who sees the email of a profile: owner, or members for every caller.
        email_visibility: Audience =
            value PROFILE_EMAIL_VISIBILITY("owner", parsed("owner or members"));
    }
}

impl ProfileSettings {
    /// Who may see which parts of a profile.
    #[must_use]
    pub const fn visibility(&self) -> Visibility {
        Visibility { profiles: self.profile_visibility, emails: self.email_visibility }
    }
}
