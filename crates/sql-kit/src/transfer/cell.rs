//! Values in the form that both engines share. Nothing is rounded or reinterpreted on the way: a time is the
//! number of its microseconds, an id its sixteen bytes.

/// A value. Values of one column compare as both engines order them: by number, or byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, in the order of the table's columns.
pub(super) type Row = Vec<Cell>;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Int,
    Text,
    Bytes,
}
