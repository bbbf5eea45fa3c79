//! Adds the accounts of an import in batches. Each transaction also stores the progress, so that an
//! interrupted import continues where it stopped.

use std::{
    collections::HashSet,
    io::{self, BufRead},
};

use outbox::Origin;
use sql_kit::{read, transaction};
use uuid::Uuid;

use super::{Lines, Refusal, Report, Row, RowRules};
use crate::{
    events::{Actor, Cause, Event},
    store::{Store, StoreError, deletions, imports},
};

/// The number of lines per transaction (the batch size).
const BATCH: usize = 500;

/// How many deletions one query reads.
const DELETIONS_PAGE: u32 = 10_000;
const DELETED: &str = "id is that of a deleted account, which other services refuse for good: leave it out, \
                       and a new one is made";

/// The options of an import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether to check the lines without writing anything.
    pub dry_run: bool,
    /// Whether to skip emails that already have an account, instead of refusing their lines.
    pub skip_existing: bool,
    /// The SHA-256 of the file, which identifies an interrupted import. Absent if the file cannot be
    /// read twice, as with a pipe.
    pub digest: Option<Vec<u8>>,
}

/// The result of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Lines that were read, without the empty ones.
    pub lines: u64,
    /// Accounts that were added.
    pub imported: u64,
    /// Accounts that already existed and were skipped.
    pub skipped: u64,
    /// Lines that were refused.
    pub refused: u64,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The line up to which an interrupted earlier run had come; 0 if there was none. The other numbers
    /// include that run.
    pub resumed_after: u64,
}

impl Summary {
    /// Counts the lines of a batch, too.
    fn with(mut self, outcomes: &[Outcome]) -> Self {
        for outcome in outcomes {
            self.lines += 1;
            match outcome {
                Outcome::Imported => self.imported += 1,
                Outcome::Skipped => self.skipped += 1,
                Outcome::Refused(_) => self.refused += 1,
            }
        }
        self
    }
}

/// Why an import ends early. The accounts that were added until then stay.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read the accounts: {0}")]
    Io(#[from] io::Error),
    /// The refused lines cannot be reported.
    #[error("cannot write the report: {0}")]
    Report(io::Error),
    /// The database failed.
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
}

/// The outcome of a line.
#[derive(PartialEq, Eq)]
enum Outcome {
    Imported,
    Skipped,
    Refused(Refusal),
}

/// Adds the accounts of `lines`. Calls `progress` with the number of the last line of each batch.
///
/// # Errors
///
/// If the file cannot be read, the report cannot be written, or the database is unavailable.
pub async fn run<R: BufRead>(
    store: &Store,
    mut lines: Lines<R>,
    rules: &mut RowRules,
    options: &Options,
    report: &mut dyn Report,
    mut progress: impl FnMut(u64),
) -> Result<Summary, ImportError> {
    let digest = options.digest.as_deref();
    let mut summary = match digest {
        Some(digest) => read!(store, |unit| imports::find(unit, digest).await).await?,
        None => None,
    }
    .unwrap_or_default();
    summary.dry_run = options.dry_run;
    report.go_on_after(summary.resumed_after, summary.refused).map_err(ImportError::Report)?;
    let deleted = deleted_accounts(store).await?;
    let mut import = Import { store, options, digest, report, seen: Seen::default() };
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let mut last = 0;
        let now = store.now();
        while batch.len() < BATCH
            && let Some((number, members)) = lines.next()?
        {
            last = number;
            let row = members.and_then(|members| rules.read(members, now));
            let is_deleted = row.as_ref().is_ok_and(|row| deleted.contains(&row.id.0));
            let row = if is_deleted { Err(Refusal(DELETED.to_owned())) } else { row };
            if number > summary.resumed_after {
                batch.push((number, row));
            }
        }
        if last == 0 && batch.is_empty() {
            break;
        }
        summary = match options.dry_run {
            true => import.check(&batch, summary).await?,
            false => import.add(&batch, last, summary).await?,
        };
        progress(last);
    }
    let origin = Origin { request_id: String::new(), traceparent: String::new() };
    let cause = Cause { actor: Actor::Operator, network: None, origin: &origin };
    let event = Event::AccountsImported { taken: summary.imported, refused: summary.refused };
    if !options.dry_run {
        let ended = transaction!(store, |unit| {
            if let Some(digest) = digest {
                imports::remove(unit, digest).await?;
            }
            if summary.imported > 0 {
                store.record(unit, &event, None, &cause).await?;
            }
            Ok(())
        });
        ended.await?;
    }
    Ok(summary)
}

/// The ids and emails that a dry run has seen, to find duplicates. It cannot find them in the database,
/// because it adds nothing there.
#[derive(Default)]
struct Seen {
    emails: HashSet<String>,
    ids: HashSet<Uuid>,
}

