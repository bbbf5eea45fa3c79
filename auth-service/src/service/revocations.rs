//! Revocation that reaches local verifiers: what ends the tokens of an account, and the feed of it.

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

/// How many entries one page of the feed has at most.
const PAGE: usize = 2500;
/// The most bytes that a page takes while it is made: the driver keeps a kilobyte for each row. As an answer
/// it takes a tenth of that.
pub const PAGE_BYTES: usize = PAGE * 1280;
/// How long an entry is listed beyond its `until`. A verifier with a leeway takes tokens for that long after
/// their end, and one that has just started knows no entry but those that are listed.
pub(super) const LEEWAY: TimeDelta = TimeDelta::seconds(MAX_EXP_LEEWAY.as_secs().cast_signed());

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
