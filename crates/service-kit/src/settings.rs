//! Settings: each is a flag, an environment variable and a line of `.env`, in this order; a secret
//! can also be in a file. All faults are reported at once, by the variable's name and never with a
//! secret's value.

use std::{
    collections::BTreeMap, fmt, fs, net::SocketAddr, path::Path, str::FromStr, time::Duration,
};

use clap::{Arg, ArgMatches, Command};
use zeroize::Zeroizing;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The environment variable. The flag is the same in kebab-case.
    pub var: &'static str,
    /// What counts where nothing is given.
    pub default: Option<&'static str>,
    /// What it is for, with its unit and range.
    pub help: &'static str,
    /// Whether an empty value is one, rather than none.
    pub may_be_empty: bool,
    /// Whether its value must never be shown. A secret can also be given as `<var>_FILE`.
    pub secret: bool,
}

impl Setting {
    /// A setting that has a default.
    #[must_use]
    pub const fn new(var: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { var, default: Some(default), help, may_be_empty: false, secret: false }
    }

    /// A setting that may be absent.
    #[must_use]
    pub const fn optional(var: &'static str, help: &'static str) -> Self {
        Self { var, default: None, help, may_be_empty: false, secret: false }
    }

    /// A secret. It has no default.
    #[must_use]
    pub const fn secret(var: &'static str, help: &'static str) -> Self {
        Self { var, default: None, help, may_be_empty: false, secret: true }
    }

    /// The name of the flag, without the dashes before it.
    #[must_use]
    pub fn flag(&self) -> String {
        self.var.to_ascii_lowercase().replace('_', "-")
    }

    fn file_var(&self) -> String {
        format!("{}_FILE", self.var)
    }

    fn args(&self) -> Vec<Arg> {
        let default = self.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
        let help = format!("{}{default} [env: {}]", self.help, self.var);
        let mut args =
            vec![Arg::new(self.var).long(self.flag()).value_name("VALUE").help(help).global(true)];
        if self.secret {
            let (var, flag) = (self.file_var(), format!("{}-file", self.flag()));
            let help = format!("A file with the value of {} [env: {var}]", self.var);
            args.push(Arg::new(var).long(flag).value_name("FILE").help(help).global(true));
        }
        args
    }
}

/// Adds a flag for each of `settings`.
#[must_use]
pub fn with_flags(command: Command, settings: &[Setting]) -> Command {
    settings.iter().flat_map(Setting::args).fold(command, Command::arg)
}

/// The settings as a Markdown table, for the reference.
#[must_use]
pub fn reference(settings: &[Setting]) -> String {
    let mut text = String::from("| variable | flag | default | |\n|---|---|---|---|\n");
    for setting in settings {
        let default = setting.default.filter(|value| !value.is_empty());
        let default = default.map(|value| format!("`{value}`")).unwrap_or_default();
        let secret = if setting.secret {
            format!(" Secret: can be in a file, named by `{}`", setting.file_var())
        } else {
            String::new()
        };
        let (var, flag, help) = (setting.var, setting.flag(), setting.help.replace('|', "\\|"));
        let line = format!("| `{var}` | `--{flag}` | {default} | {help}.{secret} |\n");
        text.push_str(&line);
    }
    text
}

/// A text that is wiped from memory when dropped and that never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Call it where the secret is used and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// What is wrong with the settings, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsError(Vec<String>);

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("invalid settings:")?;
        self.0.iter().try_for_each(|fault| write!(formatter, "\n  {fault}"))
    }
}

impl std::error::Error for SettingsError {}

/// The values that were given, by variable, and the faults found while reading them.
#[derive(Debug, Default, Clone)]
pub struct Source {
    values: BTreeMap<String, Secret>,
    faults: Vec<String>,
}

impl Source {
    /// Collects the values of `settings` from the flags, the environment and `.env`. An empty value
    /// counts as not given, unless the setting says that it means something.
    #[must_use]
    pub fn from_process(settings: &[Setting], flags: &ArgMatches) -> Self {
        let mut source = Self::default();
        let dotenv = source.dotenv();
        let mut faults = Vec::new();
        let mut given = |var: &str| {
            let flag = flags.try_get_one::<String>(var).ok().flatten().cloned();
            #[expect(clippy::disallowed_methods, reason = "the one place that reads them")]
            let value = flag.or_else(|| match std::env::var_os(var)?.into_string() {
                Ok(value) => Some(value),
                Err(_) => {
                    faults.push(format!("{var}: is not UTF-8"));
                    None
                }
            });
            value.or_else(|| dotenv.get(var).cloned())
        };
        for setting in settings {
            let value =
                given(setting.var).filter(|value| setting.may_be_empty || !value.is_empty());
            let file = setting.secret.then(|| given(&setting.file_var())).flatten();
            let file = file.filter(|path| !path.is_empty());
            match (value, file) {
                (Some(_), Some(_)) => source.faults.push(format!(
                    "{}: is given both directly and as {}",
                    setting.var,
                    setting.file_var()
                )),
                (Some(value), None) => source.set(setting, value),
                (None, Some(path)) => match fs::read_to_string(&path) {
                    // Editors end a file with a line feed that is no part of the secret.
                    Ok(text) => source.set(setting, text.trim_end_matches(['\r', '\n'])),
                    Err(error) => source
                        .faults
                        .push(format!("{}: cannot read {path}: {error}", setting.file_var())),
                },
                (None, None) => {}
            }
        }
        source.faults.extend(faults);
        source
    }

