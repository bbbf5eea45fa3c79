//! One-time links, and the number of links that each address was sent.

use chrono::{DateTime, TimeDelta, Utc};
use sql_kit::{Row, StoreError, Unit, values, write_one};
use uuid::Uuid;

use super::Store;
use crate::{
    domain::{AccountId, Email},
    throttle::Subject,
};

/// The window in which links to one address are counted.
const QUOTA_WINDOW: TimeDelta = TimeDelta::hours(1);
/// How many rows one pruning statement removes.
const PRUNE_BATCH: i64 = 10_000;

/// The purpose of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To choose a new password for an account; with `None`, to create an account for an address that
    /// has registrations.
    ResetPassword(Option<AccountId>),
    /// To confirm the address of an account.
    VerifyEmail(AccountId),
    /// To confirm the new address of an account.
    ChangeEmail(AccountId, Email),
    /// To turn a registration into an account.
    VerifyRegistration(Uuid),
}

/// A stored link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    /// The SHA-256 of its secret.
    pub digest: [u8; 32],
    /// Its purpose.
    pub purpose: Purpose,
    /// The email of the account when the link was created, or of the registration.
    pub email: Email,
    /// The generation of the account when the link was created; 0 for a registration.
    pub generation: i64,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

fn damaged(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

fn link(row: &Row) -> Result<LinkRecord, sqlx::Error> {
    let email =
        |text: String| Email::parse(&text).map_err(|_| damaged("a stored email is malformed"));
    let account = row.get::<Option<Uuid>>("account_id")?.map(AccountId);
    let required = || account.ok_or_else(|| damaged("a link has no account"));
    let purpose: String = row.get("purpose")?;
    let purpose = match purpose.as_str() {
        "reset_password" => Purpose::ResetPassword(account),
        "verify_email" => Purpose::VerifyEmail(required()?),
        "change_email" => {
            let new: Option<String> = row.get("new_email")?;
            let new = new.ok_or_else(|| damaged("a link has no new email"))?;
            Purpose::ChangeEmail(required()?, email(new)?)
        }
        "verify_registration" => {
            let id: Option<Uuid> = row.get("registration_id")?;
            Purpose::VerifyRegistration(id.ok_or_else(|| damaged("a link has no registration"))?)
        }
        _ => return Err(damaged("a link has an unknown purpose")),
    };
    let digest: Vec<u8> = row.get("digest")?;
    Ok(LinkRecord {
        digest: digest.try_into().map_err(|_| damaged("a digest is malformed"))?,
        purpose,
        email: email(row.get("email")?)?,
        generation: row.get("generation")?,
        expires_at: row.get("expires_at")?,
    })
}

/// Adds a link.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn insert(unit: &mut Unit, link: &LinkRecord) -> Result<(), sqlx::Error> {
    let (purpose, account, registration, new_email) = match &link.purpose {
        Purpose::ResetPassword(account) => ("reset_password", account.as_ref(), None, None),
        Purpose::VerifyEmail(account) => ("verify_email", Some(account), None, None),
        Purpose::ChangeEmail(account, new) => {
            ("change_email", Some(account), None, Some(new.as_str()))
        }
        Purpose::VerifyRegistration(id) => ("verify_registration", None, Some(*id), None),
    };
    unit.execute(
        "INSERT INTO links (digest, purpose, account_id, registration_id, email, generation,
                            new_email, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        values![
            &link.digest[..],
            purpose,
            account.map(|account| account.0),
            registration,
            link.email.as_str(),
            link.generation,
            new_email,
            link.expires_at
        ],
    )
    .await?;
    Ok(())
}

/// Finds a link that has not expired.
///
/// # Errors
///
/// The errors of the database.
pub async fn by_digest(
    unit: &mut Unit,
    digest: &[u8; 32],
    now: DateTime<Utc>,
) -> Result<Option<LinkRecord>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT digest, purpose, account_id, registration_id, email, generation, new_email,
                    expires_at
             FROM links WHERE digest = $1 AND expires_at > $2",
            values![&digest[..], now],
        )
        .await?;
    row.as_ref().map(link).transpose()
}

