//! What the vectors and the scenarios cover: the clauses of the specification, and every message type, control type,
//! manifest form and flag. Written to `vectors/COVERAGE.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cucumber::gherkin::Feature;
use serde_json::Value;

use crate::live::features;
use crate::scripted;
use crate::vectors::spec::{Specification, is_clause_id};
use crate::vectors::{self, Case, Expectation, VectorFile};

/// There must be at least so many cases.
pub const MIN_CASES: usize = 1_500;

/// One scenario of a feature, with all its examples.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scenario {
    /// The feature's file, relative to its folder.
    pub file: String,
    /// Its name.
    pub name: String,
    /// The clauses that its tags, or those of its rule or feature, name.
    pub clauses: BTreeSet<String>,
    /// How often it is run: the rows of its examples, or 1.
    pub runs: usize,
}

/// A conversation or a deviation of the scripted peer, in one role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scripted {
    /// The id of its check.
    pub id: String,
    /// `script`, or `deviation` and its family.
    pub kind: String,
    /// The clauses that it names.
    pub clauses: Vec<String>,
}

/// What is covered, and what should be and isn't.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// The table, as Markdown.
    pub table: String,
    /// What is missing, one line each.
    pub faults: Vec<String>,
    /// The number of cases.
    pub cases: usize,
    /// The number of scenarios, each example counted.
    pub scenarios: usize,
    /// The number of conversations and deviations, each role counted.
    pub scripted: usize,
}

/// Measures the coverage and writes `COVERAGE.md` and the index of `SPECIFICATION.md`, or, with `check`, compares them
/// with what is there.
///
/// # Errors
/// What is missing from the vectors, or what is not as committed, one line each.
pub fn run(folder: &Path, features: &Path, check: bool) -> Result<Coverage, Vec<String>> {
    let spec = Specification::load(folder)?;
    let files = vectors::load(folder).map_err(|error| vec![error.to_string()])?;
    let scenarios = scenarios(features).map_err(|error| vec![error])?;
    let scripted = scripted().map_err(|error| vec![error])?;
    let coverage = measure(&spec, &files, &scenarios, &scripted);
    let mut faults = coverage.faults.clone();
    let index = spec.with_index().map_err(|error| vec![error])?;
    for (name, text) in [
        ("SPECIFICATION.md", &index),
        ("COVERAGE.md", &coverage.table),
    ] {
        let path = folder.join(name);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        if kept == *text {
            continue;
        }
        if check {
            faults.push(format!(
                "{} is out of date: run `hypercore-conformance coverage`",
                path.display()
            ));
        } else if let Err(error) = std::fs::write(&path, text) {
            faults.push(format!("{}: {error}", path.display()));
        }
    }
    if faults.is_empty() {
        Ok(coverage)
    } else {
        Err(faults)
    }
}

/// The folder of the features that belong to a folder of vectors: its neighbour.
pub fn features_folder(vectors: &Path) -> PathBuf {
    vectors.parent().unwrap_or(vectors).join("features")
}

