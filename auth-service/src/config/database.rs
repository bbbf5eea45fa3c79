//! Where the data is. How the database is used is in [`sql_kit::settings`].

use sql_kit::Database;

service_kit::settings! {
    "Database"
    /// The database of the service.
    pub struct UrlSettings {
        /// The database: postgres://user:password@host/name or sqlite://path.
        database: Database = secret_value DATABASE_URL("sqlite://data/auth.db", str::parse);
    }
}
