//! Revocation of access tokens, and the feed from which local verifiers learn of it.

use chrono::{DateTime, TimeDelta, Utc};
use sql_kit::{Unit, read};
use token_verifier::{MAX_EXP_LEEWAY, RevocationDigest, RevocationEntry, RevocationPage};
use uuid::Uuid;

use super::{Service, cursor::Cursor};
use crate::{
    domain::AccountId,
    error::Error,
    store::{
        accounts, links,
        revocations::{self, RevocationRecord, Revoked},
        sessions,
    },
};

/// The most entries that one page of the feed can have.
const PAGE: usize = 2500;
/// The most memory that building a page takes, in bytes: the driver needs about a kilobyte per row. The response is a
/// tenth of that.
pub const PAGE_BYTES: usize = PAGE * 1280;
/// How long an entry stays in the feed after its `until`. A verifier with a leeway accepts tokens for that long after
/// they expire, and a verifier that has just started knows only the listed entries.
pub(super) const LEEWAY: TimeDelta = TimeDelta::seconds(MAX_EXP_LEEWAY.as_secs().cast_signed());

/// The time, rounded up to a second, after which all tokens that were issued until `now` have expired.
pub(super) fn until(now: DateTime<Utc>, ttl: std::time::Duration) -> DateTime<Utc> {
    let ttl = TimeDelta::from_std(ttl).unwrap_or(TimeDelta::hours(1));
    // Tokens expire at whole seconds, rounded down.
    now + ttl
}

/// Ends all access tokens, one-time links and sessions of an account, except for the session that is kept, if one is
/// given. Call it at the end of a transaction that has locked the account. Returns the new generation, or `None` if the
/// account does not exist.
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
    /// The latest time at which tokens that were issued until now expire.
    pub(super) fn revoked_until(&self) -> DateTime<Utc> {
        until(self.store.now(), self.issuer.ttl)
    }

    /// The revocations after a cursor. If the cursor is missing, unknown or too old, returns all current ones and sets
    /// `reset`.
    ///
    /// # Errors
    ///
    /// If the database is unavailable.
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
            let cursor = records.last().map_or(from, place).write(&installation);
            let entries =
                records.iter().filter(|record| record.until + LEEWAY > now).filter_map(entry);
            Ok(RevocationPage::new(reset, more, cursor, entries.collect()))
        });
        Ok(page.await?)
    }
}

fn place(record: &RevocationRecord) -> Cursor {
    Cursor { position: record.position, nonce: record.nonce.clone() }
}

fn entry(record: &RevocationRecord) -> Option<RevocationEntry> {
    let digest = |bytes: &[u8]| bytes.try_into().ok().map(RevocationDigest::from_bytes);
    // Round up to the end of the second.
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
