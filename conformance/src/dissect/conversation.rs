//! Records of both sides in order: which protocol each channel has, and what its messages say.

use std::collections::HashMap;

use hypercore_protocol::encoding::{Reading, ReadingKind};
use hypercore_protocol::keys::verify_capability;
use hypercore_protocol::mux::{Limits, MuxError, Packet, RecordReader};
use hypercore_protocol::wire::{
    Data, ExtensionNames, Message, MessageType, PROTOCOL, PROTOCOL_ALIAS,
};
use hypercore_protocol::{Buffer, Key, Layer};

use super::{
    Dissection, Fault, Field, Kind, MAX_FIELDS, Part, SHOWN_NAME, end_of, leaf, not_read,
    not_shown, part, tree,
};
use crate::foreign::{line, short};

/// How many channels of a side are remembered; later ones are shown as unknown.
const MAX_CHANNELS: usize = 1 << 16;

/// The sender of a record.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// The initiator of a transcript; the peer that dialled a proxy.
    Left = 0,
    /// The responder of a transcript; the peer that a proxy dialled.
    Right = 1,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// The data needed to check capabilities.
#[derive(Clone, Debug)]
struct CapabilityCheck {
    /// The hash of the handshake between the sender and its peer.
    handshake_hash: [u8; 64],
    /// Whether the sender is the initiator.
    is_initiator: bool,
}

/// The state of a conversation.
#[derive(Debug, Default)]
pub struct Conversation {
    channels: [HashMap<u64, Channel>; 2],
    checks: [Option<CapabilityCheck>; 2],
    /// Core keys by discovery key.
    keys: HashMap<[u8; 32], [u8; 32]>,
    assume_hypercore: bool,
    record: [u64; 2],
}

/// A side's open of a channel.
#[derive(Debug)]
struct Channel {
    is_hypercore: bool,
    /// The protocol and the beginning of the id, as shown: a peer may send 16 MiB each, for 65,536 channels.
    title: String,
    extensions: ExtensionNames,
}

/// Whether channels of this protocol carry the messages of a core.
pub(crate) fn is_hypercore(protocol: &str) -> bool {
    matches!(protocol, PROTOCOL | PROTOCOL_ALIAS)
}

/// A short description of a channel.
fn title(protocol: &str, id: Option<&Buffer>) -> String {
    let protocol = short(protocol, SHOWN_NAME);
    match id {
        Some(id) => format!("{protocol} {}", beginning(id)),
        None => protocol.into_owned(),
    }
}

fn beginning(bytes: &[u8]) -> String {
    let cut = if bytes.len() > 4 { "…" } else { "" };
    hex::encode(&bytes[..bytes.len().min(4)]) + cut
}

impl Conversation {
    /// A conversation from its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// A conversation whose beginning was not seen: a channel whose open was not seen is assumed to be a core's.
    pub fn assuming_hypercore() -> Self {
        Self {
            assume_hypercore: true,
            ..Self::default()
        }
    }

    /// Checks the capabilities in the opens of `side` from now on.
    pub fn check_capabilities(&mut self, side: Side, handshake_hash: [u8; 64], is_initiator: bool) {
        self.checks[side as usize] = Some(CapabilityCheck {
            handshake_hash,
            is_initiator,
        });
    }

    /// Adds a core key, so that capabilities for it can be checked.
    pub fn add_key(&mut self, key: [u8; 32]) {
        let discovery_key = hypercore_protocol::discovery_key(&Key::new(key));
        self.keys.insert(discovery_key.into(), key);
    }

    /// The number of the next record of a side, from 0.
    pub fn next_record(&self, side: Side) -> u64 {
        self.record[side as usize]
    }

