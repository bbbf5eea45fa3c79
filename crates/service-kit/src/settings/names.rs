//! How the variables of a service are called in a process that runs more than one.

use std::collections::BTreeMap;

use super::Setting;

/// The names under which the settings of a service are given, the one that wins first. A setting
/// that is not mentioned has its own name.
#[derive(Debug, Default, Clone)]
pub struct Names(BTreeMap<&'static str, Vec<String>>);

impl Names {
    /// Gives a setting other names.
    pub fn set(&mut self, setting: &Setting, names: Vec<String>) {
        self.0.insert(setting.var, names);
    }

    /// The names of a setting, the one that wins first.
    #[must_use]
    pub fn of(&self, setting: &Setting) -> Vec<String> {
        self.0.get(setting.var).cloned().unwrap_or_else(|| vec![setting.var.to_owned()])
    }

    /// A text with the variables in it called as they are here.
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
        let name = |var: &str| self.0.get(var).and_then(|names| names.first());
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
