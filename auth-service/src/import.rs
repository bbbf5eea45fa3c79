//! Imports accounts: they are read line by line, checked, and added in batches.

mod add;
mod lines;
mod report;
mod row;

pub use self::{
    add::{ImportError, Options, Summary, run},
    lines::{Format, Lines},
    report::{Report, ReportFile, ReportStream, entry},
    row::{Refusal, Row, RowRules},
};
