//! What a release writes and reads: the vectors are asked of it, and what it answers is held against what was recorded; then
//! what it wrote is given to the implementations.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use hypercore_protocol::{Buffer, MessageType};
use serde_json::{Value, json};

use crate::adapter::{Adapter, AdapterCommand, AdapterProcess, Failure, Hello, Outcome};
use crate::diff::{Difference, bytes_of, differences};
use crate::dissect::{Field, Kind, dissect};
use crate::node;
use crate::runner::{Check, Run, Selection, Silent, run_vectors};
use crate::vectors::VectorFile;
use crate::verdict::Verdict;

use super::cache::{Release, major, transport_of};
use super::cell::{Cell, Fault, Lacks};

/// The layers whose packages come with each release of hypercore; those below are the transport's.
const OWN_LAYERS: [&str; 7] = [
    "encoding",
    "channel",
    "message",
    "extension",
    "manifest",
    "tree",
    "transcript",
];

/// How long one answer may take before it counts as none: Node 10.0.0 hangs on some.
pub(super) const ANSWER_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// So many answers to one operation may fail to come before it is not asked for any more.
const PATIENCE: usize = 3;

/// So many answers to all operations may fail to come before nothing is asked any more.
const ALL_PATIENCE: usize = 12;

/// How many differences of one case are told.
const TOLD: usize = 6;

/// The pinned release of the same major version, whose recordings a release is held to.
pub fn line_of(release: &str) -> &'static str {
    let same = |pinned: &&&str| major(pinned) == major(release);
    let newest = node::RELEASES[node::RELEASES.len() - 1];
    node::RELEASES.iter().find(same).copied().unwrap_or(newest)
}

/// The vectors as `release` should answer them: what was recorded to differ in its line is expected of it too.
fn as_of(files: &[VectorFile], release: &str) -> Vec<VectorFile> {
    let mut files = files.to_vec();
    let cases = files.iter_mut().flat_map(|file| &mut file.groups);
    for case in cases.flat_map(|group| &mut group.cases) {
        if let Some(other) = case.releases.get(line_of(release)).cloned() {
            case.releases.insert(release.to_owned(), other);
        }
    }
    files
}

/// The layers that a release is asked: its own, and those of the transport where its transport is not the pinned one, byte
/// by byte, which the vectors were recorded from.
pub(super) fn layers_of(release: &Release, pinned: &[(String, String)]) -> Vec<String> {
    let mut layers: Vec<String> = OWN_LAYERS.map(str::to_owned).to_vec();
    if transport_of(&release.folder) != pinned {
        let others = crate::runner::LAYERS
            .iter()
            .filter(|layer| !OWN_LAYERS.contains(layer));
        layers.extend(others.map(|layer| (*layer).to_owned()));
    }
    layers
}

/// Asks an adapter all vectors of some layers; those of `release` where it is one of Node's.
pub(super) async fn ask(
    command: &AdapterCommand,
    files: &[VectorFile],
    layers: &[String],
    release: Option<&str>,
) -> Result<Run, String> {
    let own;
    let files = match release {
        Some(release) => {
            own = as_of(files, release);
            &own
        }
        None => files,
    };
    let mut adapter = Patient::new(command);
    let selection = Selection::new(layers, &[])?;
    let run = run_vectors(&mut adapter, files, &selection, &mut Silent).await;
    adapter.inner.kill().await;
    run.map_err(|error| error.to_string())
}

/// A program that is not waited for without end: a release that hangs would cost its limit at each of thousands of cases.
struct Patient<A = AdapterProcess> {
    inner: A,
    /// How many answers of each operation did not come.
    silent: BTreeMap<String, usize>,
}

impl Patient {
    fn new(command: &AdapterCommand) -> Self {
        Self::of(AdapterProcess::new(command.clone()).with_timeout(ANSWER_LIMIT))
    }
}

impl<A: Adapter> Patient<A> {
    fn of(inner: A) -> Self {
        let silent = BTreeMap::new();
        Self { inner, silent }
    }

    /// Why `op` is not asked any more, if it is not.
    fn given_up(&self, op: &str) -> Option<Failure> {
        let own = self.silent.get(op).copied().unwrap_or(0);
        let all = self.silent.values().sum();
        let (count, what) = match (own, all) {
            (_, ALL_PATIENCE..) => (all, "all operations".to_owned()),
            (PATIENCE.., _) => (own, op.to_owned()),
            _ => return None,
        };
        let limit = self.inner.timeout();
        Some(Failure::NotAsked { count, what, limit })
    }
}

