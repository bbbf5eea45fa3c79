//! The lines of an import: JSON Lines, or CSV with a head.

use std::io::{self, BufRead, Read as _};

use super::row::{Members, Refusal};

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// The form of a file of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    JsonLines,
    /// Comma-separated values (RFC 4180), with the names of the members in the first line. An empty
    /// field is an absent member.
    Csv,
}

/// The lines of a file, as they come.
pub struct Lines<R> {
    source: Source<R>,
}

enum Source<R> {
    Json { reader: R, line: u64 },
    Csv { reader: Box<csv::Reader<R>>, columns: Vec<Column> },
}

impl<R> std::fmt::Debug for Lines<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Lines")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Email,
    PasswordHash,
    CreatedAt,
    EmailVerified,
    Disabled,
}

impl Column {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "email" => Self::Email,
            "password_hash" => Self::PasswordHash,
            "created_at" => Self::CreatedAt,
            "email_verified" => Self::EmailVerified,
            "disabled" => Self::Disabled,
            _ => return None,
        })
    }
}

/// One line: its number in the file, from 1, and what it says.
pub(super) type Line = (u64, Result<Members, Refusal>);

impl<R: BufRead> Lines<R> {
    /// Lines of `format`. A byte order mark is passed over.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, or the head of a CSV names a member that nobody knows, twice, or
    /// no email.
    pub fn new(mut reader: R, format: Format) -> io::Result<Self> {
        if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        let source = match format {
            Format::JsonLines => Source::Json { reader, line: 0 },
            Format::Csv => {
                let mut reader = Box::new(csv::Reader::from_reader(reader));
                let mut columns = Vec::new();
                for name in reader.headers().map_err(io::Error::other)? {
                    let column = Column::of(name).filter(|column| !columns.contains(column));
                    columns.push(column.ok_or_else(|| {
                        io::Error::other(format!("the column {name:?} is unknown, or there twice"))
                    })?);
                }
                if !columns.contains(&Column::Email) {
                    return Err(io::Error::other("the first line names no column email"));
                }
                Source::Csv { reader, columns }
            }
        };
        Ok(Self { source })
    }

    /// The next line that is not empty; nothing at the end.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        match &mut self.source {
            Source::Json { reader, line } => json_line(reader, line),
            Source::Csv { reader, columns } => csv_line(reader, columns),
        }
    }
}

fn json_line(reader: &mut impl BufRead, number: &mut u64) -> io::Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        *number += 1;
        if line.len() > MAX_LINE && line.last() != Some(&b'\n') {
            skip_line(reader)?;
            return Ok(Some((*number, Err(Refusal(format!("is over {MAX_LINE} bytes long"))))));
        }
        let line = line.trim_ascii();
        if !line.is_empty() {
            return Ok(Some((*number, Members::from_json(line))));
        }
    }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(length);
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

fn csv_line<R: io::Read>(
    reader: &mut csv::Reader<R>,
    columns: &[Column],
) -> io::Result<Option<Line>> {
    let mut record = csv::ByteRecord::new();
    match reader.read_byte_record(&mut record) {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(error) if error.is_io_error() => return Err(io::Error::other(error)),
        Err(error) => {
            let number = error.position().map_or(0, csv::Position::line);
            let what = "has not as many fields as the first line".to_owned();
            return Ok(Some((number, Err(Refusal(what)))));
        }
    }
    let number = record.position().map_or(0, csv::Position::line);
    Ok(Some((number, members(columns, &record))))
}

fn members(columns: &[Column], record: &csv::ByteRecord) -> Result<Members, Refusal> {
    let mut members = Members::default();
    for (column, field) in columns.iter().zip(record) {
        let text = str::from_utf8(field).map_err(|_| Refusal("is not UTF-8".to_owned()))?;
        if text.is_empty() {
            continue;
        }
        let boolean = |name: &str| match text {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(Refusal(format!("{name} is neither true nor false"))),
        };
        match column {
            Column::Id => members.id = Some(text.to_owned()),
            Column::Email => members.email = Some(text.to_owned()),
            Column::PasswordHash => members.password_hash = Some(text.to_owned()),
            Column::CreatedAt => members.created_at = Some(text.to_owned()),
            Column::EmailVerified => members.email_verified = boolean("email_verified")?,
            Column::Disabled => members.disabled = boolean("disabled")?,
        }
    }
    Ok(members)
}
