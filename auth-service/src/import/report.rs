//! Where the refused lines of an import are reported.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::Refusal;

/// Takes the refused lines of each batch before the batch is committed, so that none is missing after an
/// interruption.
pub trait Report: Send {
    /// Called before the first batch. An interrupted run has reported the lines up to `line`, which is 0 if
    /// there was none; what it has reported of later lines comes again.
    ///
    /// # Errors
    ///
    /// If the report cannot be written, as of all functions here. The import then ends.
    fn go_on_after(&mut self, line: u64) -> io::Result<()>;

    /// Reports the refused lines of a batch, with their numbers. Called again for the same batch if its
    /// transaction is repeated.
    ///
    /// # Errors
    ///
    /// As above.
    fn batch(&mut self, refused: &[(u64, &Refusal)]) -> io::Result<()>;

    /// Called when the batch is committed.
    ///
    /// # Errors
    ///
    /// As above.
    fn committed(&mut self) -> io::Result<()>;
}

/// An entry of a report, as JSON.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    line: u64,
    #[serde(borrow)]
    reason: std::borrow::Cow<'a, str>,
}

/// A report in JSON Lines.
#[derive(Debug)]
pub struct ReportFile {
    file: File,
    /// Whether it can be read and cut, unlike a pipe or a terminal.
    is_regular: bool,
    /// Where the entries of the committed batches end.
    end: u64,
}

impl ReportFile {
    /// Opens a file, which need not exist.
    ///
    /// # Errors
    ///
    /// The errors of the operating system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_regular = path.metadata().map_or(true, |of| of.is_file());
        let file =
            File::options().read(is_regular).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, is_regular, end: 0 })
    }

    /// Where the entries up to this line of the import end.
    fn end_of(&self, line: u64) -> io::Result<u64> {
        let (mut end, mut text) = (0, Vec::new());
        let mut reader = BufReader::new(&self.file);
        loop {
            text.clear();
            let length = reader.read_until(b'\n', &mut text)?;
            let entry = serde_json::from_slice::<Entry<'_>>(&text);
            // The last entry may be incomplete.
            if !text.ends_with(b"\n") || entry.map_or(true, |entry| entry.line > line) {
                return Ok(end);
            }
            end += length as u64;
        }
    }

    /// Removes what follows the entries of the committed batches.
    fn cut(&mut self) -> io::Result<()> {
        if self.is_regular {
            self.file.set_len(self.end)?;
            self.file.seek(SeekFrom::Start(self.end))?;
        }
        Ok(())
    }
}

impl Report for ReportFile {
    fn go_on_after(&mut self, line: u64) -> io::Result<()> {
        if self.is_regular && line > 0 {
            self.end = self.end_of(line)?;
        }
        self.cut()
    }

    fn batch(&mut self, refused: &[(u64, &Refusal)]) -> io::Result<()> {
        self.cut()?;
        if refused.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for (line, Refusal(reason)) in refused {
            serde_json::to_writer(&mut text, &Entry { line: *line, reason: reason.into() })?;
            text.push(b'\n');
        }
        self.file.write_all(&text)?;
        if self.is_regular { self.file.sync_data() } else { Ok(()) }
    }

    fn committed(&mut self) -> io::Result<()> {
        if self.is_regular {
            self.end = self.file.stream_position()?;
        }
        Ok(())
    }
}
