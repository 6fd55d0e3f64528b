//! The decoded form of each vector file, one line per case, so that a change in meaning shows in review as a diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hypercore_conformance::vectors::{Case, Expect, Expectation, VectorFile, load};
use serde_json::Value;

/// Longer hex is cut, in characters.
const HEX: usize = 32;

/// Longer inputs and outcomes are cut, in characters; a fingerprint distinguishes cut text.
const LINE: usize = 300;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

#[test]
fn every_vector_file_means_what_it_meant() {
    let files = load(&vectors()).expect("the vectors load");
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for file in &files {
            let name = format!("{}.{}", file.layer, file.subject);
            insta::assert_snapshot!(name, describe(file));
        }
    });
    // A snapshot without a file is a leftover.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    for entry in std::fs::read_dir(folder).expect("the snapshots") {
        let name = entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned();
        if let Some(stem) = name.strip_suffix(".snap") {
            let known = files
                .iter()
                .any(|file| stem == format!("{}.{}", file.layer, file.subject));
            assert!(known, "{name} belongs to no vector file");
        }
    }
}

fn describe(file: &VectorFile) -> String {
    let mut out = String::new();
    for group in &file.groups {
        let _ = writeln!(out, "{} ({})", group.name, group.op);
        for case in &group.cases {
            describe_case(&mut out, file, case);
        }
    }
    out
}

// The id without the prefix common to the file, the flags, the input and the outcome.
fn describe_case(out: &mut String, file: &VectorFile, case: &Case) {
    let prefix = format!("{}.{}.", file.layer, file.subject);
    let id = case.id.strip_prefix(&prefix).unwrap_or(&case.id);
    let flags: String = case.flags.iter().map(|flag| format!(" [{flag}]")).collect();
    let node = case.node.as_ref().map(|node| node.outcome.as_str());
    let node = node.filter(|node| !matches!(*node, "returns" | "throws"));
    let node = node
        .map(|node| format!(" (Node: {node})"))
        .unwrap_or_default();
    let input = cut(&short(&case.input));
    let outcome = outcome(case.result, &case.expect);
    // The outcome of a session or a conversation takes a line per part.
    let parts = case
        .expect
        .output
        .as_ref()
        .filter(|_| outcome.chars().count() > LINE);
    let parts = parts.and_then(|output| {
        ["steps", "messages"]
            .into_iter()
            .find_map(|name| output.get(name)?.as_array())
    });
    match parts {
        Some(parts) => {
            let _ = writeln!(out, "  {id}{flags}: {input} ->{node}");
            for part in parts {
                let _ = writeln!(out, "      {}", cut(&short(part)));
            }
            let mut rest = case.expect.output.clone().unwrap_or_default();
            if let Some(rest) = rest.as_object_mut() {
                rest.retain(|name, _| !matches!(name.as_str(), "steps" | "messages"));
            }
            let _ = writeln!(out, "      {}", cut(&short(&rest)));
        }
        None => {
            let _ = writeln!(out, "  {id}{flags}: {input} -> {}{node}", cut(&outcome));
        }
    }
    for (release, other) in &case.releases {
        let _ = writeln!(
            out,
            "    {release}: {}",
            cut(&self::outcome(other.result, &other.expect))
        );
    }
}

fn outcome(result: Expectation, expect: &Expect) -> String {
    let mut parts = Vec::new();
    for output in expect.output.iter().chain(expect.outputs.iter().flatten()) {
        parts.push(short(output));
    }
    if let Some(error) = &expect.error {
        let class = error.class.as_deref().unwrap_or_default();
        let more: String = error
            .more
            .iter()
            .map(|(name, value)| format!(", {name} {value}"))
            .collect();
        parts.push(format!("refused by {}: {class}{more}", error.layer));
    }
    let outcome = parts.join(" or ");
    match result {
        Expectation::Valid => outcome,
        Expectation::Invalid => format!("INVALID {outcome}"),
        Expectation::Acceptable => format!("ACCEPTABLE {outcome}"),
    }
}

// JSON without redundant quotes, without null or false values, and with long hex cut.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => cut_hex(text),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(short).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .filter_map(|(name, field)| match field {
                    Value::Null | Value::Bool(false) => None,
                    Value::Bool(true) => Some(name.clone()),
                    field => Some(format!("{name} {}", short(field))),
                })
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn cut_hex(text: &str) -> String {
    let hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if text.len() <= HEX {
        return if hex && !text.is_empty() {
            text.to_owned()
        } else {
            format!("{text:?}")
        };
    }
    let head: String = text.chars().take(HEX / 2).collect();
    let length = if hex { text.len() / 2 } else { text.len() };
    format!("{head}…({length} bytes, {:08x})", fingerprint(text))
}

fn cut(line: &str) -> String {
    if line.chars().count() <= LINE {
        return line.to_owned();
    }
    let head: String = line.chars().take(LINE).collect();
    format!("{head}… ({:08x})", fingerprint(line))
}

// FNV-1a: a change in the cut part is still visible.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[test]
fn what_is_cut_off_still_shows_when_it_changes() {
    let long = |last: char| format!("{}{last}", "ab".repeat(40));
    assert_ne!(cut_hex(&long('0')), cut_hex(&long('1')));
    let long = |last: char| format!("{}{last}", "x y".repeat(200));
    assert_ne!(cut(&long('0')), cut(&long('1')));
}
