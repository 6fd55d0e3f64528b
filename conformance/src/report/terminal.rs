//! A run for people: a bar while it goes, then what failed, a table, and one line that sums it up.

use std::fmt::Write;
use std::time::{Duration, Instant};

use console::Style;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::adapter::Outcome;
use crate::diff::{Difference, ROW, abridge, bytes_of, rows};
use crate::fields;
use crate::foreign::{self, safe_output};
use crate::live::ScenarioInfo;
use crate::out;
use crate::reference::Reference;
use crate::report::Rerun;
use crate::runner::{Check, Kind, Progress, Run, Tally};
use crate::vectors::{Case, Expectation, Group, VectorFile, expand};
use crate::verdict::{Verdict, describe_error, expectation_value};

/// So many failures are shown in full, unless all are asked for.
const SHOWN_FAILURES: usize = 10;

/// So many differences of one check are shown.
const SHOWN_DIFFERENCES: usize = 6;

/// Values are cut off in print after so many characters.
const SHOWN_CHARACTERS: usize = 240;

/// `show` takes apart so many bytes at most.
const DECODED_BYTES: usize = 1024;

/// The colours of the terminal, or none.
#[derive(Clone, Debug)]
pub struct Paint {
    pub(crate) good: Style,
    pub(crate) bad: Style,
    pub(crate) doubtful: Style,
    pub(crate) faint: Style,
    pub(crate) strong: Style,
}

impl Paint {
    fn new(coloured: bool) -> Self {
        let style = || Style::new().force_styling(coloured);
        Self {
            good: style().green(),
            bad: style().red().bold(),
            doubtful: style().yellow(),
            faint: style().dim(),
            strong: style().bold(),
        }
    }

    /// No colours.
    pub fn plain() -> Self {
        Self::new(false)
    }

    /// Colours, if stdout is a terminal that has them and nobody asked for none.
    pub fn stdout() -> Self {
        Self::new(console::colors_enabled())
    }

    fn result(&self, result: Expectation) -> &Style {
        match result {
            Expectation::Valid => &self.good,
            Expectation::Invalid => &self.bad,
            Expectation::Acceptable => &self.doubtful,
        }
    }

    fn verdict(&self, verdict: Verdict) -> &Style {
        match verdict {
            Verdict::Ok => &self.good,
            Verdict::NonStrict | Verdict::Flaky => &self.doubtful,
            Verdict::Failed | Verdict::UnexpectedPass => &self.bad,
            Verdict::Informational | Verdict::ExpectedFailure | Verdict::Unsupported => &self.faint,
        }
    }
}

/// Progress on stderr: a bar on a terminal, else a line a layer.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    stage: String,
    began: Instant,
    layer: String,
    tally: Tally,
    failed: usize,
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Bar {
    /// A bar if stderr is a terminal.
    pub fn new() -> Self {
        Self {
            bar: None,
            stage: String::new(),
            began: Instant::now(),
            layer: String::new(),
            tally: Tally::default(),
            failed: 0,
        }
    }

    fn flush_layer(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        if tally.total() > 0 {
            out::note(format!("  {:<14}{}", self.layer, in_words(&tally)));
        }
        self.began = Instant::now();
    }
}

impl Progress for Bar {
    fn begin(&mut self, stage: &str, total: usize) {
        self.stage = stage.to_owned();
        self.layer.clear();
        self.began = Instant::now();
        if !console::user_attended_stderr() {
            if total > 0 {
                out::note(format!("Running {} {stage}", HumanCount(total as u64)));
            }
            return;
        }
        let bar = ProgressBar::new(total as u64);
        let template = "{prefix:.bold} [{bar:32.green/dim}] {pos}/{len} {wide_msg:.dim}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.bar = Some(bar);
    }

    fn next(&mut self, id: &str) {
        if let Some(bar) = &self.bar {
            let failed = if self.failed > 0 {
                format!("{} failed  ", self.failed)
            } else {
                String::new()
            };
            bar.set_message(safe_output(&format!("{failed}{id}")).into_owned());
        }
    }

    fn done(&mut self, check: &Check) {
        self.failed += usize::from(check.verdict.fails_the_run());
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => {
                if self.layer != check.layer {
                    self.flush_layer();
                    self.layer.clone_from(&check.layer);
                }
                self.tally.add(check.verdict);
            }
        }
    }

    fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(safe_output(line)),
            None => out::note(line),
        }
    }

    fn end(&mut self) {
        match self.bar.take() {
            Some(bar) => bar.finish_and_clear(),
            None => self.flush_layer(),
        }
    }
}

/// A sign of life on stderr for one long step, on a terminal; else a line.
#[derive(Debug, Default)]
pub struct Spinner {
    bar: Option<ProgressBar>,
}

