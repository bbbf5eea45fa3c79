//! The `.env` file: lines of `NAME=value`. Values are used exactly as written.

use std::{collections::BTreeMap, fs, io};

use super::{Secret, text_file};

/// The file, in the working directory.
const FILE: &str = ".env";

/// Reads the file in the working directory. A missing file counts as an empty one.
///
/// # Errors
///
/// The faults of the file, by line number. The text of a line is never quoted, because it may be a
/// secret.
pub(super) fn read() -> Result<BTreeMap<String, Secret>, Vec<String>> {
    let bytes = match fs::read(FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(vec![format!("{FILE}: cannot be read: {error}")]),
    };
    let text = text_file::decode(&bytes).map_err(|why| vec![format!("{FILE}: {why}")])?;
    parse(&text)
}

/// A line is empty, a comment that begins with `#`, or `NAME=value`, optionally preceded by `export`.
/// White space around the name and the value is ignored. A value may be in single or double quotes,
/// which are removed. Nothing in a value is expanded: neither `$` nor `\` has a special meaning.
fn parse(text: &str) -> Result<BTreeMap<String, Secret>, Vec<String>> {
    let (mut values, mut faults) = (BTreeMap::new(), Vec::new());
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line) {
            Ok((name, _)) if values.contains_key(name) => {
                faults.push(format!("{FILE}: line {number}: {name} is given a second time"));
            }
            Ok((name, value)) => {
                values.insert(name.to_owned(), Secret::new(value.to_owned()));
            }
            Err(what) => faults.push(format!("{FILE}: line {number}: {what}")),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

fn entry(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, value) = line.split_once('=').ok_or("has no = between a name and a value")?;
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let is_name = !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err("what stands before = is not a name of letters, digits and _");
    }
    unquoted(value.trim()).map(|value| (name, value))
}

fn unquoted(value: &str) -> Result<&str, &'static str> {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            let end = rest.find(quote).ok_or("a quote is not closed on its line")?;
            let (value, after) = (&rest[..end], rest[end + 1..].trim_start());
            return match after {
                "" => Ok(value),
                comment if comment.starts_with('#') => Ok(value),
                _ => Err("there is something after the closing quote"),
            };
        }
    }
    // This could be a comment or the middle of a password, so it is refused instead of guessed.
    if value.starts_with('#') || value.contains(" #") || value.contains("\t#") {
        return Err(
            "has a # after a space: put the value into quotes, or a comment on a line of its own",
        );
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let values = parse(text).unwrap();
        values.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect()
    }

    #[test]
    fn values_are_taken_as_written() {
        for (line, value) in [
            ("A=pa$$word", "pa$$word"),
            ("A=${HOME}\\n", "${HOME}\\n"),
            (r#"A="pa$$ word \" # yes"#, "pa$$ word \\"),
            ("A='a \"b\" # c' # a comment", "a \"b\" # c"),
            ("  export A = b=c#d  ", "b=c#d"),
            ("A=", ""),
            ("A=''", ""),
        ] {
            assert_eq!(values(line), [("A".to_owned(), value.to_owned())], "{line}");
        }
        assert_eq!(values("# A=1\n\n  # B=2\n"), []);
    }

    #[test]
    fn faults_name_the_line_and_the_reason_and_never_the_text() {
        let text = "A=1\nhunter2\nB=\"hunter2\nC=hunter2 # x\nhunter-2=x\nA=hunter2\nD='hunter2' x\n=hunter2";
        let faults = parse(text).unwrap_err();
        for (fault, line) in faults.iter().zip(2..) {
            assert!(fault.starts_with(&format!(".env: line {line}: ")), "{fault}");
            assert!(!fault.contains("hunter"), "{fault}");
        }
        assert_eq!(faults.len(), 7);
    }
}
