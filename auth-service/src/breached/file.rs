//! A sorted file of `SHA1:count` lines, as Have I Been Pwned's downloader writes it. It has about forty
//! gigabytes, so it is not loaded but searched on disk, with about forty small reads.

use std::{cmp::Ordering, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

use tokio::sync::OwnedSemaphorePermit;

use super::{Sha1Hex, entry::Entry};

/// The number of hexadecimal digits of a SHA-1.
const DIGITS: usize = 40;
/// The longest line, in bytes, including its line break: a hash, a count and white space.
const LINE: usize = 128;
/// How many positions are checked at the start to see whether the file is sorted.
const SAMPLES: u64 = 64;
/// The byte order mark that some editors write before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The file. Each lookup opens it again, so that a replaced file takes effect at once.
#[derive(Debug, Clone)]
pub struct BreachFile {
    path: PathBuf,
}

impl BreachFile {
    /// Checks that the file can be read, and that it is sorted at the sampled positions.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn check(path: &str) -> Result<Self, String> {
        let fault = |why: String| format!("cannot use {path}: {why}");
        Open::new(File::open(path).map_err(|error| fault(error.to_string()))?)
            .and_then(|open| open.check())
            .map_err(fault)?;
        Ok(Self { path: path.into() })
    }

    /// Whether a hash is in the file. The permit is held until the search has ended, which on a hanging
    /// disk may be long after the caller has stopped waiting.
    ///
    /// # Errors
    ///
    /// Why the search failed.
    pub(super) async fn has(
        &self,
        hash: Sha1Hex,
        turn: OwnedSemaphorePermit,
    ) -> Result<bool, String> {
        let path = self.path.clone();
        let search = move || {
            let _turn = turn;
            let file = File::open(&path).map_err(|error| error.to_string())?;
            Open::new(file)?.find(hash.as_bytes())
        };
        tokio::task::spawn_blocking(search).await.map_err(|error| error.to_string())?
    }
}

/// The opened file.
struct Open {
    file: File,
    /// The offset of the first line.
    start: u64,
    /// The offset after the last line.
    end: u64,
}

/// A line, and its start and end offset including the line break.
struct Line {
    start: u64,
    end: u64,
    bytes: Vec<u8>,
}

impl Open {
    fn new(file: File) -> Result<Self, String> {
        let about = file.metadata().map_err(|error| error.to_string())?;
        if !about.is_file() {
            return Err("it is not a file".to_owned());
        }
        let mut open = Self { file, start: 0, end: about.len() };
        if open.read(0, BYTE_ORDER_MARK.len() as u64)? == BYTE_ORDER_MARK {
            open.start = BYTE_ORDER_MARK.len() as u64;
        }
        // Ignore empty lines at the end.
        let tail_start = open.end.saturating_sub(LINE as u64).max(open.start);
        let tail = open.read(tail_start, open.end)?;
        open.end = tail_start + tail.trim_ascii_end().len() as u64;
        if open.end <= open.start {
            return Err("it has no lines".to_owned());
        }
        Ok(open)
    }

    /// Reads the bytes from one offset to another, or to the end of the file.
    fn read(&self, from: u64, to: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, from + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// The line that contains the byte at `place`. The line break belongs to the line before it.
    fn line_at(&self, place: u64) -> Result<Line, String> {
        let from = place.saturating_sub(LINE as u64).max(self.start);
        let to = (place + LINE as u64).min(self.end);
        let window = self.read(from, to)?;
        let at = usize::try_from(place - from).unwrap_or(usize::MAX).min(window.len());
        let (before, after) = window.split_at(at);
        let start = match before.iter().rposition(|byte| *byte == b'\n') {
            Some(line_feed) => line_feed + 1,
            None if from == self.start => 0,
            None => return Err(too_long(place)),
        };
        let end = match after.iter().position(|byte| *byte == b'\n') {
            Some(line_feed) => at + line_feed,
            None if to == self.end => window.len(),
            None => return Err(too_long(place)),
        };
        let bytes = window.get(start..end).unwrap_or_default().to_vec();
        Ok(Line { start: from + start as u64, end: from + end as u64, bytes })
    }

    fn find(&self, hash: &[u8]) -> Result<bool, String> {
        let (mut low, mut high) = (self.start, self.end);
        while low < high {
            let line = self.line_at(low + (high - low) / 2)?;
            let entry = line.entry()?;
            match entry.compare(hash) {
                Ordering::Equal => return Ok(entry.counts),
                Ordering::Less => low = line.end + 1,
                Ordering::Greater => high = line.start,
            }
        }
        Ok(false)
    }

    /// Checks the order of the first line, the last one and samples between, each against the next line.
    fn check(&self) -> Result<(), String> {
        let step = ((self.end - self.start) / SAMPLES).max(1);
        let mut last: Option<Line> = None;
        let mut place = self.start;
        while place < self.end {
            let mut line = self.line_at(place)?;
            for _ in 0..2 {
                line.entry()?;
                if let Some(last) = last.filter(|last| last.start < line.start)
                    && last.entry()?.compare(line.entry()?.digits) != Ordering::Less
                {
                    let (before, after) = (last.start, line.start);
                    return Err(format!(
                        "it is not sorted: the hash at byte {after} does not come after that at byte {before}"
                    ));
                }
                let next = line.end + 1;
                last = Some(line);
                if next >= self.end {
                    return Ok(());
                }
                line = self.line_at(next)?;
            }
            place = (place + step).max(line.start);
            if place >= self.end {
                // Include the last line.
                place = self.end - 1;
            }
        }
        Ok(())
    }
}

impl Line {
    /// The error does not quote the line, because the path may name some other, confidential file.
    fn entry(&self) -> Result<Entry<'_>, String> {
        Entry::parse(&self.bytes, DIGITS).ok_or_else(|| {
            format!(
                "the line at byte {} is not a SHA-1 in hexadecimal digits with a count",
                self.start
            )
        })
    }
}

