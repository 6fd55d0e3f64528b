//! A matrix on the terminal.

use std::fmt::Write as _;

use super::table::{Group, again, headings, rows, sum, title, verdict};
use crate::matrix::cell::State;
use crate::matrix::report::MatrixReport;
use crate::term::Paint;

/// How many lines of faults are shown of one cell.
const TOLD: usize = 3;

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

/// A matrix's results as text.
pub(in crate::matrix) fn text(report: &MatrixReport, paint: &Paint) -> String {
    let mut out = String::new();
    let headings = headings(report);
    let rows = rows(report);
    if !rows.is_empty() {
        let titles: Vec<String> = headings.iter().map(|heading| title(heading, " ")).collect();
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