impl<A: Adapter> Adapter for Patient<A> {
    fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>> {
        self.inner.hello()
    }

    fn timeout(&self) -> std::time::Duration {
        self.inner.timeout()
    }

    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: std::time::Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            if let Some(failure) = self.given_up(op) {
                return Err(failure);
            }
            let answer = self.inner.call_within(op, input, limit).await;
            if let Err(Failure::TimedOut(_)) = answer {
                *self.silent.entry(op.to_owned()).or_default() += 1;
            }
            answer
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        self.inner.finish()
    }

    fn take_unasked(&mut self) -> Option<String> {
        self.inner.take_unasked()
    }

    fn take_stderr(&mut self) -> String {
        self.inner.take_stderr()
    }
}

/// Notes in `cell` where the release answers otherwise than was recorded.
pub(super) fn note_drift(cell: &mut Cell, run: &Run) {
    for check in &run.checks {
        match check.verdict {
            Verdict::Failed => cell.faults.push(Fault {
                lacks: lacks_of_check(check),
                ..Fault::new(&check.id, describe(check))
            }),
            Verdict::Unsupported => cell.unsupported += 1,
            // Nothing is listed as expected here: the gate has a list of its own.
            _ => cell.pass(&check.id),
        }
    }
}

/// What is different, by the names of the fields.
pub fn describe(check: &Check) -> String {
    let reason = check.reason.clone().unwrap_or_default();
    // What follows is where on this machine the packages are.
    let reason = match reason.split_once("\nRequire stack:") {
        Some((reason, _)) => reason.to_owned(),
        None => reason,
    };
    if check.differences.is_empty() {
        return reason;
    }
    let told = check
        .differences
        .iter()
        .flat_map(|difference| explain(check, difference));
    shorten(told.collect())
}

pub(super) fn shorten(mut told: Vec<String>) -> String {
    if told.len() > TOLD {
        let more = told.len() - TOLD;
        told.truncate(TOLD);
        told.push(format!("and {more} more"));
    }
    told.join("; ")
}

/// The same for an answer that was recorded of another release.
pub(super) fn compare_answers(
    op: &str,
    input: &Value,
    today: Option<&Value>,
    other: &Value,
) -> String {
    let Some(today) = today else {
        return "accepted".into();
    };
    let mut check = Check::new(crate::runner::Kind::Vector, "", "", "");
    check.op = Some(op.to_owned());
    check.input = Some(input.clone());
    let found = differences(today, other);
    let told: Vec<String> = found
        .iter()
        .flat_map(|difference| explain(&check, difference))
        .collect();
    shorten(told)
}

fn explain(check: &Check, difference: &Difference) -> Vec<String> {
    let bytes = |value: &Option<Value>| value.as_ref().and_then(bytes_of);
    if let (Some(kind), Some(expected), Some(actual)) = (
        kind_of(check, &difference.path),
        bytes(&difference.expected),
        bytes(&difference.actual),
    ) {
        let told = compare_fields(kind, expected, actual);
        if !told.is_empty() {
            return told;
        }
    }
    let path = match (&difference.field, difference.path.as_str()) {
        (Some(field), path) => format!("{path}, at {field}"),
        (None, "") => "the answer".into(),
        (None, path) => path.to_owned(),
    };
    vec![format!(
        "{path}: recorded {}, now {}",
        shown_value(&difference.expected),
        shown_value(&difference.actual)
    )]
}

