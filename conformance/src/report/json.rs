//! A run as JSON, for machines.

use serde_json::{Value, json};

use crate::report::Rerun;
use crate::runner::Run;
use crate::verdict::Verdict;

/// The version of the report's format.
pub const FORMAT: u64 = 1;

/// The whole run as one JSON object.
pub fn report(run: &Run, rerun: &Rerun) -> Value {
    let layers: Vec<Value> = run
        .by_layer()
        .into_iter()
        .map(|(layer, tally)| json!({ "layer": layer, "verdicts": tally }))
        .collect();
    let checks: Vec<Value> = run
        .checks
        .iter()
        .map(|check| {
            let mut value = serde_json::to_value(check).unwrap_or_default();
            if check.verdict == Verdict::Failed {
                value["rerun"] = rerun.line(&check.id).into();
            }
            value
        })
        .collect();
    json!({
        "format": FORMAT,
        "suite": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
        "implementation": run.implementation.to_value(),
        "seconds": run.duration.as_secs_f64(),
        "verdicts": run.tally(),
        "layers": layers,
        "leftOut": run.left_out,
        "checks": checks,
    })
}
