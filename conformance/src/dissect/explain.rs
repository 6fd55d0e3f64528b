//! The command `explain`: annotates bytes, a vector, a file of vectors (a transcript is one) or a trace of the proxy.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hypercore_protocol::frame::FrameDecoder;
use hypercore_protocol::secret_stream::{ABYTES, HEADER_RECORD_BYTES, MAC_BYTES, Pull, TAG_BYTES};
use hypercore_protocol::{Buffer, MessageType, secret_stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diff::bytes_of;
use crate::dissect::place;
use crate::dissect::{
    Conversation, Dissection, Fault, Field, Kind, MAX_FIELDS, Side, dissect, leaf, print,
};
use crate::term::Paint;
use crate::vectors::{self, Case, Group, VectorFile, expand};

/// How many records of a transcript, a session or a trace are explained.
const MAX_RECORDS: usize = 1 << 16;

/// How many bytes are named where there is no dissector.
const NAMED_BYTES: usize = 256;

/// The input of `explain`.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Hex, the id of a case, a path, or `-` for stdin.
    pub input: String,
    /// The layer that bytes belong to.
    pub layer: Option<Layer>,
    /// The message that bytes are the body of.
    pub message: Option<String>,
    /// Of a file of vectors, only cases with these ids.
    pub ids: Vec<String>,
    /// The folder of the vectors.
    pub vectors: PathBuf,
}

/// What bytes in hex can be said to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Layer {
    /// Bytes of a stream: lengths and records, the latter sealed
    Frame,
    /// A plaintext record of protomux: a message, a batch or control
    Mux,
    /// The body of a message of a core's channel; --message says which
    Message,
    /// A manifest
    Manifest,
    /// The signature of a core with a manifest of version 1 or later
    Multisig,
    /// The signature of a core with a manifest of version 0
    MultisigV0,
}

/// Some bytes of one sender, explained.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Their origin: the id of a case, or the connection of a trace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The sender's number of the record, from 0, handshake and header not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// The surrounding bytes on the wire: the frame's length, the tag, the MAC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wire: Vec<Field>,
    /// The bytes themselves; none for a statement about the wire alone.
    #[serde(flatten)]
    pub shown: Dissection,
}

/// Why nothing could be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The question is invalid.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
}

/// Explains the input.
///
/// # Errors
/// If the input is not hex, a case or a file.
pub fn explain(question: &Question) -> Result<Vec<Explained>, ExplainError> {
    let path = Path::new(&question.input);
    if question.input == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| ExplainError::File {
                path: "-".into(),
                reason: error.to_string(),
            })?;
        return explain_text(question, &text);
    }
    if path.is_file() {
        let text = std::fs::read_to_string(path).map_err(|error| ExplainError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        return explain_text(question, &text);
    }
    if let Some(bytes) = parse_hex(&question.input) {
        return explain_bytes(question, bytes).map(|explained| vec![explained]);
    }
    let files =
        vectors::load(&question.vectors).map_err(|error| ExplainError::Usage(error.to_string()))?;
    for (group, case) in cases(&files) {
        if case.id == question.input {
            return Ok(explain_case(group, case));
        }
    }
    Err(ExplainError::Usage(format!(
        "{} is neither hex, nor the id of a case (`list` shows them), nor a file",
        question.input
    )))
}

fn cases(files: &[VectorFile]) -> impl Iterator<Item = (&Group, &Case)> {
    files
        .iter()
        .flat_map(|file| &file.groups)
        .flat_map(|group| group.cases.iter().map(move |case| (group, case)))
}

fn explain_text(question: &Question, text: &str) -> Result<Vec<Explained>, ExplainError> {
    if let Ok(file) = serde_json::from_str::<VectorFile>(text) {
        return explain_file(question, &file);
    }
    if text.trim_start().starts_with('{') {
        return explain_trace(text);
    }
    match parse_hex(text) {
        Some(bytes) => explain_bytes(question, bytes).map(|explained| vec![explained]),
        None => Err(ExplainError::Usage(
            "this is neither hex, nor a file of vectors, nor a trace of the proxy".into(),
        )),
    }
}