impl Spinner {
    /// Tells what is going on.
    pub fn say(&mut self, line: &str) {
        if !console::user_attended_stderr() {
            out::note(line);
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {msg} {elapsed:.dim}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(foreign::line(line).into_owned());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn in_words(tally: &Tally) -> String {
    let parts: Vec<String> = Verdict::ALL
        .into_iter()
        .map(|verdict| (tally.count(verdict), verdict))
        .filter(|(count, _)| *count > 0)
        .map(|(count, verdict)| format!("{count} {verdict}"))
        .collect();
    parts.join(", ")
}

/// Everything that is told after a run.
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

/// A line for each check that needs a word though it fails nothing: always for what is flaky, the rest if asked for.
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

/// One failed check: what it is, what was expected and what came, and how to run it again.
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

fn describe(difference: &Difference, paint: &Paint) -> String {
    let path = if difference.path.is_empty() {
        "the whole value"
    } else {
        &difference.path
    };
    let bytes = |value: &Option<Value>| value.as_ref().and_then(bytes_of);
    if let (Some(first), Some(expected), Some(actual)) = (
        difference.first_byte,
        bytes(&difference.expected),
        bytes(&difference.actual),
    ) {
        return format!(
            "{path}{}",
            aligned(
                &expected,
                &actual,
                first,
                difference.field.as_deref(),
                paint
            )
        );
    }
    let side = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".into(), shorten);
    format!(
        "{path}\nexpected  {}\nactual    {}",
        paint.good.apply_to(side(&difference.expected)),
        paint.bad.apply_to(side(&difference.actual))
    )
}

/// Both byte strings in rows of 16, with a caret under the first byte that differs and the field that it belongs to.
pub fn aligned(
    expected: &[u8],
    actual: &[u8],
    first: usize,
    field: Option<&str>,
    paint: &Paint,
) -> String {
    let mut out = String::new();
    let lengths = if expected.len() == actual.len() {
        format!("of {}", expected.len())
    } else {
        format!("({} bytes expected, {} came)", expected.len(), actual.len())
    };
    let field = field
        .map(|field| format!(": {}", paint.strong.apply_to(field)))
        .unwrap_or_default();
    let _ = write!(out, ", byte {first} {lengths}{field}");
    let shown = rows(expected, actual, 1, 1);
    if shown.first().is_some_and(|row| row.offset > 0) {
        let _ = write!(out, "\n          {}", paint.faint.apply_to("…"));
    }
    for row in &shown {
        if row.expected == row.actual {
            let _ = write!(
                out,
                "\n          {:04x}  {}",
                row.offset,
                hex_row(&row.expected, &row.expected, &paint.faint)
            );
            continue;
        }
        let _ = write!(
            out,
            "\nexpected  {:04x}  {}",
            row.offset,
            hex_row(&row.expected, &row.actual, &paint.good)
        );
        let _ = write!(
            out,
            "\nactual    {:04x}  {}",
            row.offset,
            hex_row(&row.actual, &row.expected, &paint.bad)
        );
        if (row.offset..row.offset + ROW).contains(&first) {
            let _ = write!(
                out,
                "\n{}{}",
                " ".repeat(16 + column(first - row.offset)),
                paint.bad.apply_to("^^")
            );
        }
    }
    let end = shown.last().map_or(0, |row| row.offset + ROW);
    if end < expected.len().max(actual.len()) {
        let _ = write!(out, "\n          {}", paint.faint.apply_to("…"));
    }
    out
}

/// The column of a byte of a row: three characters a byte, and a gap in the middle.
fn column(at: usize) -> usize {
    at * 3 + usize::from(at >= ROW / 2)
}

fn hex_row(bytes: &[u8], other: &[u8], style: &Style) -> String {
    let mut row = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let gap = if at == 0 {
            ""
        } else if at == ROW / 2 {
            "  "
        } else {
            " "
        };
        row.push_str(gap);
        let byte_text = format!("{byte:02x}");
        if other.get(at) == Some(byte) {
            row.push_str(&byte_text);
        } else {
            row.push_str(&style.apply_to(byte_text).to_string());
        }
    }
    if bytes.is_empty() {
        row.push_str("(nothing)");
    }
    row
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.len()),
        None => text,
    }
}

/// The columns of the table after the layer and the number of checks: the verdict, its heading and width, and whether
/// it is left out where nothing got it.
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

/// One line a case or scenario: id, result, clauses, and what it shows.
pub fn list(
    cases: &[(&VectorFile, &Group, &Case)],
    scenarios: &[ScenarioInfo],
    paint: &Paint,
) -> String {
    let cases = cases.iter().map(|(_, _, case)| {
        (
            case.id.as_str(),
            case.result.to_string(),
            paint.result(case.result),
            case.clauses.join(" "),
            &case.comment,
        )
    });
    let scenarios = scenarios.iter().map(|scenario| {
        (
            scenario.id.as_str(),
            "live".into(),
            &paint.faint,
            scenario.clauses.join(" "),
            &scenario.name,
        )
    });
    let lines: Vec<_> = cases.chain(scenarios).collect();
    let ids = lines
        .iter()
        .map(|line| line.0.len())
        .max()
        .unwrap_or(0)
        .min(60);
    let clauses = lines
        .iter()
        .map(|line| line.3.len())
        .max()
        .unwrap_or(0)
        .min(24);
    let mut out = String::new();
    for (id, result, style, named, comment) in lines {
        let result = style.apply_to(format!("{result:<10}"));
        let named = paint.faint.apply_to(format!("{named:<clauses$}"));
        let _ = writeln!(out, "{id:<ids$}  {result}  {named}  {comment}");
    }
    out
}

