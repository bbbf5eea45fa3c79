//! The data directory, which contains everything that the two services store.

use std::{
    fs::{DirBuilder, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use service_kit::settings::read_text;

/// The data directory. A temporary one is deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Whether missing secrets are created.
    makes: bool,
    temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    /// Opens `path`. If it does not exist, it is created so that only its owner can access it.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        if !path.exists() {
            let created = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            created.map_err(|error| unusable(&path, &error))?;
        }
        Ok(Self { path, makes: true, temporary: None })
    }

    /// The directory at `path` for commands that only read: nothing is created in it.
    pub(crate) const fn existing(path: PathBuf) -> Self {
        Self { path, makes: false, temporary: None }
    }

    /// Creates a temporary directory that only its owner can access.
    pub(crate) fn ephemeral() -> io::Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("latchkey-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        Ok(Self { path: temporary.path().to_owned(), makes: true, temporary: Some(temporary) })
    }

    /// Whether missing secrets are created.
    pub(crate) const fn makes(&self) -> bool {
        self.makes
    }

    /// The path of the directory if it is temporary.
    pub(crate) fn temporary(&self) -> Option<PathBuf> {
        self.temporary.as_ref().map(|folder| folder.path().to_owned())
    }

    /// The path of something in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The URL of a SQLite file in the folder.
    pub(crate) fn database_url(&self, file: &str) -> String {
        let path = self.path.join(file).display().to_string();
        // These characters have a meaning in a URL (RFC 3986, section 2.2).
        let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        format!("sqlite://{path}")
    }

    /// A secret in the directory: 32 random bytes in base64, generated at the first start, readable
    /// only by the owner. `None` if it does not exist and must not be created.
    pub(crate) fn secret(&self, file: &str) -> io::Result<Option<String>> {
        let path = self.path.join(file);
        if !self.makes && !path.exists() {
            return Ok(None);
        }
        make_secret(&self.path, &path).map_err(|error| unusable(&path, &error))?;
        let text = read_text(&path.display().to_string())
            .map_err(|why| io::Error::other(format!("DATA_DIR: {why}")))?;
        Ok(Some(text.trim().to_owned()))
    }
}

/// Says which path in the data directory cannot be used, and which setting names the directory. The
/// error of a temporary file has a path of its own, which nobody knows.
fn unusable(path: &Path, error: &io::Error) -> io::Error {
    let reason =
        error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
    io::Error::new(error.kind(), format!("DATA_DIR: cannot create {}: {reason}", path.display()))
}

/// Creates the secret unless it exists. This is atomic: a crash leaves no partial file, and of two
/// concurrent calls only one creates it.
fn make_secret(folder: &Path, path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system has no random bytes"))?;
    // Readable by its owner alone.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", STANDARD.encode(bytes))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Barrier, thread};

    use super::*;

    #[test]
    fn of_many_first_starts_all_have_the_same_secret() {
        let data = DataDir::ephemeral().unwrap();
        let start = Barrier::new(8);
        let secrets: Vec<String> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        data.secret("key").unwrap().unwrap()
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]), "{}", secrets.len());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data.path), mode(&data.path.join("key"))), (0o700, 0o600));
    }

    #[test]
    fn a_command_that_only_looks_makes_nothing() {
        let made = DataDir::ephemeral().unwrap();
        let data = DataDir::existing(made.path.join("none"));
        assert_eq!(data.secret("key").unwrap(), None);
        assert!(!data.path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_its_setting() {
        let error = DataDir::open("/proc/nowhere/data".into()).unwrap_err().to_string();
        assert!(error.starts_with("DATA_DIR: cannot create /proc/nowhere/data: "), "{error}");
    }

    #[test]
    fn a_folder_with_any_name_is_where_the_databases_are() {
        let data = DataDir::existing("/a%20b?c#d".into());
        assert_eq!(data.database_url("x.db"), "sqlite:///a%2520b%3Fc%23d/x.db");
    }
}
