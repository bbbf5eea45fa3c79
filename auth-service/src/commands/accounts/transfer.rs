//! `accounts import` and `export`: many accounts at once, with their password hashes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Arg, ArgAction, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use outbox::Origin;
use same_file::Handle;
use service_kit::{print_line, runtime::Incomplete, settings::Source};
use sql_kit::{DatabaseSettings, read, transaction};

use crate::{
    commands::Failure,
    config,
    events::{Actor, Cause, Event},
    existing_store,
    import::{
        self, Format, Lines, Options, Refusal, Report, ReportFile, ReportStream, RowRules, Summary,
    },
    password::FirebaseParameters,
    store::{AccountRecord, Store, accounts},
};

/// How many accounts one query of an export reads.
const PAGE: i64 = 1000;

/// The two subcommands.
pub(super) fn commands() -> [Command; 2] {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let file = || Arg::new("file").value_name("FILE").default_value("-");
    let format = || {
        Arg::new("format")
            .long("format")
            .value_parser(["jsonl", "csv"])
            .help("The form of FILE [default: csv where its name ends so, else jsonl]")
    };
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let number = |name: &'static str, help: &'static str| {
        option(name, "NUMBER", help).value_parser(clap::value_parser!(u32).range(1..=32))
    };
    let json = || switch("json", "Print the result in JSON");
    let import = Command::new("import")
        .about("Add accounts that come from elsewhere, password hashes included")
        .after_help(
            "Adds the accounts of FILE: JSON Lines or CSV with the members id, email, \
             password_hash, created_at, email_verified and disabled, of which only email is \
             required. Exits with 0 where all lines were taken, and with 3 where some were \
             refused. An import of a file that was interrupted goes on where it stopped when \
             it is run again.",
        )
        .arg(file().help("The accounts; - for the standard input"))
        .arg(format())
        .arg(switch("dry-run", "Check every line and write nothing"))
        .arg(switch("skip-existing", "Pass over an email that has an account already"))
        .arg(option("report", "FILE", "Write refused lines there, not to stderr"))
        .arg(json())
        .arg(
            option("firebase-signer-key", "BASE64", "base64_signer_key of the project")
                .requires("firebase-salt-separator")
                .requires("firebase-rounds")
                .requires("firebase-mem-cost"),
        )
        .arg(
            option("firebase-salt-separator", "BASE64", "Its base64_salt_separator")
                .requires("firebase-signer-key"),
        )
        .arg(number("firebase-rounds", "Its rounds").requires("firebase-signer-key"))
        .arg(number("firebase-mem-cost", "Its mem_cost").requires("firebase-signer-key"));
    let export = Command::new("export")
        .about("Write all accounts in the form that import reads, password hashes included")
        .arg(file().help("Where to; - for the standard output"))
        .arg(format())
        .arg(json().help("Print how many there were in JSON; needs a FILE that is not -"));
    [import, export]
}

/// Runs `accounts import` or `export`.
///
/// # Errors
///
/// If the database is unavailable or does not exist, or if a file cannot be used; [`Incomplete`] if
/// lines were refused.
pub(super) async fn run(
    source: &mut Source,
    name: &str,
    flags: &ArgMatches,
) -> Result<(), Failure> {
    let database = DatabaseSettings::read(&config::DATABASE_URL, source);
    let has_webhooks = config::has_webhooks(source);
    source.finish()?;
    if name == "export" {
        let store = existing_store(&database).await?;
        let store = if has_webhooks { store.with_webhooks() } else { store };
        return export(&store, flags).await;
    }
    let firebase = firebase(flags)?;
    let store = existing_store(&database).await?;
    let store = if has_webhooks { store.with_webhooks() } else { store };
    import(&store, flags, firebase).await
}

fn text<'a>(flags: &'a ArgMatches, name: &str) -> &'a str {
    flags.get_one::<String>(name).map_or("", String::as_str)
}

