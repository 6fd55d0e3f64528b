//! Replays the recorded conversations with a release and compares the messages with the recording of its line, message
//! by message and field by field.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;

use hypercore_protocol::frame::FrameDecoder;
use hypercore_protocol::mux::{Limits, Packet, RecordReader};
use hypercore_protocol::secret_stream::{MAC_BYTES, Pull, TAG_BYTES, parse_header_record};
use hypercore_protocol::{Buffer, MessageType};
use serde_json::Value;
use similar::{Algorithm, DiffTag, capture_diff_slices};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::answers::line_of;
use super::cell::{Cell, Fault};
use super::compare::{compare_leaves, leaves_of, shorten};
use super::silence_limit::ANSWER_LIMIT;
use crate::diff::bytes_of;
use crate::dissect::{Field, Kind, is_hypercore, leaf};
use crate::group;
use crate::npm::cache::{Release, Runtime};
use crate::vectors::VectorFile;

/// The prefix of these checks' ids.
pub(super) const PREFIX: &str = "conversation.";

/// The ends of a conversation.
const ENDS: [&str; 2] = ["initiator", "responder"];

/// Replays all conversations that involve the line of `release`, and records differences in `cell`.
pub(super) async fn note(
    cell: &mut Cell,
    files: &[VectorFile],
    release: &Release,
    runtime: &Runtime,
    examples: &Path,
) -> Result<(), String> {
    for (slug, held) in hold(release, runtime, examples).await? {
        let told = match (recorded(files, &slug), held) {
            (None, _) => Some("no such conversation was recorded".to_owned()),
            (_, Err(reason)) => Some(format!("it ends: {reason}")),
            (Some(before), Ok(now)) => compare(&slug, before, &now),
        };
        match told {
            None => cell.pass(format!("{PREFIX}{slug}")),
            Some(reason) => cell
                .faults
                .push(Fault::new(format!("{PREFIX}{slug}"), reason)),
        }
    }
    Ok(())
}

/// Whether a release replays a conversation, by its id or slug: one of its ends has to be of the release's line.
pub(super) fn is_asked(id: &str, release: &str) -> bool {
    let slug = id.strip_prefix(PREFIX).unwrap_or(id);
    let ends = slug.split('.').next().unwrap_or_default();
    let line = line_of(release).split('.').next().unwrap_or_default();
    ends.split('-').any(|end| end == line)
}

fn recorded<'a>(files: &'a [VectorFile], slug: &str) -> Option<&'a Value> {
    let groups = files.iter().flat_map(|file| &file.groups);
    let decode = groups.filter(|group| group.op == "transcript.decode");
    let ending = format!(".decode.{slug}");
    let mut cases = decode.flat_map(|group| &group.cases);
    cases
        .find(|case| case.id.ends_with(&ending))
        .map(|case| &case.input)
}

type Replayed = (String, Result<Value, String>);