    /// Dissects a record, and updates the state.
    pub fn record(&mut self, side: Side, record: &Buffer) -> Dissection {
        self.record[side as usize] += 1;
        let mut shown = Dissection::new("record", record.len());
        if record.is_empty() {
            shown.what = "keep-alive".into();
            return shown;
        }
        let mut reader = RecordReader::observed(record.clone(), Limits::default().max_nesting);
        let mut packets_end = 0;
        let mut count = 0;
        while count < MAX_FIELDS {
            let packet = reader.next_packet();
            let left_out = reader.take_left_out();
            let readings = reader.take_readings();
            let read = end_of(&readings).max(packets_end);
            match packet {
                Ok(Some(packet)) if left_out == 0 => {
                    packets_end = read;
                    self.packet(side, record, &packet, &readings, &mut shown);
                    count += readings.len().max(1) + shown.fields.last().map_or(0, Field::size);
                }
                // The ids of channels alone used up the limit: process the packet, and count the rest.
                Ok(Some(packet)) => {
                    shown.fields.extend(framing(record, &readings, None));
                    self.learn(side, &packet);
                    return self.counted(side, record, reader, (1, read), shown);
                }
                Ok(None) => {
                    shown.fields.extend(framing(record, &readings, None));
                    if left_out > 0 {
                        shown.fields.extend(not_shown(record, 0, read, left_out));
                    }
                    return shown;
                }
                Err(error) => {
                    shown.fields.extend(framing(record, &readings, None));
                    if left_out > 0 {
                        shown.fields.extend(not_shown(record, 0, read, left_out));
                    } else {
                        shown.fields.extend(not_read(record, 0, read));
                    }
                    shown.errors.push(fault(&error, read));
                    return shown;
                }
            }
        }
        self.counted(side, record, reader, (0, packets_end), shown)
    }

