//! The results of a run: failures, a table, and a summary line.

use std::fmt::Write as _;

use indicatif::HumanCount;
use serde_json::Value;

use super::difference::{describe, shorten};
use crate::report::Rerun;
use crate::run::verdict::Verdict;
use crate::run::{Check, Kind, Run, Tally};
use crate::term::Paint;

/// How many failures are shown in full by default.
const SHOWN_FAILURES: usize = 10;

/// How many differences of one check are shown.
const SHOWN_DIFFERENCES: usize = 6;

/// Everything printed after a run.
pub fn report(run: &Run, rerun: &Rerun, verbose: bool, paint: &Paint) -> String {
    let mut out = String::from("\n");
    failures(&mut out, run, rerun, verbose, paint);
    remarks(&mut out, run, verbose, paint);
    table(&mut out, run, paint);
    summary(&mut out, run, verbose, paint);
    out
}

fn failures(out: &mut String, run: &Run, rerun: &Rerun, verbose: bool, paint: &Paint) {
    let failed: Vec<&Check> = run
        .checks
        .iter()
        .filter(|check| check.verdict.fails_the_run())
        .collect();
    let shown = if verbose {
        failed.len()
    } else {
        SHOWN_FAILURES
    };
    for check in failed.iter().take(shown) {
        out.push_str(&failure(check, rerun, paint));
        out.push('\n');
    }
    if failed.len() > shown {
        let _ = writeln!(
            out,
            "… and {} more failed; -v shows all, --json FILE keeps all\n",
            failed.len() - shown
        );
    }
}

/// A line for each check that needs a remark though it does not fail: always for flaky checks, the rest if verbose.
fn remarks(out: &mut String, run: &Run, verbose: bool, paint: &Paint) {
    let mut any = false;
    for check in &run.checks {
        let wanted = match check.verdict {
            Verdict::Flaky => true,
            Verdict::NonStrict | Verdict::Informational | Verdict::ExpectedFailure => verbose,
            _ => false,
        };
        if !wanted {
            continue;
        }
        let reason = check.reason.as_deref().unwrap_or_default();
        let reason = reason.lines().next().unwrap_or_default();
        let _ = write!(
            out,
            "{} {}",
            paint.verdict(check.verdict).apply_to(check.verdict),
            check.id
        );
        if let (Verdict::Flaky, Some(outcome)) = (check.verdict, check.outcome) {
            let _ = write!(out, ": {outcome} this time");
        }
        if !reason.is_empty() {
            let _ = write!(out, ": {reason}");
        }
        if let Some(listed) = &check.listed {
            let _ = write!(
                out,
                "\n  {}",
                paint
                    .faint
                    .apply_to(format_args!("listed: {} ({})", listed.reason, listed.link))
            );
        }
        out.push('\n');
        any = true;
    }
    if any {
        out.push('\n');
    }
}

/// One failed check: its id, the expected and the actual value, and its rerun command.
pub fn failure(check: &Check, rerun: &Rerun, paint: &Paint) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} {}",
        paint.bad.apply_to(match check.verdict {
            Verdict::UnexpectedPass => "UNEXPECTED PASS",
            _ => "FAILED",
        }),
        paint.strong.apply_to(&check.id)
    );
    let mut line = |name: &str, text: &str| {
        for (at, text) in text.lines().enumerate() {
            let name = if at == 0 { name } else { "" };
            let _ = writeln!(
                out,
                "  {} {text}",
                paint.faint.apply_to(format_args!("{name:<9}"))
            );
        }
    };
    line("shows", &check.comment);
    if !check.clauses.is_empty() {
        line("clauses", &check.clauses.join(", "));
    }
    if !check.flags.is_empty() {
        line("flags", &check.flags.join(", "));
    }
    if let Some(op) = &check.op {
        let input = check.input.as_ref().map(shorten).unwrap_or_default();
        line("asked", &format!("{op} {input}"));
    }
    if let Some(reason) = &check.reason {
        let painted: Vec<String> = reason
            .lines()
            .map(|line| paint.bad.apply_to(line).to_string())
            .collect();
        line("because", &painted.join("\n"));
    }
    if check.differences.is_empty() {
        if let Some(expected) = &check.expected {
            line("expected", &shorten(expected));
        }
        if let Some(actual) = &check.actual {
            line("actual", &shorten(actual));
        }
    }
    for difference in check.differences.iter().take(SHOWN_DIFFERENCES) {
        line("at", &describe(difference, paint));
    }
    if check.differences.len() > SHOWN_DIFFERENCES {
        line(
            "",
            &format!(
                "… and {} more differences",
                check.differences.len() - SHOWN_DIFFERENCES
            ),
        );
    }
    if let Some(node) = &check.node {
        let text = |name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default();
        let message = text("message");
        line(
            "node",
            &if message.is_empty() {
                text("outcome").into()
            } else {
                format!("{}: {message}", text("outcome"))
            },
        );
    }
    if let Some(stderr) = &check.stderr {
        let lines: Vec<&str> = stderr.trim_end().lines().collect();
        line(
            "stderr",
            &lines[lines.len().saturating_sub(12)..].join("\n"),
        );
    }
    if let Some(listed) = &check.listed {
        line("listed", &format!("{:?}, see {}", listed.id, listed.link));
    }
    if check.kind != Kind::Suite {
        line("rerun", &rerun.line(&check.id));
    }
    out
}