/// Hex in common notations: with spaces, line breaks, colons or a 0x.
fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let digits: String = text
        .strip_prefix("0x")
        .unwrap_or(text)
        .chars()
        .filter(|digit| !digit.is_whitespace() && *digit != ':')
        .collect();
    hex::decode(digits).ok()
}

fn explain_file(question: &Question, file: &VectorFile) -> Result<Vec<Explained>, ExplainError> {
    let mut wanted = globset::GlobSetBuilder::new();
    for id in &question.ids {
        let glob = globset::Glob::new(id)
            .map_err(|error| ExplainError::Usage(format!("--id: {error}")))?;
        wanted.add(glob);
    }
    let wanted = wanted
        .build()
        .map_err(|error| ExplainError::Usage(format!("--id: {error}")))?;
    let mut explained = Vec::new();
    for (group, case) in cases(std::slice::from_ref(file)) {
        if question.ids.is_empty() || wanted.is_match(case.id.as_str()) {
            explained.extend(explain_case(group, case));
        }
    }
    if explained.is_empty() {
        return Err(ExplainError::Usage("no case is selected".into()));
    }
    Ok(explained)
}

/// Lines of the proxy's trace; those without bytes have a title only.
fn explain_trace(text: &str) -> Result<Vec<Explained>, ExplainError> {
    let mut explained = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let line: TraceLine = serde_json::from_str(line).map_err(|error| {
            ExplainError::Usage(format!(
                "line {} is not of a trace of the proxy: {error}",
                number + 1
            ))
        })?;
        explained.push(line.explained());
        if explained.len() >= MAX_RECORDS {
            return Ok(cut_off(explained));
        }
    }
    Ok(explained)
}

/// A line of the proxy's trace.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceLine {
    /// Milliseconds since the proxy started.
    pub ms: u64,
    /// The connection, counted from 1, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    /// The event, other than that a record passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What was done to the record before it was forwarded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<String>,
    /// All bytes of the record in hex, unless it is longer than the trace keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// The record.
    #[serde(flatten)]
    pub explained: Explained,
}

impl TraceLine {
    fn explained(self) -> Explained {
        let mut explained = self.explained;
        let connection = self
            .connection
            .map(|connection| format!("connection {connection}, "))
            .unwrap_or_default();
        let event = self.event.map(|event| format!(": {event}"));
        explained.title = format!("{connection}{} ms{}", self.ms, event.unwrap_or_default());
        for injected in self.injected {
            explained.shown.notes.push(format!("injected: {injected}"));
        }
        explained
    }
}

fn explain_bytes(question: &Question, bytes: Vec<u8>) -> Result<Explained, ExplainError> {
    let bytes = Buffer::from(bytes);
    let kind = match (question.layer, question.message.as_deref()) {
        (None | Some(Layer::Message), Some(message)) => message_kind(message)?,
        (Some(Layer::Message), None) => {
            let names: Vec<_> = MessageType::ALL.iter().map(|kind| kind.name()).collect();
            return Err(ExplainError::Usage(format!(
                "--message says which message: {} or handshake",
                names.join(", ")
            )));
        }
        (Some(layer), Some(_)) => {
            return Err(ExplainError::Usage(format!(
                "--message does not go with --layer {layer:?}"
            )));
        }
        (Some(Layer::Frame), None) => return Ok(Explained::from(frames(&bytes))),
        (Some(Layer::Mux), None) => Kind::Record,
        (Some(Layer::Manifest), None) => Kind::Manifest,
        (Some(Layer::Multisig), None) => Kind::MultiSignature,
        (Some(Layer::MultisigV0), None) => Kind::MultiSignatureV0,
        (None, None) => return Ok(Explained::from(guess(&bytes))),
    };
    Ok(Explained::from(dissect(kind, &bytes)))
}

