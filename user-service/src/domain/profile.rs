//! Profiles, callers, and who can see which parts of a profile.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::UserId;

/// The caller, as described by their token.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`.
    pub id: UserId,
    /// The token's `email`. Absent if the token has none, or one that cannot be displayed.
    pub email: Option<String>,
    /// The token's `iat`.
    pub issued_at: i64,
}

impl Caller {
    /// Creates a caller from these claims. A token without an email is valid: the profile has no
    /// email until a token carries one. An empty email, or one with control characters, counts as
    /// absent.
    #[must_use]
    pub fn new(id: Uuid, email: Option<String>, issued_at: i64) -> Self {
        let email = email.filter(|email| !email.is_empty() && !email.chars().any(char::is_control));
        Self { id: UserId(id), email, issued_at }
    }
}

/// Omits the email, because it is personal data.
impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Caller")
            .field("id", &self.id)
            .field("issued_at", &self.issued_at)
            .finish_non_exhaustive()
    }
}

/// Who can see a part of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Its owner.
    Owner,
    /// Every caller.
    Members,
}

impl Audience {
    /// Whether every caller is included.
    #[must_use]
    pub const fn is_for_members(self) -> bool {
        matches!(self, Self::Members)
    }
}

impl std::str::FromStr for Audience {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "owner" => Ok(Self::Owner),
            "members" => Ok(Self::Members),
            _ => Err(()),
        }
    }
}

/// Who can see which parts of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visibility {
    /// Who can see that the profile exists, and everything in it except the email.
    pub profiles: Audience,
    /// Who can see the email as well.
    pub emails: Audience,
}

/// A profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    /// The id of its owner's account.
    pub id: UserId,
    /// The email of the account, taken from the newest token that changed it. Absent until a token
    /// has carried one, and for callers who may not see it.
    pub email: Option<String>,
    /// The `iat` of the token that the email was taken from.
    pub email_iat: Option<i64>,
    /// The display name.
    pub name: String,
    /// A text about the person.
    pub bio: String,
    /// The number of the version: 1 at first, and one more after each change.
    pub version: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Profile {
    /// The first version of the profile of `caller`.
    #[must_use]
    pub fn first(caller: &Caller, now: DateTime<Utc>) -> Self {
        Self {
            id: caller.id,
            email: caller.email.clone(),
            email_iat: caller.email.as_ref().map(|_| caller.issued_at),
            name: String::new(),
            bio: String::new(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The next version of this profile, otherwise unchanged. Its `updated_at` is always later than
    /// the present one, even if the clock has stood still or gone back.
    #[must_use]
    pub fn next(&self, now: DateTime<Utc>) -> Self {
        let updated_at = now.max(self.updated_at + TimeDelta::microseconds(1));
        Self { version: self.version + 1, updated_at, ..self.clone() }
    }

    /// The entity tag. It is strong (RFC 9110, section 8.8.1): it differs after every change, between
    /// profiles, because `/users/me` is another one for each caller, and between a view with the email
    /// and one without.
    #[must_use]
    pub fn etag(&self) -> String {
        let [.., a, b, c, d] = *self.id.0.as_bytes();
        let id = u32::from_be_bytes([a, b, c, d]);
        let view = if self.email.is_some() { "e" } else { "" };
        format!("\"v{}-{id:08x}{view}\"", self.version)
    }
}

/// Omits the email, name and bio, because they are personal data.
impl fmt::Debug for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Profile")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("created_at", &self.created_at)
            .field("updated_at", &self.updated_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::clock::machine_time;

    #[test]
    fn a_change_is_later_than_the_one_before_although_the_clock_went_back() {
        let caller = Caller::new(Uuid::nil(), None, 0);
        let now = DateTime::from_timestamp_micros(1_000_000).unwrap();
        let first = Profile::first(&caller, now);
        let second = first.next(now - TimeDelta::seconds(1));
        assert!(second.updated_at > first.updated_at);
        assert_ne!(second.etag(), first.etag());
    }

    #[test]
    fn an_entity_tag_tells_profiles_and_views_apart() {
        let of = |id, email: Option<&str>| {
            let caller = Caller::new(Uuid::from_u128(id), email.map(str::to_owned), 0);
            Profile::first(&caller, machine_time()).etag()
        };
        assert_eq!(of(7, None), "\"v1-00000007\"");
        assert_eq!(of(7, Some("a@example.com")), "\"v1-00000007e\"");
        assert_ne!(of(7, None), of(8, None));
    }

    #[test]
    fn personal_data_does_not_print() {
        let caller = Caller::new(Uuid::nil(), Some("a@example.com".to_owned()), 0);
        let profile = Profile::first(&caller, machine_time());
        assert!(!format!("{caller:?}{profile:?}").contains("example"));
    }
}
