//! Values in a form that both engines share. Nothing is rounded or reinterpreted: a time is its number of
//! microseconds, and an id is its sixteen bytes.

/// A value. Values of one column are ordered as in both engines: by number, or byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, in the order of the table's columns.
pub(super) type Row = Vec<Cell>;

/// The kind of values in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Int,
    Text,
    Bytes,
}
