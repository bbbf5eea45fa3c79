//! The SQLite side of a move.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, Row as _, SqliteConnection,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteRow, SqliteSynchronous,
    },
};

use super::{
    TransferError,
    cell::{Cell, Class, Row},
    compare::Rows,
    schema::{self, Table, quoted},
    side::{cleared, select},
};
use crate::{
    error,
    migrate::{self, Applied, MIGRATIONS_TABLE, Migrator},
    sqlite::{create_private, is_in_memory},
    value::SqliteQuery,
};

/// How long a statement waits for the lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct SqliteSide {
    connection: SqliteConnection,
}

impl SqliteSide {
    /// Opens the file exclusively. This fails while a service runs, because a service keeps the file open.
    /// No service can open it while this has it.
    pub(super) async fn open(
        file: &SqliteConnectOptions,
        is_destination: bool,
    ) -> Result<Self, TransferError> {
        if is_in_memory(file) {
            return Err(TransferError::InMemory);
        }
        let path = file.get_filename();
        let mut options = file
            .clone()
            .create_if_missing(is_destination)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .locking_mode(SqliteLockingMode::Exclusive)
            .synchronous(SqliteSynchronous::Full);
        if is_destination {
            create_private(path).map_err(|error| {
                TransferError::Database(error::cannot_open(path, &error).to_string())
            })?;
            options = options.journal_mode(SqliteJournalMode::Wal);
        } else if !path.exists() {
            return Err(TransferError::NoFile);
        }
        let opened = async {
            let mut connection = SqliteConnection::connect_with(&options).await?;
            // In WAL mode the first access locks the file; in other modes this statement does.
            connection.execute("BEGIN EXCLUSIVE; COMMIT").await?;
            Ok(connection)
        };
        let connection = opened.await.map_err(|error: sqlx::Error| {
            if error::is_busy(&error) {
                TransferError::InUse("another process has the file open".to_owned())
            } else {
                TransferError::Database(error::said_by_sqlite(&error))
            }
        })?;
        Ok(Self { connection })
    }

    pub(super) async fn applied(&mut self) -> Result<Vec<Applied>, TransferError> {
        if !self.has_named(MIGRATIONS_TABLE).await? {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_as(migrate::SELECT_APPLIED).fetch_all(&mut self.connection).await?;
        Ok(migrate::applied(rows))
    }

    pub(super) async fn migrate(&mut self, migrator: &Migrator) -> Result<(), TransferError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        migrate::sqlite::run(&mut transaction, migrator).await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn bind(&mut self, tables: &[Table]) -> Result<(), TransferError> {
        let present = schema::read(&mut self.connection).await?;
        for table in tables {
            let own = present.iter().find(|own| own.name == table.name);
            let columns = own.map(|own| own.columns.as_slice()).unwrap_or_default();
            table.check_columns(columns.iter().map(|column| column.name.as_str()))?;
        }
        Ok(())
    }

    pub(super) async fn has(&mut self, table: &Table) -> Result<bool, TransferError> {
        self.has_named(&table.name).await
    }

    async fn has_named(&mut self, name: &str) -> Result<bool, TransferError> {
        let found = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")
            .bind(name)
            .fetch_optional(&mut self.connection)
            .await?;
        Ok(found.is_some())
    }

    pub(super) async fn count(&mut self, table: &Table) -> Result<u64, TransferError> {
        let statement = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut self.connection).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) fn rows<'a>(&'a mut self, table: &'a Table) -> Result<Rows<'a>, TransferError> {
        let order: Vec<_> = table.key_columns().map(|column| quoted(&column.name)).collect();
        let rows = sqlx::query(AssertSqlSafe(select(table, &order)))
            .persistent(false)
            .fetch(&mut self.connection)
            .map_err(TransferError::from)
            .map(move |row| read(&row?, table).map(|row| cleared(table, row)));
        Ok(Box::pin(rows))
    }

    pub(super) async fn insert(
        &mut self,
        table: &Table,
        rows: &[Row],
    ) -> Result<(), TransferError> {
        let of_row = format!("({})", vec!["?"; table.columns.len()].join(", "));
        let statement = format!(
            "INSERT INTO {} ({}) VALUES {} ON CONFLICT DO NOTHING",
            quoted(&table.name),
            table.column_list(),
            vec![of_row; rows.len()].join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for (cell, column) in rows.iter().flat_map(|row| row.iter().zip(&table.columns)) {
            query = bind(query, cell, column.class);
        }
        query.execute(&mut self.connection).await?;
        Ok(())
    }

    pub(super) async fn begin_replacing(&mut self, table: &Table) -> Result<(), TransferError> {
        self.connection.execute("BEGIN IMMEDIATE").await?;
        let statement = format!("DELETE FROM {}", quoted(&table.name));
        self.connection.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), TransferError> {
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    /// SQLite keeps the last number of each AUTOINCREMENT column in a table, which exists if there are such
    /// columns.
    pub(super) async fn last_number(
        &mut self,
        table: &Table,
    ) -> Result<Option<i64>, TransferError> {
        if !self.has_named("sqlite_sequence").await? {
            return Ok(None);
        }
        Ok(sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?")
            .bind(&table.name)
            .fetch_optional(&mut self.connection)
            .await?)
    }

    /// Inserting a row with an explicit number already advances the last number. This is for numbers whose
    /// rows were deleted.
    pub(super) async fn continue_after(
        &mut self,
        table: &Table,
        last: Option<i64>,
    ) -> Result<(), TransferError> {
        let (Some(last), true) = (last, self.has_named("sqlite_sequence").await?) else {
            return Ok(());
        };
        let of_table = sqlx::query("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?")
            .bind(last)
            .bind(&table.name)
            .execute(&mut self.connection)
            .await?;
        if of_table.rows_affected() == 0 {
            // Only tables with an AUTOINCREMENT column have a row there.
            sqlx::query(
                "INSERT INTO sqlite_sequence (name, seq) SELECT name, ? FROM sqlite_schema
                 WHERE type = 'table' AND name = ? AND sql LIKE '%AUTOINCREMENT%'",
            )
            .bind(last)
            .bind(&table.name)
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    pub(super) async fn close(self) {
        // This merges the write-ahead log into the file. If it fails, the next process that opens the file
        // does it.
        let _ = self.connection.close().await;
    }
}

fn read(row: &SqliteRow, table: &Table) -> Result<Row, TransferError> {
    let mut cells = Vec::with_capacity(table.columns.len());
    for (place, column) in table.columns.iter().enumerate() {
        let cell = match column.class {
            Class::Int => row.try_get::<Option<i64>, _>(place)?.map(Cell::Int),
            Class::Text => row.try_get::<Option<String>, _>(place)?.map(Cell::Text),
            Class::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.map(Cell::Bytes),
        };
        cells.push(cell.unwrap_or(Cell::Null));
    }
    Ok(cells)
}

fn bind<'q>(query: SqliteQuery<'q>, cell: &'q Cell, class: Class) -> SqliteQuery<'q> {
    match (cell, class) {
        (Cell::Int(value), _) => query.bind(*value),
        (Cell::Text(text), _) => query.bind(text.as_str()),
        (Cell::Bytes(bytes), _) => query.bind(bytes.as_slice()),
        (Cell::Null, Class::Int) => query.bind(None::<i64>),
        (Cell::Null, Class::Text) => query.bind(None::<&str>),
        (Cell::Null, Class::Bytes) => query.bind(None::<&[u8]>),
    }
}
