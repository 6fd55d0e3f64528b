//! The differential: compares our decoders with Node's on random inputs.
//!
//! Inputs are the vectors' with some bytes changed, and messages of random fields. Both sides return whether they
//! accept an input, and the decoded value: the outcome of the adapter protocol's operation, from the suite's reference
//! adapter and from Node's packages in `examples-nodejs/differential.js`. `excuse` lists the allowed differences, each
//! with its clause or deviation.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hypercore_conformance::adapter::Outcome;
use hypercore_conformance::reference::Reference;
use hypercore_conformance::vectors;
use hypercore_protocol::encoding::Encode;
use serde_json::{Value, json};

use crate::input::Input;
use crate::packets;

/// The releases of Node's hypercore to compare with.
pub const RELEASES: [&str; 2] = ["11.37.1", "10.38.2"];

/// Inputs sent to Node at once.
const BATCH: usize = 512;

/// Disagreements kept for each kind of input.
const KEPT: usize = 20;

/// The longest input, in bytes.
const MAX_INPUT: usize = 600;

/// One kind of input: an operation, and the fixed part of its input.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// The operation of the adapter protocol.
    pub op: String,
    /// Its input, without the bytes.
    pub fixed: Value,
    /// The vectors' inputs.
    examples: Vec<Vec<u8>>,
}

impl Kind {
    /// A name of the operation and the fixed part.
    #[must_use]
    pub fn name(&self) -> String {
        let fixed = self.fixed.as_object().into_iter().flatten();
        let fixed = fixed.map(|(_, value)| match value.as_str() {
            Some(text) => format!(" {text}"),
            None => format!(" {value}"),
        });
        format!("{}{}", self.op, fixed.collect::<String>())
    }
}

/// The operations that decode bytes.
const DECODERS: [&str; 5] = [
    "compact.decode",
    "message.decode",
    "manifest.decode",
    "multisig.decode",
    "mux.decode",
];

/// All kinds of input, from the vectors in `folder`.
///
/// # Errors
/// When the vectors cannot be read.
pub fn kinds(folder: &Path) -> Result<Vec<Kind>, String> {
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let files = vectors::load(folder).map_err(|error| error.to_string())?;
    for group in files.iter().flat_map(|file| &file.groups) {
        if !DECODERS.contains(&group.op.as_str()) {
            continue;
        }
        for case in &group.cases {
            let input = vectors::expand(&case.input)?;
            let Value::Object(mut fixed) = input else {
                continue;
            };
            let bytes = fixed.remove("bytes").unwrap_or_default();
            let bytes = hex::decode(bytes.as_str().unwrap_or_default());
            let kind = Kind {
                op: group.op.clone(),
                fixed: Value::Object(fixed),
                examples: Vec::new(),
            };
            let kind = kinds.entry(kind.name()).or_insert(kind);
            let bytes = bytes.map_err(|error| format!("{}: {error}", case.id))?;
            if bytes.len() <= MAX_INPUT {
                kind.examples.push(bytes);
            }
        }
    }
    Ok(kinds.into_values().collect())
}

/// SplitMix64: the same inputs for the same seed, on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

impl Kind {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = match random.below(4) {
            0 => self.structured(random),
            _ if self.examples.is_empty() => Vec::new(),
            _ => self.examples[random.below(self.examples.len())].clone(),
        };
        for _ in 0..random.below(4) {
            self.change(random, &mut bytes);
        }
        bytes.truncate(MAX_INPUT);
        bytes
    }

    /// A message of random fields, if the kind has one.
    fn structured(&self, random: &mut Random) -> Vec<u8> {
        let choices = random.bytes(200);
        let mut choices = Input::new(&choices);
        match self.op.as_str() {
            "message.decode" => {
                let wanted = self.fixed["message"].as_str().unwrap_or_default();
                for _ in 0..8 {
                    let message = packets::message(&mut choices);
                    if message.message_type().name() == wanted {
                        return message.encode().unwrap_or_default();
                    }
                }
                random.bytes(40)
            }
            "mux.decode" => packets::record(&mut choices, true, &[5; 64]),
            _ => {
                let length = random.below(80);
                random.bytes(length)
            }
        }
    }

    fn change(&self, random: &mut Random, bytes: &mut Vec<u8>) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let length = random.below(40);
                bytes.extend(random.bytes(length));
            }
            2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            3 if at < bytes.len() => bytes[at] = random.next() as u8,
            4 if at < bytes.len() => drop(bytes.remove(at)),
            // An integer of another length, near a boundary.
            5 => {
                let edges = [0, 0xfc, 0xfd, 0xffff, 0x10_0000, 0x10_0001, 0xffff_ffff];
                let edges = [&edges[..], &[1 << 32, (1 << 53) - 1, 1 << 53, u64::MAX]].concat();
                let edge = edges[random.below(edges.len())];
                let mut uint = match random.below(3) {
                    0 => [&[0xfd][..], &(edge as u16).to_le_bytes()].concat(),
                    1 => [&[0xfe][..], &(edge as u32).to_le_bytes()].concat(),
                    _ => [&[0xff][..], &edge.to_le_bytes()].concat(),
                };
                if random.below(3) == 0 {
                    uint.truncate(random.below(uint.len()));
                }
                let end = (at + random.below(2)).min(bytes.len());
                bytes.splice(at..end, uint);
            }
            6 if !self.examples.is_empty() => {
                let other = &self.examples[random.below(self.examples.len())];
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => bytes.insert(at, [0, 1, 0xfc, 0xfd, 0xfe, 0xff][random.below(6)]),
        }
    }
}

