//! The Postgres side of a move.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, ValueRef as _,
    postgres::PgRow,
};
use uuid::Uuid;

use super::{
    TransferError,
    cell::{Cell, Class, Row},
    compare::Rows,
    schema::{Table, quoted},
    side::{cleared, select},
};
use crate::{
    migrate::{self, Applied, MIGRATIONS_TABLE, Migrator},
    postgres::{self, USE_LOCK},
    url::Servers,
    value::PgQuery,
};

/// The application name of a move.
const APPLICATION: &str = "latchkey-move";
/// Microseconds from 1970 to 2000, the epoch of Postgres.
const EPOCH: i64 = 946_684_800_000_000;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Timestamptz,
    Text,
    Bytea,
    Uuid,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "timestamptz" => Self::Timestamptz,
            "text" | "varchar" => Self::Text,
            "bytea" => Self::Bytea,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    const fn class(self) -> Class {
        match self {
            Self::Bool | Self::Int2 | Self::Int4 | Self::Int8 | Self::Timestamptz => Class::Int,
            Self::Text => Class::Text,
            Self::Bytea | Self::Uuid => Class::Bytes,
        }
    }
}

#[derive(Debug)]
pub(super) struct PostgresSide {
    connection: PgConnection,
    /// The column types of each table, in the order of [`Table`].
    kinds: BTreeMap<String, Vec<Kind>>,
    /// For each table with a sequence, the column that it numbers and the name of the sequence.
    sequences: BTreeMap<String, (String, String)>,
}

