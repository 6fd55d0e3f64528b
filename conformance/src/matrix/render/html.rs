//! A matrix as the page for browsers: a row is a release on a runtime, a column is a part of the matrix for an
//! implementation, and each cell opens its checks.

use std::collections::BTreeMap;

use super::Judged;
use super::table::{again, headings, rows, sum, verdict};
use crate::matrix::cell::{Cell, State};
use crate::matrix::report::MatrixReport;
use crate::report::files::Format;
use crate::report::html::{Headline, page_by_setting};
use crate::report::model::{Column, Report};
use crate::run::Check;
use crate::run::verdict::Verdict;

pub(super) const FORMAT: Format<Judged> = Format {
    name: "html",
    help: "Write the matrix as a page for browsers, with the checks behind each cell",
    text: |judged| Ok(page(&judged.report)),
};

/// The page.
fn page(report: &MatrixReport) -> String {
    let (failed, word) = verdict(report);
    let headline = Headline {
        title: "Interop matrix".into(),
        failed,
        word,
        line: sum(report),
    };
    page_by_setting(&of(report), &headline)
}

/// Maps a matrix to a report: an implementation with one release on one runtime is a column, and a part is a layer.
fn of(report: &MatrixReport) -> Report {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in headings(report) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let versions: BTreeMap<&str, &str> = report
        .runtimes
        .iter()
        .filter_map(|runtime| Some((runtime.name.as_str(), runtime.version.as_deref()?)))
        .collect();
    let mut columns = Vec::new();
    for name in &names {
        for ((release, runtime), groups) in rows(report) {
            let cells: Vec<&Cell> = groups
                .iter()
                .filter(|((owner, _), _)| owner == name)
                .flat_map(|(_, group)| group.cells.iter().copied())
                .collect();
            let Some(first) = cells.first() else { continue };
            let mut column = match first.state {
                State::Unavailable => {
                    Column::unavailable(name, first.note.clone().unwrap_or_default())
                }
                _ => Column::checked(name, cells.iter().flat_map(|cell| checks(cell)).collect()),
            };
            column.release = Some(release);
            let named = |version: &&str| match runtime.starts_with("node") {
                true => format!("Node.js {version}"),
                false => format!("{runtime} {version}"),
            };
            let version = versions.get(runtime.as_str());
            column.runtime = Some(version.map_or(runtime.clone(), named));
            column.seconds = cells.iter().map(|cell| cell.seconds).sum();
            let gating = cells.iter().filter(|cell| cell.required);
            let mut required: Vec<String> =
                gating.map(|cell| cell.id.part.name().to_owned()).collect();
            required.dedup();
            column.required = Some(required);
            columns.push(column);
        }
    }
    Report {
        suite: report.suite.clone(),
        columns,
    }
}

/// The checks of a cell. Checks of drift differ from those of vectors of the same name.
fn checks(cell: &Cell) -> Vec<Check> {
    let part = cell.id.part;
    let is_of_release = part.part().is_of_release();
    let make = |id: &String| {
        let subject = match cell.id.role.as_str() {
            // The text before the first dot is a layer of the protocol, or the kind of check.
            "" => id.split('.').next().unwrap_or_default(),
            role => role,
        };
        let shown = match is_of_release {
            true => format!("{part}.{id}"),
            false => id.clone(),
        };
        Check::new(part.part().kind(), shown, part.name(), subject)
    };
    let passed = cell.passes.ids().iter().map(make);
    let failed = cell.faults.iter().map(|fault| {
        let mut check = make(&fault.id);
        let known = fault.is_known() || is_of_release && !cell.required;
        check.verdict = match known {
            true => Verdict::ExpectedFailure,
            false => Verdict::Failed,
        };
        let why = match (&fault.expected, fault.as_node) {
            (Some(why), _) => format!("\nKnown: {why}"),
            (None, true) => "\nKnown: it fails with Node in the same place as well.".into(),
            (None, false) => String::new(),
        };
        check.reason = Some(format!("{}{why}", fault.reason));
        check.rerun = (!known).then(|| format!("hypercore-conformance {}", again(&cell.id)));
        check
    });
    passed.chain(failed).collect()
}