/// Reads the scenarios of all features in a folder, in the order of their paths.
///
/// # Errors
/// If a feature can't be parsed. A folder that isn't there has none.
pub fn scenarios(folder: &Path) -> Result<Vec<Scenario>, String> {
    // Vectors may stand alone.
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for path in features::paths(folder).map_err(|error| error.to_string())? {
        let feature =
            features::outlines(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = path
            .strip_prefix(folder)
            .unwrap_or(&path)
            .display()
            .to_string();
        out.extend(scenarios_of(&feature, &file));
    }
    Ok(out)
}

fn scenarios_of(feature: &Feature, file: &str) -> Vec<Scenario> {
    let plain = feature.scenarios.iter().map(|scenario| (None, scenario));
    let ruled = feature.rules.iter().flat_map(|rule| {
        rule.scenarios
            .iter()
            .map(move |scenario| (Some(rule), scenario))
    });
    plain
        .chain(ruled)
        .map(|(rule, scenario)| {
            let examples = &scenario.examples;
            let tags = feature
                .tags
                .iter()
                .chain(rule.iter().flat_map(|rule| &rule.tags))
                .chain(&scenario.tags)
                .chain(examples.iter().flat_map(|examples| &examples.tags));
            let rows = examples
                .iter()
                .filter_map(|examples| examples.table.as_ref())
                .map(|table| table.rows.len().saturating_sub(1))
                .sum::<usize>();
            Scenario {
                file: file.to_owned(),
                name: scenario.name.clone(),
                clauses: tags
                    .map(|tag| tag.trim_start_matches('@'))
                    .filter(|tag| is_clause_id(tag))
                    .map(str::to_owned)
                    .collect(),
                runs: if examples.is_empty() { 1 } else { rows },
            }
        })
        .collect()
}

/// Everything that the scripted peer plays, in order.
///
/// # Errors
/// If one of its files is at fault.
pub fn scripted() -> Result<Vec<Scripted>, String> {
    let items = scripted::items()?;
    let scripted = items.iter().map(|item| Scripted {
        id: item.id(),
        kind: match item.family() {
            Some(family) => format!("{}, {family}", item.layer()),
            None => item.layer().to_owned(),
        },
        clauses: item.clauses().to_vec(),
    });
    Ok(scripted.collect())
}

// A count by result, and the first case that was counted.
#[derive(Clone, Debug, Default)]
struct Count {
    valid: usize,
    invalid: usize,
    acceptable: usize,
    first: Option<String>,
}

impl Count {
    fn add(&mut self, case: &Case) {
        match case.result {
            Expectation::Valid => self.valid += 1,
            Expectation::Invalid => self.invalid += 1,
            Expectation::Acceptable => self.acceptable += 1,
        }
        self.first.get_or_insert_with(|| case.id.to_string());
    }

    fn total(&self) -> usize {
        self.valid + self.invalid + self.acceptable
    }
}

/// Measures what `files`, `scenarios` and the scripted peer cover.
pub fn measure(
    spec: &Specification,
    files: &[VectorFile],
    scenarios: &[Scenario],
    scripted: &[Scripted],
) -> Coverage {
    let mut faults = Vec::new();
    let mut by_layer: BTreeMap<&str, Count> = BTreeMap::new();
    let mut by_op: BTreeMap<&str, Count> = BTreeMap::new();
    let mut by_flag: BTreeMap<&str, Count> = BTreeMap::new();
    let mut by_clause: BTreeMap<&str, Count> = BTreeMap::new();
    let mut by_fact: BTreeMap<String, Count> = BTreeMap::new();
    let mut by_refusal: BTreeMap<String, Count> = BTreeMap::new();
    let mut by_node: BTreeMap<&str, Count> = BTreeMap::new();
    let mut by_release: BTreeMap<&str, Count> = BTreeMap::new();
    let mut all = Count::default();
    for file in files {
        for group in &file.groups {
            for case in &group.cases {
                all.add(case);
                by_layer.entry(&file.layer).or_default().add(case);
                by_op.entry(&group.op).or_default().add(case);
                if case.clauses.is_empty() {
                    faults.push(format!("{}: names no clause", case.id));
                }
                for clause in &case.clauses {
                    by_clause.entry(clause).or_default().add(case);
                    if spec.clause(clause).is_none() {
                        faults.push(format!("{}: there is no clause {clause}", case.id));
                    }
                }
                for flag in &case.flags {
                    by_flag.entry(flag).or_default().add(case);
                }
                for fact in facts(&group.op, case) {
                    by_fact.entry(fact).or_default().add(case);
                }
                if let Some(refusal) = refusal(case) {
                    by_refusal.entry(refusal).or_default().add(case);
                }
                if let Some(node) = &case.node {
                    by_node.entry(&node.outcome).or_default().add(case);
                }
                for release in case.releases.keys() {
                    by_release.entry(release).or_default().add(case);
                }
            }
        }
    }
    for scenario in scenarios {
        let name = format!("{}: {}", scenario.file, scenario.name);
        if scenario.clauses.is_empty() {
            faults.push(format!("{name}: names no clause"));
        }
        for clause in &scenario.clauses {
            if spec.clause(clause).is_none() {
                faults.push(format!("{name}: there is no clause {clause}"));
            }
        }
    }
    for Scripted { id, clauses, .. } in scripted {
        if clauses.is_empty() {
            faults.push(format!("{id}: names no clause"));
        }
        for clause in clauses {
            if spec.clause(clause).is_none() {
                faults.push(format!("{id}: there is no clause {clause}"));
            }
        }
    }
    if all.total() < MIN_CASES {
        faults.push(format!("{} cases, of at least {MIN_CASES}", all.total()));
    }
    if all.invalid * 3 < all.total() {
        faults.push(format!(
            "{} of {} cases are invalid, less than a third",
            all.invalid,
            all.total()
        ));
    }

    let runs: usize = scenarios.iter().map(|scenario| scenario.runs).sum();
    let mut out = String::from(
        "# What the vectors and scenarios cover\n\n\
         Generated by `hypercore-conformance coverage`; `coverage --check` fails when this file is out of date, when a clause \
         is not tested, or when something below is missing.\n\n",
    );
    let _ = writeln!(
        out,
        "{} cases in {} files ({} valid, {} invalid, {} acceptable); {} scenarios with {runs} runs in {} features; {} runs of the scripted peer; {} clauses.\n",
        all.total(),
        files.len(),
        all.valid,
        all.invalid,
        all.acceptable,
        scenarios.len(),
        scenarios
            .iter()
            .map(|scenario| &scenario.file)
            .collect::<BTreeSet<_>>()
            .len(),
        scripted.len(),
        spec.clauses.len(),
    );

    section(
        &mut out,
        "Cases by layer",
        "layer",
        by_layer.iter().map(|(&name, count)| (name, count)),
    );
    section(
        &mut out,
        "Cases by operation",
        "operation",
        by_op.iter().map(|(&name, count)| (name, count)),
    );

    out.push_str("## Clauses\n\n| clause | | valid | invalid | acceptable | runs of scenarios | of the scripted peer | for instance |\n|---|---|---:|---:|---:|---:|---:|---|\n");
    for clause in &spec.clauses {
        let count = by_clause
            .get(clause.id.as_str())
            .cloned()
            .unwrap_or_default();
        let named: Vec<&Scenario> = scenarios
            .iter()
            .filter(|scenario| scenario.clauses.contains(&clause.id))
            .collect();
        let runs: usize = named.iter().map(|scenario| scenario.runs).sum();
        let played: Vec<&Scripted> = scripted
            .iter()
            .filter(|scripted| scripted.clauses.contains(&clause.id))
            .collect();
        if count.total() == 0 && runs == 0 && played.is_empty() {
            faults.push(format!("{}: nothing tests it", clause.id));
        }
        let instance = match (&count.first, named.first()) {
            (Some(id), _) => format!("`{id}`"),
            (None, Some(scenario)) => format!("{}: {}", scenario.file, escape(&scenario.name)),
            (None, None) => match played.first() {
                Some(scripted) => format!("`{}`", scripted.id),
                None => String::new(),
            },
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {runs} | {} | {instance} |",
            clause.id,
            escape(&clause.title),
            count.valid,
            count.invalid,
            count.acceptable,
            played.len(),
        );
    }
    out.push('\n');

    for (title, wanted) in wanted() {
        let _ = writeln!(
            out,
            "## {title}\n\n| | valid | invalid | acceptable | for instance |\n|---|---:|---:|---:|---|"
        );
        for fact in wanted {
            let count = by_fact.remove(&fact).unwrap_or_default();
            if count.total() == 0 {
                faults.push(format!("{title}: {fact}: no case"));
            }
            row(&mut out, &fact, &count);
        }
        out.push('\n');
    }
    combinations(&mut out, &by_fact, &mut faults);

    section(
        &mut out,
        "Flags of cases",
        "flag",
        by_flag.iter().map(|(&name, count)| (name, count)),
    );
    section(
        &mut out,
        "Refusals",
        "layer / class",
        by_refusal
            .iter()
            .map(|(name, count)| (name.as_str(), count)),
    );
    section(
        &mut out,
        "What Node was seen to do, where it is not merely to return the output",
        "outcome",
        by_node.iter().map(|(&name, count)| (name, count)),
    );
    section(
        &mut out,
        "Cases in which another release differs",
        "release",
        by_release.iter().map(|(&name, count)| (name, count)),
    );

    out.push_str("## Scenarios by feature\n\n| feature | scenarios | runs |\n|---|---:|---:|\n");
    let mut features: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for scenario in scenarios {
        let entry = features.entry(&scenario.file).or_default();
        entry.0 += 1;
        entry.1 += scenario.runs;
    }
    for (file, (scenarios, runs)) in features {
        let _ = writeln!(out, "| {file} | {scenarios} | {runs} |");
    }

    out.push_str("\n## The scripted peer\n\nEach is played in both roles.\n\n| kind | runs | clauses |\n|---|---:|---|\n");
    let mut kinds: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for Scripted { kind, clauses, .. } in scripted {
        let entry = kinds.entry(kind).or_default();
        entry.0 += 1;
        entry.1.extend(clauses.iter().map(String::as_str));
    }
    for (kind, (runs, named)) in kinds {
        let in_order = spec.clauses.iter().map(|clause| clause.id.as_str());
        let named: Vec<_> = in_order.filter(|id| named.contains(id)).collect();
        let _ = writeln!(out, "| {kind} | {runs} | {} |", named.join(", "));
    }

    Coverage {
        table: out,
        faults,
        cases: all.total(),
        scenarios: runs,
        scripted: scripted.len(),
    }
}

fn section<'a>(
    out: &mut String,
    title: &str,
    head: &str,
    rows: impl Iterator<Item = (&'a str, &'a Count)>,
) {
    let _ = writeln!(
        out,
        "## {title}\n\n| {head} | valid | invalid | acceptable | for instance |\n|---|---:|---:|---:|---|"
    );
    for (name, count) in rows {
        row(out, name, count);
    }
    out.push('\n');
}

