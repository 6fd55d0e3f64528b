//! A run as JSON, for machines; `conformance/schema/report.schema.json` describes it.

use crate::report::Finished;
use crate::report::files::Format;
use crate::report::model::{Column, Report};

pub(super) const OF_RUN: Format<Finished> = Format {
    name: "json",
    help: "Write a JSON report",
    text: |Finished { run, rerun }| Ok(Report::of(Column::new(run, rerun)).to_json()),
};

pub(super) const OF_MANY: Format<Report> = Format {
    name: OF_RUN.name,
    help: OF_RUN.help,
    text: |report| Ok(report.to_json()),
};
