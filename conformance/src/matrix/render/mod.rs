//! Renderings of a matrix, as text and as files.

pub(super) mod history;
mod html;
mod markdown;
pub(super) mod table;
pub(super) mod terminal;

use super::gate::Rules;
use super::report::MatrixReport;
use crate::report::files::{Format, Formats};

/// A judged matrix.
#[derive(Clone, Debug)]
pub(in crate::matrix) struct Judged {
    pub(super) report: MatrixReport,
    pub(super) rules: Rules,
}

/// The output formats of a matrix.
#[derive(Clone, Copy, Debug)]
pub(in crate::matrix) enum OfMatrix {}

impl Formats for OfMatrix {
    type Report = Judged;
    const FORMATS: &'static [Format<Judged>] =
        &[JSON, markdown::FORMAT, html::FORMAT, history::FORMAT];
}

const JSON: Format<Judged> = Format {
    name: "json",
    help: "Write the report as JSON",
    text: |judged| Ok(judged.report.to_json()),
};
