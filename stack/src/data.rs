//! The folder with everything that the stack keeps.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The folder. A temporary one is deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    /// Opens `path`, which is made, for its owner alone, where it does not exist.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        }
        Ok(Self { path, _temporary: None })
    }

    /// Makes a temporary folder.
    pub(crate) fn ephemeral() -> io::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("latchkey-").tempdir()?;
        Ok(Self { path: temporary.path().to_owned(), _temporary: Some(temporary) })
    }

    /// The URL of a SQLite file in the folder.
    pub(crate) fn database_url(&self, file: &str) -> String {
        format!("sqlite://{}", self.path.join(file).display())
    }

    /// A secret in the folder: 32 random bytes in base64, made at the first start, readable by the
    /// owner alone.
    pub(crate) fn secret(&self, file: &str) -> io::Result<String> {
        let path = self.path.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(&path),
            Err(error) => Err(error),
        }
    }
}

fn make_secret(path: &Path) -> io::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system has no random bytes"))?;
    let text = STANDARD.encode(bytes);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    Ok(text)
}
