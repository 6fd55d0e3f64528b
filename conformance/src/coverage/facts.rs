//! The facts that must be covered, and the facts that a case covers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::vectors::{Case, Expectation};

const MESSAGES: [&str; 11] = [
    "handshake",
    "sync",
    "request",
    "cancel",
    "data",
    "noData",
    "want",
    "unwant",
    "bitfield",
    "range",
    "extension",
];

const PATTERNS: [&str; 6] = ["XX", "IK", "XK", "NN", "XXpsk0", "NNpsk0"];

// The optional parts of messages, as `facts` names them.
pub(super) const PARTS: [(&str, &[&str]); 8] = [
    ("handshake", &["seeks"]),
    (
        "sync",
        &[
            "canUpgrade",
            "uploading",
            "downloading",
            "hasManifest",
            "allowPush",
        ],
    ),
    (
        "request",
        &["block", "hash", "seek", "upgrade", "manifest", "priority"],
    ),
    ("data", &["block", "hash", "seek", "upgrade", "manifest"]),
    ("noData", &["reason"]),
    ("want", &["any"]),
    ("unwant", &["any"]),
    ("range", &["drop", "length 1"]),
];

/// The required facts: titles and the facts below them.
pub(super) fn wanted() -> Vec<(&'static str, Vec<String>)> {
    let messages = MESSAGES
        .iter()
        .flat_map(|name| [format!("{name}, decoded"), format!("{name}, encoded")])
        .collect();
    let mut controls: Vec<String> = ["open", "reject", "close"]
        .iter()
        .flat_map(|name| [format!("{name}, decoded"), format!("{name}, encoded")])
        .collect();
    controls.extend(["unknown, decoded", "batch, decoded", "batch, encoded"].map(str::to_owned));
    let mut parts = Vec::new();
    for (name, fields) in PARTS {
        for field in fields {
            parts.push(format!("{name}: with {field}"));
            parts.push(format!("{name}: without {field}"));
        }
    }
    for reason in [1, 2] {
        parts.push(format!("noData: reason {reason}"));
    }
    for name in ["named", "unnamed"] {
        parts.push(format!("extension: {name}"));
    }
    parts.push("data: with additionalNodes".into());
    let mut manifests: Vec<String> = [
        "prologue",
        "one signer",
        "many signers",
        "many signers, allowPatch",
    ]
    .iter()
    .map(|form| format!("manifest 0: {form}"))
    .collect();
    for (version, fields) in [
        (1, &["allowPatch", "prologue"][..]),
        (2, &["allowPatch", "prologue", "linked", "userData"]),
        (3, &["allowPatch", "prologue", "linked", "userData"]),
    ] {
        for field in fields {
            manifests.push(format!("manifest {version}: with {field}"));
            manifests.push(format!("manifest {version}: without {field}"));
        }
        for signers in ["no", "one", "many"] {
            manifests.push(format!("manifest {version}: {signers} signers"));
        }
    }
    let patterns = PATTERNS
        .iter()
        .flat_map(|name| {
            [
                format!("{name}, as initiator"),
                format!("{name}, as responder"),
            ]
        })
        .collect();
    let tags = (0..4).map(|tag| format!("tag {tag}")).collect();
    vec![
        ("Message types", messages),
        ("Control types", controls),
        ("Flags of messages", parts),
        ("Forms of manifests", manifests),
        ("Handshake patterns", patterns),
        ("Tags of secretstream", tags),
    ]
}

/// The layer and class by which a case is refused; for a destroyed session they are in its output.
pub(super) fn refusal(case: &Case) -> Option<String> {
    if let Some(error) = &case.expect.error {
        let class = error.class.as_deref().unwrap_or_default();
        return Some(format!("{} / {class}", error.layer));
    }
    let error = case.expect.output.as_ref()?.get("error")?.as_object()?;
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    Some(format!("{} / {}", text("layer"), text("class")))
}