fn too_long(place: u64) -> String {
    format!("the line at byte {place} has over {LINE} bytes")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(contents: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(contents.as_bytes()).unwrap();
        file
    }

    fn checked(contents: &str) -> Result<Open, String> {
        let file = file(contents);
        BreachFile::check(file.path().to_str().unwrap())?;
        Open::new(file.reopen().unwrap())
    }

    /// Hash number `n` of a thousand hashes that are spread over all values.
    fn hash(n: usize) -> String {
        format!("{:08X}{:032X}", n * 4_000_000, n * 7_919)
    }

    #[test]
    fn every_line_is_found_and_its_neighbours_are_not() {
        for number in [1, 2, 3, 1000] {
            for end in ["\n", "\r\n"] {
                for last in ["", end, "\n\n"] {
                    for mark in ["", "\u{feff}"] {
                        let lines: Vec<String> =
                            (0..number).map(|n| format!("{}:{}", hash(n), n * n * n + 1)).collect();
                        let open = checked(&format!("{mark}{}{last}", lines.join(end))).unwrap();
                        for n in 0..number {
                            assert_eq!(open.find(hash(n).as_bytes()), Ok(true), "{n} of {number}");
                            let next = format!("{:08X}{:032X}", n * 4_000_000 + 1, 0);
                            assert_eq!(open.find(next.as_bytes()), Ok(false), "{next}");
                        }
                        for absent in ["0".repeat(39) + "1", "F".repeat(40), hash(number)] {
                            assert_eq!(open.find(absent.as_bytes()), Ok(false), "{absent}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn digits_count_in_any_letter_case_and_a_count_of_nothing_does_not() {
        let lower = hash(999).to_lowercase();
        let open = checked(&format!("{}:0\n{lower}:5\n", hash(1))).unwrap();
        assert_eq!(open.find(hash(999).as_bytes()), Ok(true));
        assert_eq!(open.find(hash(1).as_bytes()), Ok(false));
    }

    #[test]
    fn what_is_no_sorted_list_is_refused_and_never_shown() {
        let sorted: Vec<String> = (0..1000).map(|n| format!("{}:1\n", hash(n))).collect();
        let mut reversed = sorted.clone();
        reversed.reverse();
        let mut twisted = sorted.clone();
        twisted.swap(0, 999);
        let by_count = format!("{}:9\n{}:8\n", hash(2), hash(1));
        for contents in [
            String::new(),
            "\n\n".to_owned(),
            "hunter2\n".to_owned(),
            format!("{}\nhunter2", hash(1)),
            "x".repeat(10_000),
            format!("{}:1\n{}:1\n", hash(1), hash(1)),
            // NTLM hashes have 32 digits.
            format!("{}:1\n", "A".repeat(32)),
            reversed.concat(),
            twisted.concat(),
            by_count,
        ] {
            let told = checked(&contents).err();
            assert!(told.as_ref().is_some_and(|told| !told.contains("hunter2")), "{told:?}");
        }
        assert!(BreachFile::check("/nowhere/at-all").is_err());
        assert!(BreachFile::check("/").is_err());
    }
}
