//! A run as JSON, for machines; `conformance/schema/report.schema.json` describes it.

use serde_json::Value;

use crate::report::Rerun;
use crate::report::model::{Column, Report};
use crate::run::Run;

/// The whole run as one JSON object.
pub fn report(run: &Run, rerun: &Rerun) -> Value {
    Report::of(Column::new(run, rerun)).to_value()
}