fn message_kind(name: &str) -> Result<Kind, ExplainError> {
    match MessageType::from_name(name) {
        Some(message) => Ok(Kind::Message(message)),
        None if name == "handshake" => Ok(Kind::Handshake),
        None => Err(ExplainError::Usage(format!("there is no message {name}"))),
    }
}

impl From<Dissection> for Explained {
    fn from(shown: Dissection) -> Self {
        Self {
            shown,
            ..Self::default()
        }
    }
}

/// Dissects bytes of unknown kind, and notes the assumption.
fn guess(bytes: &Buffer) -> Dissection {
    let is_clean = |shown: &Dissection| {
        let doubts = ["trailing", "unknown", "longer"];
        let doubtful = |note: &String| doubts.iter().any(|doubt| note.contains(doubt));
        shown.errors.is_empty() && !shown.notes.iter().any(doubtful)
    };
    let candidates = [
        (dissect(Kind::Record, bytes), "a record of protomux"),
        (frames(bytes), "records on the wire"),
        (dissect(Kind::Manifest, bytes), "a manifest"),
        (dissect(Kind::MultiSignature, bytes), "a signature"),
    ];
    let clean: Vec<&str> = candidates
        .iter()
        .filter(|(shown, _)| is_clean(shown))
        .map(|(_, name)| *name)
        .collect();
    let taken = candidates
        .iter()
        .find(|(shown, _)| is_clean(shown))
        .unwrap_or(&candidates[0]);
    let because = match clean.as_slice() {
        [] => "though it does not decode to its end; nothing else does either",
        _ => "for it decodes to its end",
    };
    let mut note = format!(
        "taken for {}, {because}; --layer and --message say what it is",
        taken.1
    );
    if let [_, others @ ..] = clean.as_slice()
        && !others.is_empty()
    {
        note += &format!(". It could also be {}", others.join(" or "));
    }
    let mut shown = taken.0.clone();
    shown.notes.insert(0, note);
    shown
}

/// Lengths and records of a stream, without a key to decrypt them.
fn frames(bytes: &[u8]) -> Dissection {
    let mut shown = Dissection::new("stream", bytes.len());
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 3) {
        if shown.fields.len() >= MAX_FIELDS {
            shown
                .fields
                .push(leaf("(not shown)", at, &bytes[at..], "more records"));
            return shown;
        }
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        let mut field = leaf("length", at, header, "");
        field.value = Some(length.into());
        shown.fields.push(field);
        at += 3;
        let Some(record) = bytes.get(at..at + length) else {
            shown.errors.push(truncated(at, length, bytes.len() - at));
            shown
                .fields
                .push(leaf("record", at, &bytes[at..], "cut off"));
            return shown;
        };
        shown
            .fields
            .push(leaf("record", at, record, "sealed, or of the handshake"));
        at += length;
    }
    if at < bytes.len() {
        shown.errors.push(truncated(at, 3, bytes.len() - at));
        shown
            .fields
            .push(leaf("length", at, &bytes[at..], "cut off"));
    }
    shown
}

fn truncated(offset: usize, needed: usize, left: usize) -> Fault {
    Fault {
        layer: "frame".into(),
        class: "truncated".into(),
        offset,
        field: None,
        message: format!("the stream ends within a record: {needed} bytes needed, {left} left"),
    }
}