impl Seen {
    fn conflict(&mut self, row: &Row) -> Option<imports::Conflict> {
        if self.emails.contains(row.email.as_str()) {
            return Some(imports::Conflict::Email);
        }
        if !self.ids.insert(row.id.0) {
            return Some(imports::Conflict::Id);
        }
        self.emails.insert(row.email.as_str().to_owned());
        None
    }
}

/// Lines with their numbers.
type Batch = [(u64, Result<Row, Refusal>)];

/// An import under way.
struct Import<'a> {
    store: &'a Store,
    options: &'a Options,
    digest: Option<&'a [u8]>,
    report: &'a mut dyn Report,
    seen: Seen,
}

impl Import<'_> {
    /// Finds out what would become of each line. Returns the summary with this batch.
    async fn check(&mut self, batch: &Batch, summary: Summary) -> Result<Summary, ImportError> {
        let stored = read!(self.store, |unit| {
            let mut stored = Vec::with_capacity(batch.len());
            for (_, row) in batch {
                stored.push(match row {
                    Ok(row) => imports::conflict(unit, row).await?,
                    Err(_) => None,
                });
            }
            Ok(stored)
        });
        let mut outcomes = Vec::with_capacity(batch.len());
        for ((_, row), stored) in batch.iter().zip(stored.await?) {
            outcomes.push(match row {
                Err(refusal) => Outcome::Refused(refusal.clone()),
                Ok(row) => {
                    let conflict = stored.or_else(|| self.seen.conflict(row));
                    self.outcome(conflict)
                }
            });
        }
        self.report(batch, &outcomes)?;
        self.report.committed().map_err(ImportError::Report)?;
        Ok(summary.with(&outcomes))
    }

    /// Adds the accounts, and notes that the import has come to the line `last`. Returns the summary with
    /// this batch.
    ///
    /// What is refused must be reported before the commit, because an interruption after it would lose that,
    /// and not in the transaction, because whoever reads the report may be slow. So the outcomes are
    /// predicted; if they turn out to be others, nothing is committed, and these are the next prediction.
    async fn add(
        &mut self,
        batch: &Batch,
        last: u64,
        summary: Summary,
    ) -> Result<Summary, ImportError> {
        let mut predicted: Vec<_> = batch
            .iter()
            .map(|(_, row)| match row {
                Err(refusal) => Outcome::Refused(refusal.clone()),
                Ok(_) => Outcome::Imported,
            })
            .collect();
        loop {
            self.report(batch, &predicted)?;
            let (this, expected) = (&*self, &predicted);
            let added = transaction!(this.store, |unit| {
                let mut outcomes = Vec::with_capacity(batch.len());
                for (_, row) in batch {
                    outcomes.push(match row {
                        Err(refusal) => Outcome::Refused(refusal.clone()),
                        Ok(row) => this.outcome(imports::insert(unit, row).await?),
                    });
                }
                if outcomes != *expected {
                    unit.abandon();
                } else if let Some(digest) = this.digest {
                    let reached = last.max(summary.resumed_after);
                    imports::note(unit, digest, reached, &summary.with(&outcomes)).await?;
                }
                Ok(outcomes)
            });
            let outcomes = added.await?;
            if outcomes == predicted {
                self.report.committed().map_err(ImportError::Report)?;
                return Ok(summary.with(&outcomes));
            }
            predicted = outcomes;
        }
    }

    fn outcome(&self, conflict: Option<imports::Conflict>) -> Outcome {
        match conflict {
            None => Outcome::Imported,
            Some(imports::Conflict::Email) if self.options.skip_existing => Outcome::Skipped,
            Some(imports::Conflict::Email) => {
                Outcome::Refused(Refusal("email has an account already".to_owned()))
            }
            Some(imports::Conflict::Id) => {
                Outcome::Refused(Refusal("id is that of another account".to_owned()))
            }
        }
    }

    /// Reports the refused lines of a batch.
    fn report(&mut self, batch: &Batch, outcomes: &[Outcome]) -> Result<(), ImportError> {
        let refused: Vec<_> = batch
            .iter()
            .zip(outcomes)
            .filter_map(|((number, _), outcome)| match outcome {
                Outcome::Refused(reason) => Some((*number, reason)),
                Outcome::Imported | Outcome::Skipped => None,
            })
            .collect();
        self.report.batch(&refused).map_err(ImportError::Report)
    }
}

/// The accounts that were deleted. Other services refuse them for good, so their ids cannot be used
/// again.
async fn deleted_accounts(store: &Store) -> Result<HashSet<Uuid>, StoreError> {
    let (mut ids, mut position) = (HashSet::new(), 0);
    loop {
        let page = read!(store, |unit| deletions::after(unit, position, DELETIONS_PAGE).await);
        let page = page.await?;
        let Some(last) = page.last() else { return Ok(ids) };
        position = last.position;
        ids.extend(page.iter().map(|deletion| deletion.account.0));
    }
}
