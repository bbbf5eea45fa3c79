//! Values of parameters and of columns, with one interface for both engines. The differences are
//! handled here: Postgres has types for times and lists, while SQLite stores times as microseconds
//! since 1970-01-01T00:00:00Z and reads lists from JSON.

use chrono::{DateTime, Utc};
use sqlx::{
    Row as _, Sqlite,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

/// A value for a placeholder (`$1`, `$2`, …) of a statement.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named after what it holds")]
pub enum Value<'a> {
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(Uuid),
    Time(DateTime<Utc>),
    OptionalInt(Option<i64>),
    OptionalText(Option<&'a str>),
    OptionalBytes(Option<&'a [u8]>),
    OptionalUuid(Option<Uuid>),
    OptionalTime(Option<DateTime<Utc>>),
    /// Use it as `= ANY($1)` in Postgres, and as `IN (SELECT unhex(value) FROM json_each($1))` in
    /// SQLite.
    Uuids(&'a [Uuid]),
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl<'a> From<$type> for Value<'a> {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

from! {
    bool => Bool,
    i64 => Int,
    &'a str => Text,
    &'a [u8] => Bytes,
    Uuid => Uuid,
    DateTime<Utc> => Time,
    Option<i64> => OptionalInt,
    Option<&'a str> => OptionalText,
    Option<&'a [u8]> => OptionalBytes,
    Option<Uuid> => OptionalUuid,
    Option<DateTime<Utc>> => OptionalTime,
    &'a [Uuid] => Uuids,
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

/// The values of a statement, in the order of its placeholders.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::Value::from($value)),*]
    };
}

pub(crate) type PgQuery<'q> = Query<'q, sqlx::Postgres, PgArguments>;
pub(crate) type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

pub(crate) fn bind_postgres<'q>(mut query: PgQuery<'q>, values: &[Value<'q>]) -> PgQuery<'q> {
    for value in values {
        query = match value {
            Value::Bool(value) => query.bind(*value),
            Value::Int(value) => query.bind(*value),
            Value::Text(value) => query.bind(*value),
            Value::Bytes(value) => query.bind(*value),
            Value::Uuid(value) => query.bind(*value),
            Value::Time(value) => query.bind(*value),
            Value::OptionalInt(value) => query.bind(*value),
            Value::OptionalText(value) => query.bind(*value),
            Value::OptionalBytes(value) => query.bind(*value),
            Value::OptionalUuid(value) => query.bind(*value),
            Value::OptionalTime(value) => query.bind(*value),
            Value::Uuids(values) => query.bind(*values),
        };
    }
    query
}

pub(crate) fn bind_sqlite<'q>(mut query: SqliteQuery<'q>, values: &[Value<'q>]) -> SqliteQuery<'q> {
    for value in values {
        query = match value {
            Value::Bool(value) => query.bind(*value),
            Value::Int(value) => query.bind(*value),
            Value::Text(value) => query.bind(*value),
            Value::Bytes(value) => query.bind(*value),
            Value::Uuid(value) => query.bind(*value),
            Value::Time(value) => query.bind(value.timestamp_micros()),
            Value::OptionalInt(value) => query.bind(*value),
            Value::OptionalText(value) => query.bind(*value),
            Value::OptionalBytes(value) => query.bind(*value),
            Value::OptionalUuid(value) => query.bind(*value),
            Value::OptionalTime(value) => query.bind(value.map(|time| time.timestamp_micros())),
            Value::Uuids(values) => {
                let list: Vec<String> =
                    values.iter().map(|id| format!("\"{}\"", id.simple())).collect();
                query.bind(format!("[{}]", list.join(",")))
            }
        };
    }
    query
}

/// A row of either engine.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is named after its engine")]
pub enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    ///
    /// If there is no such column, or if its value has another type.
    pub fn get<T: Column>(&self, column: &str) -> Result<T, sqlx::Error> {
        T::read(self, column)
    }
}

/// A type that can be read from a column of either engine.
pub trait Column: Sized {
    /// Reads the column of this name.
    ///
    /// # Errors
    ///
    /// The errors of [`Row::get`].
    fn read(row: &Row, column: &str) -> Result<Self, sqlx::Error>;
}

macro_rules! column {
    ($($type:ty),* $(,)?) => {$(
        impl Column for $type {
            fn read(row: &Row, column: &str) -> Result<Self, sqlx::Error> {
                match row {
                    Row::Postgres(row) => row.try_get(column),
                    Row::Sqlite(row) => row.try_get(column),
                }
            }
        }
    )*};
}

column!(bool, String, Vec<u8>, Uuid, Option<String>, Option<Vec<u8>>, Option<Uuid>);

impl Column for Option<i64> {
    fn read(row: &Row, column: &str) -> Result<Self, sqlx::Error> {
        match row {
            // Postgres has integers of two sizes, and decoding is strict about them.
            Row::Postgres(row) => row.try_get(column).or_else(|_| {
                row.try_get::<Option<i32>, _>(column).map(|value| value.map(i64::from))
            }),
            Row::Sqlite(row) => row.try_get(column),
        }
    }
}

impl Column for Option<DateTime<Utc>> {
    fn read(row: &Row, column: &str) -> Result<Self, sqlx::Error> {
        match row {
            Row::Postgres(row) => row.try_get(column),
            Row::Sqlite(row) => {
                let micros: Option<i64> = row.try_get(column)?;
                let time = |micros| {
                    DateTime::from_timestamp_micros(micros)
                        .ok_or_else(|| sqlx::Error::Decode("a stored time is out of range".into()))
                };
                micros.map(time).transpose()
            }
        }
    }
}

macro_rules! required_column {
    ($($type:ty),* $(,)?) => {$(
        impl Column for $type {
            fn read(row: &Row, column: &str) -> Result<Self, sqlx::Error> {
                row.get::<Option<Self>>(column)?
                    .ok_or_else(|| sqlx::Error::Decode(format!("{column} is NULL").into()))
            }
        }
    )*};
}

required_column!(i64, DateTime<Utc>);