fn explain_case(group: &Group, case: &Case) -> Vec<Explained> {
    let Ok(input) = expand(&case.input) else {
        return Vec::new();
    };
    let output = case.expect.output.as_ref().or_else(|| {
        let outputs = case.expect.outputs.as_ref()?;
        outputs.first()
    });
    let output = output.and_then(|output| expand(output).ok());
    let mut explained = exchange(&group.op, &input, &output.unwrap_or(Value::Null));
    for explained in &mut explained {
        explained.title = case.id.to_string();
    }
    if explained.is_empty() {
        let mut shown = Dissection::new(group.op.clone(), 0);
        shown.notes.push(
            "there is nothing in it that consists of fields; `show` shows the whole case".into(),
        );
        explained.push(Explained {
            title: case.id.to_string(),
            shown,
            ..Explained::default()
        });
    }
    if let Some(error) = &case.expect.error
        && let Some(last) = explained.last_mut()
    {
        let class = error.class.as_deref().unwrap_or("any");
        last.shown.notes.push(format!(
            "the case expects an error of class {class} in layer {}",
            error.layer
        ));
    }
    explained
}

/// The bytes in the input and the output of an operation.
pub(crate) fn exchange(op: &str, input: &Value, output: &Value) -> Vec<Explained> {
    match op {
        "transcript.decode" => transcript(input),
        "mux.session" | "channel.session" => session(op, input),
        "connection.replay" => replay(input, output),
        op => simple(op, input, output),
    }
}

/// Cases with one byte string.
fn simple(op: &str, input: &Value, output: &Value) -> Vec<Explained> {
    let bytes = ["bytes", "signable", "datagram", "secretKey"]
        .into_iter()
        .find_map(|path| Some((path, bytes_of(output.get(path)?)?)))
        .or_else(|| Some(("bytes", bytes_of(input.get("bytes")?)?)));
    let Some((path, bytes)) = bytes else {
        return Vec::new();
    };
    let bytes = Buffer::from(bytes);
    let message = input.get("message").and_then(Value::as_str);
    let kind = match (op.split('.').next(), message) {
        (Some("message"), Some(message)) => message_kind(message).ok(),
        (Some("manifest"), _) => Some(Kind::Manifest),
        (Some("mux"), _) => Some(Kind::Record),
        (Some("multisig"), _) if input.get("version") == Some(&0.into()) => {
            Some(Kind::MultiSignatureV0)
        }
        (Some("multisig"), _) => Some(Kind::MultiSignature),
        (Some("frame"), _) => return vec![frames(&bytes).into()],
        _ => None,
    };
    let shown = match kind {
        Some(kind) => dissect(kind, &bytes),
        None => {
            let mut shown = Dissection::new(path, bytes.len());
            let mut at = 0;
            // This decodes once per byte.
            let named = match bytes.len() {
                0..=NAMED_BYTES => place::map(op, input, path, &bytes),
                _ => Vec::new(),
            };
            for (length, name) in named {
                shown
                    .fields
                    .push(leaf(name, at, &bytes[at..at + length], ""));
                at += length;
            }
            if shown.fields.is_empty() {
                shown.fields.push(leaf(path, 0, &bytes, ""));
            }
            shown
        }
    };
    vec![shown.into()]
}

fn array<const N: usize>(object: &Value, name: &str) -> Option<[u8; N]> {
    bytes_of(object.get(name)?)?.try_into().ok()
}

