//! `latchkey move`: copies the databases of one or both services into other ones.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use clap::{ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use service_kit::{
    print_line,
    settings::{self, Group, Setting, Source},
    telemetry,
};
use sql_kit::{
    Database, Migrations,
    transfer::{MovedTable, Progress, Step, Transfer},
};

use crate::stack::Failure;

service_kit::settings! {
    "Databases to move"
    /// What is moved, and where to.
    pub(crate) struct MoveSettings {
        /// The database of the auth service that is moved, as its DATABASE_URL.
        auth_from: Option<Database> = secret_as AUTH_FROM(str::parse);
        /// Where the database of the auth service is moved to: a DATABASE_URL.
        auth_to: Option<Database> = secret_as AUTH_TO(str::parse);
        /// The database of the user service that is moved, as its DATABASE_URL.
        user_from: Option<Database> = secret_as USER_FROM(str::parse);
        /// Where the database of the user service is moved to: a DATABASE_URL.
        user_to: Option<Database> = secret_as USER_TO(str::parse);
    }
}

/// The name of the subcommand.
pub(crate) const NAME: &str = "move";

/// The interval of progress lines in the log if there is no terminal for a progress bar.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The settings that only this subcommand has.
pub(crate) const GROUPS: &[Group] = &[MoveSettings::GROUP];

/// The subcommand.
pub(crate) fn command() -> Command {
    let command = Command::new(NAME)
        .about("Move the databases of stopped services, from SQLite to Postgres or back")
        .after_help(
            "Give one pair or both. Every row is compared afterwards, and the command can be called again: \
             it goes on where it was interrupted, and what is moved already is only compared. It is refused \
             while a service uses one of the databases, and where a destination holds other data. The sources \
             stay as they are. KEY_ENCRYPTION_KEY stays the same.",
        );
    settings::with_flags(command, GROUPS)
}

/// The source and the target database of one service.
struct Pair {
    service: &'static str,
    application: &'static str,
    settings: [Setting; 2],
    migrations: &'static Migrations,
    from: Database,
    to: Database,
}

/// Moves the databases that `flags` name.
pub(crate) async fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let pairs = read(&mut Source::from_process(GROUPS, flags))?;
    // All databases are checked before any is changed.
    let mut transfers = Vec::new();
    for pair in &pairs {
        let prepared = Transfer::prepare(pair.application, &pair.from, &pair.to, pair.migrations);
        transfers.push(prepared.await.map_err(|error| pair.told(&error.to_string()))?);
    }
    for (pair, mut transfer) in pairs.iter().zip(transfers) {
        let mut shown = Shown::new(pair.service);
        let moved = transfer.run(&mut |progress| shown.show(progress)).await;
        shown.end();
        transfer.close().await;
        let moved = moved.map_err(|error| pair.told(&error.to_string()))?;
        print_line!("{}", pair.report(&moved));
    }
    print_line!(
        "Start each service with its destination as its database, and with the KEY_ENCRYPTION_KEY that \
         they had. Never start one on a source again while the other runs."
    );
    Ok(())
}

fn read(source: &mut Source) -> Result<Vec<Pair>, Failure> {
    let MoveSettings { auth_from, auth_to, user_from, user_to } = MoveSettings::read(source);
    let given =
        [([AUTH_FROM, AUTH_TO], auth_from, auth_to), ([USER_FROM, USER_TO], user_from, user_to)];
    let mut pairs = Vec::new();
    for (settings, from, to) in given {
        let is_auth = settings[0].var == AUTH_FROM.var;
        match settings.map(|setting| source.is_set(&setting)) {
            [true, false] => {
                source.fault(&settings[1], format!("is required with {}", settings[0].var))
            }
            [false, true] => {
                source.fault(&settings[0], format!("is required with {}", settings[1].var))
            }
            _ => {}
        }
        if let (Some(from), Some(to)) = (from, to) {
            let (service, application, migrations) = if is_auth {
                ("auth service", auth_service::NAME, &*auth_service::store::MIGRATIONS)
            } else {
                ("user service", user_service::NAME, &*user_service::store::MIGRATIONS)
            };
            pairs.push(Pair { service, application, settings, migrations, from, to });
        }
    }
    if let [auth, user] = pairs.as_slice()
        && (auth.to.describe() == user.to.describe())
    {
        source.fault(&USER_TO, "is the database of AUTH_TO: each service has its own");
    }
    source.finish()?;
    if pairs.is_empty() {
        return Err("there is nothing to move: give AUTH_FROM and AUTH_TO, USER_FROM and USER_TO, or all four"
            .into());
    }
    Ok(pairs)
}