impl PostgresSide {
    /// Connects to the primary and takes exclusively the lock that every service holds in shared mode.
    pub(super) async fn open(servers: &Servers, application: &str) -> Result<Self, TransferError> {
        let mut connection = connect(servers).await?;
        let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(USE_LOCK)
            .fetch_one(&mut connection)
            .await?;
        if !is_ours {
            return Err(TransferError::InUse(
                "a service, or another move, holds its lock".to_owned(),
            ));
        }
        // Older versions hold no lock, and neither do services behind a proxy with transaction pooling.
        let sessions: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_catalog.pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = $1",
        )
        .bind(application)
        .fetch_one(&mut connection)
        .await?;
        if sessions > 0 {
            return Err(TransferError::InUse(format!(
                "{application} has {sessions} sessions there"
            )));
        }
        Ok(Self { connection, kinds: BTreeMap::new(), sequences: BTreeMap::new() })
    }

    pub(super) async fn applied(&mut self) -> Result<Vec<Applied>, TransferError> {
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(MIGRATIONS_TABLE)
            .fetch_one(&mut self.connection)
            .await?;
        if !exists {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_as(migrate::SELECT_APPLIED).fetch_all(&mut self.connection).await?;
        Ok(migrate::applied(rows))
    }

    /// Migrations use a separate connection, because they release all its advisory locks.
    pub(super) async fn migrate(
        servers: &Servers,
        migrator: &Migrator,
    ) -> Result<(), TransferError> {
        let mut connection = connect(servers).await?;
        migrate::postgres::run(&mut connection, migrator).await?;
        connection.close().await?;
        Ok(())
    }

    pub(super) async fn bind(&mut self, tables: &[Table]) -> Result<(), TransferError> {
        let rows = sqlx::query(
            "SELECT c.relname::text AS table, a.attname::text AS name, t.typname::text AS type
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()))
               AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attgenerated::text = ''",
        )
        .fetch_all(&mut self.connection)
        .await?;
        let mut present = BTreeMap::<String, BTreeMap<String, String>>::new();
        for row in rows {
            let (table, name): (String, String) = (row.try_get("table")?, row.try_get("name")?);
            present.entry(table).or_default().insert(name, row.try_get("type")?);
        }
        for table in tables {
            let columns = present.remove(&table.name).unwrap_or_default();
            table.check_columns(columns.keys().map(String::as_str))?;
            let mut kinds = Vec::new();
            for column in &table.columns {
                let declared = columns.get(&column.name).map_or("", String::as_str);
                let kind = Kind::of(declared).filter(|kind| kind.class() == column.class);
                kinds.push(kind.ok_or_else(|| {
                    TransferError::Schema(format!(
                        "column {} of table {} is of type {declared}, which cannot be moved",
                        column.name, table.name
                    ))
                })?);
            }
            self.kinds.insert(table.name.clone(), kinds);
        }
        self.bind_sequences(tables).await
    }

    /// Finds the column that each sequence numbers: the one that owns it, or else the one that it is named
    /// after.
    async fn bind_sequences(&mut self, tables: &[Table]) -> Result<(), TransferError> {
        let rows = sqlx::query(
            "SELECT s.relname::text AS sequence, c.relname::text AS table, a.attname::text AS name
             FROM pg_catalog.pg_class s
             LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass
                 AND d.objid = s.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass
                 AND d.deptype IN ('a', 'i')
             LEFT JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
             WHERE s.relnamespace = to_regnamespace(quote_ident(current_schema())) AND s.relkind = 'S'",
        )
        .fetch_all(&mut self.connection)
        .await?;
        for row in rows {
            let sequence: String = row.try_get("sequence")?;
            let owner: (Option<String>, Option<String>) =
                (row.try_get("table")?, row.try_get("name")?);
            let (table, column) = match owner {
                (Some(table), Some(column)) => (table, column),
                _ => named_after(&sequence, tables).ok_or_else(|| {
                    TransferError::Schema(format!(
                        "it is not known which column the sequence {sequence} numbers"
                    ))
                })?,
            };
            self.sequences.insert(table, (column, quoted(&sequence)));
        }
        Ok(())
    }

    pub(super) async fn has(&mut self, table: &Table) -> Result<bool, TransferError> {
        Ok(sqlx::query_scalar("SELECT to_regclass(quote_ident($1)) IS NOT NULL")
            .bind(&table.name)
            .fetch_one(&mut self.connection)
            .await?)
    }

    pub(super) async fn count(&mut self, table: &Table) -> Result<u64, TransferError> {
        let statement = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut self.connection).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) fn rows<'a>(&'a mut self, table: &'a Table) -> Result<Rows<'a>, TransferError> {
        // The same order as in SQLite: byte by byte, and NULL first.
        let order: Vec<_> = table
            .key_columns()
            .map(|column| {
                let collation = if column.class == Class::Text { " COLLATE \"C\"" } else { "" };
                let nulls = if table.has_key { "" } else { " NULLS FIRST" };
                format!("{}{collation}{nulls}", quoted(&column.name))
            })
            .collect();
        let kinds = kinds_of(&self.kinds, table)?;
        let rows = sqlx::query(AssertSqlSafe(select(table, &order)))
            .persistent(false)
            .fetch(&mut self.connection)
            .map_err(TransferError::from)
            .map(move |row| read(&row?, kinds, table).map(|row| cleared(table, row)));
        Ok(Box::pin(rows))
    }

    pub(super) async fn insert(
        &mut self,
        table: &Table,
        rows: &[Row],
    ) -> Result<(), TransferError> {
        let kinds = kinds_of(&self.kinds, table)?;
        let mut number = 0;
        let mut placeholders = Vec::new();
        for row in rows {
            let of_row: Vec<_> = row
                .iter()
                .map(|_| {
                    number += 1;
                    format!("${number}")
                })
                .collect();
            placeholders.push(format!("({})", of_row.join(", ")));
        }
        let statement = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES {} ON CONFLICT DO NOTHING",
            quoted(&table.name),
            table.column_list(),
            placeholders.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for row in rows {
            for (column, (cell, kind)) in table.columns.iter().zip(row.iter().zip(kinds)) {
                query = bind(query, cell, *kind).ok_or_else(|| unfit(table, &column.name))?;
            }
        }
        query.execute(&mut self.connection).await?;
        Ok(())
    }

    pub(super) async fn begin_replacing(&mut self, table: &Table) -> Result<(), TransferError> {
        self.connection.execute("BEGIN").await?;
        let statement = format!("DELETE FROM {}", quoted(&table.name));
        self.connection.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), TransferError> {
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    pub(super) async fn learn(&mut self, table: &Table) -> Result<(), TransferError> {
        let statement = format!("ANALYZE {}", quoted(&table.name));
        self.connection.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    pub(super) async fn last_number(
        &mut self,
        table: &Table,
    ) -> Result<Option<i64>, TransferError> {
        let Some((_, sequence)) = self.sequences.get(&table.name) else { return Ok(None) };
        let statement = format!("SELECT CASE WHEN is_called THEN last_value END FROM {sequence}");
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut self.connection).await?)
    }

    pub(super) async fn continue_after(
        &mut self,
        table: &Table,
        last: Option<i64>,
    ) -> Result<(), TransferError> {
        let Some((column, sequence)) = self.sequences.get(&table.name) else { return Ok(()) };
        let statement = format!(
            "SELECT setval($1::regclass, last) FROM (
                 SELECT greatest($2, (SELECT max({}) FROM {})) AS last
             ) AS used WHERE last > 0",
            quoted(column),
            quoted(&table.name)
        );
        sqlx::query(AssertSqlSafe(statement))
            .bind(sequence)
            .bind(last)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    pub(super) async fn close(self) {
        // An unclosed session would also end when the server notices that the client is gone.
        let _ = self.connection.close().await;
    }
}