fn format(flags: &ArgMatches) -> Format {
    let named_csv = Path::new(text(flags, "file"))
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    match text(flags, "format") {
        "csv" => Format::Csv,
        "" if named_csv => Format::Csv,
        _ => Format::JsonLines,
    }
}

fn firebase(flags: &ArgMatches) -> Result<Option<FirebaseParameters>, Failure> {
    if !flags.contains_id("firebase-signer-key") {
        return Ok(None);
    }
    let decoded = |name: &str| {
        STANDARD.decode(text(flags, name)).map_err(|_| format!("--{name} is not base64"))
    };
    let number = |name: &str| flags.get_one::<u32>(name).copied().unwrap_or_default();
    Ok(Some(FirebaseParameters {
        signer_key: decoded("firebase-signer-key")?,
        salt_separator: decoded("firebase-salt-separator")?,
        rounds: number("firebase-rounds"),
        memory_cost: number("firebase-mem-cost"),
    }))
}

async fn import(
    store: &Store,
    flags: &ArgMatches,
    firebase: Option<FirebaseParameters>,
) -> Result<(), Failure> {
    let path = text(flags, "file");
    let in_use = read!(store, |unit| accounts::hash_schemes(unit).await).await?;
    let mut rules = RowRules::new(firebase, in_use.iter().filter_map(|name| name.parse().ok()));
    let cannot = |error: io::Error| format!("cannot read {path}: {error}");
    let (reader, digest): (Box<dyn BufRead>, _) = match path {
        "-" => (Box::new(io::stdin().lock()), None),
        _ => {
            // A pipe can be read only once, so its import cannot be recognised when it is run again.
            let is_regular = Path::new(path).metadata().map_err(cannot)?.is_file();
            let digest = is_regular.then(|| digest(path)).transpose().map_err(cannot)?;
            (Box::new(BufReader::new(File::open(path).map_err(cannot)?)), digest)
        }
    };
    let lines = Lines::new(reader, format(flags)).map_err(cannot)?;
    let options = Options {
        dry_run: flags.get_flag("dry-run"),
        skip_existing: flags.get_flag("skip-existing"),
        digest,
    };
    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template("{spinner} line {pos}, {per_sec}, {elapsed}")?);
    let mut report = report(flags, &progress)?;
    let summary = import::run(store, lines, &mut rules, &options, &mut *report, |line| {
        progress.set_position(line)
    })
    .await?;
    progress.finish_and_clear();
    print(&summary, flags.get_flag("json"))?;
    match summary.refused {
        0 => Ok(()),
        1 => Err(Incomplete("1 line was refused".to_owned()).into()),
        refused => Err(Incomplete(format!("{refused} lines were refused")).into()),
    }
}

/// The SHA-256 of a file.
fn digest(path: &str) -> io::Result<Vec<u8>> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut context = Context::new(&SHA256);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(context.finish().as_ref().to_vec());
        }
        context.update(buffer);
        let length = buffer.len();
        reader.consume(length);
    }
}

fn print(summary: &Summary, json: bool) -> Result<(), Failure> {
    if json {
        print_line!("{}", serde_json::to_string(summary)?);
        return Ok(());
    }
    if summary.resumed_after > 0 {
        print_line!("went on after line {}", summary.resumed_after);
    }
    let Summary { imported, skipped, refused, .. } = summary;
    let would = if summary.dry_run { "would be " } else { "" };
    print_line!(
        "{imported} {would}imported, {skipped} {would}passed over, {refused} {would}refused"
    );
    Ok(())
}

