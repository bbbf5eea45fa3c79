//! The schema of a move: the tables and columns that the migrations create.

use std::cmp::Ordering;

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection, migrate::Migrator};

use super::{
    TransferError,
    cell::{Class, Row},
};
use crate::migrate::{self, MIGRATIONS_TABLE};

/// The column with the lease of an outbox entry. No worker runs during a move, so leases are
/// cleared.
const LEASE: &str = "leased_until";

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The indexes of the columns that identify a row: those of the primary key, or all.
    pub(super) key: Vec<usize>,
    /// Whether there is a primary key.
    pub(super) has_key: bool,
    /// The tables that it references.
    pub(super) references: Vec<String>,
    /// The number of rows that migrations insert.
    pub(super) seeds: u64,
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) class: Class,
    /// Whether it is copied as NULL.
    pub(super) is_cleared: bool,
}

impl Table {
    /// Compares two rows by their keys.
    pub(super) fn compare_keys(&self, one: &Row, other: &Row) -> Ordering {
        let of = |row: &Row, place: usize| row.get(place).cloned();
        self.key
            .iter()
            .map(|place| of(one, *place).cmp(&of(other, *place)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// The quoted column names, for a statement.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    /// The key columns, in order.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|place| self.columns.get(*place))
    }

    /// Checks that a table of a database has exactly these columns.
    pub(super) fn check_columns<'a>(
        &self,
        present: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), TransferError> {
        let table = &self.name;
        if let Some(missing) =
            self.columns.iter().find(|column| present.clone().all(|name| name != column.name))
        {
            let text = match present.clone().next() {
                None => format!("there is no table {table}"),
                Some(_) => format!("table {table} has no column {}", missing.name),
            };
            return Err(TransferError::Schema(text));
        }
        let mut present = present;
        match present.find(|name| self.columns.iter().all(|column| column.name != *name)) {
            Some(unknown) => Err(TransferError::Schema(format!(
                "table {table} has a column {unknown} that this version does not know"
            ))),
            None => Ok(()),
        }
    }
}

/// Quotes a name for a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The tables that the migrations create, each after the tables that it references.
pub(super) async fn expected(migrator: &Migrator) -> Result<Vec<Table>, TransferError> {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
    migrate::sqlite::run(&mut connection, migrator).await?;
    let mut tables = read(&mut connection).await?;
    for table in &mut tables {
        let count = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut connection).await?;
        table.seeds = count.unsigned_abs();
    }
    connection.close().await?;
    in_order(tables)
}

/// The tables of a SQLite database.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Vec<Table>, TransferError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema
         WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> ?
         ORDER BY name",
    )
    .bind(MIGRATIONS_TABLE)
    .fetch_all(&mut *connection)
    .await?;
    let mut tables = Vec::new();
    for name in names {
        // Generated columns cannot be written, so they are skipped.
        let rows = sqlx::query(
            "SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid",
        )
        .bind(&name)
        .fetch_all(&mut *connection)
        .await?;
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for (place, row) in rows.iter().enumerate() {
            let (column, declared): (String, String) = (row.try_get("name")?, row.try_get("type")?);
            let class = class_of(&declared).ok_or_else(|| {
                TransferError::Schema(format!(
                    "column {column} of table {name} is of type {declared}, which cannot be moved"
                ))
            })?;
            let in_key: i64 = row.try_get("pk")?;
            if in_key > 0 {
                key.push((in_key, place));
            }
            columns.push(Column { is_cleared: column == LEASE, name: column, class });
        }
        key.sort_unstable();
        let has_key = !key.is_empty();
        let key = match has_key {
            true => key.into_iter().map(|(_, place)| place).collect(),
            false => (0..columns.len()).collect(),
        };
        let references =
            sqlx::query_scalar("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?)")
                .bind(&name)
                .fetch_all(&mut *connection)
                .await?;
        tables.push(Table { name, columns, key, has_key, references, seeds: 0 });
    }
    Ok(tables)
}

fn class_of(declared: &str) -> Option<Class> {
    match declared.to_ascii_uppercase().as_str() {
        "INTEGER" | "INT" => Some(Class::Int),
        "TEXT" => Some(Class::Text),
        "BLOB" => Some(Class::Bytes),
        _ => None,
    }
}

fn in_order(mut waiting: Vec<Table>) -> Result<Vec<Table>, TransferError> {
    let mut ordered: Vec<Table> = Vec::new();
    while !waiting.is_empty() {
        let is_there = |name: &String, ordered: &[Table], own: &String| {
            name == own || ordered.iter().any(|table| table.name == *name)
        };
        let ready = waiting.iter().position(|table| {
            table.references.iter().all(|name| is_there(name, &ordered, &table.name))
        });
        let Some(ready) = ready else {
            return Err(TransferError::Schema("tables refer to each other in a circle".to_owned()));
        };
        ordered.push(waiting.remove(ready));
    }
    Ok(ordered)
}
