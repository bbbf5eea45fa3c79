//! Secrets that all replicas share, sealed.

use sql_kit::{Unit, values};

/// The sealed secret of this name, if there is one.
///
/// # Errors
///
/// Those of the database, as of all functions here.
pub async fn find(unit: &mut Unit, name: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let row =
        unit.fetch_optional("SELECT sealed FROM secrets WHERE name = $1", values![name]).await?;
    row.map(|row| row.get("sealed")).transpose()
}

/// The sealed secret of this name; `fresh` becomes it where there is none. Of several that bring a
/// fresh one at once, all get the same.
///
/// # Errors
///
/// Those of the database.
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

/// All names with what is sealed.
///
/// # Errors
///
/// Those of the database.
pub async fn all(unit: &mut Unit) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
    let rows = unit.fetch_all("SELECT name, sealed FROM secrets ORDER BY name", values![]).await?;
    rows.iter().map(|row| Ok((row.get("name")?, row.get("sealed")?))).collect()
}

/// Replaces the sealed form of a secret if it is still `before`. Returns whether it did.
///
/// # Errors
///
/// Those of the database.
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