/// Connects to the primary, without a statement timeout.
async fn connect(servers: &Servers) -> Result<PgConnection, TransferError> {
    let mut connection = postgres::connect_to_primary(servers, APPLICATION)
        .await
        .map_err(|error| TransferError::Database(error.to_string()))?;
    connection
        .execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        .await?;
    Ok(connection)
}

/// The table and the column that a sequence is named after.
fn named_after(sequence: &str, tables: &[Table]) -> Option<(String, String)> {
    let name = sequence.strip_suffix("_seq").unwrap_or(sequence);
    tables.iter().find_map(|table| {
        let column = name.strip_prefix(&table.name)?.strip_prefix('_')?;
        let is_there = table.columns.iter().any(|own| own.name == column);
        is_there.then(|| (table.name.clone(), column.to_owned()))
    })
}

fn kinds_of<'k>(
    kinds: &'k BTreeMap<String, Vec<Kind>>,
    table: &Table,
) -> Result<&'k [Kind], TransferError> {
    let kinds = kinds.get(&table.name).map(Vec::as_slice);
    kinds.ok_or_else(|| TransferError::Schema(format!("there is no table {}", table.name)))
}

fn unfit(table: &Table, column: &str) -> TransferError {
    TransferError::Schema(format!(
        "a value in column {column} of table {} cannot be kept by the other database",
        table.name
    ))
}

/// Decodes the values from the binary format of the server.
fn read(row: &PgRow, kinds: &[Kind], table: &Table) -> Result<Row, TransferError> {
    let mut cells = Vec::with_capacity(kinds.len());
    for (place, (kind, column)) in kinds.iter().zip(&table.columns).enumerate() {
        let value = row.try_get_raw(place)?;
        if value.is_null() {
            cells.push(Cell::Null);
            continue;
        }
        let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
        cells.push(decode(bytes, *kind).ok_or_else(|| unfit(table, &column.name))?);
    }
    Ok(cells)
}

fn decode(bytes: &[u8], kind: Kind) -> Option<Cell> {
    Some(match kind {
        Kind::Bool => Cell::Int(i64::from(*bytes.first()? != 0)),
        Kind::Int2 => Cell::Int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        Kind::Int4 => Cell::Int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        Kind::Int8 => Cell::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
        Kind::Timestamptz => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?);
            // The extreme values mean infinity, which is not a time.
            let is_time = micros != i64::MAX && micros != i64::MIN;
            Cell::Int(micros.checked_add(EPOCH).filter(|_| is_time)?)
        }
        Kind::Text => Cell::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
        Kind::Bytea | Kind::Uuid => Cell::Bytes(bytes.to_vec()),
    })
}

/// Binds a value. `None` if the column cannot store it.
fn bind<'q>(query: PgQuery<'q>, cell: &'q Cell, kind: Kind) -> Option<PgQuery<'q>> {
    Some(match (cell, kind) {
        (Cell::Null, Kind::Bool) => query.bind(None::<bool>),
        (Cell::Null, Kind::Int2) => query.bind(None::<i16>),
        (Cell::Null, Kind::Int4) => query.bind(None::<i32>),
        (Cell::Null, Kind::Int8) => query.bind(None::<i64>),
        (Cell::Null, Kind::Timestamptz) => query.bind(None::<DateTime<Utc>>),
        (Cell::Null, Kind::Text) => query.bind(None::<&str>),
        (Cell::Null, Kind::Bytea) => query.bind(None::<&[u8]>),
        (Cell::Null, Kind::Uuid) => query.bind(None::<Uuid>),
        (Cell::Int(value @ (0 | 1)), Kind::Bool) => query.bind(*value == 1),
        (Cell::Int(value), Kind::Int2) => query.bind(i16::try_from(*value).ok()?),
        (Cell::Int(value), Kind::Int4) => query.bind(i32::try_from(*value).ok()?),
        (Cell::Int(value), Kind::Int8) => query.bind(*value),
        (Cell::Int(micros), Kind::Timestamptz) => {
            query.bind(DateTime::from_timestamp_micros(*micros)?)
        }
        // Postgres cannot store NUL in a text.
        (Cell::Text(text), Kind::Text) if !text.contains('\0') => query.bind(text.as_str()),
        (Cell::Bytes(bytes), Kind::Bytea) => query.bind(bytes.as_slice()),
        (Cell::Bytes(bytes), Kind::Uuid) => query.bind(Uuid::from_slice(bytes).ok()?),
        _ => return None,
    })
}
