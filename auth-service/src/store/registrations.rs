//! Pending registrations, which exist with `EMAIL_VERIFICATION=required`.

use chrono::{DateTime, Utc};
use sql_kit::{Row, Unit, values};
use uuid::Uuid;

use super::AccountRecord;
use crate::{
    domain::{AccountId, Email},
    password::PasswordHash,
};

/// How many registrations for one email are kept.
const PER_EMAIL: i64 = 20;

/// A stored registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationRecord {
    /// Its id, which becomes that of the account.
    pub id: Uuid,
    /// Its email.
    pub email: Email,
    /// The hash of its password.
    pub password_hash: PasswordHash,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

impl RegistrationRecord {
    /// The unconfirmed account that this registration stands for.
    #[must_use]
    pub fn into_unverified(self) -> AccountRecord {
        AccountRecord {
            id: AccountId(self.id),
            email: self.email,
            password_hash: self.password_hash,
            created_at: self.created_at,
            generation: 0,
            email_verified: false,
            disabled: false,
        }
    }
}

fn registration(row: &Row) -> Result<RegistrationRecord, sqlx::Error> {
    let email: String = row.get("email")?;
    Ok(RegistrationRecord {
        id: row.get("id")?,
        email: Email::parse(&email)
            .map_err(|_| sqlx::Error::Decode("a stored email is malformed".into()))?,
        password_hash: PasswordHash::stored(row.get("password_hash")?),
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}

/// Adds a registration. If its email then has more than twenty, the oldest are removed.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn insert(unit: &mut Unit, new: &RegistrationRecord) -> Result<(), sqlx::Error> {
    lock(unit, &new.email).await?;
    unit.execute(
        "INSERT INTO registrations (id, email, password_hash, hash_scheme, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        values![
            new.id,
            new.email.as_str(),
            new.password_hash.as_str(),
            &new.password_hash.scheme_name(),
            new.created_at,
            new.expires_at
        ],
    )
    .await?;
    unit.execute(
        "DELETE FROM registrations WHERE id IN
             (SELECT id FROM registrations WHERE email = $1
              ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET $2)",
        values![new.email.as_str(), PER_EMAIL],
    )
    .await?;
    Ok(())
}

/// The newest registration for an email.
///
/// # Errors
///
/// The errors of the database.
pub async fn newest(
    unit: &mut Unit,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<Option<RegistrationRecord>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT id, email, password_hash, created_at, expires_at
             FROM registrations WHERE email = $1 AND expires_at > $2
             ORDER BY created_at DESC, id DESC LIMIT 1",
            values![email.as_str(), now],
        )
        .await?;
    row.as_ref().map(registration).transpose()
}

/// Finds a registration by its id.
///
/// # Errors
///
/// The errors of the database.
pub async fn by_id(
    unit: &mut Unit,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<RegistrationRecord>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT id, email, password_hash, created_at, expires_at
             FROM registrations WHERE id = $1 AND expires_at > $2",
            values![id, now],
        )
        .await?;
    row.as_ref().map(registration).transpose()
}

/// Locks the registrations for an email until the transaction ends. A transaction that gives an email to
/// an account must take this lock before it locks the email and any links of registrations. This order
/// prevents deadlocks if several links for one email are used at once.
///
/// # Errors
///
/// The errors of the database.
pub async fn lock(unit: &mut Unit, email: &Email) -> Result<(), sqlx::Error> {
    // SQLite has one writer at a time.
    if unit.is_postgres() {
        let lock = "SELECT id FROM registrations WHERE email = $1 ORDER BY id FOR UPDATE";
        unit.fetch_all(lock, values![email.as_str()]).await?;
    }
    Ok(())
}

/// Removes all registrations for an email, and their links. Returns how many there were.
///
/// # Errors
///
/// The errors of the database.
pub async fn remove_all(unit: &mut Unit, email: &Email) -> Result<u64, sqlx::Error> {
    let removed =
        unit.execute("DELETE FROM registrations WHERE email = $1", values![email.as_str()]).await?;
    unit.execute(
        "DELETE FROM links WHERE email = $1 AND account_id IS NULL",
        values![email.as_str()],
    )
    .await?;
    Ok(removed)
}
