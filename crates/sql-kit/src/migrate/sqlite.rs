//! Migrations of SQLite.

use sqlx::{
    SqliteConnection,
    migrate::{Migrate as _, Migrator},
};

use super::{MIGRATIONS_TABLE, Migrated, apply, missing};
use crate::StoreError;

/// Runs the missing migrations in a transaction that the caller has started and will commit.
pub(crate) async fn run(
    connection: &mut SqliteConnection,
    migrator: &Migrator,
) -> Result<Vec<Migrated>, StoreError> {
    connection.ensure_migrations_table(MIGRATIONS_TABLE).await?;
    let mut migrated = Vec::new();
    for migration in missing(connection, migrator).await? {
        migrated.push(apply(connection, migration).await?);
    }
    Ok(migrated)
}
