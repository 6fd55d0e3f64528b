//! The list of checks, and one case in full.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::adapter::Outcome;
use crate::diff::{ROW, abridge, bytes_of};
use crate::dissect::place;
use crate::live::ScenarioInfo;
use crate::reference::Reference;
use crate::run::verdict::{describe_error, expectation_value};
use crate::term::Paint;
use crate::vectors::{Case, Group, VectorFile, expand};

/// The maximum number of bytes that `show` dissects.
const DECODED_BYTES: usize = 1024;

/// One line per case or scenario: id, result, clauses, and comment.
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

/// The dissected bytes of a case, each part with a name.
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
        let text = annotated(&bytes, &place::map(&group.op, &input, path, &bytes));
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

/// A row per field: offset, bytes and name.
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
