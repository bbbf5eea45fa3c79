//! Accounts.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sql_kit::{Row, Statement, Unit, values};
use uuid::Uuid;

use super::deletions;
use crate::{
    domain::{AccountId, AccountKey, Email},
    password::PasswordHash,
};

/// A stored account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its id.
    pub id: AccountId,
    /// Its email, which is unique.
    pub email: Email,
    /// The hash of its password. The name of the scheme is stored in a column of its own.
    pub password_hash: PasswordHash,
    /// When it was created, to the microsecond.
    pub created_at: DateTime<Utc>,
    /// The generation of its credentials. Access tokens with a lower generation are revoked.
    pub generation: i64,
    /// Whether its email was confirmed by a link.
    pub email_verified: bool,
    /// Whether it is disabled. A login then fails as with a wrong password.
    pub disabled: bool,
}

pub(super) fn account(row: &Row) -> Result<AccountRecord, sqlx::Error> {
    let email: String = row.get("email")?;
    Ok(AccountRecord {
        id: AccountId(row.get("id")?),
        // Only parsed emails are stored, so an invalid one means that the database is damaged.
        email: Email::parse(&email)
            .map_err(|_| sqlx::Error::Decode("a stored email is malformed".into()))?,
        password_hash: PasswordHash::stored(row.get("password_hash")?),
        created_at: row.get("created_at")?,
        generation: row.get("generation")?,
        email_verified: row.get("email_verified")?,
        disabled: row.get("disabled")?,
    })
}

/// Adds an account. Returns `false` if its email already has one.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn insert(unit: &mut Unit, account: &AccountRecord) -> Result<bool, sqlx::Error> {
    let added = unit
        .execute(
            "INSERT INTO accounts
                 (id, email, password_hash, hash_scheme, created_at, generation, email_verified,
                  disabled)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (email) DO NOTHING",
            values![
                account.id.0,
                account.email.as_str(),
                account.password_hash.as_str(),
                &account.password_hash.scheme_name(),
                account.created_at,
                account.generation,
                account.email_verified,
                account.disabled
            ],
        )
        .await?;
    Ok(added == 1)
}

/// Finds an account by its email.
///
/// # Errors
///
/// The errors of the database.
pub async fn by_email(
    unit: &mut Unit,
    email: &Email,
) -> Result<Option<AccountRecord>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
             FROM accounts WHERE email = $1",
            values![email.as_str()],
        )
        .await?;
    row.as_ref().map(account).transpose()
}

/// Finds an account by its id.
///
/// # Errors
///
/// The errors of the database.
pub async fn by_id(unit: &mut Unit, id: AccountId) -> Result<Option<AccountRecord>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
             FROM accounts WHERE id = $1",
            values![id.0],
        )
        .await?;
    row.as_ref().map(account).transpose()
}

/// Finds an account by its id or its email.
///
/// # Errors
///
/// The errors of the database.
pub async fn by_key(
    unit: &mut Unit,
    key: &AccountKey,
) -> Result<Option<AccountRecord>, sqlx::Error> {
    match key {
        AccountKey::Id(id) => by_id(unit, *id).await,
        AccountKey::Email(email) => by_email(unit, email).await,
    }
}

/// Finds an account by its id or email and locks it as [`lock`] does. If its email is changed
/// concurrently, it is not found by the old one.
///
/// # Errors
///
/// The errors of the database.
pub async fn lock_by_key(
    unit: &mut Unit,
    key: &AccountKey,
) -> Result<Option<AccountRecord>, sqlx::Error> {
    let id = match key {
        AccountKey::Id(id) => *id,
        AccountKey::Email(email) => match by_email(unit, email).await? {
            Some(found) => found.id,
            None => return Ok(None),
        },
    };
    let account = lock(unit, id).await?;
    Ok(account.filter(|account| match key {
        AccountKey::Id(_) => true,
        AccountKey::Email(email) => account.email == *email,
    }))
}

/// Finds an account by its id and locks it: nobody else can change or delete it until the transaction
/// ends.
///
/// # Errors
///
/// The errors of the database.
pub async fn lock(unit: &mut Unit, id: AccountId) -> Result<Option<AccountRecord>, sqlx::Error> {
    const LOCK: Statement = Statement::per_engine(
        "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
         FROM accounts WHERE id = $1 FOR NO KEY UPDATE",
        "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
         FROM accounts WHERE id = $1",
    );
    let row = unit.fetch_optional(LOCK, values![id.0]).await?;
    row.as_ref().map(account).transpose()
}

/// Accounts after `after`, sorted by id.
///
/// # Errors
///
/// The errors of the database.
pub async fn page(
    unit: &mut Unit,
    after: Uuid,
    most: i64,
) -> Result<Vec<AccountRecord>, sqlx::Error> {
    let rows = unit
        .fetch_all(
            "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
             FROM accounts WHERE id > $1 ORDER BY id LIMIT $2",
            values![after, most],
        )
        .await?;
    rows.iter().map(account).collect()
}

