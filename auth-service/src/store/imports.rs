//! Imported accounts, and the progress of imports.

use sql_kit::{Unit, values};

use crate::import::{Row, Summary};

/// Why an account cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Its email already has an account.
    Email,
    /// Its id already belongs to an account.
    Id,
}

/// Adds an account, unless there is a conflict, which is returned.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn insert(unit: &mut Unit, row: &Row) -> Result<Option<Conflict>, sqlx::Error> {
    let added = unit
        .execute(
            "INSERT INTO accounts
                 (id, email, password_hash, hash_scheme, created_at, generation, email_verified,
                  disabled)
             VALUES ($1, $2, $3, $4, $5, 0, $6, $7) ON CONFLICT DO NOTHING",
            values![
                row.id.0,
                row.email.as_str(),
                row.password_hash.as_str(),
                &row.password_hash.scheme_name(),
                row.created_at,
                row.email_verified,
                row.disabled
            ],
        )
        .await?;
    match added {
        0 => Ok(Some(conflict(unit, row).await?.unwrap_or(Conflict::Email))),
        _ => Ok(None),
    }
}

/// The conflict that would prevent an account from being added.
///
/// # Errors
///
/// The errors of the database.
pub async fn conflict(unit: &mut Unit, row: &Row) -> Result<Option<Conflict>, sqlx::Error> {
    let email = unit
        .fetch_optional("SELECT id FROM accounts WHERE email = $1", values![row.email.as_str()])
        .await?;
    if email.is_some() {
        return Ok(Some(Conflict::Email));
    }
    let id =
        unit.fetch_optional("SELECT id FROM accounts WHERE id = $1", values![row.id.0]).await?;
    Ok(id.map(|_| Conflict::Id))
}

/// The progress of an interrupted import of a file.
///
/// # Errors
///
/// The errors of the database.
pub async fn find(unit: &mut Unit, digest: &[u8]) -> Result<Option<Summary>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT line, lines, imported, skipped, refused FROM imports WHERE digest = $1",
            values![digest],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let number = |name| row.get::<i64>(name).map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Some(Summary {
        lines: number("lines")?,
        imported: number("imported")?,
        skipped: number("skipped")?,
        refused: number("refused")?,
        dry_run: false,
        resumed_after: number("line")?,
    }))
}

/// Stores the progress of an import.
///
/// # Errors
///
/// The errors of the database.
pub async fn note(
    unit: &mut Unit,
    digest: &[u8],
    line: u64,
    summary: &Summary,
) -> Result<(), sqlx::Error> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    unit.execute(
        "INSERT INTO imports (digest, line, lines, imported, skipped, refused)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (digest) DO UPDATE SET line = excluded.line, lines = excluded.lines,
             imported = excluded.imported, skipped = excluded.skipped, refused = excluded.refused",
        values![
            digest,
            number(line),
            number(summary.lines),
            number(summary.imported),
            number(summary.skipped),
            number(summary.refused)
        ],
    )
    .await?;
    Ok(())
}

/// Removes the progress of a finished import.
///
/// # Errors
///
/// The errors of the database.
pub async fn remove(unit: &mut Unit, digest: &[u8]) -> Result<(), sqlx::Error> {
    unit.execute("DELETE FROM imports WHERE digest = $1", values![digest]).await?;
    Ok(())
}
