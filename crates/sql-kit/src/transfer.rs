//! Copies the whole content of one database of a service into another one, of the same or the other engine,
//! and compares every row afterwards.
//!
//! The progress is not recorded anywhere. A row of the destination that is also in the source counts as
//! copied; any other row is foreign data, and the move is refused. So an interrupted move continues, and
//! repeating a finished one only checks it.
//!
//! There is no list of what to copy either. The migrations are run on an empty in-memory SQLite database, and
//! the tables and columns that it then has are copied. Source and destination must have exactly these.

mod cell;
mod compare;
mod error;
mod postgres;
mod schema;
mod side;
mod sqlite;

pub use self::error::TransferError;
use self::{
    compare::Comparison,
    error::{Place, at},
    schema::Table,
    side::Side,
};
use crate::{Database, Migrations, StoreError, migrate};

/// The most rows per statement (batch size).
const BATCH_ROWS: usize = 500;
/// The most values per statement. SQLite accepts 32,766 and Postgres 65,535.
const BATCH_VALUES: usize = 30_000;

/// The step of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The rows that the destination already has are compared with those of the source.
    Looking,
    /// Rows are copied.
    Copying,
    /// After the copy, all rows are compared.
    Checking,
}

/// The progress of a move with one table.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The present step.
    pub step: Step,
    /// The table.
    pub table: &'a str,
    /// The number of rows done in this step.
    pub rows: u64,
    /// The number of rows in the source.
    pub of: u64,
}

/// The result for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedTable {
    /// Its name.
    pub name: String,
    /// The number of rows, all of which were compared.
    pub rows: u64,
    /// How many of them were copied by this run.
    pub copied: u64,
}

/// What has to be done with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    /// Rows are missing and have to be added.
    Add,
    /// The existing rows come from a migration, or there is no key to identify rows, so all are replaced.
    Replace,
}

/// Two databases that are locked against other users and can be moved.
#[derive(Debug)]
pub struct Transfer {
    tables: Vec<Table>,
    from: Side,
    to: Side,
}

impl Transfer {
    /// Opens both databases, locks them against services until this is dropped or closed, and migrates the
    /// destination to the current schema. `application` is the application name of the service in Postgres.
    ///
    /// # Errors
    ///
    /// If a database cannot be reached or is in use, if the source belongs to another version or another
    /// service, or if the destination has another schema or other rows.
    pub async fn prepare(
        application: &str,
        from: &Database,
        to: &Database,
        migrations: &Migrations,
    ) -> Result<Self, TransferError> {
        if from.describe() == to.describe() {
            return Err(TransferError::SameDatabase);
        }
        let tables = schema::expected(&migrations.sqlite).await?;
        let mut source =
            Side::open(from, false, application).await.map_err(at(Place::Source, from))?;
        let mut destination =
            Side::open(to, true, application).await.map_err(at(Place::Destination, to))?;
        let applied = source.applied().await.map_err(at(Place::Source, from))?;
        is_of_this_service(source.migrator(migrations), &applied)
            .and_then(|()| is_current(source.migrator(migrations), &applied))
            .map_err(at(Place::Source, from))?;
        source.bind(&tables).await.map_err(at(Place::Source, from))?;

        let migrator = destination.migrator(migrations);
        let applied = destination.applied().await.map_err(at(Place::Destination, to))?;
        is_of_this_service(migrator, &applied).map_err(at(Place::Destination, to))?;
        match migrate::compare(migrator, &applied) {
            Ok(()) => {}
            Err(StoreError::NotMigrated(_)) => {
                // Check before migrating, because a database with foreign data must not be changed.
                if !applied.is_empty() {
                    destination.must_be_empty(&tables).await.map_err(at(Place::Destination, to))?;
                }
                destination.migrate(migrator, to).await.map_err(at(Place::Destination, to))?;
            }
            Err(error) => return Err(at(Place::Destination, to)(error.into())),
        }
        destination.bind(&tables).await.map_err(at(Place::Destination, to))?;
        Ok(Self { tables, from: source, to: destination })
    }

