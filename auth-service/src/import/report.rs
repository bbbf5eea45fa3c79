//! Where the refused lines of an import are reported.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
};

use serde::{Deserialize, Serialize};

use super::Refusal;

/// Takes the refused lines of each batch before the batch is committed, so that none is missing after an
/// interruption.
pub trait Report: Send {
    /// Called before the first batch. An interrupted run has reported the lines up to `line`, of which it
    /// has refused so many; both are 0 if there was none. What it has reported of later lines comes again.
    ///
    /// # Errors
    ///
    /// If the report cannot be written, as of all functions here. The import then ends.
    fn go_on_after(&mut self, line: u64, refused: u64) -> io::Result<()>;

    /// Reports the refused lines of a batch, with their numbers. Called again for the same batch if it turns
    /// out that more lines are refused.
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
    reason: Cow<'a, str>,
}

/// A line of JSON for a refused line of an import.
///
/// # Errors
///
/// None in practice: the entry can always be written as JSON.
pub fn entry(line: u64, Refusal(reason): &Refusal) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&Entry { line, reason: reason.into() })?;
    text.push(b'\n');
    Ok(text)
}

/// A report in JSON Lines, in a regular file.
#[derive(Debug)]
pub struct ReportFile {
    file: File,
    /// Where the entries of the committed batches end.
    end: u64,
}

impl ReportFile {
    /// Writes to a file that was opened for reading and writing.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self { file, end: 0 }
    }

    /// Where the entries up to this line of the import end, and how many there are.
    fn up_to(&self, line: u64) -> io::Result<(u64, u64)> {
        let (mut end, mut entries, mut text) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&self.file);
        loop {
            text.clear();
            let length = reader.read_until(b'\n', &mut text)?;
            let entry = serde_json::from_slice::<Entry<'_>>(&text);
            // The last entry may be incomplete.
            if !text.ends_with(b"\n") || entry.map_or(true, |entry| entry.line > line) {
                return Ok((end, entries));
            }
            end += length as u64;
            entries += 1;
        }
    }

    /// Removes what follows the entries of the committed batches.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end)).map(drop)
    }
}

impl Report for ReportFile {
    fn go_on_after(&mut self, line: u64, refused: u64) -> io::Result<()> {
        if line > 0 && self.file.metadata()?.len() > 0 {
            let (end, entries) = self.up_to(line)?;
            if entries != refused {
                return Err(io::Error::other(
                    "the file is not that of the interrupted import: remove it, or name another one",
                ));
            }
            self.end = end;
        }
        self.cut()
    }

    fn batch(&mut self, refused: &[(u64, &Refusal)]) -> io::Result<()> {
        self.cut()?;
        if refused.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for (line, refusal) in refused {
            text.extend(entry(*line, refusal)?);
        }
        self.file.write_all(&text)?;
        self.file.sync_data()
    }

    fn committed(&mut self) -> io::Result<()> {
        self.end = self.file.stream_position()?;
        Ok(())
    }
}

/// A report to where nothing can be taken back, such as a pipe or a terminal.
pub struct ReportStream<W> {
    write: W,
    /// The lines of the present batch that were reported.
    told: HashSet<u64>,
}

impl<W> fmt::Debug for ReportStream<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReportStream").field("told", &self.told).finish_non_exhaustive()
    }
}

impl<W> ReportStream<W> {
    /// Calls `write` for each refused line.
    pub fn new(write: W) -> Self {
        Self { write, told: HashSet::new() }
    }
}

impl<W: FnMut(u64, &Refusal) -> io::Result<()> + Send> Report for ReportStream<W> {
    fn go_on_after(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn batch(&mut self, refused: &[(u64, &Refusal)]) -> io::Result<()> {
        for (line, refusal) in refused {
            if self.told.insert(*line) {
                (self.write)(*line, refusal)?;
            }
        }
        Ok(())
    }

    fn committed(&mut self) -> io::Result<()> {
        self.told.clear();
        Ok(())
    }
}
