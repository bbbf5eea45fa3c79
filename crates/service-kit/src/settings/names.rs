//! The names of a service's variables in a process that runs several services.

use std::collections::BTreeMap;

use super::Setting;

/// The names of a service's settings, in order of precedence. A setting that is not listed keeps
/// its own name.
#[derive(Debug, Default, Clone)]
pub struct Names(BTreeMap<&'static str, Vec<String>>);

impl Names {
    /// Sets other names for a setting.
    pub fn set(&mut self, setting: &Setting, names: Vec<String>) {
        self.0.insert(setting.var, names);
    }

    /// The names of a setting, in order of precedence.
    #[must_use]
    pub fn of(&self, setting: &Setting) -> Vec<String> {
        self.0.get(setting.var).cloned().unwrap_or_else(|| vec![setting.var.to_owned()])
    }

    /// The name of a setting for messages. It is the last one, which counts for all services.
    #[must_use]
    pub fn shown(&self, setting: &Setting) -> String {
        self.of(setting).pop().unwrap_or_default()
    }

    /// Replaces the variables in a text by their names for messages.
    #[must_use]
    pub fn translate(&self, text: &str) -> String {
        let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let mut translated = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let (before, word) = rest.split_at(start);
            let (word, after) = word.split_at(word.find(|c| !is_word(c)).unwrap_or(word.len()));
            translated.push_str(before);
            translated.push_str(&self.word(word));
            rest = after;
        }
        translated.push_str(rest);
        translated
    }

    fn word(&self, word: &str) -> String {
        let name = |var: &str| self.0.get(var).and_then(|names| names.last());
        match (name(word), word.strip_suffix("_FILE").and_then(name)) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => format!("{name}_FILE"),
            (None, None) => word.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_variable_that_counts() {
        let mut names = Names::default();
        names.set(&Setting::optional("TOKEN", ""), vec!["AUTH_TOKEN".to_owned()]);
        let told = names.translate("TOKEN: not with TOKEN_FILE or MY_TOKEN; see tokens, é");
        assert_eq!(told, "AUTH_TOKEN: not with AUTH_TOKEN_FILE or MY_TOKEN; see tokens, é");
    }
}