    /// Copies the missing rows and compares every row. `progress` is called after each batch.
    ///
    /// # Errors
    ///
    /// If the destination has rows that the source does not have, if a row cannot be written, or if the
    /// databases differ afterwards. A repeated call continues where this one stopped.
    pub async fn run(
        &mut self,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<MovedTable>, TransferError> {
        let looked_at = self.compare_all(Step::Looking, progress).await?;
        let mut work = Vec::new();
        for (table, comparison) in self.tables.iter().zip(&looked_at) {
            // Rows that migrations inserted do not count as data.
            let is_seed = comparison.destination <= table.seeds;
            if comparison.foreign > 0 && !is_seed {
                return Err(TransferError::OtherData(comparison.describe(&table.name)));
            }
            work.push(match comparison.is_equal() {
                true => Work::Nothing,
                false if comparison.foreign > 0 || !table.has_key => Work::Replace,
                false => Work::Add,
            });
        }
        let mut is_changed = false;
        for (table, work) in self.tables.iter().zip(&work) {
            if *work != Work::Nothing {
                is_changed = true;
                copy(&mut self.from, &mut self.to, table, *work, progress).await?;
                self.to.learn(table).await?;
            }
        }
        for table in &self.tables {
            let last = self.from.last_number(table).await?;
            self.to.continue_after(table, last).await?;
        }
        let checked = match is_changed {
            true => self.compare_all(Step::Checking, progress).await?,
            false => looked_at.clone(),
        };
        let mut moved = Vec::new();
        for (place, (table, after)) in self.tables.iter().zip(&checked).enumerate() {
            if !after.is_equal() {
                return Err(TransferError::Different(after.describe(&table.name)));
            }
            moved.push(MovedTable {
                name: table.name.clone(),
                rows: after.source,
                copied: match work.get(place) {
                    Some(Work::Replace) => after.source,
                    Some(Work::Add) => looked_at.get(place).map_or(0, |before| before.missing),
                    _ => 0,
                },
            });
        }
        Ok(moved)
    }

    async fn compare_all(
        &mut self,
        step: Step,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<Comparison>, TransferError> {
        let mut comparisons = Vec::new();
        for table in &self.tables {
            let of = self.from.count(table).await?;
            comparisons.push(match self.to.count(table).await? {
                // The table is still empty, so there is nothing to compare.
                0 if step == Step::Looking => Comparison::nothing_yet(of),
                _ => {
                    let note = |rows| progress(Progress { step, table: &table.name, rows, of });
                    compare::compare(&mut self.from, &mut self.to, table, note).await?
                }
            });
        }
        Ok(comparisons)
    }

    /// Closes the connections, so that services can use the databases again.
    pub async fn close(self) {
        self.from.close().await;
        self.to.close().await;
    }
}

/// Copies the rows of a table. Existing rows were compared and stay. If rows are replaced, or if the table has
/// no key to recognise them in a repeated run, everything happens in one transaction.
async fn copy(
    from: &mut Side,
    to: &mut Side,
    table: &Table,
    work: Work,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), TransferError> {
    let most = BATCH_ROWS.min(BATCH_VALUES / table.columns.len().max(1)).max(1);
    let of = from.count(table).await?;
    if work == Work::Replace {
        to.begin_replacing(table).await?;
    }
    let mut rows = from.rows(table)?;
    let (mut batch, mut done) = (Vec::with_capacity(most), 0);
    loop {
        let row = compare::next(&mut rows).await?;
        let is_last = row.is_none();
        batch.extend(row);
        if batch.len() >= most || (is_last && !batch.is_empty()) {
            done += batch.len() as u64;
            to.insert(table, &batch).await?;
            batch.clear();
            progress(Progress { step: Step::Copying, table: &table.name, rows: done, of });
        }
        if is_last {
            break;
        }
    }
    drop(rows);
    if work == Work::Replace {
        to.commit().await?;
    }
    Ok(())
}

fn is_of_this_service(
    migrator: &migrate::Migrator,
    applied: &[migrate::Applied],
) -> Result<(), TransferError> {
    if migrate::is_of_these(migrator, applied) { Ok(()) } else { Err(TransferError::OtherService) }
}

fn is_current(
    migrator: &migrate::Migrator,
    applied: &[migrate::Applied],
) -> Result<(), TransferError> {
    match migrate::compare(migrator, applied) {
        Err(StoreError::NotMigrated(_)) if applied.is_empty() => Err(TransferError::Empty),
        Err(StoreError::NotMigrated(version)) => Err(TransferError::OldSource(version)),
        result => Ok(result?),
    }
}
