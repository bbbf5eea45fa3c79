//! The list of accounts, in pages. Each statement starts at its position in an index, so all pages cost
//! the same.

use chrono::{DateTime, Utc};
use sql_kit::{Statement, Unit, values};

use super::accounts::{AccountRecord, account};
use crate::domain::AccountId;

/// A position in the list by creation time: right after this account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// When the account was created.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: AccountId,
}

/// Accounts after a position, by creation time, then id. Returns at most `limit`; without a position,
/// starts at the beginning.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn by_creation(
    unit: &mut Unit,
    after: Option<Created>,
    most: u32,
) -> Result<Vec<AccountRecord>, sqlx::Error> {
    let rows = match after {
        None => {
            let first = "SELECT id, email, password_hash, created_at, generation, email_verified,
                                disabled
                         FROM accounts ORDER BY created_at, id LIMIT $1";
            unit.fetch_all(first, values![most]).await?
        }
        Some(Created { at, id }) => {
            let next = "SELECT id, email, password_hash, created_at, generation, email_verified,
                               disabled
                        FROM accounts WHERE (created_at, id) > ($1, $2)
                        ORDER BY created_at, id LIMIT $3";
            unit.fetch_all(next, values![at, id.0, most]).await?
        }
    };
    rows.iter().map(account).collect()
}

/// The same for disabled accounts.
///
/// # Errors
///
/// The errors of the database.
pub async fn disabled(
    unit: &mut Unit,
    after: Option<Created>,
    most: u32,
) -> Result<Vec<AccountRecord>, sqlx::Error> {
    let rows = match after {
        None => {
            let first = "SELECT id, email, password_hash, created_at, generation, email_verified,
                                disabled
                         FROM accounts WHERE disabled ORDER BY created_at, id LIMIT $1";
            unit.fetch_all(first, values![most]).await?
        }
        Some(Created { at, id }) => {
            let next = "SELECT id, email, password_hash, created_at, generation, email_verified,
                               disabled
                        FROM accounts WHERE disabled AND (created_at, id) > ($1, $2)
                        ORDER BY created_at, id LIMIT $3";
            unit.fetch_all(next, values![at, id.0, most]).await?
        }
    };
    rows.iter().map(account).collect()
}

/// Accounts whose email begins with `prefix`, which must be in lower case, sorted by email, after the
/// email `after`.
///
/// # Errors
///
/// The errors of the database.
pub async fn by_email_prefix(
    unit: &mut Unit,
    prefix: &str,
    after: Option<&str>,
    most: u32,
) -> Result<Vec<AccountRecord>, sqlx::Error> {
    // No character of an email sorts after `~`, so character 127 gives an upper bound. Each statement
    // has a single lower bound, at which its index scan starts.
    const FIRST: Statement = Statement::per_engine(
        "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
         FROM accounts WHERE email >= $1 AND email < $1 || chr(127) ORDER BY email LIMIT $2",
        "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
         FROM accounts WHERE email >= $1 AND email < $1 || char(127) ORDER BY email LIMIT $2",
    );
    const NEXT: Statement = Statement::per_engine(
        "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
         FROM accounts WHERE email > $2 AND email < $1 || chr(127) ORDER BY email LIMIT $3",
        "SELECT id, email, password_hash, created_at, generation, email_verified, disabled
         FROM accounts WHERE email > $2 AND email < $1 || char(127) ORDER BY email LIMIT $3",
    );
    let rows = match after {
        None => unit.fetch_all(FIRST, values![prefix, most]).await?,
        Some(after) => unit.fetch_all(NEXT, values![prefix, after, most]).await?,
    };
    rows.iter().map(account).collect()
}
