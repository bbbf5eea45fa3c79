//! The templates of mails. They are embedded in the binary, and files in `MAIL_TEMPLATES_DIR` can replace
//! them.
//!
//! A mail has two templates, which are named after its kind. `<kind>.txt` begins with a line `Subject: …`
//! and an empty line. `<kind>.html` may extend `layout.html`, which can be replaced too. The syntax is
//! that of MiniJinja, which is the syntax of Jinja2. The variables are `service`, `email` (the
//! recipient), `time`, `link`, `expires_in`, `previous_email` and `new_email`, as far as the kind has
//! them; any other name is an error.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use chrono::{DateTime, Utc};
use minijinja::{Environment, UndefinedBehavior, Value};
use service_kit::settings::Secret;

use super::message::{Kind, Message, Rendered};
use crate::domain::Email;

const LAYOUT: &str = "layout.html";
const EMBEDDED_LAYOUT: &str = include_str!("templates/layout.html");
/// The largest template that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {what}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct TemplateError {
    file: String,
    line: Option<usize>,
    what: String,
}

impl TemplateError {
    fn new(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, what: what.into() }
    }

    fn of_engine(file: &str, error: &minijinja::Error) -> Self {
        let what = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        Self { file: error.name().unwrap_or(file).to_owned(), line: error.line(), what }
    }
}

/// The templates of all mails. Each has been rendered once as a test.
#[derive(Debug, Clone)]
pub struct Templates {
    engine: Environment<'static>,
}

impl Templates {
    /// Loads the embedded templates, and replaces them with those in `folder`. Each is rendered once as a
    /// test.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, does not belong to a mail, or cannot be rendered.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut files = vec![(LAYOUT.to_owned(), EMBEDDED_LAYOUT.to_owned())];
        for kind in Kind::ALL {
            for (extension, text) in ["txt", "html"].into_iter().zip(kind.embedded()) {
                files.push((format!("{}.{extension}", kind.as_str()), text.to_owned()));
            }
        }
        if let Some(folder) = folder {
            replace(&mut files, folder)?;
        }
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.add_filter("href", href);
        for (name, text) in files {
            engine
                .add_template_owned(name.clone(), text)
                .map_err(|error| TemplateError::of_engine(&name, &error))?;
        }
        let templates = Self { engine };
        templates.try_all()?;
        Ok(templates)
    }

    /// Renders a mail in the name of `service`.
    ///
    /// # Errors
    ///
    /// If a template fails that did not fail in the test.
    pub fn render(&self, message: &Message<'_>, service: &str) -> Result<Rendered, TemplateError> {
        let email = |email: &Email| Value::from(email.as_str());
        let words = [
            ("service", Some(Value::from(service))),
            ("email", Some(email(message.to))),
            ("time", Some(Value::from(time(message.time)))),
            ("link", message.link.map(|(link, _)| Value::from(link.expose()))),
            ("expires_in", message.link.map(|(_, lifetime)| Value::from(duration(lifetime)))),
            ("previous_email", message.previous_email.map(email)),
            ("new_email", message.new_email.map(email)),
        ];
        let known = words.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let words = Value::from(known.collect::<BTreeMap<_, _>>());
        let render = |extension: &str| {
            let name = format!("{}.{extension}", message.kind.as_str());
            self.engine
                .get_template(&name)
                .and_then(|template| template.render(words.clone()))
                .map_err(|error| TemplateError::of_engine(&name, &error))
        };
        let text = render("txt")?;
        let (subject, text) = subject(&text).ok_or_else(|| {
            let file = format!("{}.txt", message.kind.as_str());
            TemplateError::new(file, "does not begin with `Subject: …` and an empty line")
        })?;
        Ok(Rendered {
            to: message.to.as_str().to_owned(),
            subject: subject.to_owned(),
            // The template engine removes the last line break.
            text: format!("{}\n", text.trim_end()),
            html: render("html")?,
            link: message.link.map(|(link, _)| link.expose().to_owned()),
        })
    }

    fn try_all(&self) -> Result<(), TemplateError> {
        let email = |text| Email::parse(text).map_err(|_| TemplateError::new("", "no address"));
        let (to, other) = (email("jane@example.com")?, email("doe@example.com")?);
        let link = Secret::new("https://example.com/?a=1&b=2#token=t".to_owned());
        for kind in Kind::ALL {
            self.render(&sample(*kind, &to, &other, &link), "Example")?;
        }
        Ok(())
    }
}

/// A sample mail with everything that its kind can have.
fn sample<'a>(kind: Kind, to: &'a Email, other: &'a Email, link: &'a Secret) -> Message<'a> {
    let message = Message::new(kind, to, DateTime::<Utc>::UNIX_EPOCH);
    let lifetime = Duration::from_secs(1800);
    match kind {
        Kind::PasswordReset | Kind::AccountCreated | Kind::EmailVerification => {
            message.link(link, lifetime)
        }
        Kind::EmailChange => message.link(link, lifetime).change(to, other),
        Kind::EmailChangeRequested | Kind::EmailChanged => message.change(to, other),
        Kind::EmailTaken
        | Kind::PasswordChanged
        | Kind::PasswordWasReset
        | Kind::AccountDeleted => message,
    }
}

