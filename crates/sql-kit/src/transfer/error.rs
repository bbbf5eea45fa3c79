//! Why a move did not take place. No text has a value of a row or a credential.

use crate::{Database, StoreError};

/// Why a move did not take place, in words for whoever has called it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Both URLs lead to one database.
    #[error("source and destination are the same database")]
    SameDatabase,
    /// A database has no table of a service.
    #[error("there is nothing in it: no service has used it")]
    Empty,
    /// There is no file.
    #[error("there is no such file")]
    NoFile,
    /// A database in memory ends with its process.
    #[error("it is in memory, where nothing stays")]
    InMemory,
    /// The database is one of another service.
    #[error("it is not a database of this service: its migrations have other names")]
    OtherService,
    /// The source has to be migrated first.
    #[error(
        "it lacks migration {0}: start the service of this version on it once, or run its migrate \
         subcommand, and stop it again"
    )]
    OldSource(i64),
    /// Somebody uses the database.
    #[error("it is in use: {0}; stop every replica of the service, and commands that use it")]
    InUse(String),
    /// The destination is somebody's.
    #[error(
        "the destination holds other data, and nothing was changed: {0}. Give an empty database; or, where an \
         earlier move was interrupted and the source has been used since, empty the destination and move anew"
    )]
    OtherData(String),
    /// The databases differ after the move.
    #[error("after the move the databases differ: {0}. Do not use the destination")]
    Different(String),
    /// A table or a column is not as the migrations make it.
    #[error("{0}")]
    Schema(String),
    /// The database, as it told.
    #[error("{0}")]
    Database(String),
    /// What went wrong with one of the two databases.
    #[error("{place}, {database}: {error}")]
    At {
        /// Which.
        place: &'static str,
        /// Where it is.
        database: String,
        /// What.
        error: Box<Self>,
    },
}

impl From<StoreError> for TransferError {
    fn from(error: StoreError) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<sqlx::Error> for TransferError {
    /// The message of a database's own error names constraints and no values.
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

/// Says of an error which database it is about.
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
        // They say it themselves.
        TransferError::OtherData(_) | TransferError::Different(_) => error,
        error => TransferError::At { place, database: database.clone(), error: Box::new(error) },
    }
}
