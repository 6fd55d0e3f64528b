//! What a release writes and reads: the vectors are asked of it, and what it answers is held against what was recorded; then
//! what it wrote is given to the implementations.

use hypercore_protocol::{Buffer, MessageType};
use serde_json::{Value, json};

use crate::adapter::{Adapter as _, AdapterCommand, Outcome};
use crate::diff::{Difference, bytes_of, differences};
use crate::dissect::{Field, Kind, dissect};
use crate::node;
use crate::run::verdict::Verdict;
use crate::run::{Check, Run, Selection, Silent, run_vectors};
use crate::vectors::VectorFile;

use super::cache::{Release, major, transport_of};
use super::cell::{Cell, Fault};
use super::lacks::lacks_of_check;
use super::patient::Patient;

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
        let others = crate::run::LAYERS
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
    adapter.kill().await;
    run.map_err(|error| error.to_string())
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
    let mut check = Check::new(crate::run::Kind::Vector, "", "", "");
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

/// What the bytes at `path` of the answer to a check are.
fn kind_of(check: &Check, path: &str) -> Option<Kind> {
    if path != "bytes" {
        return None;
    }
    written_by(check.op.as_deref()?, check.input.as_ref()?)
}

/// What an operation writes, if it writes something that has fields.
pub(super) fn written_by(op: &str, input: &Value) -> Option<Kind> {
    kind_of_op(op.strip_suffix(".encode")?, input)
}

/// What an operation writes or reads: `message`, as in `message.encode`.
pub(super) fn kind_of_op(what: &str, input: &Value) -> Option<Kind> {
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
    reader.kill().await;
    writer.kill().await;
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
    fn a_field_that_is_gone_is_named() {
        let no_data = Kind::Message(MessageType::NoData);
        let told = compare_fields(no_data, vec![7, 1, 2], vec![7]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("`flags` is not written"), "{told:?}");
    }
}