/// A report to the file in `--report`, or on stderr if there is none.
fn report(flags: &ArgMatches, progress: &ProgressBar) -> Result<Box<dyn Report>, Failure> {
    let path = text(flags, "report");
    if path.is_empty() {
        return Ok(Box::new(on_stderr(progress.clone())));
    }
    let cannot = |error: io::Error| format!("cannot write {path}: {error}");
    let is_regular = Path::new(path).metadata().map_or(true, |of| of.is_file());
    let mut options = File::options();
    let file = options.read(is_regular).write(true).create(true).truncate(false).open(path);
    let mut file = file.map_err(cannot)?;
    if !is_regular {
        let write = move |line, refusal: &Refusal| file.write_all(&import::entry(line, refusal)?);
        return Ok(Box::new(ReportStream::new(write)));
    }
    let accounts = match text(flags, "file") {
        "-" => Handle::stdin(),
        accounts if Path::new(accounts).is_file() => Handle::from_path(accounts),
        _ => return Ok(Box::new(ReportFile::new(file))),
    };
    let report = Handle::from_file(file.try_clone().map_err(cannot)?).map_err(cannot)?;
    if accounts.is_ok_and(|accounts| accounts == report) {
        return Err("--report names the file of the accounts, which it would overwrite".into());
    }
    Ok(Box::new(ReportFile::new(file)))
}

fn on_stderr(progress: ProgressBar) -> impl Report {
    ReportStream::new(move |line, Refusal(reason): &Refusal| {
        #[expect(clippy::print_stderr, reason = "the answer of a command")]
        progress.suspend(|| eprintln!("line {line}: {reason}"));
        Ok(())
    })
}

async fn export(store: &Store, flags: &ArgMatches) -> Result<(), Failure> {
    let (path, json) = (text(flags, "file"), flags.get_flag("json"));
    if json && path == "-" {
        return Err("--json needs a FILE: the accounts themselves go to the standard output".into());
    }
    let out: Box<dyn Write> = match path {
        "-" => Box::new(io::stdout()),
        _ => Box::new(private(path).map_err(|error| format!("cannot write {path}: {error}"))?),
    };
    let mut out = BufWriter::new(out);
    let csv = format(flags) == Format::Csv;
    if csv {
        writeln!(out, "id,email,password_hash,created_at,email_verified,disabled")?;
    }
    let (mut after, mut exported) = (uuid::Uuid::nil(), 0);
    loop {
        let page = read!(store, |unit| accounts::page(unit, after, PAGE).await).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.id.0;
        exported += page.len();
        for account in &page {
            write(&mut out, account, csv)?;
        }
    }
    out.flush()?;
    let event = Event::AccountsExported { accounts: exported.try_into().unwrap_or(u64::MAX) };
    let origin = Origin { request_id: String::new(), traceparent: String::new() };
    let cause = Cause { actor: Actor::Operator, network: None, origin: &origin };
    transaction!(store, |unit| store.record(unit, &event, None, &cause).await).await?;
    if json {
        print_line!("{}", serde_json::json!({ "exported": exported }));
    }
    Ok(())
}

/// Creates a file that only its owner can read, because password hashes can be attacked offline.
fn private(path: &str) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    // The mode above applies only to a new file. A pipe or a device keeps its own mode.
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(file)
}

/// The only field that needs quotes in CSV is the password hash, because Argon2 hashes contain
/// commas.
fn write(out: &mut impl Write, account: &AccountRecord, csv: bool) -> io::Result<()> {
    let created_at = account.created_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let (id, email) = (account.id, account.email.as_str());
    let (verified, disabled) = (account.email_verified, account.disabled);
    let hash = account.password_hash.scheme().map(|_| account.password_hash.as_str());
    if csv {
        let hash = hash.unwrap_or_default();
        return writeln!(out, "{id},{email},\"{hash}\",{created_at},{verified},{disabled}");
    }
    let mut members = serde_json::json!({
        "id": id.to_string(),
        "email": email,
        "created_at": created_at,
        "email_verified": verified,
        "disabled": disabled,
    });
    if let (Some(hash), Some(members)) = (hash, members.as_object_mut()) {
        members.insert("password_hash".to_owned(), hash.into());
    }
    writeln!(out, "{members}")
}
