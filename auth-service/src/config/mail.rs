//! Mail, and what needs it.

use std::{path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use service_kit::settings::{Setting, Source, number, read_bytes, seconds, text};
use url::Url;

use super::keys::KEY_ENCRYPTION_KEY;
use crate::{
    mail::{
        Links, Security, Sender, SmtpServer, Templates, Transport, page_url, public_url,
        sender_address,
    },
    service::Verification,
};

service_kit::settings! {
    "Mail"
    /// How mail is sent, and where its links lead.
    pub struct MailSettings {
        /// The mail server: smtps://user:password@host (TLS, port 465), smtp://user:password@host
        /// (STARTTLS, which is demanded, port 587), or smtp://host?tls=none for a server on the same
        /// machine (port 25). User and password are percent-encoded. Unset: no mail is sent.
        server: Option<SmtpServer> = secret_as SMTP_URL(str::parse);
        /// A PEM file with the authorities that are trusted for the mail server, in place of those of the
        /// system.
        ca_file: Option<String> = optional SMTP_CA_FILE(text);
        /// The sender of mail, such as Example <no-reply@example.com>; mails speak in this name.
        /// Required with SMTP_URL.
        from: Option<Mailbox> = optional MAIL_FROM(sender_address);
        /// Where people reach the REST edge, such as https://auth.example.com: links in mails begin with
        /// it. Required with SMTP_URL.
        public_url: Option<Url> = optional PUBLIC_URL(public_url);
        /// A folder with templates that replace those of the same name in the binary.
        templates_dir: Option<PathBuf> = optional MAIL_TEMPLATES_DIR(|path| Ok(path.into()));
        /// The page of an application to which links to choose a new password lead, in place of
        /// /account/reset-password. The secret comes in the fragment, as #token=….
        reset_url: Option<Url> = optional PASSWORD_RESET_URL(page_url);
        /// The page of an application to which links to confirm an address lead, in place of
        /// /account/verify-email. The secret comes in the fragment, as #token=….
        verification_url: Option<Url> = optional EMAIL_VERIFICATION_URL(page_url);
        /// How long a link to choose a new password works, in seconds, 1 to 86400.
        reset_ttl: Duration = value PASSWORD_RESET_TTL("1800", seconds(1, 86_400));
        /// How long a link to confirm an address works, in seconds, 1 to 604800.
        verification_ttl: Duration = value EMAIL_VERIFICATION_TTL("86400", seconds(1, 604_800));
        /// How many links one address may be sent in an hour by resets, resends and changes of email, 0
        /// to 1000000; 0: no limit. Past it the answer is the same and nothing is sent. Those of
        /// registrations are limited by REGISTRATIONS_PER_MINUTE.
        per_hour: u32 = value RESETS_PER_HOUR("5", number(0, 1_000_000));
        /// How many mails one network may ask for in a minute, 0 to 1000000; 0: no limit.
        per_minute: u32 = value MAILS_PER_MINUTE("20", number(0, 1_000_000));
    }
}

service_kit::settings! {
    "Registration"
    /// Who may register, and whether addresses are confirmed.
    pub struct RegistrationSettings {
        /// Who may register: open (anybody), or closed (nobody; accounts come from an operator).
        is_open: bool = value REGISTRATION("open", registration);
        /// Whether addresses are confirmed by mail: off, on (accounts exist at once, and tokens say
        /// email_verified), or required (an account comes into being by its link).
        verification: Verification = value EMAIL_VERIFICATION("off", verification);
    }
}

/// The directory to which mail is written if there is no mail server. The service binary does not offer
/// this setting; only the development mode that runs both services sets it.
pub const MAIL_DIR: Setting =
    Setting::optional("MAIL_DIR", "The folder into which mail is written without SMTP_URL");

/// How mail is sent.
#[derive(Debug)]
pub struct MailConfig {
    /// The sender address and the transport.
    pub sender: Sender,
    /// The texts.
    pub templates: Templates,
    /// The targets of links.
    pub links: Links,
    /// How long a link to choose a new password works.
    pub reset_ttl: Duration,
    /// How long a link to confirm an address works.
    pub verification_ttl: Duration,
    /// How many links may be sent to one address per hour.
    pub per_hour: u32,
    /// How many mails one network may request per minute.
    pub per_minute: u32,
    /// Whether mail is sent to the server without TLS.
    pub is_plaintext: bool,
}

fn registration(text: &str) -> Result<bool, String> {
    match text {
        "open" => Ok(true),
        "closed" => Ok(false),
        _ => Err("is neither open nor closed".to_owned()),
    }
}

fn verification(text: &str) -> Result<Verification, String> {
    match text {
        "off" => Ok(Verification::Off),
        "on" => Ok(Verification::On),
        "required" => Ok(Verification::Required),
        _ => Err("is not off, on or required".to_owned()),
    }
}

impl MailSettings {
    /// The configuration of mail, if a server is set. If one is set and `None` is returned, a fault was
    /// recorded.
    pub(super) fn config(
        self,
        verification: Verification,
        has_sealer: bool,
        source: &mut Source,
    ) -> Option<MailConfig> {
        let folder = source.optional(&MAIL_DIR, |path| Ok(PathBuf::from(path)));
        let authorities = self.ca_file.and_then(|path| {
            read_bytes(&path).map_err(|what| source.fault(&SMTP_CA_FILE, what)).ok()
        });
        let templates = Templates::load(self.templates_dir.as_deref())
            .map_err(|error| source.fault(&MAIL_TEMPLATES_DIR, error));
        let is_plaintext =
            self.server.as_ref().is_some_and(|server| server.security == Security::None);
        let has_server = source.is_set(&SMTP_URL);
        let (transport, from) = match (self.server, folder) {
            (Some(server), _) => {
                let transport = Transport::smtp(server, authorities.as_ref().map(|pem| &pem[..]))
                    .map_err(|what| source.fault(&SMTP_CA_FILE, what));
                for (setting, is_set) in [
                    (&MAIL_FROM, source.is_set(&MAIL_FROM)),
                    (&PUBLIC_URL, source.is_set(&PUBLIC_URL)),
                    (&KEY_ENCRYPTION_KEY, has_sealer || source.is_set(&KEY_ENCRYPTION_KEY)),
                ] {
                    if !is_set {
                        source.fault(setting, "is required with SMTP_URL");
                    }
                }
                (transport.ok()?, self.from?)
            }
            (None, Some(folder)) if !has_server => {
                let from =
                    self.from.or_else(|| sender_address("Latchkey <latchkey@localhost>").ok());
                (Transport::Folder(folder), from?)
            }
            _ => {
                if verification != Verification::Off && !has_server {
                    source.fault(&EMAIL_VERIFICATION, "is not off, which needs mail: set SMTP_URL");
                }
                return None;
            }
        };
        Some(MailConfig {
            sender: Sender::new(from, transport),
            templates: templates.ok()?,
            links: Links::new(self.public_url, self.reset_url, self.verification_url),
            reset_ttl: self.reset_ttl,
            verification_ttl: self.verification_ttl,
            per_hour: self.per_hour,
            per_minute: self.per_minute,
            is_plaintext,
        })
    }
}
