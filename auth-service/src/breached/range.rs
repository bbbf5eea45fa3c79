//! A server that answers range queries, such as Have I Been Pwned's or a private mirror. It receives the
//! first five digits of a hash and returns the rest of all hashes with that prefix (k-anonymity). Padding
//! makes the responses about equally long, so that their size reveals little to an observer of the encrypted
//! traffic.

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header::USER_AGENT};
use service_kit::http_client::{HttpClient, https_or_loopback};

use super::{PATIENCE, entry::Entry};

/// How many digits are sent.
const PREFIX: usize = 5;
/// How many digits of each hash are in the response.
const SUFFIX: usize = 35;
/// The largest response that is accepted, in bytes. A typical one has about eighty thousand.
const ANSWER: usize = 4 * 1024 * 1024;

/// The server.
#[derive(Debug, Clone)]
pub struct RangeServer {
    client: HttpClient,
    /// The URL to which the prefix is appended.
    base: String,
}

impl RangeServer {
    /// The server at this base, to which the five digits are appended: `https://example.com/range/`. If the
    /// base ends with a letter or a digit, a slash is inserted.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL. The URL itself is not quoted.
    pub fn at(base: &str) -> Result<Self, String> {
        https_or_loopback(base)?;
        let mut base = base.to_owned();
        if base.ends_with(|last: char| last.is_ascii_alphanumeric() || last == ']') {
            base.push('/');
        }
        let client = HttpClient::new(PATIENCE, ANSWER).map_err(|error| error.to_string())?;
        Ok(Self { client, base })
    }

    /// Whether a hash is in the range of its prefix.
    ///
    /// # Errors
    ///
    /// Why the lookup failed.
    pub(super) async fn has(&self, hash: &str) -> Result<bool, String> {
        let (prefix, suffix) = hash.split_at_checked(PREFIX).unwrap_or_default();
        let url: Uri =
            format!("{}{prefix}", self.base).parse().map_err(|_| "not a URL".to_owned())?;
        let request = Request::get(url)
            .header(USER_AGENT, concat!("latchkey/", env!("CARGO_PKG_VERSION")))
            .header("Add-Padding", "true")
            .body(Bytes::new())
            .map_err(|error| error.to_string())?;
        let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
        match answer.status() {
            StatusCode::OK => has_suffix(answer.body(), suffix),
            status => Err(format!("the answer has status {}", status.as_u16())),
        }
    }
}

fn has_suffix(body: &[u8], suffix: &str) -> Result<bool, String> {
    let mut is_garbled = false;
    for line in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        match Entry::parse(line, SUFFIX) {
            Some(entry) if entry.digits.eq_ignore_ascii_case(suffix.as_bytes()) => {
                return Ok(entry.counts);
            }
            Some(_) => {}
            None => is_garbled |= !line.is_empty(),
        }
    }
    if is_garbled { Err("the answer is not a list of hashes".to_owned()) } else { Ok(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_looked_for_among_those_that_count() {
        let [wanted, other] = ["0123456789ABCDEF0123456789ABCDEF012", "F".repeat(35).leak()];
        let lower = wanted.to_lowercase();
        for (body, expected) in [
            (format!("{other}:1\r\n{wanted}:2\r\n"), Ok(true)),
            (format!("{lower}:2"), Ok(true)),
            (format!("\n{wanted}:0\r\n{other}:1\r\n\r\n"), Ok(false)),
            (format!("{other}:1"), Ok(false)),
            (String::new(), Ok(false)),
            // A matching line counts, even if the rest of the response is invalid.
            (format!("<html>\n{wanted}:2"), Ok(true)),
        ] {
            assert_eq!(has_suffix(body.as_bytes(), wanted), expected, "{body}");
        }
        for garbled in ["<html>".to_owned(), format!("{other}:1\n{}", &wanted[..20])] {
            assert!(has_suffix(garbled.as_bytes(), wanted).is_err(), "{garbled}");
        }
        assert!(has_suffix(b"\xff\xfe\0", wanted).is_err());
    }

    #[test]
    fn the_prefix_is_appended() {
        for (base, url) in [
            ("https://h/range/", "https://h/range/"),
            ("https://h/range", "https://h/range/"),
            ("https://h", "https://h/"),
            ("http://[::1]", "http://[::1]/"),
            ("https://h/?prefix=", "https://h/?prefix="),
        ] {
            assert_eq!(RangeServer::at(base).unwrap().base, url);
        }
        assert!(RangeServer::at("http://example.com/range/").is_err());
    }
}
