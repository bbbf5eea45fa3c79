//! Migrations, embedded in the binary.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::time::Duration;

pub(crate) use sqlx::migrate::Migrator;
use sqlx::{
    SqlSafeStr as _,
    migrate::{Migrate, Migration, MigrationType},
};

use crate::StoreError;

/// The table in which sqlx records the applied migrations.
pub(crate) const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// Selects the number and name of the applied migrations.
pub(crate) const SELECT_APPLIED: &str =
    "SELECT version, description FROM _sqlx_migrations WHERE success ORDER BY version";
/// The first line of a migration that cannot run in a transaction, such as `CREATE INDEX CONCURRENTLY`. It
/// must be a single statement.
const NO_TRANSACTION: &str = "-- no-transaction";

/// The number, name and text of one migration.
pub type MigrationSource = (i64, &'static str, &'static str);

/// A migrator that has `migrations` and refuses a database that has more. A migration whose first line is
/// `-- no-transaction` runs outside a transaction and must be a single statement.
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
                    sql.starts_with(NO_TRANSACTION),
                )
            })
            .collect(),
    )
}

/// A migration that has just been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
}

/// A migration that was applied to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) version: i64,
    pub(crate) name: String,
}

pub(crate) fn applied(rows: Vec<(i64, String)>) -> Vec<Applied> {
    rows.into_iter().map(|(version, name)| Applied { version, name }).collect()
}

/// The state of a migration, for `migrate status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Whether it was applied to the database.
    pub is_applied: bool,
    /// Whether this version of the service has it. If not, a newer version applied it.
    pub is_known: bool,
}

/// All migrations, both those of the database and those of this version.
pub(crate) fn states(migrator: &Migrator, applied: Vec<Applied>) -> Vec<MigrationState> {
    let ours = migrator.iter().map(|migration| MigrationState {
        version: migration.version,
        name: migration.description.to_string(),
        is_applied: applied.iter().any(|applied| applied.version == migration.version),
        is_known: true,
    });
    let mut states: Vec<_> = ours.collect();
    states.extend(
        applied.into_iter().filter(|applied| !migrator.version_exists(applied.version)).map(
            |Applied { version, name }| MigrationState {
                version,
                name,
                is_applied: true,
                is_known: false,
            },
        ),
    );
    states.sort_by_key(|state| state.version);
    states
}

/// Checks that the applied migrations are exactly the expected ones.
pub(crate) fn compare(migrator: &Migrator, applied: &[Applied]) -> Result<(), StoreError> {
    check_service(migrator, applied)?;
    if let Some(unknown) = applied.iter().find(|applied| !migrator.version_exists(applied.version))
    {
        return Err(StoreError::Newer(unknown.version));
    }
    let is_applied = |version| applied.iter().any(|applied| applied.version == version);
    match migrator.iter().find(|migration| !is_applied(migration.version)) {
        Some(missing) => Err(StoreError::NotMigrated(missing.version)),
        None => Ok(()),
    }
}

/// Refuses the database of another service.
pub(crate) fn check_service(migrator: &Migrator, applied: &[Applied]) -> Result<(), StoreError> {
    if is_of_these(migrator, applied) { Ok(()) } else { Err(StoreError::OtherService) }
}

/// Whether the applied migrations have the names of ours. This distinguishes the databases of the two
/// services, whose migrations have the same numbers.
pub(crate) fn is_of_these(migrator: &Migrator, applied: &[Applied]) -> bool {
    applied.iter().all(|applied| {
        let ours = migrator.iter().find(|migration| migration.version == applied.version);
        ours.is_none_or(|migration| migration.description == applied.name)
    })
}

/// The migrations that are missing in a database, in order.
async fn missing<'m>(
    connection: &mut impl Migrate,
    migrator: &'m Migrator,
) -> Result<Vec<&'m Migration>, StoreError> {
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await?;
    let mut missing = Vec::new();
    if let Some(unknown) = applied.iter().find(|applied| !migrator.version_exists(applied.version))
    {
        return Err(StoreError::Newer(unknown.version));
    }
    for migration in migrator.iter() {
        match applied.iter().find(|applied| applied.version == migration.version) {
            Some(applied) if applied.checksum != migration.checksum => {
                return Err(StoreError::Altered(migration.version));
            }
            Some(_) => {}
            None => missing.push(migration),
        }
    }
    Ok(missing)
}

/// Runs one migration and logs it.
async fn apply(
    connection: &mut impl Migrate,
    migration: &Migration,
) -> Result<Migrated, sqlx::migrate::MigrateError> {
    let (version, name) = (migration.version, migration.description.to_string());
    tracing::info!(version, name, "migrating the database");
    let took = connection.apply(MIGRATIONS_TABLE, migration).await?;
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(event = "database.migrated", version, name, took_ms, "migrated the database");
    Ok(Migrated { version, name, took })
}