fn row(out: &mut String, name: &str, count: &Count) {
    let instance = count.first.as_ref().map(|id| format!("`{id}`"));
    let _ = writeln!(
        out,
        "| {} | {} | {} | {} | {} |",
        escape(name),
        count.valid,
        count.invalid,
        count.acceptable,
        instance.unwrap_or_default()
    );
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

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

// The yes-or-no parts of messages, as `facts` names them.
const PARTS: [(&str, &[&str]); 8] = [
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

// What must be covered: titles and the facts below them.
fn wanted() -> Vec<(&'static str, Vec<String>)> {
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

// How many combinations of the yes-or-no parts of a message there are in valid cases, of how many.
fn combinations(out: &mut String, by_fact: &BTreeMap<String, Count>, faults: &mut Vec<String>) {
    out.push_str(
        "## Combinations of a message's flags, in valid cases\n\n| message | seen | of |\n|---|---:|---:|\n",
    );
    for (name, fields) in PARTS {
        let prefix = format!("combination {name} ");
        let seen = by_fact
            .iter()
            .filter(|(fact, count)| fact.starts_with(&prefix) && count.valid > 0)
            .count();
        let all = 1 << fields.len();
        let _ = writeln!(out, "| {name} | {seen} | {all} |");
        if seen < all {
            faults.push(format!("{name}: {seen} of {all} combinations of its flags"));
        }
    }
    out.push('\n');
}

// The layer and class by which a case is refused; of a session that is destroyed, they stand in its output.
fn refusal(case: &Case) -> Option<String> {
    if let Some(error) = &case.expect.error {
        let class = error.class.as_deref().unwrap_or_default();
        return Some(format!("{} / {class}", error.layer));
    }
    let error = case.expect.output.as_ref()?.get("error")?.as_object()?;
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    Some(format!("{} / {}", text("layer"), text("class")))
}

// What a case shows, in the words of `wanted`.
fn facts(op: &str, case: &Case) -> BTreeSet<String> {
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

fn message_facts(name: &str, value: &Value, out: &mut BTreeSet<String>) {
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

fn manifest_facts(value: &Value, out: &mut BTreeSet<String>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Specification {
        let clause =
            |id: &str| format!("### {id} — Title\n\n- Source: here.\n- Releases: all.\n\n");
        Specification::parse(format!("## 1. S\n\n{}{}", clause("ENC-1"), clause("ENC-2")))
            .expect("parses")
    }

    fn file(cases: &[(&str, &str, &str)]) -> VectorFile {
        let cases: Vec<Value> = cases
            .iter()
            .map(|(id, clause, result)| {
                json!({
                    "id": id, "clauses": [clause], "comment": "c", "flags": [], "input": { "type": "uint", "bytes": "" },
                    "result": result, "expect": {}, "node": null, "releases": {},
                })
            })
            .collect();
        serde_json::from_value(json!({
            "$schema": "s", "format": 1, "layer": "encoding", "subject": "uint", "description": "d",
            "generator": { "script": "s", "packages": {} }, "notes": {},
            "groups": [{ "name": "g", "description": "d", "op": "compact.decode", "cases": cases }],
        }))
        .expect("a file")
    }

    fn feature(text: &str) -> Vec<Scenario> {
        scenarios_of(
            &Feature::parse(text, cucumber::gherkin::GherkinEnv::default()).expect("parses"),
            "a.feature",
        )
    }

    const FEATURE: &str = "@ENC-1 @live\nFeature: F\n\n  Scenario: one\n    Given x\n\n  @ENC-2\n  Scenario Outline: two\n    Given <x>\n\n    \
        Examples:\n      | x |\n      | 1 |\n      | 2 |\n";

    #[test]
    fn counts_the_runs_of_scenarios_and_gathers_their_tags() {
        let scenarios = feature(FEATURE);
        assert_eq!(scenarios.len(), 2);
        assert_eq!((scenarios[0].runs, scenarios[1].runs), (1, 2));
        assert_eq!(scenarios[0].clauses, BTreeSet::from(["ENC-1".to_owned()]));
        assert_eq!(
            scenarios[1].clauses,
            BTreeSet::from(["ENC-1".to_owned(), "ENC-2".to_owned()])
        );
    }

    #[test]
    fn a_clause_that_nothing_tests_is_a_fault() {
        let has = |coverage: &Coverage, fault: &str| coverage.faults.iter().any(|f| f == fault);
        let files = [file(&[("encoding.uint.a", "ENC-1", "valid")])];
        let coverage = measure(&spec(), &files, &[], &[]);
        assert!(!has(&coverage, "ENC-1: nothing tests it"));
        assert!(has(&coverage, "ENC-2: nothing tests it"));
        let coverage = measure(&spec(), &files, &feature(FEATURE), &[]);
        assert!(!has(&coverage, "ENC-2: nothing tests it"));
        assert!(
            coverage
                .table
                .contains("| ENC-2 | Title | 0 | 0 | 0 | 2 | 0 | a.feature: two |")
        );
    }

    #[test]
    fn what_the_scripted_peer_plays_counts_too() {
        let played = |clauses: &[&str]| Scripted {
            id: "deviation.odd.initiator".into(),
            kind: "deviation, mux".into(),
            clauses: clauses.iter().map(|&clause| clause.to_owned()).collect(),
        };
        let coverage = measure(&spec(), &[], &[], &[played(&["ENC-2"]), played(&["ENC-2"])]);
        let has = |fault: &str| coverage.faults.iter().any(|f| f == fault);
        assert!(has("ENC-1: nothing tests it") && !has("ENC-2: nothing tests it"));
        for row in [
            "| ENC-2 | Title | 0 | 0 | 0 | 0 | 2 | `deviation.odd.initiator` |",
            "| deviation, mux | 2 | ENC-2 |",
        ] {
            assert!(coverage.table.contains(row), "{}", coverage.table);
        }
        let faults = measure(&spec(), &[], &[], &[played(&[]), played(&["MUX-99"])]).faults;
        for fault in [
            "deviation.odd.initiator: names no clause",
            "deviation.odd.initiator: there is no clause MUX-99",
        ] {
            assert!(faults.iter().any(|f| f == fault), "{faults:#?}");
        }
    }

    #[test]
    fn cases_and_scenarios_must_name_clauses_that_exist() {
        let files = [file(&[("encoding.uint.a", "ENC-9", "valid")])];
        let scenarios = feature(
            "Feature: F\n\n  Scenario: none\n    Given x\n\n  @MUX-99\n  Scenario: unknown\n    Given x\n",
        );
        let faults = measure(&spec(), &files, &scenarios, &[]).faults;
        for fault in [
            "encoding.uint.a: there is no clause ENC-9",
            "a.feature: none: names no clause",
            "a.feature: unknown: there is no clause MUX-99",
        ] {
            assert!(
                faults.iter().any(|f| f == fault),
                "{fault} not in {faults:#?}"
            );
        }
    }

    #[test]
    fn too_few_cases_or_too_few_invalid_ones_are_faults() {
        let ids: Vec<String> = (0..MIN_CASES)
            .map(|n| format!("encoding.uint.n{n}"))
            .collect();
        let results = |invalid: usize| {
            ids.iter()
                .enumerate()
                .map(|(n, id)| {
                    (
                        id.as_str(),
                        "ENC-1",
                        if n < invalid { "invalid" } else { "valid" },
                    )
                })
                .collect::<Vec<_>>()
        };
        let faults = |cases: &[(&str, &str, &str)]| {
            let faults = measure(&spec(), &[file(cases)], &[], &[]).faults;
            let count = faults.iter().any(|f| f.contains("of at least"));
            let third = faults.iter().any(|f| f.contains("less than a third"));
            (count, third)
        };
        assert_eq!(faults(&results(500)), (false, false));
        assert_eq!(faults(&results(499)), (false, true));
        assert_eq!(faults(&results(1500)[1..]), (true, false));
    }

    #[test]
    fn facts_tell_the_parts_of_messages_and_the_forms_of_manifests() {
        let mut out = BTreeSet::new();
        message_facts("noData", &json!({ "request": 1, "reason": 2 }), &mut out);
        message_facts(
            "range",
            &json!({ "drop": false, "start": 0, "length": 1 }),
            &mut out,
        );
        manifest_facts(
            &json!({ "version": 0, "allowPatch": false, "quorum": 1, "signers": [{}], "prologue": null }),
            &mut out,
        );
        manifest_facts(
            &json!({ "version": 0, "allowPatch": false, "quorum": 0, "signers": [], "prologue": {} }),
            &mut out,
        );
        manifest_facts(
            &json!({ "version": 3, "allowPatch": true, "quorum": 1, "signers": [{}, {}], "linked": [] }),
            &mut out,
        );
        for fact in [
            "noData: with reason",
            "noData: reason 2",
            "combination noData 1",
            "range: without drop",
            "range: with length 1",
            "combination range 01",
            "manifest 0: one signer",
            "manifest 0: prologue",
            "manifest 3: with allowPatch",
            "manifest 3: without prologue",
            "manifest 3: with linked",
            "manifest 3: many signers",
        ] {
            assert!(out.contains(fact), "{fact} not in {out:#?}");
        }
    }

    #[test]
    fn a_stale_table_is_noticed_and_brought_up_to_date() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("vectors");
        std::fs::create_dir_all(folder.join("encoding")).expect("a folder");
        let text = "## 1. S\n\n### ENC-1 — T\n\n- Source: here.\n- Releases: all.\n\n<!-- index: generated by `hypercore-conformance coverage` -->\n<!-- end of index -->\n";
        std::fs::write(folder.join("SPECIFICATION.md"), text).expect("written");
        let file = file(&[("encoding.uint.a", "ENC-1", "valid")]);
        let json = serde_json::to_string(&file).expect("JSON");
        std::fs::write(folder.join("encoding/uint.json"), json).expect("written");
        let stale = |check: bool| {
            run(&folder, &features_folder(&folder), check)
                .expect_err("far from all is covered")
                .into_iter()
                .filter(|fault| fault.contains("out of date"))
                .count()
        };
        assert_eq!(stale(true), 2);
        assert_eq!(stale(false), 0);
        assert_eq!(stale(true), 0);
    }
}
