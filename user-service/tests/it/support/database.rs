//! Fresh databases that are gone after the test.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use user_service::store::{self, Store};
use uuid::Uuid;

const MAINTENANCE_URL: &str = "TEST_POSTGRES_URL";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) struct TestDatabase {
    pub(crate) url: String,
    cleanup: Cleanup,
}

enum Cleanup {
    Folder(PathBuf),
    Database { maintenance: String, name: String },
}

impl TestDatabase {
    pub(crate) async fn new(engine: Engine) -> Self {
        let name = format!("user_{}", Uuid::new_v4().simple());
        match engine {
            Engine::Sqlite => {
                // The folder is left for the service to make.
                let folder = std::env::temp_dir().join(name);
                let url = format!("sqlite://{}", folder.join("user.db").display());
                Self { url, cleanup: Cleanup::Folder(folder) }
            }
            Engine::Postgres => {
                let maintenance = maintenance_url();
                execute(&maintenance, format!("CREATE DATABASE {name}")).await;
                let url = on_database(&maintenance, &name);
                Self { url, cleanup: Cleanup::Database { maintenance, name } }
            }
        }
    }

    /// A store on this database, migrated.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        let store = self.raw_store();
        store.migrate().await.unwrap();
        store
    }

    /// A store on this database as it is.
    pub(crate) fn raw_store(&self) -> Arc<dyn Store> {
        let options = sql_kit::PoolOptions {
            application: "test",
            max_connections: 4,
            acquire_timeout: Duration::from_secs(5),
        };
        store::open(&self.url.parse().unwrap(), options).unwrap()
    }

    /// Runs a statement beside the service.
    pub(crate) async fn execute(&self, statement: &str) {
        match self.cleanup {
            Cleanup::Database { .. } => execute(&self.url, statement.to_owned()).await,
            Cleanup::Folder(_) => {
                let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
                let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
                statement.execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }

    /// What a `SELECT count(*)` says.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        match self.cleanup {
            Cleanup::Database { .. } => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
            }
            Cleanup::Folder(_) => {
                let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    pub(crate) fn host_and_port(&self) -> String {
        let after = self.url.split('@').nth(1).unwrap();
        after.split('/').next().unwrap().to_owned()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        match &self.cleanup {
            Cleanup::Folder(folder) => drop(fs::remove_dir_all(folder)),
            Cleanup::Database { maintenance, name } => {
                let (url, name) = (maintenance.clone(), name.clone());
                // Not here: a runtime cannot wait for another task while it drops something.
                let dropping = std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                    runtime.block_on(execute(&url, statement));
                });
                drop(dropping.join());
            }
        }
    }
}

/// The superuser's URL of the server that tests use.
#[expect(clippy::disallowed_methods, reason = "scripts/test gives it this way")]
fn maintenance_url() -> String {
    std::env::var(MAINTENANCE_URL).unwrap_or_else(|_| {
        panic!("{MAINTENANCE_URL} is not set: run scripts/test, which starts a Postgres")
    })
}

/// The same server, another database.
fn on_database(url: &str, name: &str) -> String {
    let (base, parameters) = match url.split_once('?') {
        Some((base, parameters)) => (base, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let (server, _) = base.rsplit_once('/').unwrap();
    format!("{server}/{name}{parameters}")
}

async fn execute(url: &str, statement: String) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