/// The newest link that confirms this as the new address of an account, if the account has not changed
/// since the link was created.
///
/// # Errors
///
/// The errors of the database.
pub async fn change_to(
    unit: &mut Unit,
    new_email: &Email,
    now: DateTime<Utc>,
) -> Result<Option<LinkRecord>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT digest, purpose, account_id, registration_id, links.email AS email,
                    links.generation AS generation, new_email, links.expires_at AS expires_at
             FROM links JOIN accounts ON accounts.id = links.account_id
                 AND accounts.email = links.email AND accounts.generation = links.generation
             WHERE new_email = $1 AND purpose = 'change_email' AND links.expires_at > $2
             ORDER BY links.expires_at DESC LIMIT 1",
            values![new_email.as_str(), now],
        )
        .await?;
    row.as_ref().map(link).transpose()
}

/// Uses up a link. Returns whether it existed; of two concurrent uses, only one gets `true`.
///
/// # Errors
///
/// The errors of the database.
pub async fn remove(unit: &mut Unit, digest: &[u8; 32]) -> Result<bool, sqlx::Error> {
    Ok(unit.execute("DELETE FROM links WHERE digest = $1", values![&digest[..]]).await? == 1)
}

/// Removes all links of an account.
///
/// # Errors
///
/// The errors of the database.
pub async fn remove_of(unit: &mut Unit, account: AccountId) -> Result<(), sqlx::Error> {
    unit.execute("DELETE FROM links WHERE account_id = $1", values![account.0]).await?;
    Ok(())
}

/// Removes the links with which an account could change its address.
///
/// # Errors
///
/// The errors of the database.
pub async fn remove_changes_of(unit: &mut Unit, account: AccountId) -> Result<(), sqlx::Error> {
    unit.execute(
        "DELETE FROM links WHERE account_id = $1 AND purpose = 'change_email'",
        values![account.0],
    )
    .await?;
    Ok(())
}

/// Counts a link to an address if fewer than `quota` were sent in the current hour; 0 means no limit.
/// Returns whether it may be sent.
///
/// # Errors
///
/// The errors of the database.
pub async fn count(
    unit: &mut Unit,
    subject: &Subject,
    quota: u32,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    // Counting stops at one above the quota, so that the number cannot overflow.
    let row = unit
        .fetch_one(
            "INSERT INTO link_quotas AS q (subject, sent, expires_at) VALUES ($1, 1, $2)
             ON CONFLICT (subject) DO UPDATE SET
                 sent = CASE WHEN q.expires_at <= $3 THEN 1
                             WHEN q.sent > $4 THEN q.sent
                             ELSE q.sent + 1 END,
                 expires_at = CASE WHEN q.expires_at <= $3 THEN $2 ELSE q.expires_at END
             RETURNING sent",
            values![&subject.0[..], now + QUOTA_WINDOW, now, quota],
        )
        .await?;
    Ok(quota == 0 || row.get::<i64>("sent")? <= i64::from(quota))
}

impl Store {
    /// Removes expired links, counts and registrations, in one transaction with a limited number of
    /// rows.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn prune_links(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM links WHERE digest IN
                 (SELECT digest FROM links WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
            "DELETE FROM link_quotas WHERE subject IN
                 (SELECT subject FROM link_quotas WHERE expires_at <= $1
                  ORDER BY expires_at LIMIT $2)",
            "DELETE FROM registrations WHERE id IN
                 (SELECT id FROM registrations WHERE expires_at <= $1
                  ORDER BY expires_at LIMIT $2)",
        ] {
            loop {
                let removed = write_one!(self, |unit| {
                    unit.execute(statement, values![now, PRUNE_BATCH]).await
                });
                if removed.await? < PRUNE_BATCH.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(())
    }
}