/// The facts that a case covers, as named by `wanted`.
pub(super) fn facts(op: &str, case: &Case) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let input = &case.input;
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    let outputs = || {
        case.expect
            .output
            .iter()
            .chain(case.expect.outputs.iter().flatten())
    };
    match op {
        "message.decode" => {
            let name = text("message").unwrap_or_default();
            out.insert(format!("{name}, decoded"));
            for value in outputs().filter_map(|output| output.get("value")) {
                message_facts(name, value, &mut out);
            }
        }
        "message.encode" => {
            let name = text("message").unwrap_or_default();
            out.insert(format!("{name}, encoded"));
            if let (Expectation::Valid, Some(value)) = (case.result, input.get("value")) {
                message_facts(name, value, &mut out);
            }
        }
        "manifest.decode" => {
            for value in outputs().filter_map(|output| output.get("value")) {
                manifest_facts(value, &mut out);
            }
        }
        "manifest.encode" | "manifest.hash" => {
            if let (Expectation::Valid, Some(value)) = (case.result, input.get("value")) {
                manifest_facts(value, &mut out);
            }
        }
        "mux.decode" => {
            if text("bytes").is_some_and(|bytes| bytes.starts_with("0000")) {
                out.insert("batch, decoded".into());
            }
            for output in outputs() {
                control_facts(output.get("messages"), "decoded", &mut out);
            }
        }
        "mux.encode" => {
            if input.get("batch") == Some(&Value::Bool(true)) {
                out.insert("batch, encoded".into());
            }
            control_facts(input.get("messages"), "encoded", &mut out);
        }
        "noise.handshake" => {
            let role = match input.get("isInitiator") {
                Some(Value::Bool(true)) => "initiator",
                _ => "responder",
            };
            out.insert(format!(
                "{}, as {role}",
                text("pattern").unwrap_or_default()
            ));
        }
        "stream.push" | "stream.pull" => {
            let messages = input
                .get("messages")
                .into_iter()
                .chain(outputs().filter_map(|output| output.get("messages")));
            for message in messages.filter_map(Value::as_array).flatten() {
                if let Some(tag) = message.get("tag") {
                    out.insert(format!("tag {tag}"));
                }
            }
        }
        _ => {}
    }
    out
}

pub(super) fn message_facts(name: &str, value: &Value, out: &mut BTreeSet<String>) {
    let Some((_, fields)) = PARTS.iter().find(|(part, _)| *part == name) else {
        if name == "extension" {
            let named = value.get("name").and_then(Value::as_str) != Some("");
            out.insert(format!(
                "extension: {}",
                if named { "named" } else { "unnamed" }
            ));
        }
        return;
    };
    let mut combination = format!("combination {name} ");
    for field in *fields {
        let present = match *field {
            "length 1" => value.get("length").and_then(Value::as_u64) == Some(1),
            field => is_set(value.get(field)),
        };
        out.insert(format!(
            "{name}: {} {field}",
            if present { "with" } else { "without" }
        ));
        combination.push(if present { '1' } else { '0' });
    }
    out.insert(combination);
    if let ("noData", Some(reason)) = (name, value.get("reason")) {
        out.insert(format!("noData: reason {reason}"));
    }
    if name == "data" {
        let more = value
            .pointer("/upgrade/additionalNodes")
            .and_then(Value::as_array);
        if more.is_some_and(|nodes| !nodes.is_empty()) {
            out.insert("data: with additionalNodes".into());
        }
        if let Some(manifest) = value.get("manifest").filter(|manifest| !manifest.is_null()) {
            manifest_facts(manifest, out);
        }
    }
}

fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Number(number)) => number.as_u64() != Some(0),
        Some(_) => true,
    }
}

pub(super) fn manifest_facts(value: &Value, out: &mut BTreeSet<String>) {
    let signers = value
        .get("signers")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let has = |field: &str| is_set(value.get(field));
    match value.get("version").and_then(Value::as_u64) {
        Some(0) => {
            let one = signers == 1 && value.get("quorum").and_then(Value::as_u64) == Some(1);
            let form = match (signers, has("prologue"), has("allowPatch")) {
                (0, true, _) => "prologue",
                (_, _, true) => "many signers, allowPatch",
                _ if one => "one signer",
                _ => "many signers",
            };
            out.insert(format!("manifest 0: {form}"));
        }
        Some(version) => {
            for field in ["allowPatch", "prologue", "linked", "userData"] {
                let with = if has(field) { "with" } else { "without" };
                out.insert(format!("manifest {version}: {with} {field}"));
            }
            let count = match signers {
                0 => "no",
                1 => "one",
                _ => "many",
            };
            out.insert(format!("manifest {version}: {count} signers"));
        }
        None => {}
    }
}

fn control_facts(messages: Option<&Value>, how: &str, out: &mut BTreeSet<String>) {
    for message in messages.and_then(Value::as_array).into_iter().flatten() {
        if let Some(control) = message.get("control").and_then(Value::as_str) {
            out.insert(format!("{control}, {how}"));
        }
    }
}
