//! Errors of a move. No text contains values of rows or credentials.

use crate::{Database, StoreError};

/// Why a move failed. The text is printed on the terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Both URLs name the same database.
    #[error("source and destination are the same database")]
    SameDatabase,
    /// The database has no tables of a service.
    #[error("there is nothing in it: no service has used it")]
    Empty,
    /// The file does not exist.
    #[error("there is no such file")]
    NoFile,
    /// A database in memory cannot be moved, because it ends with its process.
    #[error("it is in memory, where nothing stays")]
    InMemory,
    /// The database belongs to another service.
    #[error("it is not a database of this service: its migrations have other names")]
    OtherService,
    /// The source has to be migrated first.
    #[error(
        "it lacks migration {0}: start the service of this version on it once, or run its migrate \
         subcommand, and stop it again"
    )]
    OldSource(i64),
    /// Another process uses the database.
    #[error("it is in use: {0}; stop every replica of the service, and commands that use it")]
    InUse(String),
    /// The destination contains other data.
    #[error(
        "the destination holds other data, and nothing was changed: {0}. Give an empty database; or, where an \
         earlier move was interrupted and the source has been used since, empty the destination and move anew"
    )]
    OtherData(String),
    /// The databases differ after the move.
    #[error("after the move the databases differ: {0}. Do not use the destination")]
    Different(String),
    /// A table or a column differs from what the migrations create.
    #[error("{0}")]
    Schema(String),
    /// An error of the database, with its message.
    #[error("{0}")]
    Database(String),
    /// An error of one of the two databases.
    #[error("{place}, {database}: {error}")]
    At {
        /// Which of the two.
        place: &'static str,
        /// Where it is.
        database: String,
        /// The error.
        error: Box<Self>,
    },
}

impl From<StoreError> for TransferError {
    fn from(error: StoreError) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<sqlx::Error> for TransferError {
    /// The messages of database errors name constraints but no values, so they are safe to print.
    fn from(error: sqlx::Error) -> Self {
        Self::Database(match error.as_database_error() {
            Some(said) => {
                let code = said.code().unwrap_or_default().into_owned();
                format!("the database says: {} ({code})", said.message())
            }
            None => error.to_string(),
        })
    }
}

/// One of the two databases.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Source,
    Destination,
}

/// Adds to an error which database it is about.
pub(super) fn at(
    place: Place,
    database: &Database,
) -> impl Fn(TransferError) -> TransferError + use<> {
    let place = match place {
        Place::Source => "the source",
        Place::Destination => "the destination",
    };
    let database = database.describe();
    move |error| match error {
        // These errors already say it.
        TransferError::OtherData(_) | TransferError::Different(_) => error,
        error => TransferError::At { place, database: database.clone(), error: Box::new(error) },
    }
}