    fn dotenv(&mut self) -> BTreeMap<String, String> {
        if !Path::new(".env").exists() {
            return BTreeMap::new();
        }
        match dotenvy::from_path_iter(".env").and_then(Iterator::collect) {
            Ok(values) => values,
            Err(_) => {
                // The error would quote the line, which may hold a secret.
                self.faults.push(".env: is not a list of NAME=value lines".to_owned());
                BTreeMap::new()
            }
        }
    }

    /// Gives a value, over what was given before.
    pub fn set(&mut self, setting: &Setting, value: impl Into<String>) {
        self.values.insert(setting.var.to_owned(), Secret::new(value.into()));
    }

    /// Whether a value was given.
    #[must_use]
    pub fn is_set(&self, setting: &Setting) -> bool {
        self.values.contains_key(setting.var)
    }

    /// Adds a fault of `setting`.
    pub fn fault(&mut self, setting: &Setting, what: impl fmt::Display) {
        self.faults.push(format!("{}: {what}", setting.var));
    }

    /// Reads a setting that has a default. A fault is kept for [`Source::finish`]; until then the
    /// default stands in.
    pub fn value<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> T {
        if let Some(value) = self.optional(setting, &parse) {
            return value;
        }
        #[expect(
            clippy::panic,
            reason = "a default that does not parse fails every test and start"
        )]
        match parse(setting.default.unwrap_or_default()) {
            Ok(value) => value,
            Err(what) => panic!("the default of {} {what}", setting.var),
        }
    }

    /// Reads a setting that may be absent.
    pub fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.values.get(setting.var)?;
        match parse(given.expose()) {
            Ok(value) => Some(value),
            Err(what) => {
                self.fault(setting, what);
                None
            }
        }
    }

    /// Reads a secret.
    #[must_use]
    pub fn secret(&self, setting: &Setting) -> Option<Secret> {
        self.values.get(setting.var).cloned()
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// All faults found so far.
    pub fn finish(&self) -> Result<(), SettingsError> {
        if self.faults.is_empty() { Ok(()) } else { Err(SettingsError(self.faults.clone())) }
    }
}

/// Reads anything that parses from a text, such as a path or an algorithm.
///
/// # Errors
///
/// `is not <what>`.
pub fn parsed<T: FromStr>(what: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |text| text.parse().map_err(|_| format!("is not {what}"))
}

/// Reads a text as it is.
///
/// # Errors
///
/// None.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Reads an integer from `least` to `most`.
///
/// # Errors
///
/// Where it is something else.
pub fn integer(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("is not an integer from {least} to {most}")),
    }
}

/// Reads whole seconds from `least` to `most`.
///
/// # Errors
///
/// Where it is something else.
pub fn seconds(least: u64, most: u64) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        integer(least, most)(text)
            .map(Duration::from_secs)
            .map_err(|what| format!("{what} (seconds)"))
    }
}

/// Reads `true` or `false`.
///
/// # Errors
///
/// Where it is neither.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither true nor false".to_owned())
}

/// Reads the address of a listener: `host:port`, with an IP address or `localhost` as the host, or
/// `:port` for all interfaces.
///
/// # Errors
///
/// Where it is something else.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let full = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None if text.starts_with(':') => format!("0.0.0.0{text}"),
        None => text.to_owned(),
    };
    full.parse().map_err(|_| "is not an address such as 127.0.0.1:3000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Setting = Setting::new("PORT", "1", "a port");
    const KEY: Setting = Setting::secret("KEY", "a key");

    fn process(arguments: &[&str]) -> Source {
        let settings = [PORT, KEY];
        let flags = with_flags(Command::new("test"), &settings).get_matches_from(arguments);
        Source::from_process(&settings, &flags)
    }

    #[test]
    fn a_flag_is_read_and_a_default_stands_in() {
        assert_eq!(process(&["test", "--port", "2"]).value(&PORT, integer(1, 9)), 2);
        assert_eq!(process(&["test"]).value(&PORT, integer(1, 9)), 1);
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_end() {
        let path = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        fs::write(&path, "abc \r\n").unwrap();
        let source = process(&["test", "--key-file", path.to_str().unwrap()]);
        fs::remove_file(path).unwrap();
        assert_eq!(source.secret(&KEY).unwrap().expose(), "abc ");
    }

    #[test]
    fn all_faults_are_told_by_name_and_no_secret_is_shown() {
        let mut source = process(&["test", "--port", "x", "--key", "hidden", "--key-file", "/no"]);
        assert_eq!(source.value(&PORT, integer(1, 9)), 1);
        let told = source.finish().unwrap_err().to_string();
        assert!(told.contains("PORT: is not an integer from 1 to 9"), "{told}");
        assert!(told.contains("KEY: is given both directly and as KEY_FILE"), "{told}");
        assert!(!told.contains("hidden") && !format!("{source:?}").contains("hidden"), "{told}");
    }

    #[test]
    fn an_address_may_leave_the_host_out() {
        assert_eq!(address(":80").unwrap().to_string(), "0.0.0.0:80");
        assert_eq!(address("localhost:80").unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(address("[::1]:0").unwrap().to_string(), "[::1]:0");
        for text in ["", "80", "x:80", "1.2.3.4", "1.2.3.4:99999"] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }
}
