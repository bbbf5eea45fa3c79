//! One of the two databases of a move, of either engine.

use std::time::{Duration, Instant};

use super::{
    TransferError,
    cell::{Cell, Row},
    compare::Rows,
    postgres::PostgresSide,
    schema::Table,
    sqlite::SqliteSide,
};
use crate::{
    Database, Migrations,
    migrate::{Applied, Migrator},
};

/// How long to wait for another process that is just closing the database.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before a retry.
const PAUSE: Duration = Duration::from_millis(100);

/// A database that is locked against other users.
#[derive(Debug)]
pub(super) enum Side {
    Postgres(Box<PostgresSide>),
    Sqlite(Box<SqliteSide>),
}

impl Side {
    /// Opens a database and locks it against services. A destination is created if it does not exist.
    pub(super) async fn open(
        database: &Database,
        is_destination: bool,
        application: &str,
    ) -> Result<Self, TransferError> {
        let began = Instant::now();
        loop {
            match Self::try_to_open(database, is_destination, application).await {
                // A server takes a moment to notice that a client is gone.
                Err(TransferError::InUse(_)) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn try_to_open(
        database: &Database,
        is_destination: bool,
        application: &str,
    ) -> Result<Self, TransferError> {
        Ok(match database {
            Database::Postgres(servers) => {
                Self::Postgres(Box::new(PostgresSide::open(servers, application).await?))
            }
            Database::Sqlite(file) => {
                Self::Sqlite(Box::new(SqliteSide::open(file, is_destination).await?))
            }
        })
    }

    pub(super) fn migrator<'m>(&self, migrations: &'m Migrations) -> &'m Migrator {
        match self {
            Self::Postgres(_) => &migrations.postgres,
            Self::Sqlite(_) => &migrations.sqlite,
        }
    }

    /// The applied migrations.
    pub(super) async fn applied(&mut self) -> Result<Vec<Applied>, TransferError> {
        match self {
            Self::Postgres(side) => side.applied().await,
            Self::Sqlite(side) => side.applied().await,
        }
    }

    /// Runs the missing migrations.
    pub(super) async fn migrate(
        &mut self,
        migrator: &Migrator,
        database: &Database,
    ) -> Result<(), TransferError> {
        match (self, database) {
            (Self::Postgres(_), Database::Postgres(servers)) => {
                PostgresSide::migrate(servers, migrator).await
            }
            (Self::Sqlite(side), _) => side.migrate(migrator).await,
            (Self::Postgres(_), Database::Sqlite(_)) => Ok(()),
        }
    }

    /// Checks that it has exactly these tables, and reads the types of their columns.
    pub(super) async fn bind(&mut self, tables: &[Table]) -> Result<(), TransferError> {
        match self {
            Self::Postgres(side) => side.bind(tables).await,
            Self::Sqlite(side) => side.bind(tables).await,
        }
    }

    /// Checks that existing tables have no more rows than migrations insert.
    pub(super) async fn must_be_empty(&mut self, tables: &[Table]) -> Result<(), TransferError> {
        for table in tables {
            let is_there = match self {
                Self::Postgres(side) => side.has(table).await?,
                Self::Sqlite(side) => side.has(table).await?,
            };
            if is_there && self.count(table).await? > table.seeds {
                let text = format!("it is of an older version, and table {} has rows", table.name);
                return Err(TransferError::OtherData(text));
            }
        }
        Ok(())
    }

    pub(super) async fn count(&mut self, table: &Table) -> Result<u64, TransferError> {
        match self {
            Self::Postgres(side) => side.count(table).await,
            Self::Sqlite(side) => side.count(table).await,
        }
    }

    /// The rows of a table in key order, in the form in which they are copied.
    pub(super) fn rows<'a>(&'a mut self, table: &'a Table) -> Result<Rows<'a>, TransferError> {
        match self {
            Self::Postgres(side) => side.rows(table),
            Self::Sqlite(side) => side.rows(table),
        }
    }

    /// Inserts rows, except those whose key already exists.
    pub(super) async fn insert(
        &mut self,
        table: &Table,
        rows: &[Row],
    ) -> Result<(), TransferError> {
        match self {
            Self::Postgres(side) => side.insert(table, rows).await,
            Self::Sqlite(side) => side.insert(table, rows).await,
        }
    }

    /// Starts a transaction and deletes all rows of a table in it.
    pub(super) async fn begin_replacing(&mut self, table: &Table) -> Result<(), TransferError> {
        match self {
            Self::Postgres(side) => side.begin_replacing(table).await,
            Self::Sqlite(side) => side.begin_replacing(table).await,
        }
    }

    pub(super) async fn commit(&mut self) -> Result<(), TransferError> {
        match self {
            Self::Postgres(side) => side.commit().await,
            Self::Sqlite(side) => side.commit().await,
        }
    }

    /// Updates the statistics of a table, so that the first queries are planned well.
    pub(super) async fn learn(&mut self, table: &Table) -> Result<(), TransferError> {
        match self {
            Self::Postgres(side) => side.learn(table).await,
            // The planner of SQLite manages with the indexes alone.
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// The last number that was generated for the key of a table, if its keys are generated.
    pub(super) async fn last_number(
        &mut self,
        table: &Table,
    ) -> Result<Option<i64>, TransferError> {
        match self {
            Self::Postgres(side) => side.last_number(table).await,
            Self::Sqlite(side) => side.last_number(table).await,
        }
    }

    /// Makes the generated numbers of a table continue after this one and after those of its rows, if its
    /// keys are generated.
    pub(super) async fn continue_after(
        &mut self,
        table: &Table,
        last: Option<i64>,
    ) -> Result<(), TransferError> {
        match self {
            Self::Postgres(side) => side.continue_after(table, last).await,
            Self::Sqlite(side) => side.continue_after(table, last).await,
        }
    }

    pub(super) async fn close(self) {
        match self {
            Self::Postgres(side) => side.close().await,
            Self::Sqlite(side) => side.close().await,
        }
    }
}

/// The row with its cleared columns set to NULL.
pub(super) fn cleared(table: &Table, mut row: Row) -> Row {
    for (column, cell) in table.columns.iter().zip(&mut row) {
        if column.is_cleared {
            *cell = Cell::Null;
        }
    }
    row
}

/// `SELECT` of all columns of a table.
pub(super) fn select(table: &Table, order: &[String]) -> String {
    let (columns, name) = (table.column_list(), super::schema::quoted(&table.name));
    format!("SELECT {columns} FROM {name} ORDER BY {}", order.join(", "))
}
