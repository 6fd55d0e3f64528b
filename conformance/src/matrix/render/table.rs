//! A matrix as a table: a row for each release and runtime, a column for each part and implementation.

use std::collections::BTreeMap;

use crate::matrix::cell::{Cell, CellId, NODE, PartId, State};
use crate::matrix::report::MatrixReport;

/// All cells of one part of one implementation in one row, combined.
#[derive(Clone, Debug, Default)]
pub(in crate::matrix) struct Group<'a> {
    pub(in crate::matrix) cells: Vec<&'a Cell>,
}

impl Group<'_> {
    /// The worst state of its cells.
    pub(in crate::matrix) fn state(&self) -> Option<State> {
        let rank = |state: State| match state {
            State::Passed => 0,
            State::Unsupported => 1,
            State::Limited => 2,
            State::Drifted => 3,
            State::Unavailable => 4,
            State::Failed => 5,
        };
        self.cells
            .iter()
            .map(|cell| cell.state)
            .max_by_key(|state| rank(*state))
    }

    /// The number of faults.
    pub(in crate::matrix) fn faults(&self) -> usize {
        self.cells.iter().map(|cell| cell.faults.len()).sum()
    }

    pub(in crate::matrix) fn passed(&self) -> usize {
        self.cells.iter().map(|cell| cell.passed).sum()
    }

    pub(in crate::matrix) fn required(&self) -> bool {
        self.cells.iter().any(|cell| cell.required)
    }

    /// Whether each of its faults is known, or Node's as well.
    pub(in crate::matrix) fn known(&self) -> bool {
        self.cells.iter().all(|cell| cell.is_known())
    }
}

/// A column: implementation and part.
pub(in crate::matrix) type Heading = (String, PartId);

/// A row: release and runtime.
pub(in crate::matrix) type Row = (String, String);

/// The columns of a report, in order.
pub(in crate::matrix) fn headings(report: &MatrixReport) -> Vec<Heading> {
    let (of_release, others): (Vec<PartId>, Vec<_>) =
        PartId::all().partition(|part| part.part().is_of_release());
    let columns = |name: &str, parts: &[PartId]| -> Vec<Heading> {
        parts.iter().map(|part| (name.to_owned(), *part)).collect()
    };
    let mut headings = columns(NODE, &of_release);
    for name in &report.implementations {
        headings.extend(columns(name, &others));
    }
    headings.retain(|(name, part)| {
        let mut cells = report.cells.iter();
        cells.any(|cell| cell.id.implementation == *name && cell.id.part == *part)
    });
    headings
}

/// The rows of a report, in order, each with its groups.
pub(in crate::matrix) fn rows(report: &MatrixReport) -> Vec<(Row, BTreeMap<Heading, Group<'_>>)> {
    let mut rows: Vec<(Row, BTreeMap<Heading, Group<'_>>)> = Vec::new();
    for cell in report.asked_cells() {
        let row = (cell.id.release.clone(), cell.id.runtime.clone());
        let heading = (cell.id.implementation.clone(), cell.id.part);
        let at = rows
            .iter()
            .position(|(other, _)| *other == row)
            .unwrap_or_else(|| {
                rows.push((row, BTreeMap::new()));
                rows.len() - 1
            });
        rows[at].1.entry(heading).or_default().cells.push(cell);
    }
    rows.sort_by_cached_key(|((release, runtime), _)| {
        (semver::Version::parse(release).ok(), runtime.clone())
    });
    rows
}

/// The title of a column: for a part of the release alone, that part.
pub(in crate::matrix) fn title((name, part): &Heading, between: &str) -> String {
    match part.part().is_of_release() {
        true => part.to_string(),
        false => format!("{name}{between}{part}"),
    }
}

/// The number of cells in each state.
pub(in crate::matrix) fn sum(report: &MatrixReport) -> String {
    let count = |of: &dyn Fn(&Cell) -> bool| report.asked_cells().filter(|cell| of(cell)).count();
    let in_state = |state: State| count(&|cell| cell.state == state);
    let failed =
        |known: bool| count(&|cell| cell.state == State::Failed && cell.is_known() == known);
    format!(
        "{} cells in {:.0} s: {} passed, {} limited as Node is, {} drifted, {} failed as expected, {} failed, {} unsupported, {} not to be had; {} are required.",
        count(&|_| true),
        report.seconds,
        in_state(State::Passed),
        in_state(State::Limited),
        in_state(State::Drifted),
        failed(true),
        failed(false),
        in_state(State::Unsupported),
        in_state(State::Unavailable),
        count(&|cell| cell.required),
    )
}

/// Whether the result is a failure, and its name.
pub(in crate::matrix) fn verdict(report: &MatrixReport) -> (bool, String) {
    let judgement = &report.judgement;
    let (regressions, passes) = (judgement.regressions.len(), judgement.passes.len());
    if regressions + passes > 0 {
        let told = format!("REGRESSED: {regressions} required cells, {passes} unexpected passes");
        return (true, told);
    }
    if judgement.missing.is_empty() && !report.lacks_something_here() {
        (false, "AS EXPECTED".into())
    } else {
        (true, "INCOMPLETE".into())
    }
}

/// The arguments that rerun a cell.
pub(in crate::matrix) fn again(id: &CellId) -> String {
    format!(
        "matrix --release {} --runtime {} --part {}",
        id.release,
        runtime_spec(&id.runtime),
        id.part
    )
}

/// The name of a runtime on the command line.
fn runtime_spec(name: &str) -> &str {
    name.strip_prefix("node").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::cell::Fault;
    use crate::matrix::report::of_cells;

    #[test]
    fn what_fails_as_expected_is_counted_by_itself() {
        let cell = |id: &str, expected: &[Option<&str>]| {
            let mut cell = Cell::new(CellId::try_from(id.to_owned()).expect("an id"));
            cell.passed = 3;
            let fault = |expected: &Option<&str>| Fault {
                expected: expected.map(str::to_owned),
                ..Fault::new("live.a", "x")
            };
            cell.faults = expected.iter().map(fault).collect();
            cell.settle();
            cell
        };
        let report = of_cells(vec![
            cell("some/1.0.0/node20/live/initiator", &[]),
            cell("some/1.0.0/node20/live/responder", &[Some("old")]),
            cell("some/2.0.0/node20/live/initiator", &[Some("old"), None]),
        ]);
        let told = sum(&report);
        let expected = "1 passed, 0 limited as Node is, 0 drifted, 1 failed as expected, 1 failed,";
        assert!(told.contains(expected), "{told}");
    }
}
