//! Revocation that reaches local verifiers: what ends the tokens of an account, and the feed of it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use sql_kit::{Unit, read};
use token_verifier::{RevocationDigest, RevocationEntry, RevocationPage};
use uuid::Uuid;

use super::Service;
use crate::{
    domain::AccountId,
    error::Error,
    store::{
        accounts, links,
        revocations::{self, RevocationRecord, Revoked},
        sessions,
    },
};

/// How many entries one page of the feed has at most.
const PAGE: usize = 10_000;
const INSTALLATION_BYTES: usize = 8;
const POSITION_BYTES: usize = 8;

/// A place in the feed: after the entry at `position`, or before the first one at 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    position: i64,
    nonce: Vec<u8>,
}

impl Cursor {
    const fn start() -> Self {
        Self { position: 0, nonce: Vec::new() }
    }

    fn after(record: &RevocationRecord) -> Self {
        Self { position: record.position, nonce: record.nonce.clone() }
    }

    fn write(&self, installation: &[u8]) -> String {
        let position = self.position.to_be_bytes();
        URL_SAFE_NO_PAD.encode([installation, &position, &self.nonce].concat())
    }

    /// Reads a cursor of this installation.
    fn read(text: &str, installation: &[u8]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (of, rest) = bytes.split_at_checked(INSTALLATION_BYTES)?;
        verify_slices_are_equal(of, installation).ok()?;
        let (position, nonce) = rest.split_at_checked(POSITION_BYTES)?;
        let position = i64::from_be_bytes(*position.first_chunk()?);
        Some(Self { position, nonce: nonce.to_vec() })
    }
}

/// The second from which on nothing can live that was issued up to `now`.
pub(super) fn until(now: DateTime<Utc>, ttl: std::time::Duration) -> DateTime<Utc> {
    let ttl = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::hours(1));
    // Tokens end at whole seconds, which are rounded down.
    now + ttl
}

/// Ends every access token and one-time link of an account, and every session but the one that is kept,
/// if one is. Call it at the end of a transaction that has locked the account. Returns the new generation; nothing where
/// there is no such account.
pub(super) async fn end_all(
    unit: &mut Unit,
    account: AccountId,
    kept: Option<Uuid>,
    until: DateTime<Utc>,
) -> Result<Option<i64>, sqlx::Error> {
    let Some(generation) = accounts::raise_generation(unit, account).await? else {
        return Ok(None);
    };
    sessions::delete_of(unit, account, kept).await?;
    links::remove_of(unit, account).await?;
    revocations::add(unit, &[Revoked::Account(account, generation)], until).await?;
    Ok(Some(generation))
}

impl Service {
    /// Until when tokens may live that were issued up to now.
    pub(super) fn revoked_until(&self) -> DateTime<Utc> {
        until(self.store.now(), self.issuer.ttl)
    }

    /// What was revoked after a cursor; all that counts now, with `reset`, where there is none, or one
    /// that is unknown or too old.
    ///
    /// # Errors
    ///
    /// Where the database is away.
    pub async fn revocations(&self, after: Option<&str>) -> Result<RevocationPage, Error> {
        self.loaded_keys()?;
        let now = self.store.now();
        let page = read!(self.store, |unit| {
            let installation = revocations::installation(unit).await?;
            let known = match after.and_then(|text| Cursor::read(text, &installation)) {
                Some(cursor) if cursor == Cursor::start() => Some(cursor),
                Some(cursor)
                    if revocations::is_known(unit, cursor.position, &cursor.nonce).await? =>
                {
                    Some(cursor)
                }
                _ => None,
            };
            let reset = known.is_none();
            let from = known.unwrap_or_else(Cursor::start);
            let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
            let mut records = revocations::after(unit, from.position, limit).await?;
            let more = records.len() > PAGE;
            records.truncate(PAGE);
            let cursor = records.last().map_or(from, Cursor::after).write(&installation);
            let entries = records.iter().filter(|record| record.until > now).filter_map(entry);
            Ok(RevocationPage::new(reset, more, cursor, entries.collect()))
        });
        Ok(page.await?)
    }
}

fn entry(record: &RevocationRecord) -> Option<RevocationEntry> {
    let digest = |bytes: &[u8]| bytes.try_into().ok().map(RevocationDigest::from_bytes);
    // A time within a second counts until the second has ended.
    let until = (record.until + TimeDelta::microseconds(999_999)).timestamp();
    match (&record.session, &record.account) {
        (Some(session), _) => Some(RevocationEntry::Session { session: digest(session)?, until }),
        (None, Some((account, generation))) => Some(RevocationEntry::Account {
            account: digest(account)?,
            generation: u64::try_from(*generation).ok()?,
            until,
        }),
        (None, None) => None,
    }
}
