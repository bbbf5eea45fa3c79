//! The transports of mail: a mail server or a directory.

use std::{
    error::Error as _,
    fmt, fs,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message as Mail,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};
use uuid::Uuid;

use super::{
    message::{Kind, Rendered},
    server::SmtpServer,
    smtp::SmtpClient,
};

/// The longest line, without its line break (RFC 5322, section 2.1.1).
const MAX_LINE: usize = 998;

/// Why a mail was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The server said to try again later (a 4xx reply, RFC 5321, section 4.2.1).
    Deferred,
    /// The server refused it (a 5xx reply).
    Refused,
    /// The server took too long.
    Timeout,
    /// The server could not be reached, or not with the required protection.
    Unreachable,
}

impl FailureKind {
    /// Its name, in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A failed delivery. Its text contains no address: a reply of a server may quote the recipient, so only the
/// reply code is included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    what: String,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl From<lettre::transport::smtp::Error> for Failure {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        if let Some(code) = error.status() {
            let kind =
                if error.is_permanent() { FailureKind::Refused } else { FailureKind::Deferred };
            return Self::new(kind, format!("the mail server answered {code}"));
        }
        if error.is_timeout() {
            return Self::new(FailureKind::Timeout, "the mail server took too long");
        }
        // The connection or the handshake failed, or the server does not offer what is required.
        let first = error.source();
        let causes = std::iter::successors(first, |cause| (*cause).source());
        let what = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
        Self::new(FailureKind::Unreachable, what)
    }
}

/// The destination of mail.
#[derive(Clone)]
pub enum Transport {
    /// To a mail server.
    Smtp(Arc<SmtpClient>),
    /// Into a directory, one file per mail. For development.
    Folder(PathBuf),
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp(_) => formatter.write_str("Smtp"),
            Self::Folder(path) => formatter.debug_tuple("Folder").field(path).finish(),
        }
    }
}

impl Transport {
    /// Connects to `server` anew for each mail. `authorities`, in PEM, replace the authorities that the
    /// system trusts.
    ///
    /// # Errors
    ///
    /// If the authorities are not certificates in PEM.
    pub fn smtp(server: SmtpServer, authorities: Option<&[u8]>) -> Result<Self, String> {
        Ok(Self::Smtp(Arc::new(SmtpClient::new(server, authorities)?)))
    }

    async fn deliver(&self, mail: Mail, name: &str, link: Option<&str>) -> Result<(), Failure> {
        match self {
            Self::Smtp(server) => server.send(&mail).await,
            Self::Folder(folder) => {
                let path = folder.join(name);
                write(folder, &path, &mail.formatted()).map_err(|error| {
                    let what = format!("cannot write into {}: {error}", folder.display());
                    Failure::new(FailureKind::Unreachable, what)
                })?;
                // The directory is for development, where people need the link. It is logged only to a
                // terminal, because stored logs must not contain secrets.
                let path = path.display();
                match link.filter(|_| io::stdout().is_terminal()) {
                    Some(link) => {
                        tracing::info!(event = "mail.written", %path, link, "mail written");
                    }
                    None => tracing::info!(event = "mail.written", %path, "mail written"),
                }
                Ok(())
            }
        }
    }
}

/// Creates the file atomically, readable only by its owner.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let partial = path.with_extension("partial");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

/// The sender address and the transport.
#[derive(Debug, Clone)]
pub struct Sender {
    from: Mailbox,
    transport: Transport,
}

/// Parses `MAIL_FROM`: an address, or a name and an address in angle brackets.
///
/// # Errors
///
/// If it is neither.
pub fn sender_address(text: &str) -> Result<Mailbox, String> {
    let what = || "is not an address such as Example <no-reply@example.com>".to_owned();
    if text.chars().any(char::is_control) {
        return Err(what());
    }
    text.parse().map_err(|_| what())
}

impl Sender {
    /// Sends as `from` by `transport`.
    #[must_use]
    pub const fn new(from: Mailbox, transport: Transport) -> Self {
        Self { from, transport }
    }