/// A Node process that decodes inputs until it is dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    line: String,
}

impl Node {
    /// Starts it, in the folder of the examples.
    ///
    /// # Errors
    /// If there is no Node.
    pub fn start(examples: &Path) -> Result<Self, String> {
        let mut child = Command::new("node")
            .arg("differential.js")
            .current_dir(examples)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start node: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("node has no pipes".into());
        };
        Ok(Self {
            child,
            input,
            output: BufReader::with_capacity(1 << 18, output),
            line: String::new(),
        })
    }

    fn ask(&mut self, kind: &Kind, inputs: &[String]) -> Result<(), String> {
        let batch =
            json!({ "releases": RELEASES, "op": kind.op, "input": kind.fixed, "bytes": inputs });
        // In one piece: the pipe is unbuffered.
        let written = self.input.write_all(format!("{batch}\n").as_bytes());
        written.map_err(|error| format!("node: {error}"))
    }

    /// The next outcome, as JSON: for each input by the first release, then by the next.
    fn answer(&mut self) -> Result<&str, String> {
        self.line.clear();
        let read = self.output.read_line(&mut self.line);
        if read.map_err(|error| format!("node: {error}"))? == 0 {
            return Err("node ended".into());
        }
        Ok(self.line.trim_end())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have exited by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An input on which we and Node disagree.
#[derive(Debug, Clone, PartialEq)]
pub struct Disagreement {
    /// The release of Node's hypercore.
    pub release: &'static str,
    /// The kind of input.
    pub kind: String,
    /// The input, in hex.
    pub bytes: String,
    /// Our outcome.
    pub ours: Value,
    /// Node's outcome.
    pub node: Value,
}

/// The results of a run, or of a part of one.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of inputs.
    pub inputs: usize,
    /// The number that both accept.
    pub taken: usize,
    /// The number with an allowed difference, by its name in `excuse`.
    pub excused: BTreeMap<&'static str, usize>,
    /// The number with another difference.
    pub disagreed: usize,
    /// The first of those.
    pub disagreements: Vec<Disagreement>,
}

/// Runs `count` inputs of a kind on both.
///
/// # Errors
/// If Node does not answer.
pub fn compare(node: &mut Node, kind: &Kind, count: usize, seed: u64) -> Result<Report, String> {
    let mut random = Random(seed);
    for byte in kind.name().bytes() {
        random.0 = random.0.wrapping_mul(31).wrapping_add(u64::from(byte));
    }
    let mut reference = Reference::new();
    let mut report = Report::default();
    while report.inputs < count {
        let batch = BATCH.min(count - report.inputs);
        let inputs: Vec<String> = (0..batch)
            .map(|_| hex::encode(kind.input(&mut random)))
            .collect();
        report.inputs += batch;
        node.ask(kind, &inputs)?;
        let mut input = kind.fixed.clone();
        let ours: Vec<Ours> = inputs
            .iter()
            .map(|bytes| {
                input["bytes"] = bytes.as_str().into();
                Ours::new(reference.call(&kind.op, &input))
            })
            .collect();
        for release in RELEASES {
            for (bytes, ours) in inputs.iter().zip(&ours) {
                let answer = node.answer()?;
                if ours.is_told_by(answer) {
                    report.agreed(release, ours);
                    continue;
                }
                let node =
                    serde_json::from_str(answer).map_err(|error| format!("node: {error}"))?;
                report.judge(release, kind, bytes, ours, node);
            }
        }
    }
    Ok(report)
}

/// Our outcome of an input.
struct Ours {
    outcome: Value,
    /// The beginning of Node's answer if it is the same in the same order. Most are, and need not be parsed.
    text: String,
}

