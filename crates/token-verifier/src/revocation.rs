//! Revocations of tokens before they expire, and their JSON format.

mod list;
mod table;

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;
use uuid::Uuid;

pub(crate) use self::list::RevocationKeys;
pub use self::list::{MAX_REVOCATIONS, RevocationList};

/// The longest cursor that is accepted, in bytes, because it is sent in a URL.
const MAX_CURSOR_BYTES: usize = 1024;

/// Why a page of revocations is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// The text is not a page of revocations.
    #[error("the answer is not a page of revocations")]
    NotAPage,
    /// The list would have more than [`MAX_REVOCATIONS`] entries.
    #[error("the list of revocations has more than {MAX_REVOCATIONS} entries")]
    TooMany,
}

/// The SHA-256 digest of an id's canonical text (RFC 9562 section 4: lower case, with hyphens).
///
/// The list identifies sessions and accounts by their digests, so that it reveals nothing to those who
/// do not know the ids. In JSON the digest is base64url without padding (RFC 4648 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RevocationDigest([u8; SHA256_OUTPUT_LEN]);

impl RevocationDigest {
    /// The digest of the id of a session or an account.
    #[must_use]
    pub fn of(id: Uuid) -> Self {
        let mut text = Uuid::encode_buffer();
        let text = id.as_hyphenated().encode_lower(&mut text);
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// A digest that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SHA256_OUTPUT_LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SHA256_OUTPUT_LEN] {
        &self.0
    }

    /// The part of the digest that a list stores. 128 bits are enough, because nobody can choose ids
    /// so that these collide.
    fn key(&self) -> u128 {
        let mut first = [0; 16];
        first.copy_from_slice(&self.0[..16]);
        u128::from_be_bytes(first)
    }
}

impl fmt::Display for RevocationDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for RevocationDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationDigest({self})")
    }
}

impl Serialize for RevocationDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RevocationDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(D::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("not a SHA-256 digest"))
    }
}

/// One revocation. `until` is in seconds since the Unix epoch. From then on every token that the entry
/// revokes has expired, and the entry no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum RevocationEntry {
    /// Every token of a session (`sid`).
    Session {
        /// The digest of the session's id.
        session: RevocationDigest,
        /// When the entry no longer counts.
        until: i64,
    },
    /// Every token of an account (`sub`) whose `gen` is below a generation.
    Account {
        /// The digest of the account's id.
        account: RevocationDigest,
        /// The first generation whose tokens are still valid.
        generation: u64,
        /// When the entry no longer counts.
        until: i64,
    },
}

impl RevocationEntry {
    /// Revokes every token of this session.
    #[must_use]
    pub fn session(sid: Uuid, until: i64) -> Self {
        Self::Session { session: RevocationDigest::of(sid), until }
    }

    /// Revokes every token of this account whose `gen` is below `generation`.
    #[must_use]
    pub fn account(sub: Uuid, generation: u64, until: i64) -> Self {
        Self::Account { account: RevocationDigest::of(sub), generation, until }
    }
}

/// One response of `GET /.well-known/revocations?after=<cursor>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RevocationPage {
    /// Whether this page and those that follow contain all current entries and replace the known ones.
    pub reset: bool,
    /// Whether there is already another page after `cursor`.
    pub more: bool,
    /// The cursor of the next page. Its content is opaque to everybody but the issuer.
    pub cursor: String,
    /// What was revoked.
    pub entries: Vec<RevocationEntry>,
}

impl RevocationPage {
    /// Creates a page from its members.
    #[must_use]
    pub fn new(
        reset: bool,
        more: bool,
        cursor: impl Into<String>,
        entries: Vec<RevocationEntry>,
    ) -> Self {
        Self { reset, more, cursor: cursor.into(), entries }
    }

    /// Parses the body of a response. Unknown members and unknown kinds of entries are ignored.
    ///
    /// # Errors
    ///
    /// [`RevocationError::NotAPage`] for anything else: other JSON; a missing or duplicate member, or
    /// one of the wrong type; or a digest that is not canonical.
    pub fn from_json(json: &[u8]) -> Result<Self, RevocationError> {
        let body: Body = serde_json::from_slice(json).map_err(|_| RevocationError::NotAPage)?;
        if body.cursor.len() > MAX_CURSOR_BYTES {
            return Err(RevocationError::NotAPage);
        }
        let entries: Result<Vec<_>, _> =
            body.entries.into_iter().filter_map(EntryOfBody::read).collect();
        Ok(Self { reset: body.reset, more: body.more, cursor: body.cursor, entries: entries? })
    }
}

#[derive(Deserialize)]
struct Body {
    reset: bool,
    more: bool,
    cursor: String,
    entries: Vec<EntryOfBody>,
}

#[derive(Deserialize)]
struct EntryOfBody {
    session: Option<RevocationDigest>,
    account: Option<RevocationDigest>,
    generation: Option<u64>,
    until: Option<i64>,
}

impl EntryOfBody {
    /// `None` for an entry of an unknown kind.
    fn read(self) -> Option<Result<RevocationEntry, RevocationError>> {
        let Self { session, account, generation, until } = self;
        let entry = match (session, account, generation, until) {
            (None, None, ..) => return None,
            (Some(session), None, None, Some(until)) => RevocationEntry::Session { session, until },
            (None, Some(account), Some(generation), Some(until)) => {
                RevocationEntry::Account { account, generation, until }
            }
            _ => return Some(Err(RevocationError::NotAPage)),
        };
        Some(Ok(entry))
    }
}