impl Pair {
    /// Prefixes an error with the setting that it concerns.
    fn told(&self, error: &str) -> String {
        let [from, to] = self.settings;
        let meant = if error.starts_with("the source,") { from.var } else { to.var };
        format!("{}: {}", self.service, error.replace("DATABASE_URL", meant))
    }

    fn report(&self, tables: &[MovedTable]) -> String {
        let mut text =
            format!("\n{}: {} -> {}\n\n", self.service, self.from.describe(), self.to.describe());
        for MovedTable { name, rows, copied } in tables {
            text.push_str(&format!("  {name:<20} {rows:>12} rows, equal; {copied} copied now\n"));
        }
        let rows: u64 = tables.iter().map(|table| table.rows).sum();
        text.push_str(&format!("  {} tables, {rows} rows: each row was compared\n", tables.len()));
        text
    }
}

/// The progress display: a bar on a terminal, otherwise a log line from time to time.
struct Shown {
    service: &'static str,
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Shown {
    fn new(service: &'static str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = "{msg} {wide_bar} {pos}/{len} {elapsed}";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self { service, bar, last: Instant::now() }
    }

    fn show(&mut self, progress: Progress<'_>) {
        let Progress { step, table, rows, of } = progress;
        let doing = match step {
            Step::Looking => "comparing what is there",
            Step::Copying => "copying",
            Step::Checking => "comparing",
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {doing} {table}", self.service));
            bar.set_length(of);
            bar.set_position(rows);
        } else if self.last.elapsed() >= REPORT_INTERVAL {
            self.last = Instant::now();
            let line = format!("{}: {doing} {table}: {rows} of {of} rows\n", self.service);
            telemetry::print_to_stderr(&line);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(given: &[(Setting, &str)]) -> Result<usize, String> {
        let mut source = Source::default();
        for (setting, value) in given {
            source.set(setting, *value);
        }
        read(&mut source).map(|pairs| pairs.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_pair_is_moved_or_both() {
        let (one, other) = ("sqlite://a.db", "postgres://me:hunter2@localhost/b");
        assert_eq!(told(&[(AUTH_FROM, one), (AUTH_TO, other)]), Ok(1));
        assert_eq!(told(&[(USER_FROM, one), (USER_TO, other)]), Ok(1));
        let both = [(AUTH_FROM, one), (AUTH_TO, other), (USER_FROM, one), (USER_TO, "sqlite:c.db")];
        assert_eq!(told(&both), Ok(2));
        for (given, part) in [
            (&[][..], "there is nothing to move"),
            (&[(AUTH_FROM, one)], "AUTH_TO: is required with AUTH_FROM"),
            (&[(USER_TO, other)], "USER_FROM: is required with USER_TO"),
            (&[(AUTH_FROM, one), (AUTH_TO, "mysql://me:hunter2@h/b")], "AUTH_TO: must start with"),
            (
                &[(AUTH_FROM, one), (AUTH_TO, other), (USER_FROM, "sqlite:c.db"), (USER_TO, other)],
                "USER_TO: is the database of AUTH_TO",
            ),
        ] {
            let told = told(given).unwrap_err();
            assert!(told.contains(part), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