    /// The name in the sender address, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.from.name.as_deref()
    }

    /// Sends a mail. Its `id` and the time at which it was `written` are the same for every attempt, so that
    /// mail programs can recognise a duplicate.
    ///
    /// # Errors
    ///
    /// [`Failure`]; a retry may succeed.
    pub async fn send(
        &self,
        mail: &Rendered,
        kind: Kind,
        id: Uuid,
        written: DateTime<Utc>,
    ) -> Result<(), Failure> {
        let built = self.build(mail, id, written).map_err(|error| {
            Failure::new(FailureKind::Refused, format!("the mail cannot be written: {error}"))
        })?;
        let time = written.format("%Y%m%dT%H%M%S%3fZ");
        let name = format!("{time}-{}-{}.eml", kind.as_str(), id.simple());
        self.transport.deliver(built, &name, mail.link.as_deref()).await
    }

    fn build(
        &self,
        mail: &Rendered,
        id: Uuid,
        written: DateTime<Utc>,
    ) -> Result<Mail, lettre::error::Error> {
        const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");
        // The address was validated against a stricter grammar when the account was created.
        let (local, domain) = mail.to.rsplit_once('@').unwrap_or((&mail.to, ""));
        let to = Mailbox::new(None, Address::new_dangerous(local, domain));
        Mail::builder()
            .from(self.from.clone())
            .to(to)
            .subject(mail.subject.clone())
            .date(written.into())
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            // Suppresses automatic replies, such as out-of-office messages (RFC 3834, section 5).
            .raw_header(HeaderValue::new(AUTO_SUBMITTED, "auto-generated".to_owned()))
            .multipart(
                MultiPart::alternative()
                    .singlepart(
                        SinglePart::builder()
                            .header(ContentType::TEXT_PLAIN)
                            .body(body(&mail.text)),
                    )
                    .singlepart(
                        SinglePart::builder().header(ContentType::TEXT_HTML).body(body(&mail.html)),
                    ),
            )
    }
}

/// Sends ASCII text without encoding, so that a long link can be read in the raw mail. By default the builder
/// would break lines at 76 characters.
fn body(text: &str) -> Body {
    let lines = || text.lines().map(|line| line.trim_end_matches('\r'));
    if !text.is_ascii() || lines().any(|line| line.len() > MAX_LINE || line.contains('\r')) {
        return Body::new(text.to_owned());
    }
    let text: String = lines().flat_map(|line| [line, "\r\n"]).collect();
    Body::dangerous_pre_encoded(text.into_bytes(), ContentTransferEncoding::SevenBit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use service_kit::clock::machine_time;

    fn mail(to: &str) -> Rendered {
        Rendered {
            to: to.to_owned(),
            subject: "Grüße".to_owned(),
            text: format!("Hello,\n\nhttps://example.com/{}#token=abc\n", "x".repeat(100)),
            html: "<p>Hello,</p>\n".to_owned(),
            link: Some("https://example.com/#token=abc".to_owned()),
        }
    }

    #[tokio::test]
    async fn a_mail_is_a_file_that_says_everything_and_that_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mail");
        let from = sender_address("Example <no-reply@example.com>").unwrap();
        let sender = Sender::new(from, Transport::Folder(path.clone()));
        assert_eq!(sender.name(), Some("Example"));
        let id = Uuid::nil();
        for _ in 0..2 {
            let to = mail("!#$%&'*+/=?^_`{|}~-@localhost");
            sender.send(&to, Kind::PasswordReset, id, DateTime::UNIX_EPOCH).await.unwrap();
        }
        let files: Vec<_> = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("one file: {files:?}") };
        let name = format!("19700101T000000000Z-password_reset-{}.eml", id.simple());
        assert_eq!(file.file_name().unwrap(), name.as_str());
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let text = fs::read_to_string(file).unwrap();
        for line in [
            "From: Example <no-reply@example.com>\r\n",
            "To: !#$%&'*+/=?^_`{|}~-@localhost\r\n",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n",
            "Message-ID: <00000000-0000-0000-0000-000000000000@example.com>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "MIME-Version: 1.0\r\n",
            &format!("\r\nhttps://example.com/{}#token=abc\r\n", "x".repeat(100)),
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(text.contains("Subject: =?utf-8?b?"), "{text}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_a_failure() {
        let from = sender_address("no-reply@example.com").unwrap();
        let sender = Sender::new(from, Transport::Folder("/proc/nowhere".into()));
        let sent =
            sender.send(&mail("a@b.com"), Kind::PasswordReset, Uuid::nil(), machine_time()).await;
        assert_eq!(sent.unwrap_err().kind, FailureKind::Unreachable);
        assert_eq!(sender.name(), None);
    }

    #[test]
    fn other_senders_are_refused() {
        for text in ["", "Example", "a@b@c", "<a@b.com", "a@b.com, c@d.com", "A <a@b.com>\r\nX: y"]
        {
            assert!(sender_address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn authorities_are_certificates() {
        let server: SmtpServer = "smtps://localhost".parse().unwrap();
        assert!(Transport::smtp(server.clone(), None).is_ok());
        for pem in ["", "x", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"] {
            assert!(Transport::smtp(server.clone(), Some(pem.as_bytes())).is_err(), "{pem:?}");
        }
    }
}