/// The columns of the table after the layer and the number of checks: the verdict, its heading and width, and whether
/// it is left out if empty.
const COLUMNS: [(Verdict, &str, usize, bool); 8] = [
    (Verdict::Ok, "ok", 8, false),
    (Verdict::NonStrict, "non-strict", 12, false),
    (Verdict::Informational, "informational", 15, true),
    (Verdict::Failed, "failed", 8, false),
    (Verdict::UnexpectedPass, "unexpected", 12, true),
    (Verdict::ExpectedFailure, "expected", 10, true),
    (Verdict::Flaky, "flaky", 7, true),
    (Verdict::Unsupported, "unsupported", 13, false),
];

fn table(out: &mut String, run: &Run, paint: &Paint) {
    let layers = run.by_layer();
    let total = run.tally();
    let columns = || {
        COLUMNS
            .into_iter()
            .filter(|&(verdict, _, _, optional)| !optional || total.count(verdict) > 0)
    };
    let mut heading = format!("{:<14}{:>8}", "layer", "checks");
    for (_, name, width, _) in columns() {
        let _ = write!(heading, "{name:>width$}");
    }
    let _ = writeln!(out, "  {}", paint.faint.apply_to(heading));
    let cell = |count: usize, width: usize, verdict: Verdict| {
        if count == 0 {
            return paint.faint.apply_to(format!("{:>width$}", "·")).to_string();
        }
        paint
            .verdict(verdict)
            .apply_to(format!("{:>width$}", HumanCount(count as u64).to_string()))
            .to_string()
    };
    let mut row = |name: &str, tally: &Tally| {
        let total = HumanCount(tally.total() as u64).to_string();
        let cells =
            columns().map(|(verdict, _, width, _)| cell(tally.count(verdict), width, verdict));
        let _ = writeln!(out, "  {name:<14}{total:>8}{}", cells.collect::<String>());
    };
    for (layer, tally) in &layers {
        row(layer, tally);
    }
    if layers.len() > 1 {
        row("total", &total);
    }
    out.push('\n');
}

fn summary(out: &mut String, run: &Run, verbose: bool, paint: &Paint) {
    let tally = run.tally();
    let count = |kind: Kind| {
        run.checks
            .iter()
            .filter(|check| check.kind == kind && check.verdict != Verdict::Unsupported)
            .count()
    };
    let named = |count: usize, what: &str| {
        format!(
            "{} {what}{}",
            HumanCount(count as u64),
            if count == 1 { "" } else { "s" }
        )
    };
    let mut ran = named(count(Kind::Vector), "vector");
    if count(Kind::Live) > 0 {
        ran = format!("{ran} and {}", named(count(Kind::Live), "live scenario"));
    }
    for what in &run.left_out {
        let _ = writeln!(out, "{} {what}", paint.doubtful.apply_to("Left out:"));
    }
    if tally.non_strict > 0 && !verbose {
        let _ = writeln!(
            out,
            "{} non-strict: tolerated, though not what Node was seen to do; -v lists them.",
            named(tally.non_strict, "check")
        );
    }
    if tally.expected_failure > 0 && !verbose {
        let _ = writeln!(
            out,
            "{} failed as expected; -v lists them, with the reason for each.",
            named(tally.expected_failure, "check")
        );
    }
    let mut failures = match tally.failed {
        0 => "no failures".into(),
        count => named(count, "failure"),
    };
    if tally.unexpected_pass > 0 {
        let count = HumanCount(tally.unexpected_pass as u64);
        failures.push_str(&format!(", {count} passed unexpectedly"));
    }
    if tally.expected_failure > 0 {
        let count = HumanCount(tally.expected_failure as u64);
        failures.push_str(&format!(", {count} failed as expected"));
    }
    let _ = writeln!(
        out,
        "{} {}: {ran} in {:.1} s, {failures}{}.",
        if run.has_failed() {
            paint.bad.apply_to("FAILED")
        } else {
            paint.good.apply_to("PASSED")
        },
        run.implementation.title(),
        run.duration.as_secs_f64(),
        if tally.unsupported > 0 {
            format!(", {} unsupported", HumanCount(tally.unsupported as u64))
        } else {
            String::new()
        },
    );
}