/// Has Node replay the conversations; one that crashes or hangs does not prevent the next ones.
async fn hold(
    release: &Release,
    runtime: &Runtime,
    examples: &Path,
) -> Result<Vec<Replayed>, String> {
    let mut all: Vec<Replayed> = Vec::new();
    loop {
        let folder =
            TempDir::with_prefix("hypercore-matrix-").map_err(|error| error.to_string())?;
        let mut command = Command::new(&runtime.program);
        command
            .env("TMPDIR", folder.path())
            .arg(examples.join("interop/conversations.js"))
            .arg(&release.folder)
            .args([line_of(&release.version), &all.len().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let (mut child, _group) = group::spawn_async(&mut command)
            .map_err(|error| format!("{} does not start: {error}", runtime.name))?;
        let stdout = child.stdout.take().ok_or("a pipe to Node is missing")?;
        let mut lines = BufReader::new(stdout).lines();
        let (before, mut current) = (all.len(), None);
        let ended = loop {
            let Ok(line) = tokio::time::timeout(ANSWER_LIMIT, lines.next_line()).await else {
                break format!("nothing for {} s", ANSWER_LIMIT.as_secs());
            };
            let Ok(Some(line)) = line else {
                break "Node is gone".to_owned();
            };
            let mut said: Value = serde_json::from_str(&line)
                .map_err(|_| format!("Node says what is no JSON: {line}"))?;
            let error = said["error"].as_str().map(str::to_owned);
            match (said["slug"].as_str().map(str::to_owned), error) {
                (None, error) => return Err(error.unwrap_or_else(|| line.clone())),
                (Some(slug), Some(error)) => {
                    all.push((slug, Err(error)));
                    current = None;
                }
                (Some(slug), None) if said["input"].is_object() => {
                    all.push((slug, Ok(said["input"].take())));
                    current = None;
                }
                (Some(slug), None) => current = Some(slug),
            }
        };
        if let Some(slug) = current {
            all.push((slug, Err(ended)));
        } else if child.wait().await.is_ok_and(|status| status.success()) {
            return Ok(all);
        } else if all.len() == before {
            return Err("no conversation begins: Node ends before".into());
        }
    }
}

/// A message, by its name and its bytes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Message {
    name: String,
    bytes: Vec<u8>,
}

/// The messages of one end, and the fields of each.
#[derive(Debug, Default)]
struct Sent {
    said: Vec<Message>,
    fields: Vec<Vec<Field>>,
    /// Why the rest can't be decoded.
    lost: Option<String>,
}

impl Sent {
    fn push(&mut self, name: impl Into<String>, bytes: Vec<u8>, fields: Vec<Field>) {
        let name = name.into();
        self.said.push(Message { name, bytes });
        self.fields.push(fields);
    }

    /// Ordinal among messages of this name, from 1.
    fn number(&self, at: usize) -> usize {
        let name = &self.said[at].name;
        let before = self.said[..=at].iter();
        before.filter(|other| other.name == *name).count()
    }
}

/// The messages of one end of a conversation, given in the form of `transcript.decode`.
fn speech(input: &Value, from: &str) -> Sent {
    let mut speech = Sent::default();
    if let Err(reason) = follow(&mut speech, input, from) {
        speech.lost = Some(reason);
    }
    speech
}

fn follow(speech: &mut Sent, input: &Value, from: &str) -> Result<(), String> {
    let bytes = |value: &Value, what: &str| bytes_of(value).ok_or(format!("{what} is missing"));
    let fixed = "it has another length";
    let hash = bytes(&input["handshakeHash"], "the hash of the handshake")?;
    let hash: [u8; 64] = hash.try_into().map_err(|_| fixed)?;
    let key = bytes(&input[from]["key"], "the key")?;
    let key: [u8; 32] = key.try_into().map_err(|_| fixed)?;
    let mut frames = FrameDecoder::new();
    let mut pull: Option<Pull> = None;
    // The sender's ids of its open hypercore channels.
    let mut channels = HashSet::new();
    let mut records = 0_usize;
    let chunks = input["chunks"].as_array().into_iter().flatten();
    for chunk in chunks.filter(|chunk| chunk["from"] == from) {
        let chunk = bytes(&chunk["bytes"], "a chunk")?;
        let mut rest = chunk.as_slice();
        while let Some(mut record) = frames.decode(&mut rest) {
            let fault = |error: &dyn std::fmt::Display| format!("record {records}: {error}");
            let Some(pull) = &mut pull else {
                let header = parse_header_record(&hash, from == ENDS[1], &record)
                    .map_err(|error| fault(&error))?;
                pull = Some(Pull::new(&key, &header));
                continue;
            };
            pull.open(&mut record).map_err(|error| fault(&error))?;
            let end = record.len() - MAC_BYTES;
            let record = Buffer::from(record).slice(TAG_BYTES..end);
            let mut reader = RecordReader::new(record, Limits::default().max_nesting);
            while let Some(packet) = reader.next_packet().map_err(|error| fault(&error))? {
                let is_known = match &packet {
                    Packet::Message { channel, .. } => channels.contains(channel),
                    Packet::Open { id, protocol, .. } if is_hypercore(protocol) => {
                        channels.insert(*id);
                        true
                    }
                    _ => false,
                };
                push(speech, packet, is_known);
            }
            records += 1;
        }
    }
    Ok(())
}

/// Adds a packet, dissected if it is hypercore's.
fn push(speech: &mut Sent, packet: Packet, is_known: bool) {
    let number = |name: &str, value: u64| {
        let mut field = leaf(name, 0, &value.to_be_bytes(), &value.to_string());
        field.hex = None;
        field.value = Some(value.into());
        field
    };
    match packet {
        Packet::Message {
            channel,
            kind,
            body,
        } => {
            let message = MessageType::from_id(kind).filter(|_| is_known);
            let mut bytes = channel.to_be_bytes().to_vec();
            bytes.extend_from_slice(&body);
            let mut fields = vec![number("channel", channel)];
            match message {
                Some(message) => {
                    fields.extend(leaves_of(Kind::Message(message), &body));
                    speech.push(message.name(), bytes, fields);
                }
                None => {
                    fields.push(leaf("body", 0, &body, ""));
                    speech.push(format!("message of type {kind}"), bytes, fields);
                }
            }
        }
        Packet::Open {
            id,
            protocol,
            channel_id,
            handshake,
        } => {
            let channel_id = channel_id.unwrap_or_default();
            let mut fields = vec![
                number("id", id),
                leaf("protocol", 0, protocol.as_bytes(), &protocol),
                leaf("channelId", 0, &channel_id, ""),
            ];
            if is_known {
                fields.extend(leaves_of(Kind::Handshake, &handshake));
            } else {
                fields.push(leaf("handshake", 0, &handshake, ""));
            }
            let bytes = [
                &id.to_be_bytes()[..],
                protocol.as_bytes(),
                &[0],
                &channel_id,
                &handshake,
            ];
            speech.push("open", bytes.concat(), fields);
        }
        Packet::Reject { id } => {
            speech.push("reject", id.to_be_bytes().to_vec(), vec![number("id", id)]);
        }
        Packet::Close { id } => {
            speech.push("close", id.to_be_bytes().to_vec(), vec![number("id", id)]);
        }
        Packet::UnknownControl { kind, body } => speech.push(
            format!("control message of type {kind}"),
            body.to_vec(),
            vec![leaf("body", 0, &body, "")],
        ),
        _ => {}
    }
}

/// The differences from the recording, in words; `None` if every byte is the same.
fn compare(slug: &str, recorded: &Value, now: &Value) -> Option<String> {
    let same = |name: &str| recorded[name] == now[name];
    let key = |value: &Value, from: &str| value[from]["key"].clone();
    let same_keys = ENDS.iter().all(|end| key(recorded, end) == key(now, end));
    if same("chunks") && same("handshakeHash") && same("coreKey") && same_keys {
        return None;
    }
    let mut told = Vec::new();
    if !same("handshakeHash") || !same_keys {
        told.push("the handshake of the stream is another".to_owned());
    }
    if !same("coreKey") {
        told.push("the core has another key".to_owned());
    }
    let writer = usize::from(!slug.ends_with("writer-initiates"));
    for (who, end) in [("writer", ENDS[writer]), ("reader", ENDS[1 - writer])] {
        tell(&mut told, who, &speech(recorded, end), &speech(now, end));
    }
    if told.is_empty() {
        told.push("the same messages, in other records or in another order of both sides".into());
    }
    Some(shorten(told))
}

/// Adds the differences of `who`. The same difference in several messages is reported once.
fn tell(told: &mut Vec<String>, who: &str, recorded: &Sent, now: &Sent) {
    let mut changed: Vec<(String, Vec<usize>, String)> = Vec::new();
    let mut note = |name: &str, number: usize, what: String| {
        let found = changed
            .iter_mut()
            .find(|(other, _, told)| other == name && *told == what);
        match found {
            Some((_, numbers, _)) => numbers.push(number),
            None => changed.push((name.to_owned(), vec![number], what)),
        }
    };
    for op in capture_diff_slices(Algorithm::Myers, &recorded.said, &now.said) {
        if op.tag() == DiffTag::Equal {
            continue;
        }
        let mut left: Vec<usize> = op.new_range().collect();
        for old in op.old_range() {
            let name = &recorded.said[old].name;
            let number = recorded.number(old);
            match left.iter().position(|new| now.said[*new].name == *name) {
                Some(at) => {
                    let new = left.remove(at);
                    let what = compare_leaves(&recorded.fields[old], &now.fields[new]);
                    let what = if what.is_empty() {
                        "other bytes".to_owned()
                    } else {
                        what.join(", ")
                    };
                    note(name, number, what);
                }
                None => note(name, number, "is not sent".into()),
            }
        }
        for new in left {
            note(
                &now.said[new].name,
                now.number(new),
                "is sent besides".into(),
            );
        }
    }
    for (name, numbers, what) in &changed {
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        let colon = if what.starts_with("is ") { "" } else { ":" };
        told.push(format!(
            "{who}'s `{name}` {}{colon} {what}",
            numbers.join(", ")
        ));
    }
    if now.lost != recorded.lost
        && let Some(lost) = &now.lost
    {
        told.push(format!("the {who} can't be followed: {lost}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    const SLUG: &str = "11-11.writer-initiates";

    fn input() -> Value {
        let files = vectors::load(&vectors::default_folder()).expect("the vectors");
        recorded(&files, SLUG).expect("a conversation").clone()
    }

    #[test]
    fn what_is_as_recorded_is_not_told() {
        let input = input();
        assert_eq!(compare(SLUG, &input, &input), None);
        for end in ENDS {
            let speech = speech(&input, end);
            assert_eq!(speech.lost, None);
            assert_eq!(speech.said[0].name, "open");
            assert!(speech.said.len() > 5, "{speech:?}");
        }
    }

    #[test]
    fn a_record_that_cant_be_opened_is_told_with_its_end() {
        let (before, mut now) = (input(), input());
        let chunks = now["chunks"].as_array_mut().expect("chunks");
        let of_reader = |chunk: &&mut Value| chunk["from"] == ENDS[1];
        let last = chunks.iter_mut().rev().find(of_reader).expect("a chunk");
        let hex = last["bytes"].as_str().expect("hex").to_owned();
        let end = if hex.ends_with('0') { "1" } else { "0" };
        last["bytes"] = format!("{}{end}", &hex[..hex.len() - 1]).into();
        let told = compare(SLUG, &before, &now).expect("a difference");
        assert!(
            told.contains("the reader can't be followed: record "),
            "{told}"
        );
        assert!(!told.contains("the writer"), "{told}");
    }

    #[test]
    fn messages_are_told_by_name_number_and_field() {
        let input = input();
        let before = speech(&input, ENDS[0]);
        let mut now = speech(&input, ENDS[0]);
        let sync = |speech: &Sent| {
            let mut said = speech.said.iter();
            said.position(|said| said.name == "sync").expect("a sync")
        };
        let at = sync(&now);
        // Flags 15, then 31: the writer's last sync may be pushed to.
        let body = [31, 0, 3, 0];
        now.said[at].bytes = [&1_u64.to_be_bytes()[..], &body].concat();
        let channel = now.fields[at][0].clone();
        now.fields[at] = vec![channel];
        let kind = Kind::Message(MessageType::Sync);
        now.fields[at].extend(leaves_of(kind, &Buffer::from(body.to_vec())));
        now.said.truncate(now.said.len() - 1);
        let mut told = Vec::new();
        tell(&mut told, "writer", &before, &now);
        assert_eq!(
            told,
            [
                "writer's `sync` 1: `flags` 15 → 31: gained flag allowPush (16)",
                "writer's `extension` 1 is not sent"
            ]
        );
    }

    #[test]
    fn a_release_holds_the_conversations_of_its_line() {
        assert!(is_asked("conversation.10-11.writer-initiates", "10.0.0"));
        assert!(is_asked("11-10-compat.writer-responds", "10.0.0"));
        assert!(is_asked("11-10-compat.writer-responds", "11.5.0"));
        assert!(!is_asked("10-10-more.writer-responds", "11.5.0"));
    }
}
