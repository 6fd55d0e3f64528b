//! The dissector: bytes field by field, each with its offset and its meaning.
//!
//! No layout is described a second time here. The crate's own decoders record each value that they read
//! ([`hypercore_protocol::encoding::Readings`]); this module names, nests and explains these readings. Invalid bytes
//! are shown as far as they decode, and then the decoder's own error at its offset.
//!
//! A byte may be a field, and a field takes hundreds of bytes here. So at most [`MAX_FIELDS`] fields of one record are
//! kept, and at most [`Readings::MAX`] of one message in it; the rest is read, counted, and applied to the state.

mod conversation;
pub mod explain;
mod meaning;
pub mod place;
mod print;
mod tree;

use hypercore_protocol::encoding::{Decode, Decoder, Reading, Readings};
use hypercore_protocol::manifest::Manifest;
use hypercore_protocol::multisig::{MultiSignature, MultiSignatureV0};
use hypercore_protocol::wire::{self, Handshake, Message, MessageType};
use hypercore_protocol::{Buffer, DecodeError, Layer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use conversation::is_hypercore;
pub use conversation::{Conversation, Side};
pub use print::print;
pub(crate) use tree::leaf;

/// Bytes of a field that are kept in its hex: of longer fields, the beginning.
pub const KEPT_BYTES: usize = 64;

/// The number of fields after which the messages of a record are only counted.
pub const MAX_FIELDS: usize = 8192;

/// The maximum number of notes, and of faults, of one record.
const MAX_REMARKS: usize = 64;

/// Text from a peer within a sentence is cut off after this many characters.
const SHOWN_NAME: usize = 64;

/// A field, or a group of consecutive fields.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Field {
    /// The name, as in errors and vectors: `block.index`.
    pub name: String,
    /// Its start, in bytes from the start of the shown bytes.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
    /// Its bytes in hex; if more than [`KEPT_BYTES`], the first of them and an ellipsis. None for a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// The value of an integer or a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Its meaning, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// Its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

impl Field {
    /// The number of its parts, without itself.
    fn size(&self) -> usize {
        self.fields.iter().map(|field| 1 + field.size()).sum()
    }
}

/// A decoding error.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The layer that refuses the bytes.
    pub layer: String,
    /// The class of the error, as in the vectors.
    pub class: String,
    /// Its position, in bytes from the start of the shown bytes.
    pub offset: usize,
    /// The field being read, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The error message.
    pub message: String,
}

impl Fault {
    /// The error of a decoder of `layer` in bytes that begin at `base`.
    pub(crate) fn decode(layer: Layer, error: &DecodeError, base: usize) -> Self {
        Self {
            layer: layer.to_string(),
            class: error.class().to_string(),
            offset: error.offset + base,
            field: Some(error.field.to_owned()),
            message: error.kind.to_string(),
        }
    }
}

/// Dissected bytes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dissection {
    /// Their kind.
    pub what: String,
    /// Their number.
    pub length: usize,
    /// Their fields in order.
    pub fields: Vec<Field>,
    /// Unusual but accepted content, and assumptions made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

impl Dissection {
    pub(crate) fn new(what: impl Into<String>, length: usize) -> Self {
        Self {
            what: what.into(),
            length,
            ..Self::default()
        }
    }

    /// Adds notes and faults, up to a limit.
    fn remark(
        &mut self,
        notes: impl IntoIterator<Item = String>,
        faults: impl IntoIterator<Item = Fault>,
    ) {
        for note in notes {
            match self.notes.len() {
                MAX_REMARKS => self.notes.push("… and more notes, not shown".into()),
                0..MAX_REMARKS if !self.notes.contains(&note) => self.notes.push(note),
                _ => {}
            }
        }
        let room = MAX_REMARKS.saturating_sub(self.errors.len());
        self.errors.extend(faults.into_iter().take(room));
    }
}

/// The kinds of bytes that can be dissected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A plaintext record of protomux: a message, a control message or a batch.
    Record,
    /// The body of a message of a hypercore channel.
    Message(MessageType),
    /// The handshake of a hypercore channel, part of protomux's open.
    Handshake,
    /// A manifest.
    Manifest,
    /// The signature of a core with a manifest of version 1 or later.
    MultiSignature,
    /// The signature of a core with a manifest of version 0.
    MultiSignatureV0,
}

impl Kind {
    /// The name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Message(message) => message.name(),
            Self::Handshake => "handshake",
            Self::Manifest => "manifest",
            Self::MultiSignature => "multisig",
            Self::MultiSignatureV0 => "multisig-v0",
        }
    }

    fn layer(self) -> Layer {
        match self {
            Self::Record => Layer::Mux,
            Self::Message(_) | Self::Handshake => Layer::Message,
            Self::Manifest => Layer::Manifest,
            Self::MultiSignature | Self::MultiSignatureV0 => Layer::Tree,
        }
    }
}

