//! The flags of settings, `--help`, and the reference.

use std::collections::BTreeSet;

use clap::{Arg, Command};

use super::{Group, Setting};

/// The text of `--help` after the settings.
pub const HELP: &str = "\
Every setting is an environment variable and a flag. A flag wins over the environment, and the environment \
over a .env file in the working directory. A secret can also be given in a file, as <NAME>_FILE.

OpenTelemetry: traces and metrics are sent by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT (or its form for one \
signal, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) is set. \
OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf (default) or grpc. OTEL_EXPORTER_OTLP_HEADERS, \
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_METRIC_EXPORT_INTERVAL \
and OTEL_SDK_DISABLED mean what the OpenTelemetry specification says. They have no flags, and are not \
read from .env.";

/// A setting under the name that it has in a program.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Its heading in `--help`.
    pub group: String,
    /// The variable. The flag is the same in kebab-case.
    pub name: String,
    /// The setting.
    pub setting: Setting,
    /// The default, if it differs from that of the setting.
    pub default: Option<String>,
    /// Whether `--help` omits it, because it shows the setting under another name.
    pub hidden: bool,
}

impl Flag {
    /// The settings of `groups` under their own names.
    pub fn of(groups: &[Group]) -> impl Iterator<Item = Self> + use<'_> {
        groups.iter().flat_map(|group| {
            group.settings.iter().map(|setting| Self {
                group: group.title.to_owned(),
                name: setting.var.to_owned(),
                setting: *setting,
                default: None,
                hidden: false,
            })
        })
    }

    /// Its variables. A secret has a second one, for a file.
    pub fn variables(&self) -> impl Iterator<Item = String> + use<> {
        let file = self.setting.secret.then(|| format!("{}_FILE", self.name));
        std::iter::once(self.name.clone()).chain(file)
    }

    fn default(&self) -> Option<&str> {
        self.default.as_deref().or(self.setting.default).filter(|default| !default.is_empty())
    }

    /// The arguments: one with a help line and, for a secret, a second one without.
    fn args(&self) -> Vec<Arg> {
        let flag = |name: &str| name.to_ascii_lowercase().replace('_', "-");
        let arg = |name: &str, value: &'static str| {
            Arg::new(name.to_owned())
                .long(flag(name))
                .value_name(value)
                .help_heading(self.group.clone())
                .global(true)
        };
        let default = self.default().map(|value| format!(" [default: {value}]"));
        let file = if self.setting.secret { " (also as _FILE)" } else { "" };
        let help = format!(
            "{}{} [env: {}{file}]",
            self.setting.help,
            default.unwrap_or_default(),
            self.name
        );
        let mut args = vec![arg(&self.name, self.value_name()).help(help).hide(self.hidden)];
        if self.setting.secret {
            args.push(arg(&format!("{}_FILE", self.name), "FILE").hide(true));
        }
        args
    }

    fn value_name(&self) -> &'static str {
        match self.name.rsplit('_').next() {
            _ if self.setting.help.contains("in seconds") => "SECONDS",
            Some("FILE" | "FILES") => "FILE",
            Some("ADDR") => "ADDRESS",
            Some("URL") => "URL",
            Some("DIR") => "DIR",
            _ => "VALUE",
        }
    }
}

/// Adds a flag for each setting of `groups`.
#[must_use]
pub fn with_flags(command: Command, groups: &[Group]) -> Command {
    with_named_flags(command, Flag::of(groups))
}

/// Adds flags. The help shows each on a single line, whatever the width of the terminal, after the
/// command's own arguments.
#[must_use]
pub fn with_named_flags(command: Command, flags: impl IntoIterator<Item = Flag>) -> Command {
    let args = flags.into_iter().flat_map(|flag| flag.args());
    args.fold(command.term_width(0), Command::arg)
}

/// The variables of `groups`.
#[must_use]
pub fn variables(groups: &[Group]) -> BTreeSet<String> {
    Flag::of(groups).flat_map(|flag| flag.variables()).collect()
}

/// The settings as Markdown, for the reference: a heading and a table for each group.
#[must_use]
pub fn reference(flags: impl IntoIterator<Item = Flag>) -> String {
    let (mut text, mut group) = (String::new(), String::new());
    for flag in flags.into_iter().filter(|flag| !flag.hidden) {
        if flag.group != group {
            group.clone_from(&flag.group);
            text.push_str(&format!("\n### {group}\n\n| variable | default | |\n|---|---|---|\n"));
        }
        let default = flag.default().map(|value| format!("`{value}`")).unwrap_or_default();
        let secret = if flag.setting.secret {
            format!(" Secret: can be in a file, named by `{}_FILE`.", flag.name)
        } else {
            String::new()
        };
        let (name, help) = (&flag.name, flag.setting.help.replace('|', "\\|"));
        text.push_str(&format!("| `{name}` | {default} | {help}.{secret} |\n"));
    }
    text
}