fn steps(object: &Value) -> &[Value] {
    object
        .get("steps")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Records that a peer sends to the implementation under test.
fn session(op: &str, input: &Value) -> Vec<Explained> {
    let mut conversation = match op {
        "channel.session" => Conversation::assuming_hypercore(),
        _ => Conversation::new(),
    };
    if let (Some(hash), Some(key), Some(is_initiator)) = (
        array(input, "handshakeHash"),
        array(input, "key"),
        input.get("isInitiator").and_then(Value::as_bool),
    ) {
        conversation.check_capabilities(Side::Right, hash, !is_initiator);
        conversation.add_key(key);
    }
    let received = steps(input)
        .iter()
        .filter_map(|step| bytes_of(step.get("receive")?));
    received
        .map(|record| plaintext(&mut conversation, Side::Right, "peer", record.into()))
        .collect()
}

fn plaintext(conversation: &mut Conversation, side: Side, from: &str, record: Buffer) -> Explained {
    Explained {
        from: Some(from.into()),
        record: Some(conversation.next_record(side)),
        shown: conversation.record(side, &record),
        ..Explained::default()
    }
}

/// The input and output of one end of a connection, decoded.
fn replay(input: &Value, output: &Value) -> Vec<Explained> {
    let mut conversation = Conversation::new();
    let mut explained = Vec::new();
    let no_steps: &[Value] = &[];
    let outcomes = output
        .get("steps")
        .and_then(Value::as_array)
        .map_or(no_steps, Vec::as_slice);
    for (at, step) in steps(input).iter().enumerate() {
        if let Some(record) = step.get("write").and_then(bytes_of) {
            explained.push(plaintext(
                &mut conversation,
                Side::Left,
                "this end",
                record.into(),
            ));
        }
        if let Some(bytes) = step.get("receive").and_then(bytes_of) {
            let mut wire = Explained::from(frames(&bytes));
            wire.from = Some("peer".into());
            explained.push(wire);
        }
        let received = outcomes.get(at).and_then(|outcome| outcome.get("received"));
        for record in received.and_then(Value::as_array).into_iter().flatten() {
            if let Some(record) = bytes_of(record) {
                explained.push(plaintext(
                    &mut conversation,
                    Side::Right,
                    "peer",
                    record.into(),
                ));
            }
        }
    }
    explained
}

/// One direction of a transcript.
struct Direction {
    side: Side,
    from: &'static str,
    key: [u8; 32],
    hash: [u8; 64],
    frames: FrameDecoder,
    pull: Option<Pull>,
    failed: bool,
    /// How many records of the Noise handshake are still to come.
    handshake_records: u64,
}

/// A recorded conversation with known keys.
pub(crate) fn transcript(input: &Value) -> Vec<Explained> {
    let mut conversation = Conversation::new();
    let Some(hash) = array(input, "handshakeHash") else {
        return Vec::new();
    };
    if let Some(key) = array(input, "coreKey") {
        conversation.add_key(key);
    }
    let more = input.get("coreKeys").and_then(Value::as_array);
    let more = more.into_iter().flatten().filter_map(bytes_of);
    more.filter_map(|key| key.try_into().ok())
        .for_each(|key| conversation.add_key(key));
    let direction = |side, from: &'static str| {
        Some(Direction {
            side,
            from,
            key: array(input.get(from)?, "key")?,
            hash,
            frames: FrameDecoder::new(),
            pull: None,
            failed: false,
            handshake_records: input
                .get(from)?
                .get("handshakeRecords")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        })
    };
    let (Some(mut initiator), Some(mut responder)) = (
        direction(Side::Left, "initiator"),
        direction(Side::Right, "responder"),
    ) else {
        return Vec::new();
    };
    conversation.check_capabilities(Side::Left, hash, true);
    conversation.check_capabilities(Side::Right, hash, false);
    let mut explained = Vec::new();
    let chunks = input.get("chunks").and_then(Value::as_array);
    for chunk in chunks.into_iter().flatten() {
        let Some(bytes) = chunk.get("bytes").and_then(bytes_of) else {
            continue;
        };
        let direction = match chunk.get("from").and_then(Value::as_str) {
            Some("initiator") => &mut initiator,
            _ => &mut responder,
        };
        let mut rest = bytes.as_slice();
        while let Some(record) = direction.frames.decode(&mut rest) {
            explained.push(direction.record(record, &mut conversation));
            if explained.len() >= MAX_RECORDS {
                return cut_off(explained);
            }
        }
    }
    explained
}

/// Marks that there is more.
fn cut_off(mut explained: Vec<Explained>) -> Vec<Explained> {
    let mut shown = Dissection::new("more", 0);
    let note = format!("only the first {MAX_RECORDS} records are explained");
    shown.notes.push(note);
    explained.push(Explained::from(shown));
    explained
}

