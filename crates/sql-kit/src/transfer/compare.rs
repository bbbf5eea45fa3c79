//! Compares a table in both databases, row by row and column by column, in key order. Rows are streamed, so
//! neither table is held in memory.

use std::{cmp::Ordering, pin::Pin};

use futures_util::{Stream, StreamExt as _};

use super::{BATCH_ROWS, TransferError, cell::Row, schema::Table, side::Side};

/// A stream of rows.
pub(super) type Rows<'a> = Pin<Box<dyn Stream<Item = Result<Row, TransferError>> + Send + 'a>>;

/// The result of comparing a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Comparison {
    /// The rows of the source.
    pub(super) source: u64,
    /// The rows of the destination.
    pub(super) destination: u64,
    /// The rows that only the source has.
    pub(super) missing: u64,
    /// The rows that only the destination has, plus those that differ.
    pub(super) foreign: u64,
    /// The first column that differs.
    column: Option<String>,
}

impl Comparison {
    /// The result for a destination without rows.
    pub(super) fn nothing_yet(source: u64) -> Self {
        Self { source, missing: source, ..Self::default() }
    }

    pub(super) const fn is_equal(&self) -> bool {
        self.missing == 0 && self.foreign == 0 && self.source == self.destination
    }

    pub(super) fn describe(&self, table: &str) -> String {
        let column = self.column.as_ref().map(|column| format!(", the first in column {column}"));
        format!(
            "table {table} has {} rows in the source and {} in the destination, of which {} are missing there \
             and {} are not in the source or differ{}",
            self.source,
            self.destination,
            self.missing,
            self.foreign,
            column.unwrap_or_default()
        )
    }
}

pub(super) async fn next(rows: &mut Rows<'_>) -> Result<Option<Row>, TransferError> {
    rows.next().await.transpose()
}

/// Compares the rows of a table. `note` is called from time to time with the number of compared rows of the
/// source.
pub(super) async fn compare(
    from: &mut Side,
    to: &mut Side,
    table: &Table,
    mut note: impl FnMut(u64),
) -> Result<Comparison, TransferError> {
    let (mut ours, mut theirs) = (from.rows(table)?, to.rows(table)?);
    let (mut one, mut other) = (next(&mut ours).await?, next(&mut theirs).await?);
    let mut found = Comparison::default();
    loop {
        let order = match (&one, &other) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => table.compare_keys(one, other),
        };
        match order {
            Ordering::Less => found.missing += 1,
            Ordering::Greater => found.foreign += 1,
            Ordering::Equal => {
                if let Some(column) = differing(table, one.as_ref(), other.as_ref()) {
                    found.foreign += 1;
                    found.column.get_or_insert(column);
                }
            }
        }
        if order.is_le() {
            found.source += 1;
            one = next(&mut ours).await?;
            if found.source.is_multiple_of(BATCH_ROWS as u64) || one.is_none() {
                note(found.source);
            }
        }
        if order.is_ge() {
            found.destination += 1;
            other = next(&mut theirs).await?;
        }
    }
    Ok(found)
}

/// The first column in which two rows differ.
fn differing(table: &Table, one: Option<&Row>, other: Option<&Row>) -> Option<String> {
    let pairs = one?.iter().zip(other?);
    let mut named = table.columns.iter().zip(pairs);
    named.find(|(_, (one, other))| one != other).map(|(column, _)| column.name.clone())
}