fn shown_value(value: &Option<Value>) -> String {
    let Some(value) = value else {
        return "absent".to_owned();
    };
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// So many bytes are kept of what a release writes.
const KEPT: usize = 160;

fn lacks_of_check(check: &Check) -> Option<Lacks> {
    let (op, input) = (check.op.as_deref()?, check.input.as_ref()?);
    let refused = check.actual.as_ref().and_then(|actual| actual.get("error"));
    if let Some(error) = refused {
        return (error["class"] == UNKNOWN_VERSION).then(|| refused_version(op, input))?;
    }
    let of_bytes = |difference: &&Difference| difference.path == "bytes";
    let difference = check.differences.iter().find(of_bytes)?;
    let (recorded, now) = (difference.expected.as_ref()?, difference.actual.as_ref()?);
    lacks(op, input, recorded, now)
}

/// How a version is refused that a release does not know.
pub(super) const UNKNOWN_VERSION: &str = "unknown-version";

/// The version of the manifest in bytes that are refused for it.
pub(super) fn refused_version(op: &str, input: &Value) -> Option<Lacks> {
    let kind = kind_of_op(op.strip_suffix(".decode")?, input)?;
    let fields = leaves_of(kind, &Buffer::from(bytes_of(&input["bytes"])?));
    let version = fields.iter().find(|field| field.name == "manifest.version");
    let version = version?.value.as_ref()?.as_u64()?;
    Some(Lacks {
        features: vec![format!("manifest, version {version}")],
        bytes: None,
    })
}

/// What the bytes `now` lack of those that were recorded, if they lack anything that has a name.
pub(super) fn lacks(op: &str, input: &Value, recorded: &Value, now: &Value) -> Option<Lacks> {
    let kind = written_by(op, input)?;
    let (before, after) = (bytes_of(recorded)?, bytes_of(now)?);
    let lost = lost(kind, &before, &after);
    let name = match op {
        "message.encode" => input["message"].as_str().unwrap_or_default(),
        "manifest.encode" => "manifest",
        _ => "multisignature",
    };
    let told = |what: &(bool, String)| match what {
        (true, what) => format!("manifest, {what}"),
        (false, what) => format!("{name}, {what}"),
    };
    let features: Vec<String> = lost.iter().map(told).collect();
    let bytes = (after.len() <= KEPT).then(|| hex::encode(&after));
    (!features.is_empty()).then_some(Lacks { features, bytes })
}

/// The version or the type that is another, or else the flags that are not set, or else the fields that were left out: what
/// follows one of these is other for its sake. And whether it is of a manifest in what is written.
fn lost(kind: Kind, before: &[u8], after: &[u8]) -> Vec<(bool, String)> {
    const MANIFEST: &str = "manifest.";
    let fields = |bytes: &[u8]| leaves_of(kind, &Buffer::from(bytes.to_vec()));
    let (recorded, now) = (fields(before), fields(after));
    let number = |field: &Field| field.value.as_ref().and_then(Value::as_u64);
    let found = |name: &str| now.iter().find(|field| field.name == name);
    for field in &recorded {
        let (Some(had), Some(other)) = (number(field), found(&field.name)) else {
            continue;
        };
        let of_manifest = field.name.starts_with(MANIFEST);
        let has = number(other).unwrap_or_default();
        let last = field.name.rsplit('.').next().unwrap_or_default();
        match last {
            "version" if has != had => return vec![(of_manifest, format!("version {had}"))],
            "type" if has != had => {
                let told = format!("type {had}, {}", field.meaning);
                return vec![(of_manifest, told)];
            }
            "flags" if had & !has != 0 => {
                let bits = (0..u64::BITS).map(|bit| 1 << bit);
                let told = |bit| format!("flag {} ({bit})", flag_of(field, had, bit));
                return bits
                    .filter(|bit| had & !has & bit != 0)
                    .map(|bit| (of_manifest, told(bit)))
                    .collect();
            }
            _ => {}
        }
    }
    let Some((from, to)) = left_out(before, after, &recorded) else {
        return Vec::new();
    };
    let within = |field: &&Field| from <= field.offset && field.offset + field.length <= to;
    let gone = recorded.iter().filter(within);
    gone.map(|field| match field.name.strip_prefix(MANIFEST) {
        Some(name) => (true, format!("field {name}")),
        None => (false, format!("field {}", field.name)),
    })
    .collect()
}

/// Which bytes were left out, where nothing else is other: from the beginning of a field, for equal bytes can be taken for each
/// other.
fn left_out(before: &[u8], after: &[u8], fields: &[Field]) -> Option<(usize, usize)> {
    let length = before
        .len()
        .checked_sub(after.len())
        .filter(|&length| length > 0)?;
    let starts = fields.iter().map(|field| field.offset);
    let is_it = |from: &usize| {
        let (head, tail) = (before.get(..*from), before.get(from + length..));
        head.zip(tail)
            .is_some_and(|(head, tail)| [head, tail].concat() == after)
    };
    starts
        .filter(is_it)
        .map(|from| (from, from + length))
        .next()
}

/// The name of one of the flags that are set.
fn flag_of(field: &Field, set: u64, bit: u64) -> String {
    let mut names = field.meaning.split(" | ");
    let before = (set & (bit - 1)).count_ones() as usize;
    names.nth(before).unwrap_or_default().to_owned()
}

/// What the bytes at `path` of the answer to a check are.
fn kind_of(check: &Check, path: &str) -> Option<Kind> {
    if path != "bytes" {
        return None;
    }
    written_by(check.op.as_deref()?, check.input.as_ref()?)
}

/// What an operation writes, if it writes something that has fields.
fn written_by(op: &str, input: &Value) -> Option<Kind> {
    kind_of_op(op.strip_suffix(".encode")?, input)
}

/// What an operation writes or reads: `message`, as in `message.encode`.
fn kind_of_op(what: &str, input: &Value) -> Option<Kind> {
    match what {
        "message" => {
            let name = input.get("message")?.as_str()?;
            if name == "handshake" {
                return Some(Kind::Handshake);
            }
            MessageType::from_name(name).map(Kind::Message)
        }
        "manifest" => Some(Kind::Manifest),
        "multisig" => Some(Kind::MultiSignature),
        _ => None,
    }
}

/// Which fields are other than they were, in words.
fn compare_fields(kind: Kind, recorded: Vec<u8>, now: Vec<u8>) -> Vec<String> {
    compare_leaves(
        &leaves_of(kind, &Buffer::from(recorded)),
        &leaves_of(kind, &Buffer::from(now)),
    )
}

/// The fields of a message that are not made of others.
pub(super) fn leaves_of(kind: Kind, bytes: &Buffer) -> Vec<Field> {
    let mut found = Vec::new();
    leaves(&dissect(kind, bytes).fields, &mut found);
    found
}

/// The same of fields.
pub(super) fn compare_leaves(recorded: &[Field], now: &[Field]) -> Vec<String> {
    let find =
        |fields: &[Field], name: &str| fields.iter().find(|field| field.name == name).cloned();
    let mut told = Vec::new();
    for field in recorded {
        match find(now, &field.name) {
            None => told.push(format!(
                "`{}` is not written (recorded {})",
                field.name,
                shown(field)
            )),
            Some(other) if (&other.hex, &other.value) != (&field.hex, &field.value) => {
                told.push(change(field, &other))
            }
            Some(_) => {}
        }
    }
    let gained = now
        .iter()
        .filter(|field| find(recorded, &field.name).is_none());
    told.extend(
        gained.map(|field| format!("`{}` is written besides: {}", field.name, shown(field))),
    );
    told
}

fn leaves(fields: &[Field], found: &mut Vec<Field>) {
    for field in fields {
        if field.fields.is_empty() {
            found.push(field.clone());
        } else {
            leaves(&field.fields, found);
        }
    }
}

fn shown(field: &Field) -> String {
    let hex = field.hex.clone().unwrap_or_default();
    if field.meaning.is_empty() {
        hex
    } else {
        format!("{hex}, {}", field.meaning)
    }
}

/// A field that changed; of flags, which of them.
fn change(recorded: &Field, now: &Field) -> String {
    let name = &recorded.name;
    let number = |field: &Field| field.value.as_ref().and_then(Value::as_u64);
    if name.ends_with("flags")
        && let (Some(before), Some(after)) = (number(recorded), number(now))
    {
        let names = |field: &Field| -> Vec<String> {
            field.meaning.split(" | ").map(str::to_owned).collect()
        };
        let (had, has) = (names(recorded), names(now));
        let lost: Vec<&String> = had.iter().filter(|flag| !has.contains(flag)).collect();
        let gained: Vec<&String> = has.iter().filter(|flag| !had.contains(flag)).collect();
        let list = |flags: &[&String], bits: u64| {
            let flags: Vec<&str> = flags.iter().map(|flag| flag.as_str()).collect();
            format!("{} ({bits})", flags.join(", "))
        };
        let mut told = Vec::new();
        if before & !after != 0 {
            told.push(format!("lacks flag {}", list(&lost, before & !after)));
        }
        if after & !before != 0 {
            told.push(format!("gained flag {}", list(&gained, after & !before)));
        }
        return format!("`{name}` {before} → {after}: {}", told.join(", "));
    }
    format!("`{name}` {} → {}", shown(recorded), shown(now))
}

/// What a release wrote that is not what was recorded, so that others can be asked to read it.
#[derive(Clone, Debug)]
pub(super) struct Written {
    id: String,
    /// The operation that reads it, and its input.
    op: &'static str,
    input: Value,
}

/// All that a release wrote in another way.
pub(super) fn written(run: &Run) -> Vec<Written> {
    let other = run
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::Failed)
        // No core has 2^53 blocks, and what Node rounds nobody else has to.
        .filter(|check| !check.flags.iter().any(|flag| flag == "UnsafeInteger"));
    other
        .filter_map(|check| {
            let op = match check.op.as_deref()? {
                "message.encode" => "message.decode",
                "manifest.encode" => "manifest.decode",
                "multisig.encode" => "multisig.decode",
                _ => return None,
            };
            let bytes = check.actual.as_ref()?.get("ok")?.get("bytes")?;
            bytes_of(bytes)?;
            let mut input = json!({ "bytes": bytes });
            for name in ["message", "version"] {
                if let Some(value) = check.input.as_ref()?.get(name) {
                    input[name] = value.clone();
                }
            }
            Some(Written {
                id: check.id.clone(),
                op,
                input,
            })
        })
        .collect()
}

