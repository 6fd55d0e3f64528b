//! A matrix on the terminal: a row for each release and runtime, a column for each part and implementation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cell::{Cell, CellId, NODE, Part, State};
use super::report::MatrixReport;
use crate::term::Paint;

/// How many lines of faults are told of one cell.
const TOLD: usize = 3;

/// All cells of one part of one implementation in one row, as one.
#[derive(Clone, Debug, Default)]
pub(super) struct Group<'a> {
    pub(super) cells: Vec<&'a Cell>,
}

impl Group<'_> {
    /// The worst state of its cells.
    pub(super) fn state(&self) -> Option<State> {
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

    /// Checks that count against it.
    pub(super) fn faults(&self) -> usize {
        self.cells.iter().map(|cell| cell.faults.len()).sum()
    }

    pub(super) fn passed(&self) -> usize {
        self.cells.iter().map(|cell| cell.passed).sum()
    }

    pub(super) fn required(&self) -> bool {
        self.cells.iter().any(|cell| cell.required)
    }

    /// Whether each of its faults is known, or Node's as well.
    pub(super) fn known(&self) -> bool {
        self.cells.iter().all(|cell| cell.is_known())
    }
}

/// A column: whose, and which part.
pub(super) type Heading = (String, Part);

/// A row: release and runtime.
pub(super) type Row = (String, String);

/// The columns of a report, in order.
pub(super) fn headings(report: &MatrixReport) -> Vec<Heading> {
    let mut headings = vec![(NODE.to_owned(), Part::Drift)];
    for name in &report.implementations {
        for part in [Part::Vectors, Part::Live, Part::Replication] {
            headings.push((name.clone(), part));
        }
    }
    headings.retain(|(name, part)| {
        let mut cells = report.cells.iter();
        cells.any(|cell| cell.id.implementation == *name && cell.id.part == *part)
    });
    headings
}

/// The rows of a report, in order, each with its groups.
pub(super) fn rows(report: &MatrixReport) -> Vec<(Row, BTreeMap<Heading, Group<'_>>)> {
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

fn short(group: &Group<'_>) -> String {
    let faults = group.faults();
    match group.state() {
        None => String::new(),
        Some(State::Passed) => format!("{}", group.passed()),
        Some(State::Unsupported) => "–".into(),
        Some(State::Limited) => format!("~{faults}"),
        Some(State::Drifted) => format!("≠{faults}"),
        Some(State::Unavailable) => "n/a".into(),
        Some(State::Failed) if group.known() => format!("x{faults}"),
        Some(State::Failed) => format!("!{faults}"),
    }
}

/// What a matrix came to, for people.
pub(super) fn text(report: &MatrixReport, paint: &Paint) -> String {
    let mut out = String::new();
    let headings = headings(report);
    let rows = rows(report);
    if !rows.is_empty() {
        let title = |(name, part): &Heading| {
            if *part == Part::Drift {
                "drift".into()
            } else {
                format!("{name} {part}")
            }
        };
        let titles: Vec<String> = headings.iter().map(title).collect();
        let _ = write!(out, "\n  {:<10} {:<8}", "release", "runtime");
        for title in &titles {
            let _ = write!(out, "  {title:>9}");
        }
        out.push('\n');
        for ((release, runtime), groups) in &rows {
            let _ = write!(out, "  {release:<10} {runtime:<8}");
            for (heading, title) in headings.iter().zip(&titles) {
                let group = groups.get(heading).cloned().unwrap_or_default();
                let style = match group.state() {
                    Some(State::Passed) => &paint.good,
                    Some(State::Failed) if !group.known() => &paint.bad,
                    Some(State::Failed | State::Limited | State::Drifted | State::Unavailable) => {
                        &paint.doubtful
                    }
                    _ => &paint.faint,
                };
                let width = title.chars().count().max(9);
                let text = format!("{:>width$}", short(&group));
                let _ = write!(out, "  {}", style.apply_to(text));
            }
            out.push('\n');
        }
        out += "\n  A number: so many checks passed. ~ limited as Node is, ≠ drifted, x failed as expected, ! failed, – unsupported, n/a not to be had.\n";
    }
    for subject in report.releases.iter().chain(&report.runtimes) {
        if let Some(reason) = &subject.unavailable {
            let _ = writeln!(
                out,
                "\n{} is not to be had:",
                paint.strong.apply_to(&subject.name)
            );
            for line in reason.lines() {
                let _ = writeln!(out, "  {line}");
            }
        }
    }
    tell_judgement(&mut out, report, paint);
    if let Some(changes) = &report.changes {
        let _ = writeln!(out, "\n{} changes since the baseline", changes.len());
        for change in changes {
            let state = |state: Option<State>| state.map_or("absent", State::name);
            let _ = writeln!(
                out,
                "  {}: {} → {}",
                change.cell,
                state(change.before),
                state(change.now)
            );
            let list = |sign: &str, ids: &[String], out: &mut String| {
                for id in ids.iter().take(TOLD) {
                    let _ = writeln!(out, "    {sign} {id}");
                }
                if ids.len() > TOLD {
                    let _ = writeln!(out, "    {sign} and {} more", ids.len() - TOLD);
                }
            };
            list("now fails:", &change.failing, &mut out);
            list("mended:", &change.mended, &mut out);
        }
    }
    out
}

fn tell_judgement(out: &mut String, report: &MatrixReport, paint: &Paint) {
    let judgement = &report.judgement;
    for id in &judgement.regressions {
        let Some(cell) = report.cells.iter().find(|cell| cell.id == *id) else {
            continue;
        };
        let _ = writeln!(
            out,
            "\n{} {id} is required, and {}",
            paint.bad.apply_to("✗"),
            cell.state
        );
        let unknown: Vec<_> = cell
            .faults
            .iter()
            .filter(|fault| !fault.is_known())
            .collect();
        for fault in unknown.iter().take(TOLD) {
            let _ = writeln!(out, "    {}: {}", fault.id, fault.reason);
        }
        if unknown.len() > TOLD {
            let _ = writeln!(out, "    and {} more", unknown.len() - TOLD);
        }
        let _ = writeln!(out, "    again: hypercore-conformance {}", again(id));
    }
    for pass in &judgement.passes {
        let _ = writeln!(
            out,
            "\n{} {} was expected to fail {} and did not: {}",
            paint.bad.apply_to("✗"),
            pass.cell,
            pass.checks,
            pass.reason
        );
    }
    for id in &judgement.missing {
        let _ = writeln!(
            out,
            "\n{} {id} is required, and not to be had",
            paint.bad.apply_to("✗")
        );
    }
    let _ = writeln!(out, "\n{}", sum(report));
    let (bad, words) = verdict(report);
    let style = if bad { &paint.bad } else { &paint.good };
    let _ = writeln!(out, "{}", style.apply_to(words));
}

/// How many cells came out how.
pub(super) fn sum(report: &MatrixReport) -> String {
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

/// Whether it is not as it should be, and what it is called.
pub(super) fn verdict(report: &MatrixReport) -> (bool, String) {
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

/// The arguments that run a cell again.
pub(super) fn again(id: &CellId) -> String {
    format!(
        "matrix --release {} --runtime {} --part {}",
        id.release,
        runtime_spec(&id.runtime),
        id.part
    )
}

/// What the command line calls a runtime.
fn runtime_spec(name: &str) -> &str {
    name.strip_prefix("node").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::cell::Fault;
    use super::super::report::of_cells;
    use super::*;

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
