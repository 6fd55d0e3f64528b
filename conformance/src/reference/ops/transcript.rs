//! The operation transcript.decode: a recorded conversation, from the wire to the hypercore messages.

use std::collections::HashSet;

use hypercore_protocol::encoding::Decode;
use hypercore_protocol::frame::FrameDecoder;
use hypercore_protocol::keys::verify_capability;
use hypercore_protocol::mux::{Limits, Packet, RecordReader};
use hypercore_protocol::secret_stream::{MAC_BYTES, Pull, TAG_BYTES, parse_header_record};
use hypercore_protocol::wire::{Handshake, Message, MessageType};
use hypercore_protocol::{Buffer, DecodeError, ErrorClass, Key, Layer};
use serde_json::{Value, json};

use super::Op;
use super::mux;
use super::values::{self, Fault, array, get, hexed, text};
use crate::adapter::Outcome;

/// The operations of this file.
pub(super) const OPS: &[Op] = &[("transcript.decode", |input| {
    decode(input).unwrap_or_else(|failed| failed)
})];

/// An output, or the answer that explains why there is none.
type Answer<T = Outcome> = Result<T, Outcome>;

fn refused(layer: Layer, class: ErrorClass, cause: impl ToString) -> Outcome {
    Fault::refused(class, cause.to_string()).outcome(layer)
}

fn malformed(cause: DecodeError) -> Outcome {
    refused(Layer::Message, cause.class(), cause)
}

/// An invalid request; its layer is not compared.
fn bad_request(fault: Fault) -> Outcome {
    fault.outcome(Layer::Connection)
}

/// One direction, as seen by an observer with its key.
struct Direction {
    from: &'static str,
    key: [u8; 32],
    handshake_hash: [u8; 64],
    core_key: [u8; 32],
    frames: FrameDecoder,
    header: Option<[u8; 24]>,
    pull: Option<Pull>,
    plaintexts: Vec<Value>,
    /// The sender's ids of its open hypercore channels.
    channels: HashSet<u64>,
}

impl Direction {
    fn new(input: &Value, from: &'static str) -> values::Result<Self> {
        Ok(Self {
            from,
            key: array(get(input, from)?, "key")?,
            handshake_hash: array(input, "handshakeHash")?,
            core_key: array(input, "coreKey")?,
            frames: FrameDecoder::new(),
            header: None,
            pull: None,
            plaintexts: Vec::new(),
            channels: HashSet::new(),
        })
    }

    fn is_initiator(&self) -> bool {
        self.from == "initiator"
    }

    /// Adds the messages that a chunk completes.
    fn chunk(&mut self, bytes: &[u8], messages: &mut Vec<Value>) -> Answer<()> {
        let mut rest = bytes;
        while let Some(record) = self.frames.decode(&mut rest) {
            self.record(record, messages)?;
        }
        Ok(())
    }

    fn record(&mut self, mut record: Vec<u8>, messages: &mut Vec<Value>) -> Answer<()> {
        let stream = |cause: hypercore_protocol::secret_stream::SecretStreamError| {
            refused(Layer::SecretStream, cause.class(), cause)
        };
        let Some(pull) = &mut self.pull else {
            let receiver = !self.is_initiator();
            let header =
                parse_header_record(&self.handshake_hash, receiver, &record).map_err(stream)?;
            self.pull = Some(Pull::new(&self.key, &header));
            self.header = Some(header);
            return Ok(());
        };
        let index = self.plaintexts.len();
        pull.open(&mut record).map_err(|cause| {
            let mut answer = stream(cause);
            if let Outcome::Error(error) = &mut answer {
                error["record"] = index.into();
            }
            answer
        })?;
        let end = record.len() - MAC_BYTES;
        let plaintext = Buffer::from(record).slice(TAG_BYTES..end);
        self.plaintexts.push(hexed(&plaintext));
        let mut reader = RecordReader::new(plaintext, Limits::default().max_nesting);
        loop {
            let packet = reader.next_packet();
            let packet = packet.map_err(|cause| refused(Layer::Mux, cause.class(), cause))?;
            let Some(packet) = packet else { return Ok(()) };
            let mut message = self.explain(&packet)?;
            message["from"] = self.from.into();
            message["record"] = index.into();
            messages.push(message);
        }
    }

    /// The packet in the form of mux.decode, and its meaning on a hypercore channel.
    fn explain(&mut self, packet: &Packet) -> Answer<Value> {
        let mut shown = mux::packet_to_json(packet);
        match packet {
            Packet::Open {
                id,
                protocol,
                handshake,
                ..
            } => {
                shown["value"] = Value::Null;
                self.channels.remove(id);
                if matches!(protocol.as_str(), "hypercore/alpha" | "hypercore") {
                    self.channels.insert(*id);
                    let handshake = Handshake::decode_shared(handshake).map_err(malformed)?;
                    self.check_capability(&handshake.value)?;
                    shown["value"] = values::handshake_to_json(&handshake.value);
                }
            }
            Packet::Close { id } => {
                self.channels.remove(id);
            }
            Packet::Message {
                channel,
                kind,
                body,
            } => {
                (shown["name"], shown["value"]) = (Value::Null, Value::Null);
                let message = match self.channels.contains(channel) {
                    true => Message::decode(*kind, body).map_err(malformed)?,
                    false => None,
                };
                if let Some(message) = message {
                    shown["name"] = MessageType::from_id(*kind).map(MessageType::name).into();
                    shown["value"] = values::message_to_json(&message);
                }
            }
            _ => {}
        }
        Ok(shown)
    }

    /// A capability depends on its sender's role.
    fn check_capability(&self, handshake: &Handshake) -> Answer<()> {
        let (hash, shown) = (&self.handshake_hash, &handshake.capability);
        if verify_capability(self.is_initiator(), &Key::new(self.core_key), hash, shown) {
            return Ok(());
        }
        let message = format!("the {} does not know the core's key", self.from);
        Err(refused(
            Layer::Channel,
            ErrorClass::InvalidCapability,
            message,
        ))
    }

    fn show(&self) -> Value {
        json!({ "header": self.header.map(hex::encode), "plaintexts": self.plaintexts })
    }
}

fn decode(input: &Value) -> Answer {
    let mut initiator = Direction::new(input, "initiator").map_err(bad_request)?;
    let mut responder = Direction::new(input, "responder").map_err(bad_request)?;
    let mut messages = Vec::new();
    let chunks = get(input, "chunks").and_then(|chunks| values::items(chunks, "chunks"));
    for chunk in chunks.map_err(bad_request)? {
        let bytes = values::bytes(chunk, "bytes").map_err(bad_request)?;
        match text(chunk, "from").map_err(bad_request)? {
            "initiator" => initiator.chunk(&bytes, &mut messages)?,
            "responder" => responder.chunk(&bytes, &mut messages)?,
            other => {
                return Err(bad_request(Fault::BadRequest(format!(
                    "from: unknown {other}"
                ))));
            }
        }
    }
    Ok(Outcome::Ok(json!({
        "initiator": initiator.show(),
        "responder": responder.show(),
        "messages": messages,
    })))
}
