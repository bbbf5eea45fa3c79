//! The definition of a setting, and the macro that declares settings.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The environment variable. The flag is the same in kebab-case.
    pub var: &'static str,
    /// The value if nothing is given.
    pub default: Option<&'static str>,
    /// What it means, with its unit and range.
    pub help: &'static str,
    /// Whether an empty value counts as a value; otherwise it counts as absent.
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

    /// The same setting, for which an empty value counts as a value.
    #[must_use]
    pub const fn that_may_be_empty(mut self) -> Self {
        self.may_be_empty = true;
        self
    }

    /// The same setting, as one whose value is never shown.
    #[must_use]
    pub const fn that_is_secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// Settings of one concern.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The heading in `--help` and in the reference.
    pub title: &'static str,
    /// The settings, in the order in which they are shown.
    pub settings: &'static [Setting],
}

impl Group {
    /// A group.
    #[must_use]
    pub const fn new(title: &'static str, settings: &'static [Setting]) -> Self {
        Self { title, settings }
    }
}

/// The help text of a setting, from its doc comment: without the leading space and the full stop.
#[doc(hidden)]
#[must_use]
pub const fn help(doc: &'static str) -> &'static str {
    let doc = doc.trim_ascii();
    match doc.as_bytes() {
        [.., b'.'] => doc.split_at(doc.len() - 1).0,
        _ => doc,
    }
}

/// Declares a group of settings: a struct with one field per setting, whose `read` reads all of
/// them.
///
/// The line after the doc comment, which is also the help text, contains the field, its type, the
/// kind, the variable and, in parentheses, the default and the parser:
///
/// ```
/// use service_kit::settings::{Source, integer, text};
///
/// service_kit::settings! {
///     "Tea"
///     /// How tea is made.
///     pub struct Tea {
///         /// How long it draws, in minutes, 1 to 10.
///         minutes: u64 = value TEA_MINUTES("4", integer(1, 10));
///         /// What goes into it. Unset: nothing.
///         addition: Option<String> = optional TEA_ADDITION(text);
///     }
/// }
///
/// let mut source = Source::default();
/// source.set(&TEA_MINUTES, "5");
/// assert_eq!(Tea::read(&mut source).minutes, 5);
/// assert_eq!(Tea::GROUP.settings[0].help, "How long it draws, in minutes, 1 to 10");
/// ```
///
/// The kinds are `value` (with a default), `value_or_empty` (for which an empty value counts),
/// `secret_value` (with a default, never shown), `optional`, `secret_as` (optional, never shown),
/// and `secret` (an [`Option`] of a [`Secret`](crate::settings::Secret), with a check of its text).
/// Faults are collected in the source; a faulty value is read as its default or as absent.
#[macro_export]
macro_rules! settings {
    (
        $title:literal
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $type:ty = $kind:ident $var:ident ( $($argument:expr),+ $(,)? );
            )+
        }
    ) => {
        $(
            #[doc = concat!("`", stringify!($var), "`.")]
            $vis const $var: $crate::settings::Setting = $crate::__setting!(
                $kind stringify!($var), concat!($($doc),+), $($argument),+
            );
        )+

        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $name {
            $(
                $(#[doc = $doc])+
                pub $field: $type,
            )+
        }

        impl $name {
            /// The declarations.
            $vis const GROUP: $crate::settings::Group =
                $crate::settings::Group::new($title, &[$($var),+]);

            /// Reads the settings.
            $vis fn read(source: &mut $crate::settings::Source) -> Self {
                Self { $($field: $crate::__read!($kind source, &$var, $($argument),+)),+ }
            }
        }
    };
}

/// The declaration of one setting of [`settings!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __setting {
    (value $var:expr, $doc:expr, $default:expr, $parse:expr) => {
        $crate::settings::Setting::new($var, $default, $crate::settings::__help($doc))
    };
    (value_or_empty $var:expr, $doc:expr, $default:expr, $parse:expr) => {
        $crate::settings::Setting::new($var, $default, $crate::settings::__help($doc))
            .that_may_be_empty()
    };
    (secret_value $var:expr, $doc:expr, $default:expr, $parse:expr) => {
        $crate::settings::Setting::new($var, $default, $crate::settings::__help($doc))
            .that_is_secret()
    };
    (optional $var:expr, $doc:expr, $parse:expr) => {
        $crate::settings::Setting::optional($var, $crate::settings::__help($doc))
    };
    (secret_as $var:expr, $doc:expr, $parse:expr) => {
        $crate::settings::Setting::secret($var, $crate::settings::__help($doc))
    };
    (secret $var:expr, $doc:expr, $check:expr) => {
        $crate::settings::Setting::secret($var, $crate::settings::__help($doc))
    };
}

/// The reading of one setting of [`settings!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __read {
    (optional $source:ident, $setting:expr, $parse:expr) => {
        $source.optional($setting, $parse)
    };
    (secret_as $source:ident, $setting:expr, $parse:expr) => {
        $source.optional($setting, $parse)
    };
    (secret $source:ident, $setting:expr, $check:expr) => {
        $source.checked_secret($setting, $check)
    };
    ($kind:ident $source:ident, $setting:expr, $default:expr, $parse:expr) => {
        $source.value($setting, $parse)
    };
}