impl Direction {
    fn record(&mut self, mut record: Vec<u8>, conversation: &mut Conversation) -> Explained {
        let offset = self.frames.offset() as usize - record.len();
        let mut length = leaf(
            "length",
            offset - 3,
            &(record.len() as u32).to_le_bytes()[..3],
            "",
        );
        length.value = Some(record.len().into());
        let mut explained = Explained {
            from: Some(self.from.into()),
            wire: vec![length],
            ..Explained::default()
        };
        let fault = |error: &secret_stream::SecretStreamError| Fault {
            layer: "secretstream".into(),
            class: error.class().to_string(),
            offset,
            field: None,
            message: error.to_string(),
        };
        if self.failed {
            explained
                .wire
                .push(leaf("record", offset, &record, "after the failure"));
            explained.shown = Dissection::new("sealed record", record.len());
            return explained;
        }
        if self.handshake_records > 0 {
            self.handshake_records -= 1;
            explained.shown = Dissection::new("Noise handshake", record.len());
            explained.shown.fields = vec![leaf("message", offset, &record, "")];
            return explained;
        }
        let Some(pull) = &mut self.pull else {
            explained.shown = Dissection::new("header", record.len());
            if record.len() == HEADER_RECORD_BYTES {
                explained.shown.fields = vec![
                    leaf("stream id", offset, &record[..32], "of this direction"),
                    leaf("header", offset + 32, &record[32..], "of the secretstream"),
                ];
            }
            match secret_stream::parse_header_record(&self.hash, self.side == Side::Right, &record)
            {
                Ok(header) => self.pull = Some(Pull::new(&self.key, &header)),
                Err(error) => {
                    self.failed = true;
                    explained.shown.errors.push(fault(&error));
                }
            }
            return explained;
        };
        if record.len() >= ABYTES {
            let end = record.len() - MAC_BYTES;
            explained.wire.extend([
                leaf("tag", offset, &record[..TAG_BYTES], "encrypted"),
                leaf(
                    "ciphertext",
                    offset + TAG_BYTES,
                    &record[TAG_BYTES..end],
                    "",
                ),
                leaf("MAC", offset + end, &record[end..], ""),
            ]);
        }
        if let Err(error) = pull.open(&mut record) {
            self.failed = true;
            explained.shown = Dissection::new("sealed record", record.len());
            explained.shown.errors.push(fault(&error));
            return explained;
        }
        let end = record.len() - MAC_BYTES;
        let record = Buffer::from(record).slice(TAG_BYTES..end);
        explained.record = Some(conversation.next_record(self.side));
        explained.shown = conversation.record(self.side, &record);
        explained
    }
}

/// The explanations as text.
pub fn text(explained: &[Explained], paint: &Paint) -> String {
    let mut out = String::new();
    let mut title = "";
    for (at, explained) in explained.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if explained.title != title {
            title = &explained.title;
            out += &format!("{}\n", paint.strong.apply_to(title));
        }
        let indent = if explained.from.is_some() { "  " } else { "" };
        if let Some(from) = &explained.from {
            let record = explained
                .record
                .map(|record| format!(", record {record}"))
                .unwrap_or_default();
            out += &format!("{}{record}\n", paint.good.apply_to(from));
        }
        if !explained.wire.is_empty() {
            let parts: Vec<String> = explained.wire.iter().map(wire_part).collect();
            let line = format!("on the wire at {}", parts.join(", "));
            out += &format!("  {}\n", paint.faint.apply_to(line));
        }
        if explained.shown != Dissection::default() {
            out += &print(&explained.shown, indent, paint);
        }
    }
    out
}

fn wire_part(field: &Field) -> String {
    let value = match &field.value {
        Some(value) => format!(" {value}"),
        None => String::new(),
    };
    format!("{}: {}{value}", field.offset, field.name)
}
