//! Migrations, embedded in the binary.

use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::StoreError;

/// Where sqlx notes the migrations that were run.
pub(crate) const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// The number, name and text of one migration.
pub type MigrationSource = (i64, &'static str, &'static str);

/// A migrator that knows `migrations` and refuses a database that knows more.
#[must_use]
pub fn migrator(migrations: &[MigrationSource]) -> Migrator {
    Migrator::with_migrations(
        migrations
            .iter()
            .map(|(version, name, sql)| {
                Migration::new(
                    *version,
                    (*name).into(),
                    MigrationType::Simple,
                    sql.into_sql_str(),
                    false,
                )
            })
            .collect(),
    )
}

/// Compares the migrations that a database has with those that it should have.
pub(crate) fn compare(migrator: &Migrator, applied: &[i64]) -> Result<(), StoreError> {
    if let Some(unknown) = applied.iter().find(|version| !migrator.version_exists(**version)) {
        return Err(StoreError::Newer(*unknown));
    }
    match migrator.iter().find(|migration| !applied.contains(&migration.version)) {
        Some(missing) => Err(StoreError::NotMigrated(missing.version)),
        None => Ok(()),
    }
}