fn replace(files: &mut [(String, String)], folder: &Path) -> Result<(), TemplateError> {
    let shown = folder.display();
    let failed = |error: io::Error| TemplateError::new(shown.to_string(), error.to_string());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let error = |what: String| TemplateError::new(path.display().to_string(), what);
        let is_template = name.ends_with(".txt") || name.ends_with(".html");
        // Editors and Kubernetes create other files in a directory. They are not templates.
        if name.starts_with('.') || !is_template {
            continue;
        }
        let Some((_, text)) = files.iter_mut().find(|(known, _)| *known == name) else {
            return Err(error("is the template of no mail".to_owned()));
        };
        let size = fs::metadata(&path).map_err(|failed| error(failed.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(error(format!("is over {MAX_BYTES} bytes")));
        }
        let read = fs::read_to_string(&path).map_err(|failed| error(failed.to_string()))?;
        *text = read.strip_prefix('\u{feff}').unwrap_or(&read).to_owned();
    }
    Ok(())
}

/// Splits a text into its subject and its body.
fn subject(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once('\n')?;
    let subject = first.strip_prefix("Subject:")?.trim();
    let body = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n'))?;
    // A control character could inject a header field.
    (!subject.is_empty() && !subject.chars().any(char::is_control)).then_some((subject, body))
}

/// Escapes a URL for an attribute or a text in HTML. The engine's own escaping would write each slash as
/// an entity, which is correct but hard to read in the source.
fn href(url: &str) -> Value {
    let escaped = url
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    Value::from_safe_string(escaped)
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%-d %B %Y at %H:%M UTC").to_string()
}

/// Formats a duration as a whole number of the largest possible unit.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        _ if seconds.is_multiple_of(86_400) && seconds > 86_400 => (seconds / 86_400, "day"),
        _ if seconds.is_multiple_of(3600) && seconds > 0 => (seconds / 3600, "hour"),
        _ if seconds.is_multiple_of(60) && seconds > 0 => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(templates: &Templates, kind: Kind) -> Rendered {
        let (to, other) =
            (Email::parse("jane@example.com").unwrap(), Email::parse("doe@example.com").unwrap());
        let link = Secret::new("https://example.com/?a=1&b=2#token=t".to_owned());
        templates.render(&sample(kind, &to, &other, &link), "A <b> & C").unwrap()
    }

    #[test]
    fn every_mail_has_a_subject_a_text_and_html_that_say_the_same() {
        let templates = Templates::load(None).unwrap();
        for kind in Kind::ALL {
            let mail = render(&templates, *kind);
            assert_eq!(mail.to, "jane@example.com");
            assert!(!mail.subject.is_empty() && mail.text.starts_with("Hello,\n"), "{kind:?}");
            assert!(mail.text.contains("A <b> & C") && !mail.html.contains("A <b>"), "{kind:?}");
            assert_eq!(mail.text.contains("#token=t"), mail.link.is_some(), "{kind:?}");
            assert_eq!(mail.html.contains("?a=1&amp;b=2#token=t\""), mail.link.is_some());
            // Plain ASCII in short lines is not encoded, so that a link can be read in the raw mail.
            assert!(mail.text.is_ascii() && mail.html.is_ascii(), "{kind:?}");
            assert!(mail.text.lines().all(|line| line.len() < 120 || line.contains("://")));
        }
    }

    #[test]
    fn durations_are_told_in_their_largest_unit() {
        let told = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!([told(1800), told(86_400), told(172_800)], ["30 minutes", "24 hours", "2 days"]);
        assert_eq!([told(3600), told(61), told(1)], ["1 hour", "61 seconds", "1 second"]);
    }

    fn with(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Templates::load(Some(folder.path()))
    }

    #[test]
    fn a_file_replaces_one_template_and_the_others_stay() {
        let templates = with(&[
            (
                "password_reset.txt",
                "\u{feff}Subject: Kennwort für {{ service }}\r\n\r\n{{ link }}\r\n",
            ),
            ("layout.html", "<p>{% block content %}{% endblock %}"),
            ("README.md", "{{"),
            (".hidden.txt", "{{"),
        ])
        .unwrap();
        let mail = render(&templates, Kind::PasswordReset);
        assert_eq!(mail.subject, "Kennwort für A <b> & C");
        assert_eq!(mail.text, "https://example.com/?a=1&b=2#token=t\n");
        assert!(mail.html.starts_with("<p>") && mail.html.contains("Choose a new password"));
        assert!(render(&templates, Kind::EmailTaken).text.starts_with("Hello,"));
    }

    #[test]
    fn a_template_that_would_fail_when_it_is_needed_fails_at_the_start() {
        for (name, text, wanted) in [
            ("password_reset.txt", "Subject: x\n\n{{ lnik }}", "password_reset.txt, line 3"),
            ("password_changed.html", "{{ link }}", "password_changed.html, line 1"),
            ("password_reset.txt", "Subject: x\n\n{% if %}", "password_reset.txt, line 3"),
            ("password_reset.txt", "no subject\n\nx", "does not begin with `Subject: "),
            ("password_reset.txt", "Subject: \n\nx", "does not begin with `Subject: "),
            ("pasword_reset.txt", "Subject: x\n\nx", "is the template of no mail"),
        ] {
            let told = with(&[(name, text)]).unwrap_err().to_string();
            assert!(told.contains(wanted), "{told}");
        }
        let told = Templates::load(Some(Path::new("/nowhere"))).unwrap_err().to_string();
        assert!(told.starts_with("/nowhere: "), "{told}");
    }

    #[test]
    fn an_address_that_looks_like_a_template_is_only_text() {
        let templates = Templates::load(None).unwrap();
        let to = Email::parse("{{link}}&'@example.com").unwrap();
        let mail = templates
            .render(&Message::new(Kind::PasswordChanged, &to, DateTime::UNIX_EPOCH), "Example")
            .unwrap();
        assert!(mail.text.contains("{{link}}&'@example.com"));
        assert!(mail.html.contains("{{link}}&amp;&#x27;@example.com"), "{}", mail.html);
    }
}
