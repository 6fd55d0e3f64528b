//! Decodes a record into typed messages and encodes it again, with the capabilities of the other side.

use hypercore_protocol::encoding::{Decoder, Encode};
use hypercore_protocol::keys::{capability, verify_capability};
use hypercore_protocol::mux::{Batch, Limits, Packet, RecordReader};
use hypercore_protocol::wire::Message;
use hypercore_protocol::{Buffer, EncodeError, Key};

use crate::dissect::is_hypercore;

/// The protocol name that replaces an open whose key is unknown: the peer rejects it, and the channel ids stay in
/// order.
pub(super) const NO_KEY: &str = "hypercore-conformance/no-key";

/// How many packets of a record are decoded. A record of 2^24-1 bytes may hold as many packets, and each takes a
/// hundred bytes here; Node puts a few hundred into one.
const MAX_PACKETS: usize = 8192;

/// A record and its packets.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The packets, batches unpacked.
    pub(super) packets: Vec<Packet>,
    /// Whether they came in a batch.
    pub(super) is_batch: bool,
    /// Whether all of the record was understood.
    pub(super) is_whole: bool,
    /// Whether there are more packets than are decoded.
    pub(super) is_cut: bool,
}

/// An open of a core in a record.
#[derive(Debug)]
pub(super) struct CoreOpen {
    /// Its index among the packets.
    pub(super) packet: usize,
    /// The core's discovery key.
    pub(super) discovery_key: [u8; 32],
    /// The offset of its capability in the record.
    pub(super) capability_at: usize,
    /// The number of handshake bytes before it.
    pub(super) flags_length: usize,
    /// The capability.
    pub(super) capability: [u8; 32],
}

pub(super) fn parse(record: &Buffer) -> Parsed {
    let mut reader = RecordReader::new(record.clone(), Limits::default().max_nesting);
    let mut packets = Vec::new();
    let (is_whole, is_cut) = loop {
        match reader.next_packet() {
            Ok(Some(_)) if packets.len() >= MAX_PACKETS => break (false, true),
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => break (true, false),
            Err(_) => break (false, false),
        }
    };
    // A single message not in a batch takes up its whole record.
    let is_batch = match packets.as_slice() {
        [only] => {
            let channel = Decoder::new(record).uint("channel");
            channel != Ok(only.channel()) || starts_a_batch(record)
        }
        _ => true,
    };
    Parsed {
        packets,
        is_batch,
        is_whole,
        is_cut,
    }
}

fn starts_a_batch(record: &[u8]) -> bool {
    let mut decoder = Decoder::new(record);
    decoder.uint("channel") == Ok(0) && decoder.uint("type") == Ok(0)
}

/// The opens of cores among the packets of `record`.
pub(super) fn core_opens(record: &Buffer, packets: &[Packet]) -> Vec<CoreOpen> {
    let mut opens = Vec::new();
    for (at, packet) in packets.iter().enumerate() {
        let Packet::Open {
            protocol,
            channel_id: Some(id),
            handshake,
            ..
        } = packet
        else {
            continue;
        };
        let Ok(discovery_key) = <[u8; 32]>::try_from(id.as_slice()) else {
            continue;
        };
        let mut decoder = Decoder::new(handshake);
        if !is_hypercore(protocol) || decoder.uint("flags").is_err() {
            continue;
        }
        let within = decoder.offset();
        // The handshake is a slice of its record.
        let start = (handshake.as_ptr() as usize).wrapping_sub(record.as_ptr() as usize);
        let Ok(shown) = decoder.fixed("capability") else {
            continue;
        };
        if record.get(start..start + handshake.len()) == Some(handshake.as_slice()) {
            opens.push(CoreOpen {
                packet: at,
                discovery_key,
                capability_at: start + within,
                flags_length: within,
                capability: shown,
            });
        }
    }
    opens
}

/// The parameters of a capability: a role, and the handshake hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) is_initiator: bool,
    pub(super) hash: [u8; 64],
}

/// The capability for the other side, if the given one is right.
pub(super) fn made_anew(
    open: &CoreOpen,
    key: &[u8; 32],
    shown_to: &Bound,
    for_other: &Bound,
) -> Option<[u8; 32]> {
    verify_capability(
        shown_to.is_initiator,
        &Key::new(*key),
        &shown_to.hash,
        &open.capability,
    )
    .then(|| capability(for_other.is_initiator, &Key::new(*key), &for_other.hash))
}

/// Encodes the packets in their original form: a record of one, or a batch.
pub(super) fn encode(packets: &[Packet], is_batch: bool) -> Result<Vec<u8>, EncodeError> {
    match packets {
        [only] if !is_batch => only.encode(),
        packets => Batch(packets).encode(),
    }
}

/// The same packets, with the body of each core message decoded and encoded again.
///
/// `is_message` says for each packet whether it is a core message. A body that we would encode differently, because it
/// has unknown flags, fields or encodings, stays as it is.
pub(super) fn retyped(
    packets: &[Packet],
    is_message: impl Fn(usize) -> bool,
) -> (Vec<Packet>, usize) {
    let mut kept = 0;
    let retype = |(at, packet): (usize, &Packet)| {
        let Packet::Message {
            channel,
            kind,
            body,
        } = packet
        else {
            return packet.clone();
        };
        if !is_message(at) {
            return packet.clone();
        }
        let typed = match Message::decode(*kind, body) {
            Ok(Some(message)) => message.encode().ok(),
            _ => None,
        };
        let body = match typed {
            Some(typed) if typed == body.as_slice() => Buffer::from(typed),
            _ => {
                kept += 1;
                body.clone()
            }
        };
        Packet::Message {
            channel: *channel,
            kind: *kind,
            body,
        }
    };
    let packets = packets.iter().enumerate().map(retype).collect();
    (packets, kept)
}