impl Ours {
    fn new(outcome: Outcome) -> Self {
        let outcome = match outcome {
            Outcome::Ok(value) => json!({ "ok": value }),
            Outcome::Error(error) => json!({ "error": error }),
            Outcome::Unsupported => json!({ "error": { "class": "unsupported" } }),
        };
        let text = match &outcome["error"] {
            Value::Null => outcome.to_string(),
            error => {
                let (layer, class) = (&error["layer"], &error["class"]);
                format!("{{\"error\":{{\"layer\":{layer},\"class\":{class},")
            }
        };
        Self { outcome, text }
    }

    /// Whether the answer is the same text. Another text may still mean the same.
    fn is_told_by(&self, answer: &str) -> bool {
        if self.is_ok() {
            answer == self.text
        } else {
            answer.starts_with(&self.text)
        }
    }

    fn is_ok(&self) -> bool {
        self.outcome.get("ok").is_some()
    }
}

impl Report {
    fn agreed(&mut self, release: &str, ours: &Ours) {
        self.taken += usize::from(release == RELEASES[0] && ours.is_ok());
    }

    fn judge(&mut self, release: &'static str, kind: &Kind, bytes: &str, ours: &Ours, node: Value) {
        if agree(&ours.outcome, &node) {
            self.agreed(release, ours);
            return;
        }
        if let Some(excuse) = excuse(release, kind, &ours.outcome, &node) {
            *self.excused.entry(excuse).or_default() += 1;
            return;
        }
        self.disagreed += 1;
        if self.disagreements.len() < KEPT {
            self.disagreements.push(Disagreement {
                release,
                kind: kind.name(),
                bytes: bytes.to_owned(),
                ours: ours.outcome.clone(),
                node,
            });
        }
    }
}

/// The same value, or an error of the same layer and class: what is compared for a vector, too.
fn agree(ours: &Value, node: &Value) -> bool {
    match (&ours["error"], &node["error"]) {
        (Value::Null, Value::Null) => ours["ok"] == node["ok"],
        (Value::Null, _) | (_, Value::Null) => false,
        (ours, node) => ours["layer"] == node["layer"] && ours["class"] == node["class"],
    }
}

/// Why two outcomes may differ, if allowed: only for 10.38.2, and in these ways.
fn excuse(release: &str, kind: &Kind, ours: &Value, node: &Value) -> Option<&'static str> {
    if !release.starts_with("10.") {
        return None;
    }
    // ENC-4: its compact-encoding 2.x rounds such integers and continues.
    if ours["error"]["class"] == "unsafe-integer" {
        return Some("of an unsafe integer, which it rounds");
    }
    // MAN-6: it knows versions 0 and 1.
    let message = node["error"]["message"].as_str().unwrap_or_default();
    if ["Unknown version: 2", "Unknown version: 3"].contains(&message) {
        return Some("of a manifest's version that it does not know");
    }
    let Value::Object(read) = &node["ok"] else {
        return None;
    };
    // Fields that it does not read: SYNC-2, NODATA-1, WANT-2, UNWANT-1, MAN-6.
    let later: &[&str] = match (kind.op.as_str(), kind.fixed["message"].as_str()) {
        (_, Some("sync")) => &["allowPush"],
        (_, Some("noData")) => &["reason", "flags"],
        (_, Some("want" | "unwant")) => &["any", "flags"],
        (_, Some("data")) | ("manifest.decode", _) => &["linked", "userData"],
        _ => &[],
    };
    let refused = ours["error"]["field"].as_str().unwrap_or_default();
    let refused = refused.rsplit('.').next().unwrap_or_default();
    if later.contains(&refused) {
        return Some("of a field that it does not know");
    }
    let known = |value: &Value| without(value, later, false);
    // The number of bytes consumed differs then, too.
    if !later.is_empty()
        && ours.get("ok").is_some()
        && known(&ours["ok"]["value"]) == known(&read["value"])
    {
        return Some("of a field that it does not know");
    }
    // ENC-6: it decodes an empty buffer as null.
    if without(&ours["ok"], &[], true) == without(&node["ok"], &[], true) {
        return Some("of an empty buffer, which it reads as null");
    }
    None
}

/// A value without some fields, and optionally with null for every empty value.
fn without(value: &Value, fields: &[&str], empty_is_null: bool) -> Value {
    match value {
        Value::String(text) if empty_is_null && text.is_empty() => Value::Null,
        Value::Array(items) => {
            let items = items.iter();
            items
                .map(|item| without(item, fields, empty_is_null))
                .collect()
        }
        Value::Object(all) => {
            let kept = all
                .iter()
                .filter(|(name, _)| !fields.contains(&name.as_str()));
            let kept =
                kept.map(|(name, value)| (name.clone(), without(value, fields, empty_is_null)));
            kept.collect()
        }
        other => other.clone(),
    }
}
