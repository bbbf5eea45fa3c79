//! Moves everything that one database of a service holds into another one, of the same engine or of the
//! other, and compares every row afterwards.
//!
//! Nothing notes how far a move has come: a row of the destination that is in the source too counts as moved,
//! and one that is not is somebody else's, which refuses the move. So a move that was interrupted goes on,
//! and one that is done is only checked, however often it is called.
//!
//! What there is to move is not written down anywhere either. The migrations are run on an empty SQLite
//! database in memory, and whatever tables and columns it has then are moved; source and destination must have
//! the same.

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

/// The most rows that are written at once.
const BATCH_ROWS: usize = 500;
/// The most values that a statement has; SQLite takes 32,766 and Postgres 65,535.
const BATCH_VALUES: usize = 30_000;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows that are in the destination already are compared with those of the source.
    Looking,
    /// Rows are copied.
    Copying,
    /// All rows are compared, after the copy.
    Checking,
}

/// How far a move has come with one table.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// What is being done.
    pub step: Step,
    /// The table.
    pub table: &'a str,
    /// The rows that this was done with.
    pub rows: u64,
    /// The rows that the source has.
    pub of: u64,
}

/// What became of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedTable {
    /// Its name.
    pub name: String,
    /// The rows that both databases have, each compared.
    pub rows: u64,
    /// Those of them that were written just now.
    pub copied: u64,
}

/// What has to be done with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    /// Rows are missing.
    Add,
    /// What is there came from a migration, or no key tells the rows apart.
    Replace,
}

/// Two databases that nobody else uses, and that can be moved.
#[derive(Debug)]
pub struct Transfer {
    tables: Vec<Table>,
    from: Side,
    to: Side,
}

impl Transfer {
    /// Opens both databases, keeps every service away from them until this is dropped or closed, and brings
    /// the destination to the present schema. `application` is what the service calls itself in Postgres.
    ///
    /// # Errors
    ///
    /// Where one of them cannot be reached or is in use, where the source is of another version or of another
    /// service, or where the destination has a schema or rows of its own.
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
                // It must not be changed where it then turns out to be somebody's.
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

    /// Moves what is missing and compares every row. `progress` is called after each batch.
    ///
    /// # Errors
    ///
    /// Where the destination has rows that the source does not have, where a row cannot be written, or where
    /// the databases differ afterwards. Called again, it goes on from there.
    pub async fn run(
        &mut self,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Vec<MovedTable>, TransferError> {
        let looked_at = self.compare_all(Step::Looking, progress).await?;
        let mut work = Vec::new();
        for (table, comparison) in self.tables.iter().zip(&looked_at) {
            // What migrations put there is no data.
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
                // There is nothing to compare yet.
                0 if step == Step::Looking => Comparison::nothing_yet(of),
                _ => {
                    let note = |rows| progress(Progress { step, table: &table.name, rows, of });
                    compare::compare(&mut self.from, &mut self.to, table, note).await?
                }
            });
        }
        Ok(comparisons)
    }

    /// Ends the connections, and lets services use the databases again.
    pub async fn close(self) {
        self.from.close().await;
        self.to.close().await;
    }
}

/// Copies the rows of a table. Those that are there already have been compared and stay. Where they are to be
/// replaced, or where the table has no key by which they would be known again, all of it is one transaction.
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
