//! The source of the values of settings, and the faults found while they are read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use clap::ArgMatches;

use super::{Group, Names, Secret, Setting, dotenv, text_file::read_text, unknown};

/// The faults of the settings, one per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsError(Vec<String>);

impl SettingsError {
    /// The faults of both, without duplicates.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for fault in other.0 {
            if !self.0.contains(&fault) {
                self.0.push(fault);
            }
        }
        self
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("invalid settings:")?;
        self.0.iter().try_for_each(|fault| write!(formatter, "\n  {fault}"))
    }
}

impl std::error::Error for SettingsError {}

/// The given values, by variable, and the faults found while reading them.
#[derive(Debug, Default, Clone)]
pub struct Source {
    values: BTreeMap<&'static str, Given>,
    names: Names,
    faults: Vec<String>,
}

/// A value and the variable that it came from.
#[derive(Debug, Clone)]
struct Given {
    name: String,
    value: Secret,
}

impl Source {
    /// Collects the values of `groups` from the flags, the environment and `.env`. An empty value
    /// counts as absent, unless the setting accepts it.
    #[must_use]
    pub fn from_process(groups: &[Group], flags: &ArgMatches) -> Self {
        Self::by_names(groups, Names::default(), flags)
    }

    /// Like [`Source::from_process`], with other names of the variables.
    #[must_use]
    pub fn by_names(groups: &[Group], names: Names, flags: &ArgMatches) -> Self {
        let mut source = Self { names, ..Self::default() };
        let dotenv = dotenv::read().unwrap_or_else(|faults| {
            source.faults.extend(faults);
            BTreeMap::new()
        });
        let process = Process { flags, dotenv };
        for setting in groups.iter().flat_map(|group| group.settings) {
            source.collect(setting, &process);
        }
        source
    }

    fn collect(&mut self, setting: &Setting, process: &Process<'_>) {
        let names = self.names.of(setting);
        let files: Vec<_> = names.iter().map(|name| format!("{name}_FILE")).collect();
        let value = process.find(&names, setting.may_be_empty, &mut self.faults);
        let file = setting.secret.then(|| process.find(&files, false, &mut self.faults)).flatten();
        let given = match (value, file) {
            (Some(value), Some(file)) => {
                let (name, file) = (value.name, file.name);
                self.faults.push(format!("{name}: is given both directly and as {file}"));
                return;
            }
            (value, None) => value,
            (None, Some(Given { name, value: path })) => match read_text(path.expose()) {
                // White space around a secret, such as a trailing line break, is not part of it.
                Ok(text) => Some(Given { name, value: Secret::new(text.trim().to_owned()) }),
                Err(what) => {
                    self.faults.push(format!("{name}: {what}"));
                    None
                }
            },
        };
        if let Some(given) = given {
            self.values.insert(setting.var, given);
        }
    }

    /// Sets a value, replacing a given one.
    pub fn set(&mut self, setting: &Setting, value: impl Into<String>) {
        let name = self.names.shown(setting);
        self.set_from(setting, name, value);
    }

    /// Sets a value, replacing a given one. `name` says in messages where it is from, for example a file.
    pub fn set_from(&mut self, setting: &Setting, name: String, value: impl Into<String>) {
        self.values.insert(setting.var, Given { name, value: Secret::new(value.into()) });
    }

    /// Sets a value if none was given.
    pub fn set_default(&mut self, setting: &Setting, value: impl Into<String>) {
        if !self.is_set(setting) {
            self.set(setting, value);
        }
    }

    /// Whether a value was given.
    #[must_use]
    pub fn is_set(&self, setting: &Setting) -> bool {
        self.values.contains_key(setting.var)
    }

    /// The name of a setting for messages: the variable that its value came from, if it was given.
    #[must_use]
    pub fn name(&self, setting: &Setting) -> String {
        let given = self.values.get(setting.var).map(|given| given.name.clone());
        given.unwrap_or_else(|| self.names.shown(setting))
    }

    /// Records a fault of `setting`.
    pub fn fault(&mut self, setting: &Setting, what: impl fmt::Display) {
        let what = self.names.translate(&what.to_string());
        self.faults.push(format!("{}: {what}", self.name(setting)));
    }

    /// Reads a setting with a default. A fault is reported by [`Source::finish`]; until then the
    /// default is used.
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

    /// Reads an optional setting.
    pub fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.values.get(setting.var)?;
        match parse(given.value.expose()) {
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
        self.values.get(setting.var).map(|given| given.value.clone())
    }

