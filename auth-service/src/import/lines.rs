//! The lines of an import: JSON Lines, or CSV with a header line.

use std::io::{self, BufRead, Read as _};

use super::row::{Members, Refusal};

/// The longest line that is accepted, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// The form of a file of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    JsonLines,
    /// Comma-separated values (RFC 4180), with the names of the members in the header line. An empty field
    /// is an absent member. Unlike RFC 4180, a field cannot contain a line break, since no member has one;
    /// so an unclosed quote affects only its own line.
    Csv,
}

/// Iterates over the lines of a file.
pub struct Lines<R> {
    reader: R,
    /// How many lines have been read.
    number: u64,
    /// The columns of a CSV file; `None` for JSON Lines.
    columns: Option<Vec<Column>>,
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

/// The number of a line in the file, from 1, and its parsed content.
pub(super) type Line = (u64, Result<Members, Refusal>);

impl<R: BufRead> Lines<R> {
    /// Lines in `format`. A byte order mark is skipped.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or if the header line of a CSV has an unknown or repeated member, or no
    /// `email`.
    pub fn new(mut reader: R, format: Format) -> io::Result<Self> {
        if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        let mut lines = Self { reader, number: 0, columns: None };
        if format == Format::Csv {
            lines.columns = Some(lines.head()?);
        }
        Ok(lines)
    }

    /// Reads the header line of a CSV file.
    fn head(&mut self) -> io::Result<Vec<Column>> {
        let Some(line) = self.line()? else {
            return Err(io::Error::other("has no line that names the columns"));
        };
        let names = line.and_then(|line| fields(&line));
        let names =
            names.map_err(|Refusal(what)| io::Error::other(format!("the first line {what}")))?;
        let mut columns = Vec::new();
        for name in names {
            let column = Column::of(&name).filter(|column| !columns.contains(column));
            columns.push(column.ok_or_else(|| {
                io::Error::other(format!("the column {name:?} is unknown, or there twice"))
            })?);
        }
        if !columns.contains(&Column::Email) {
            return Err(io::Error::other("the first line names no column email"));
        }
        Ok(columns)
    }

    /// The next non-empty line; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let members = line.and_then(|line| match &self.columns {
            None => Members::from_json(&line),
            Some(columns) => members(columns, &fields(&line)?),
        });
        Ok(Some((self.number, members)))
    }

    /// The next non-empty line, trimmed.
    fn line(&mut self) -> io::Result<Option<Result<Vec<u8>, Refusal>>> {
        loop {
            let mut line = Vec::new();
            self.reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            if line.len() > MAX_LINE && line.last() != Some(&b'\n') {
                skip_line(&mut self.reader)?;
                return Ok(Some(Err(Refusal(format!("is over {MAX_LINE} bytes long")))));
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                return Ok(Some(Ok(line.to_vec())));
            }
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

/// Splits a line of CSV. The csv crate is too lenient for this: it reads `"a"b` as `ab`, and lets an
/// unclosed quote extend the field to the end of the file.
fn fields(line: &[u8]) -> Result<Vec<String>, Refusal> {
    let refusal = |what: &str| Refusal(what.to_owned());
    let line = str::from_utf8(line).map_err(|_| refusal("is not UTF-8"))?;
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)
                .ok_or_else(|| refusal("has a quote that is not closed, or more behind one"))?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err(refusal("has a quote inside a field that does not begin with one"));
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// Parses a quoted field, in which two quotes stand for one. Returns it and the rest, which must be empty
/// or begin with a comma.
fn quoted_field(mut rest: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        if let Some(more) = after.strip_prefix('"') {
            field.push('"');
            rest = more;
        } else {
            return (after.is_empty() || after.starts_with(',')).then_some((field, after));
        }
    }
}

fn members(columns: &[Column], fields: &[String]) -> Result<Members, Refusal> {
    if fields.len() != columns.len() {
        return Err(Refusal("has not as many fields as the first line".to_owned()));
    }
    let mut members = Members::default();
    for (column, text) in columns.iter().zip(fields) {
        if text.is_empty() {
            continue;
        }
        let boolean = |name: &str| match text.as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(Refusal(format!("{name} is neither true nor false"))),
        };
        match column {
            Column::Id => members.id = Some(text.clone()),
            Column::Email => members.email = Some(text.clone()),
            Column::PasswordHash => members.password_hash = Some(text.clone()),
            Column::CreatedAt => members.created_at = Some(text.clone()),
            Column::EmailVerified => members.email_verified = boolean("email_verified")?,
            Column::Disabled => members.disabled = boolean("disabled")?,
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Lines::new(text.as_bytes(), Format::Csv).unwrap();
        let mut read = Vec::new();
        while let Some((number, members)) = lines.next().unwrap() {
            let email = members.map(|members| members.email.unwrap_or_default());
            read.push((number, email.map_err(|Refusal(what)| what)));
        }
        read
    }

    #[test]
    fn lines_of_csv_have_the_numbers_of_the_file() {
        for end in ["\n", "\r\n"] {
            let text = ["", "email", "a", "", "", "\"b\"", "c,d", "e"].join(end);
            let read = read(&text);
            let numbers: Vec<_> = read.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, [3, 6, 7, 8], "{text:?}");
            assert_eq!(read[1].1.as_deref(), Ok("b"));
            assert!(read[2].1.is_err());
        }
    }

    #[test]
    fn a_quote_out_of_place_spoils_its_own_line_only() {
        let read = read("email,id\n\"a,1\nb,2\n\"c\"x,3\nd\"e,4\n\"f\"\"g,\",5\n\"\",6\n");
        let emails: Vec<_> = read.iter().map(|(_, email)| email.as_deref().ok()).collect();
        assert_eq!(emails, [None, Some("b"), None, None, Some("f\"g,"), Some("")]);
    }
}