/// Dissects bytes of a given kind. Any bytes are accepted, so this is the entry point of a fuzzer; for records in
/// order, [`Conversation::record`] is.
///
/// The cost is bounded: time by the length of the bytes, and memory by 16 MiB beyond them.
pub fn dissect(kind: Kind, bytes: &Buffer) -> Dissection {
    if kind == Kind::Record {
        return Conversation::assuming_hypercore().record(Side::Left, bytes);
    }
    let mut shown = Dissection::new(kind.name(), bytes.len());
    let part = part(kind, bytes, 0);
    shown.fields = part.fields;
    shown.notes = part.notes;
    shown.errors.extend(part.fault);
    shown
}

/// A part of some bytes, dissected by one decoder.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) fields: Vec<Field>,
    pub(crate) notes: Vec<String>,
    pub(crate) fault: Option<Fault>,
    pub(crate) message: Option<Message>,
    pub(crate) handshake: Option<Handshake>,
}

/// Dissects bytes that begin at `base` of the shown bytes.
pub(crate) fn part(kind: Kind, bytes: &Buffer, base: usize) -> Part {
    let readings = Readings::default();
    let mut decoder = Decoder::observed(bytes, &readings);
    let mut part = Part::default();
    let read = match kind {
        Kind::Record => Ok(()),
        Kind::Message(message) => {
            read_message(message, &mut decoder).map(|message| part.message = message)
        }
        Kind::Handshake => {
            Handshake::decode_from(&mut decoder).map(|handshake| part.handshake = Some(handshake))
        }
        Kind::Manifest => Manifest::decode_from(&mut decoder).map(drop),
        Kind::MultiSignature => MultiSignature::decode_from(&mut decoder).map(drop),
        Kind::MultiSignatureV0 => MultiSignatureV0::decode_from(&mut decoder).map(drop),
    };
    let left_out = readings.take_left_out();
    let readings = readings.take();
    part.notes = meaning::notes(kind.name(), &readings);
    part.fields = tree::build(kind.name(), bytes, base, &readings);
    if left_out > 0 {
        let shown = end_of(&readings);
        part.fields.extend(not_shown(bytes, base, shown, left_out));
    }
    match read {
        // The position of the last value is not among the readings then.
        Err(error) if left_out > 0 => {
            part.fault = Some(Fault::decode(kind.layer(), &error, base));
        }
        Err(error) => {
            let read = end_of(&readings);
            part.fields.extend(not_read(bytes, base, read));
            part.fault = Some(Fault::decode(kind.layer(), &error, base));
        }
        Ok(()) if !decoder.is_empty() => {
            let at = decoder.offset();
            let trailing = &bytes[at..];
            part.notes
                .push(format!("{} trailing bytes", trailing.len()));
            part.fields.push(leaf(
                "(trailing)",
                base + at,
                trailing,
                "ignored by receivers",
            ));
        }
        Ok(()) => {}
    }
    part
}

/// Where the last of some readings ends.
fn end_of(readings: &[Reading]) -> usize {
    readings
        .iter()
        .map(|reading| reading.offset + reading.length)
        .max()
        .unwrap_or(0)
}

/// The bytes from `start` on, unread because of an error.
fn not_read(bytes: &[u8], base: usize, start: usize) -> Option<Field> {
    let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
    Some(leaf(
        "(not read)",
        base + start,
        rest,
        "because of the error",
    ))
}

/// The bytes from `start` on, which have too many values to show.
fn not_shown(bytes: &[u8], base: usize, start: usize, values: u64) -> Option<Field> {
    let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
    let meaning = format!("{values} values more");
    Some(leaf("(not shown)", base + start, rest, &meaning))
}

fn read_message(
    message: MessageType,
    decoder: &mut Decoder<'_>,
) -> Result<Option<Message>, DecodeError> {
    type Read = Result<Option<Message>, DecodeError>;
    fn read<T: Decode + Into<Message>>(decoder: &mut Decoder<'_>) -> Read {
        Ok(Some(T::decode_from(decoder)?.into()))
    }
    match message {
        MessageType::Sync => read::<wire::Sync>(decoder),
        MessageType::Request => read::<wire::Request>(decoder),
        MessageType::Cancel => read::<wire::Cancel>(decoder),
        MessageType::Data => read::<wire::Data>(decoder),
        MessageType::NoData => read::<wire::NoData>(decoder),
        MessageType::Want => read::<wire::Want>(decoder),
        MessageType::Unwant => read::<wire::Unwant>(decoder),
        MessageType::Bitfield => read::<wire::Bitfield>(decoder),
        MessageType::Range => read::<wire::Range>(decoder),
        MessageType::Extension => read::<wire::Extension>(decoder),
        _ => {
            decoder.raw();
            Ok(None)
        }
    }
}