    /// Reads the rest of a record without showing it, and updates the state.
    fn counted(
        &mut self,
        side: Side,
        record: &Buffer,
        mut reader: RecordReader,
        (mut count, start): (u64, usize),
        mut shown: Dissection,
    ) -> Dissection {
        reader.stop_observing();
        let error = loop {
            match reader.next_packet() {
                Ok(Some(packet)) => {
                    count += 1;
                    self.learn(side, &packet);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(rest) = record.get(start..).filter(|rest| !rest.is_empty()) {
            let meaning = format!("{count} messages more");
            shown
                .fields
                .push(leaf("(not shown)", start, rest, &meaning));
        }
        shown.errors.extend(error.map(|error| fault(&error, start)));
        shown
    }

    /// Applies a packet to the state of the channels; for a shown packet, its explanation does so.
    fn learn(&mut self, side: Side, packet: &Packet) {
        match packet {
            Packet::Open {
                id,
                protocol,
                channel_id,
                ..
            } => self.open(side, *id, protocol, channel_id.as_ref()),
            Packet::Close { id } => drop(self.channels[side as usize].remove(id)),
            Packet::Reject { id } => drop(self.channels[side.other() as usize].remove(id)),
            _ => {}
        }
    }

    fn packet(
        &mut self,
        side: Side,
        record: &Buffer,
        packet: &Packet,
        readings: &[Reading],
        shown: &mut Dissection,
    ) {
        let group_start = after_batch_head(readings);
        let (head, own) = readings.split_at(group_start);
        shown.fields.extend(framing(record, head, Some(0)));
        let (fields, rest) = match own.iter().rposition(|reading| reading.field == "body") {
            Some(at) => (&own[..at], own.get(at)),
            None => (own, None),
        };
        let mut group = Field {
            offset: own.first().map_or(0, |reading| reading.offset),
            fields: framing(record, fields, Some(packet.channel())),
            ..Field::default()
        };
        let end = own
            .last()
            .map_or(group.offset, |reading| reading.offset + reading.length);
        group.length = end - group.offset;
        let base = rest.map_or(end, |reading| reading.offset);
        if own.iter().any(|reading| reading.field == "(trailing)") {
            shown.remark(["trailing bytes after a control message".into()], None);
        }
        match packet {
            Packet::Message {
                channel,
                kind,
                body,
            } => {
                self.message(side, (*channel, *kind), body, base, &mut group, shown);
            }
            Packet::Open {
                id,
                protocol,
                channel_id,
                handshake,
            } => {
                group.name = "open".into();
                group.meaning = format!("channel {id} is {}", title(protocol, channel_id.as_ref()));
                self.open(side, *id, protocol, channel_id.as_ref());
                group.fields.retain(|field| field.name != "handshake");
                let base = end - handshake.len();
                if is_hypercore(protocol) {
                    let part = part(Kind::Handshake, handshake, base);
                    self.handshake(side, channel_id.as_deref(), part, &mut group, shown);
                } else if !handshake.is_empty() {
                    group.fields.push(leaf(
                        "handshake",
                        base,
                        handshake,
                        "of a protocol that is not known here",
                    ));
                }
            }
            Packet::Reject { id } => {
                group.name = "reject".into();
                group.meaning = match self.channels[side.other() as usize].remove(id) {
                    Some(channel) => {
                        format!("the other side's channel {id}, {}", channel.title)
                    }
                    None => format!("the other side's channel {id}"),
                };
            }
            Packet::Close { id } => {
                group.name = "close".into();
                group.meaning = match self.channels[side as usize].remove(id) {
                    Some(channel) => format!("channel {id}, {}", channel.title),
                    None => format!("channel {id}"),
                };
            }
            Packet::UnknownControl { kind, body } => {
                group.name = "control".into();
                group.meaning = format!("of unknown type {kind}, ignored");
                group.fields.push(leaf("body", base, body, ""));
            }
            _ => group.name = "unknown".into(),
        }
        shown.fields.push(group);
    }

    fn message(
        &mut self,
        side: Side,
        (channel, kind): (u64, u64),
        body: &Buffer,
        base: usize,
        group: &mut Field,
        shown: &mut Dissection,
    ) {
        let opened = self.channels[side as usize].get_mut(&channel);
        let hypercore = match &opened {
            Some(opened) => opened.is_hypercore,
            None if self.assume_hypercore => {
                let note = format!("channel {channel} is taken for a core's: its open is not here");
                shown.remark([note], None);
                true
            }
            None => false,
        };
        let message_type = MessageType::from_id(kind).filter(|_| hypercore);
        let Some(message_type) = message_type else {
            group.name = "message".into();
            group.meaning = match &opened {
                Some(opened) if hypercore => {
                    format!("of unknown type {kind} on {}", opened.title)
                }
                Some(opened) => format!("of type {kind} on {}", opened.title),
                None => format!("of type {kind} on channel {channel}, which is not open"),
            };
            let meaning = match std::str::from_utf8(body.get(..41).unwrap_or(body)) {
                Ok(text) if matches!(text.len(), 1..=40) && line(text) == text => {
                    format!("\"{text}\"")
                }
                _ => String::new(),
            };
            group.fields.push(leaf("body", base, body, &meaning));
            return;
        };
        group.name = message_type.name().into();
        if let Some(kind) = group.fields.iter_mut().rfind(|field| field.name == "type") {
            kind.meaning = message_type.name().into();
        }
        let part = part(Kind::Message(message_type), body, base);
        group.fields.extend(part.fields);
        shown.remark(part.notes, part.fault);
        if let Some(message) = &part.message {
            group.meaning = match (message, opened) {
                (Message::Extension(extension), Some(opened)) => {
                    let name = opened.extensions.receive(&extension.name);
                    let name = short(name, SHOWN_NAME);
                    format!("{name:?}, {} bytes", extension.message.len())
                }
                (message, _) => describe(message),
            };
        }
    }

    fn handshake(
        &self,
        side: Side,
        discovery_key: Option<&[u8]>,
        part: Part,
        group: &mut Field,
        shown: &mut Dissection,
    ) {
        group.fields.extend(part.fields);
        shown.remark(part.notes, part.fault);
        let key = discovery_key
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .and_then(|discovery_key| self.keys.get(&discovery_key));
        let (Some(handshake), Some(check)) = (part.handshake, &self.checks[side as usize]) else {
            return;
        };
        let meaning = match key {
            None => "not checked: the core's key is not known",
            Some(key)
                if verify_capability(
                    check.is_initiator,
                    &Key::new(*key),
                    &check.handshake_hash,
                    &handshake.capability,
                ) =>
            {
                "proves that the sender knows the core's key"
            }
            Some(key) => {
                let message = "the capability does not prove that the sender knows the core's key";
                let at = group.fields.iter().find(|field| field.name == "capability");
                let fault = Fault {
                    layer: Layer::Channel.to_string(),
                    class: "invalid-capability".into(),
                    offset: at.map_or(group.offset, |field| field.offset),
                    field: Some("capability".into()),
                    message: message.into(),
                };
                shown.remark(None, [fault]);
                let reflected = verify_capability(
                    !check.is_initiator,
                    &Key::new(*key),
                    &check.handshake_hash,
                    &handshake.capability,
                );
                if reflected {
                    "wrong: it is that of the other role"
                } else {
                    "wrong"
                }
            }
        };
        if let Some(field) = group
            .fields
            .iter_mut()
            .find(|field| field.name == "capability")
        {
            field.meaning = meaning.into();
        }
    }

    fn open(&mut self, side: Side, id: u64, protocol: &str, channel_id: Option<&Buffer>) {
        let channels = &mut self.channels[side as usize];
        if channels.len() < MAX_CHANNELS || channels.contains_key(&id) {
            let channel = Channel {
                is_hypercore: is_hypercore(protocol),
                title: title(protocol, channel_id),
                extensions: ExtensionNames::default(),
            };
            channels.insert(id, channel);
        }
    }
}

fn fault(error: &MuxError, offset: usize) -> Fault {
    match error {
        MuxError::Decode(error) => Fault::decode(Layer::Mux, error, 0),
        error => Fault {
            layer: Layer::Mux.to_string(),
            class: error.class().to_string(),
            offset,
            field: None,
            message: error.to_string(),
        },
    }
}

/// A message in one line.
fn describe(message: &Message) -> String {
    match message {
        Message::Data(data) => describe_data(data),
        Message::Extension(extension) => {
            let name = short(&extension.name, SHOWN_NAME);
            format!("{name:?}, {} bytes", extension.message.len())
        }
        // The other messages have a short, readable Debug form on one line.
        other => {
            let shown = format!("{other:?}");
            let from = shown.find('{').unwrap_or(0);
            let fields = shown[from..].trim_matches(['{', '}', ' ']);
            fields.to_owned()
        }
    }
}

fn describe_data(data: &Data) -> String {
    let mut parts = vec![format!("request: {}, fork: {}", data.request, data.fork)];
    if let Some(block) = &data.block {
        let (bytes, nodes) = (block.value.len(), block.nodes.len());
        parts.push(format!(
            "block {} ({bytes} bytes, {nodes} nodes)",
            block.index
        ));
    }
    if let Some(hash) = &data.hash {
        parts.push(format!("hash {} ({} nodes)", hash.index, hash.nodes.len()));
    }
    if let Some(seek) = &data.seek {
        parts.push(format!("seek {} ({} nodes)", seek.bytes, seek.nodes.len()));
    }
    if let Some(upgrade) = &data.upgrade {
        let nodes = upgrade.nodes.len() + upgrade.additional_nodes.len();
        let (start, end) = (upgrade.start, upgrade.start.saturating_add(upgrade.length));
        parts.push(format!("upgrade {start}..{end} ({nodes} nodes)"));
    }
    if let Some(manifest) = &data.manifest {
        parts.push(format!("manifest {}", manifest.version));
    }
    parts.join(", ")
}

/// Ids, lengths and types of protomux; those of a packet on `channel` come last.
fn framing(record: &Buffer, readings: &[Reading], channel: Option<u64>) -> Vec<Field> {
    let mut fields = Vec::new();
    for (at, reading) in readings.iter().enumerate() {
        let is_batch = readings
            .get(at + 1)
            .is_some_and(|next| next.field == "channel");
        let context = match reading.field {
            "type" if is_batch || channel == Some(0) => "control",
            _ => "record",
        };
        fields.extend(tree::build(
            context,
            record,
            0,
            std::slice::from_ref(reading),
        ));
    }
    // A zero length means that another channel follows.
    let mut switches = Vec::new();
    for (at, pair) in readings.windows(2).enumerate() {
        if let (ReadingKind::Uint(0), "length", "channel") =
            (pair[0].kind, pair[0].field, pair[1].field)
        {
            switches.push(at);
        }
    }
    for at in switches {
        if let Some(field) = fields.get_mut(at) {
            field.meaning = "another channel follows".into();
        }
    }
    fields
}

/// How many of the readings before a packet are the head of a batch, which belongs to the record: there a channel
/// follows the type.
fn after_batch_head(readings: &[Reading]) -> usize {
    readings
        .windows(2)
        .rposition(|pair| pair[0].field == "type" && pair[1].field == "channel")
        .map_or(0, |at| at + 1)
}