/// One case in full.
pub fn show(file: &VectorFile, group: &Group, case: &Case, paint: &Paint) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", paint.strong.apply_to(&case.id));
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
    let pretty =
        |value: &Value| serde_json::to_string_pretty(&abridge(value, 512)).unwrap_or_default();
    line("shows", &case.comment);
    line("clauses", &case.clauses.join(", "));
    for flag in &case.flags {
        let note = file
            .notes
            .get(flag)
            .and_then(Value::as_str)
            .unwrap_or_default();
        line("flag", &format!("{flag}: {note}"));
    }
    line(
        "file",
        &format!(
            "{}/{}.json, {}: {}",
            file.layer, file.subject, group.name, group.description
        ),
    );
    line("asks", &format!("{} {}", group.op, pretty(&case.input)));
    for (name, text) in decoded(group, case) {
        line(&name, &text);
    }
    line(
        "expects",
        &format!(
            "{} {}",
            paint.result(case.result).apply_to(case.result),
            pretty(&expectation_value((case.result, &case.expect)))
        ),
    );
    if let Some(node) = &case.node {
        let message = node
            .message
            .as_ref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        line("node", &format!("{}{message}", node.outcome));
    }
    for (release, other) in &case.releases {
        let value = expectation_value((other.result, &other.expect));
        line(
            release,
            &format!(
                "{} {}",
                paint.result(other.result).apply_to(other.result),
                pretty(&value)
            ),
        );
    }
    out
}

/// The bytes of a case taken apart, each part under a name.
fn decoded(group: &Group, case: &Case) -> Vec<(String, String)> {
    let Ok(input) = expand(&case.input) else {
        return Vec::new();
    };
    let output = case.expect.output.as_ref();
    let encoded = output
        .and_then(|output| output.get("bytes"))
        .or_else(|| output.and_then(|output| output.get("signable")));
    let (path, bytes) = match (encoded, input.get("bytes")) {
        (Some(bytes), _) if output.is_some_and(|output| output.get("signable").is_some()) => {
            ("signable", Some(bytes))
        }
        (Some(bytes), _) => ("bytes", Some(bytes)),
        (None, bytes) => ("bytes", bytes),
    };
    let mut parts = Vec::new();
    if let Some(bytes) = bytes
        .and_then(bytes_of)
        .filter(|bytes| bytes.len() <= DECODED_BYTES)
    {
        let text = annotated(&bytes, &fields::map(&group.op, &input, path, &bytes));
        if !text.is_empty() {
            parts.push(("fields".into(), text));
        }
    }
    for (at, step) in input
        .get("steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let record = step
            .get("receive")
            .filter(|_| group.op.ends_with(".session"));
        if let Some(record) = record {
            let answer = Reference::new().call("mux.decode", &json!({ "bytes": record }));
            let text = match &answer {
                Outcome::Ok(value) => abridge(value, 512).to_string(),
                Outcome::Error(error) => describe_error(error),
                Outcome::Unsupported => continue,
            };
            parts.push((format!("step {at}"), text));
        }
    }
    parts
}

/// A row a field: offset, bytes and name.
fn annotated(bytes: &[u8], fields: &[(usize, String)]) -> String {
    let mut out = String::new();
    let mut start = 0;
    for (length, name) in fields {
        for (row, chunk) in bytes[start..start + length].chunks(ROW).enumerate() {
            let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            let name = if row == 0 { name.as_str() } else { "" };
            let line = format!("{:04x}  {:<48} {name}", start + row * ROW, hex.join(" "));
            let _ = writeln!(out, "{}", line.trim_end());
        }
        start += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_first_byte_that_differs() {
        let expected: Vec<u8> = (0..40).collect();
        for first in [0, 7, 8, 15, 16, 31, 39] {
            let mut actual = expected.clone();
            actual[first] = 0xff;
            let text = aligned(&expected, &actual, first, Some("fork"), &Paint::plain());
            assert!(
                text.starts_with(&format!(", byte {first} of 40: fork\n")),
                "{text}"
            );
            let lines: Vec<&str> = text.lines().collect();
            let caret = lines
                .iter()
                .position(|line| line.trim() == "^^")
                .expect(&text);
            let column = lines[caret].find('^').unwrap_or_default();
            assert_eq!(&lines[caret - 1][column..column + 2], "ff", "{text}");
            assert_eq!(
                &lines[caret - 2][column..column + 2],
                format!("{first:02x}"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_missing_end_is_pointed_at() {
        let text = aligned(&[1, 2, 3], &[1, 2], 2, None, &Paint::plain());
        assert_eq!(
            text,
            ", byte 2 (3 bytes expected, 2 came)\nexpected  0000  01 02 03\nactual    0000  01 02\n                      ^^"
        );
    }
}