    /// Reads a secret and validates it with `check`.
    pub fn checked_secret(
        &mut self,
        setting: &Setting,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Secret> {
        self.optional(setting, |text| check(text).map(|()| Secret::new(text.to_owned())))
    }

    /// Finishes the reading.
    ///
    /// # Errors
    ///
    /// All faults found so far.
    pub fn finish(&self) -> Result<(), SettingsError> {
        let faults = SettingsError(self.faults.clone());
        // A setting that two groups read reports its fault twice, so duplicates are removed.
        if self.faults.is_empty() { Ok(()) } else { Err(SettingsError::default().and(faults)) }
    }
}

/// Looks up a name in one of the places.
type Place<'a> = dyn FnMut(&str) -> Option<Secret> + 'a;

/// Flags, environment and `.env`, in this order.
struct Process<'a> {
    flags: &'a ArgMatches,
    dotenv: BTreeMap<String, Secret>,
}

impl Process<'_> {
    /// The value under the first of `names` that has one.
    fn find(
        &self,
        names: &[String],
        may_be_empty: bool,
        faults: &mut Vec<String>,
    ) -> Option<Given> {
        let is_given = |value: &Secret| may_be_empty || !value.expose().is_empty();
        let places: [&mut Place<'_>; 3] = [
            &mut |name| self.flags.try_get_one::<String>(name).ok()?.cloned().map(Secret::new),
            &mut |name| variable(name, faults),
            &mut |name| self.dotenv.get(name).cloned(),
        ];
        places.into_iter().find_map(|place| {
            names.iter().find_map(|name| {
                let value = place(name).filter(is_given)?;
                Some(Given { name: name.clone(), value })
            })
        })
    }
}

fn variable(name: &str, faults: &mut Vec<String>) -> Option<Secret> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads them")]
    match std::env::var_os(name)?.into_string() {
        Ok(value) => Some(Secret::new(value)),
        Err(_) => {
            faults.push(format!("{name}: is not UTF-8"));
            None
        }
    }
}

/// Logs a warning for variables of the environment and of `.env` that resemble one of `known` but
/// are not known. `elsewhere` maps variables that are not read here to the ones that are read
/// instead.
pub fn note_unknown(known: &BTreeSet<String>, elsewhere: &BTreeMap<String, String>) {
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    // Its faults have already been reported.
    let lines = dotenv::read().unwrap_or_default().into_keys();
    let given: BTreeSet<String> = variables.chain(lines).collect();
    for (name, instead) in elsewhere.iter().filter(|(name, _)| given.contains(*name)) {
        tracing::warn!(event = "setting.unknown", name, "{name} is ignored here: set {instead}");
    }
    let others = given.iter().filter(|name| !elsewhere.contains_key(*name));
    for (name, nearest) in unknown::lookalikes(others.map(String::as_str), known) {
        match nearest {
            Some(meant) => tracing::warn!(
                event = "setting.unknown",
                name,
                "{name} is no setting: is {meant} meant?"
            ),
            None => tracing::warn!(event = "setting.unknown", name, "{name} is no setting"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Command;

    use super::*;
    use crate::settings::{integer, with_flags};

    const PORT: Setting = Setting::new("PORT", "1", "a port");
    const KEY: Setting = Setting::secret("KEY", "a key");
    const GROUPS: &[Group] = &[Group::new("Test", &[PORT, KEY])];

    fn process(arguments: &[&str]) -> Source {
        let flags = with_flags(Command::new("test"), GROUPS).get_matches_from(arguments);
        Source::from_process(GROUPS, &flags)
    }

    #[test]
    fn a_flag_is_read_and_a_default_stands_in() {
        assert_eq!(process(&["test", "--port", "2"]).value(&PORT, integer(1, 9)), 2);
        assert_eq!(process(&["test"]).value(&PORT, integer(1, 9)), 1);
    }

    #[test]
    fn white_space_around_it_and_a_byte_order_mark_are_no_part_of_a_secret_in_a_file() {
        let path = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        fs::write(&path, "\u{feff} a bc \r\n").unwrap();
        let source = process(&["test", "--key-file", path.to_str().unwrap()]);
        fs::remove_file(path).unwrap();
        assert_eq!(source.secret(&KEY).unwrap().expose(), "a bc");
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
    fn a_fault_is_told_once_by_the_variable_that_counts() {
        let mut names = Names::default();
        names.set(&PORT, vec!["A_PORT".to_owned(), "PORT".to_owned()]);
        let flags = with_flags(Command::new("test"), GROUPS).get_matches_from(["test"]);
        let mut source = Source::by_names(GROUPS, names.clone(), &flags);
        source.fault(&KEY, "must be given with PORT");
        source.fault(&KEY, "must be given with PORT");
        source.fault(&PORT, "is missing");
        let told = source.finish().unwrap_err().to_string();
        assert_eq!(told, "invalid settings:\n  KEY: must be given with PORT\n  PORT: is missing");
        let flags = with_flags(Command::new("test"), GROUPS).get_matches_from(["test", "--port=x"]);
        let mut source = Source::by_names(GROUPS, names, &flags);
        source.value(&PORT, integer(1, 9));
        let told = source.finish().unwrap_err().to_string();
        assert!(told.contains("\n  PORT: is not an integer"), "{told}");
    }
}