/// Notes in `cell` how an implementation answers the vectors, and whether it reads what the release wrote as the release does.
pub(super) async fn note_vectors(
    cell: &mut Cell,
    own: &Run,
    theirs: &Run,
    (command, node): (&AdapterCommand, &AdapterCommand),
) -> Result<(), String> {
    let of_release = |id: &str| theirs.checks.iter().find(|check| check.id == id);
    let asked: std::collections::HashSet<&str> = theirs
        .checks
        .iter()
        .map(|check| check.id.as_str())
        .collect();
    for check in own
        .checks
        .iter()
        .filter(|check| asked.contains(check.id.as_str()))
    {
        match check.verdict {
            Verdict::Unsupported => cell.unsupported += 1,
            // Not as today's Node, but as this release.
            Verdict::Failed
                if of_release(&check.id).is_some_and(|theirs| {
                    theirs.verdict == Verdict::Failed && theirs.actual == check.actual
                }) =>
            {
                cell.pass(&check.id);
            }
            Verdict::Failed => cell.faults.push(Fault::new(&check.id, describe(check))),
            _ => cell.pass(&check.id),
        }
    }
    let written = written(theirs);
    if written.is_empty() {
        return Ok(());
    }
    let mut reader = Patient::new(command);
    let mut writer = Patient::new(node);
    let hello = reader.hello().await.map_err(|error| error.to_string())?;
    for Written { id, op, input } in written {
        if !hello.knows(op) {
            cell.unsupported += 1;
            continue;
        }
        let meant = writer.call(op, &input).await;
        let read = reader.call(op, &input).await;
        let (Ok(Outcome::Ok(meant)), Ok(read)) = (meant, read) else {
            continue;
        };
        let fault = match read {
            Outcome::Ok(read) => {
                let found = differences(&meant, &read);
                // What the release does not know is absent, false or zero to those who do.
                let nothing = |value: &Option<Value>| match value {
                    None | Some(Value::Null | Value::Bool(false)) => true,
                    Some(value) => value.as_u64() == Some(0),
                };
                let mut real = found
                    .iter()
                    .filter(|found| !(nothing(&found.expected) && nothing(&found.actual)));
                real.next().map(|found| {
                    format!(
                        "{} is {} here and {} to the release",
                        found.path,
                        shown_value(&found.actual),
                        shown_value(&found.expected)
                    )
                })
            }
            Outcome::Error(error) => Some(format!("refused what the release wrote: {error}")),
            Outcome::Unsupported => Some("declared, but unsupported".into()),
        };
        match fault {
            None => cell.pass(format!("reads.{id}")),
            Some(reason) => cell.faults.push(Fault::new(format!("reads.{id}"), reason)),
        }
    }
    reader.inner.kill().await;
    writer.inner.kill().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_held_to_the_recordings_of_its_line() {
        assert_eq!(line_of("10.0.0"), "10.38.2");
        assert_eq!(line_of("11.39.5"), "11.37.1");
        assert_eq!(line_of("12.0.0"), "11.37.1");
    }

    /// Answers nothing but `mux.open`.
    #[derive(Default)]
    struct Mute {
        asked: usize,
    }

    impl Adapter for Mute {
        fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>> {
            Box::pin(async { Ok(Hello::default()) })
        }

        fn timeout(&self) -> std::time::Duration {
            ANSWER_LIMIT
        }

        fn call_within<'a>(
            &'a mut self,
            op: &'a str,
            _: &'a Value,
            limit: std::time::Duration,
        ) -> BoxFuture<'a, Result<Outcome, Failure>> {
            self.asked += 1;
            Box::pin(async move {
                match op {
                    "mux.open" => Ok(Outcome::Unsupported),
                    _ => Err(Failure::TimedOut(limit)),
                }
            })
        }
    }

    #[tokio::test]
    async fn a_release_that_hangs_is_not_waited_for_at_each_case() {
        let mut adapter = Patient::of(Mute::default());
        let mut told = Vec::new();
        for round in 0..20 {
            for op in ["mux.open", "a", "b", "c", "d", "e"] {
                let answer = adapter.call(op, &Value::Null).await;
                // Of what it does not answer, three of each operation, and then of none.
                if let Err(failure @ Failure::NotAsked { .. }) = answer {
                    told.push(failure.to_string());
                } else {
                    assert!(round < 3, "{op} in round {round}: {answer:?}");
                }
            }
        }
        assert_eq!(
            told[0],
            "not asked: 12 answers to all operations did not come within 20 s"
        );
        assert_eq!(adapter.silent.values().sum::<usize>(), 12);
        assert_eq!(adapter.inner.asked, 12 + 3);

        let mut adapter = Patient::of(Mute::default());
        for _ in 0..5 {
            let answer = adapter.call("mux.open", &Value::Null).await;
            assert_eq!(answer, Ok(Outcome::Unsupported));
            told.extend(
                adapter
                    .call("a", &Value::Null)
                    .await
                    .err()
                    .map(|failure| failure.to_string()),
            );
        }
        assert_eq!(
            told.last().map(String::as_str),
            Some("not asked: 3 answers to a did not come within 20 s")
        );
        assert_eq!(adapter.inner.asked, 5 + 3);
    }

    #[test]
    fn a_flag_that_came_is_named() {
        let sync = Kind::Message(MessageType::Sync);
        let told = compare_fields(sync, vec![0x0f, 0, 5, 0], vec![0x1f, 0, 5, 0]);
        assert_eq!(told, ["`flags` 15 → 31: gained flag allowPush (16)"]);
        let told = compare_fields(sync, vec![0x1f, 0, 5, 0], vec![0x0f, 0, 6, 0]);
        assert_eq!(
            told,
            [
                "`flags` 31 → 15: lacks flag allowPush (16)",
                "`length` 05 → 06"
            ]
        );
    }

    #[test]
    fn what_bytes_lack_is_a_version_a_flag_or_a_field() {
        let lacks = |name: &str, recorded: &str, now: &str| {
            let (op, input) = match name {
                "manifest" => ("manifest.encode", json!({})),
                name => ("message.encode", json!({ "message": name })),
            };
            let found = lacks(op, &input, &json!(recorded), &json!(now));
            found.map(|found| found.features).unwrap_or_default()
        };
        assert_eq!(
            lacks("sync", "1f000500", "07000500"),
            ["sync, flag hasManifest (8)", "sync, flag allowPush (16)"]
        );
        assert_eq!(lacks("sync", "1f000500", "1f000600"), [""; 0]);
        assert_eq!(
            lacks("noData", "070101", "07"),
            ["noData, field flags", "noData, field reason"]
        );
        // A seek without its padding: what follows is not lost.
        for (with, without) in [
            ("040701fd001008", "040701fd0010"),
            ("340701fd00100802", "340701fd001002"),
            ("0c0701fd0010080309", "0c0701fd00100309"),
        ] {
            assert_eq!(
                lacks("request", with, without),
                ["request, field seek.padding"]
            );
        }
        assert_eq!(lacks("request", "040701fd001008", "040701fd00"), [""; 0]);
        assert_eq!(
            lacks("manifest", "0100000000", "000000"),
            ["manifest, version 1"]
        );
    }

    #[test]
    fn a_version_that_is_refused_is_named() {
        let mut check = Check::new(crate::runner::Kind::Vector, "", "", "");
        check.op = Some("manifest.decode".into());
        check.input = Some(json!({ "bytes": "0200000000" }));
        let error = |class: &str| Some(json!({ "error": { "layer": "manifest", "class": class } }));
        check.actual = error("unknown-version");
        let found = lacks_of_check(&check).expect("a version");
        assert_eq!(found.features, ["manifest, version 2"]);
        assert_eq!(found.bytes, None);
        check.actual = error("out-of-bounds");
        assert_eq!(lacks_of_check(&check), None);
    }

    #[test]
    fn a_field_that_is_gone_is_named() {
        let no_data = Kind::Message(MessageType::NoData);
        let told = compare_fields(no_data, vec![7, 1, 2], vec![7]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("`flags` is not written"), "{told:?}");
    }
}
