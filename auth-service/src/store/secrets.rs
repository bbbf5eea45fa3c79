//! Encrypted secrets that all replicas share.

use sql_kit::{Unit, values};

/// The encrypted secret with this name, if it exists.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn find(unit: &mut Unit, name: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let row =
        unit.fetch_optional("SELECT sealed FROM secrets WHERE name = $1", values![name]).await?;
    row.map(|row| row.get("sealed")).transpose()
}

/// The encrypted secret with this name. If there is none, `fresh` is stored. All concurrent callers
/// get the same one.
///
/// # Errors
///
/// The errors of the database.
pub async fn get_or_insert(
    unit: &mut Unit,
    name: &str,
    fresh: &[u8],
) -> Result<Vec<u8>, sqlx::Error> {
    unit.execute(
        "INSERT INTO secrets (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        values![name, fresh],
    )
    .await?;
    unit.fetch_one("SELECT sealed FROM secrets WHERE name = $1", values![name]).await?.get("sealed")
}

/// All secrets, as pairs of name and ciphertext.
///
/// # Errors
///
/// The errors of the database.
pub async fn all(unit: &mut Unit) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
    let rows = unit.fetch_all("SELECT name, sealed FROM secrets ORDER BY name", values![]).await?;
    rows.iter().map(|row| Ok((row.get("name")?, row.get("sealed")?))).collect()
}

/// Replaces the ciphertext of a secret if it still is `before`. Returns whether it was replaced.
///
/// # Errors
///
/// The errors of the database.
pub async fn reseal(
    unit: &mut Unit,
    name: &str,
    before: &[u8],
    after: &[u8],
) -> Result<bool, sqlx::Error> {
    let replaced = unit
        .execute(
            "UPDATE secrets SET sealed = $3 WHERE name = $1 AND sealed = $2",
            values![name, before, after],
        )
        .await?;
    Ok(replaced == 1)
}