/// Replaces the password hash of an account if it still is `before`, so that a concurrent replacement is
/// not undone. Returns whether it was replaced.
///
/// # Errors
///
/// The errors of the database.
pub async fn replace_password_hash(
    unit: &mut Unit,
    id: AccountId,
    before: &PasswordHash,
    after: &PasswordHash,
) -> Result<bool, sqlx::Error> {
    let replaced = unit
        .execute(
            "UPDATE accounts SET password_hash = $3, hash_scheme = $4
             WHERE id = $1 AND password_hash = $2",
            values![id.0, before.as_str(), after.as_str(), &after.scheme_name()],
        )
        .await?;
    Ok(replaced == 1)
}

/// Sets the password of an account.
///
/// # Errors
///
/// The errors of the database.
pub async fn set_password(
    unit: &mut Unit,
    id: AccountId,
    hash: &PasswordHash,
) -> Result<(), sqlx::Error> {
    unit.execute(
        "UPDATE accounts SET password_hash = $2, hash_scheme = $3 WHERE id = $1",
        values![id.0, hash.as_str(), &hash.scheme_name()],
    )
    .await?;
    Ok(())
}

/// Marks the address of an account as confirmed.
///
/// # Errors
///
/// The errors of the database.
pub async fn set_email_verified(unit: &mut Unit, id: AccountId) -> Result<(), sqlx::Error> {
    unit.execute("UPDATE accounts SET email_verified = $2 WHERE id = $1", values![id.0, true])
        .await?;
    Ok(())
}

/// Disables or enables an account.
///
/// # Errors
///
/// The errors of the database.
pub async fn set_disabled(
    unit: &mut Unit,
    id: AccountId,
    disabled: bool,
) -> Result<(), sqlx::Error> {
    unit.execute("UPDATE accounts SET disabled = $2 WHERE id = $1", values![id.0, disabled])
        .await?;
    Ok(())
}

/// Gives an account a new, confirmed address. Returns `false` if another account has it; the transaction
/// must then be rolled back.
///
/// # Errors
///
/// The errors of the database.
pub async fn set_email(unit: &mut Unit, id: AccountId, email: &Email) -> Result<bool, sqlx::Error> {
    let done = unit
        .execute(
            "UPDATE accounts SET email = $2, email_verified = $3 WHERE id = $1",
            values![id.0, email.as_str(), true],
        )
        .await;
    match done {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Raises the generation of an account's credentials, which revokes all earlier access tokens. Returns
/// the new generation, or `None` if the account does not exist.
///
/// # Errors
///
/// The errors of the database.
pub async fn raise_generation(unit: &mut Unit, id: AccountId) -> Result<Option<i64>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "UPDATE accounts SET generation = generation + 1 WHERE id = $1 RETURNING generation",
            values![id.0],
        )
        .await?;
    row.map(|row| row.get("generation")).transpose()
}

/// Deletes an account and adds it to the list of deleted accounts. Returns whether it existed. This must
/// be the last statement of a transaction, because it makes other deletions wait until the transaction
/// ends.
///
/// # Errors
///
/// The errors of the database.
pub async fn delete(unit: &mut Unit, id: AccountId) -> Result<bool, sqlx::Error> {
    if unit.execute("DELETE FROM accounts WHERE id = $1", values![id.0]).await? == 0 {
        return Ok(false);
    }
    deletions::add(unit, id).await?;
    Ok(true)
}

/// The distinct schemes of all stored password hashes, including those of registrations.
///
/// # Errors
///
/// The errors of the database.
pub async fn hash_schemes(unit: &mut Unit) -> Result<Vec<String>, sqlx::Error> {
    // A loose index scan takes one step per scheme, however many accounts there are.
    const SCHEMES: Statement = Statement::per_engine(
        "WITH RECURSIVE schemes AS (
             (SELECT hash_scheme FROM accounts ORDER BY hash_scheme LIMIT 1)
             UNION ALL
             SELECT (SELECT hash_scheme FROM accounts
                     WHERE hash_scheme > schemes.hash_scheme
                     ORDER BY hash_scheme LIMIT 1)
             FROM schemes WHERE schemes.hash_scheme IS NOT NULL
         )
         SELECT hash_scheme FROM schemes WHERE hash_scheme IS NOT NULL",
        "WITH RECURSIVE schemes (hash_scheme) AS (
             SELECT min(hash_scheme) FROM accounts
             UNION ALL
             SELECT (SELECT min(hash_scheme) FROM accounts
                     WHERE hash_scheme > schemes.hash_scheme)
             FROM schemes WHERE schemes.hash_scheme IS NOT NULL
         )
         SELECT hash_scheme FROM schemes WHERE hash_scheme IS NOT NULL",
    );
    // Pending registrations are few, because they expire after days, so this may scan them.
    let waiting = "SELECT DISTINCT hash_scheme FROM registrations";
    let mut rows = unit.fetch_all(SCHEMES, values![]).await?;
    rows.extend(unit.fetch_all(waiting, values![]).await?);
    let all = rows.iter().map(|row| row.get("hash_scheme"));
    let schemes: BTreeSet<String> = all.collect::<Result<_, _>>()?;
    Ok(schemes.into_iter().collect())
}
