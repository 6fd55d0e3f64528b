//! Records of protomux, made from choices: most of them nearly valid, so that they reach the upper layers.

use hypercore_protocol::encoding::{Encode, Encoder};
use hypercore_protocol::schema::{
    Bitfield, Cancel, Data, DataBlock, DataHash, DataSeek, DataUpgrade, Extension, NoData, Node,
    Range, Request, RequestBlock, RequestSeek, RequestUpgrade, Sync, Unwant, Want,
};
use hypercore_protocol::{Buffer, Key, Message, discovery_key, keys};

use crate::input::Input;

/// The protocols of all channels.
pub(crate) const PROTOCOLS: [&str; 4] = ["hypercore/alpha", "hypercore", "a", ""];

/// The keys of all cores.
pub(crate) fn core_key(choice: u8) -> [u8; 32] {
    [choice % 4; 32]
}

fn uint(out: &mut Vec<u8>, value: u64) {
    let written = Encoder::new(out).uint(value, "value");
    assert!(written.is_ok(), "it is within what may be sent");
}

/// One record, from a sender of this role, on a connection with this handshake hash.
pub(crate) fn record(choices: &mut Input<'_>, is_initiator: bool, hash: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::new();
    match choices.below(8) {
        0 => out.extend_from_slice(choices.bytes(1024)),
        1..=3 => {
            let (channel, packet) = packet(choices, is_initiator, hash);
            uint(&mut out, channel);
            out.extend(packet);
        }
        _ => batch(choices, is_initiator, hash, &mut out),
    }
    out
}

fn batch(choices: &mut Input<'_>, is_initiator: bool, hash: &[u8; 64], out: &mut Vec<u8>) {
    out.extend([0, 0]);
    let (mut last, first) = (choices.below(8) as u64, out.len());
    uint(out, last);
    for _ in 0..choices.below(24) {
        let (channel, packet) = packet(choices, is_initiator, hash);
        if channel != last {
            out.push(0);
            uint(out, channel);
            last = channel;
        }
        // A flood consists of the same packet many times.
        for _ in 0..=choices.pick(&[0, 0, 0, 1, 40]) {
            uint(out, packet.len() as u64);
            out.extend_from_slice(&packet);
        }
    }
    match choices.below(8) {
        // A batch within a batch.
        0 => {
            let inner = out.split_off(first);
            out.extend([0, inner.len().min(252) as u8 + 1, 0]);
            out.extend(inner);
        }
        1 => out.truncate(choices.below(out.len() + 1)),
        _ => {}
    }
}

/// A channel and its packet.
fn packet(choices: &mut Input<'_>, is_initiator: bool, hash: &[u8; 64]) -> (u64, Vec<u8>) {
    let mut out = Vec::new();
    match choices.below(8) {
        0 | 1 => {
            open(choices, is_initiator, hash, &mut out);
            (0, out)
        }
        2 => {
            out.push(2 + choices.byte() % 2);
            uint(&mut out, choices.below(8) as u64);
            (0, out)
        }
        3 => {
            out.push(choices.byte());
            out.extend_from_slice(choices.bytes(255));
            (choices.below(8) as u64, out)
        }
        _ => {
            let channel = choices.below(8) as u64;
            let message = message(choices);
            uint(&mut out, message.message_type().id());
            out.extend(message.encode().unwrap_or_default());
            (channel, out)
        }
    }
}

fn open(choices: &mut Input<'_>, is_initiator: bool, hash: &[u8; 64], out: &mut Vec<u8>) {
    out.push(1);
    uint(out, choices.below(8) as u64);
    let (shape, key) = (choices.byte(), core_key(choices.byte()));
    let protocol = PROTOCOLS[usize::from(shape % 4)].as_bytes();
    uint(out, protocol.len() as u64);
    out.extend_from_slice(protocol);
    match shape / 4 % 4 {
        0 => out.push(0),
        1 => out.extend([1, shape / 64]),
        _ => {
            out.push(32);
            out.extend_from_slice(&discovery_key(&Key::new(key)));
        }
    }
    if shape & 16 == 0 {
        out.push(0);
        out.extend(keys::capability(is_initiator, &Key::new(key), hash));
    } else {
        out.extend_from_slice(choices.bytes(40));
    }
}

fn nodes(choices: &mut Input<'_>) -> Vec<Node> {
    (0..choices.below(6))
        .map(|_| Node {
            index: choices.number(),
            size: choices.number(),
            hash: [choices.byte(); 32],
        })
        .collect()
}

/// A message of a core's channel, with arbitrary fields.
pub(crate) fn message(choices: &mut Input<'_>) -> Message {
    match choices.below(12) {
        0 => Message::Sync(sync(choices)),
        1 => Message::Request(request(choices)),
        2 => Message::Cancel(Cancel {
            request: choices.number(),
        }),
        3 => Message::Data(data(choices)),
        4 => Message::NoData(NoData {
            request: choices.number(),
            reason: choices.number(),
        }),
        5 => Message::Want(Want {
            start: choices.number(),
            length: choices.number(),
            any: choices.flag(),
        }),
        6 => Message::Unwant(Unwant {
            start: choices.number(),
            length: choices.number(),
            any: choices.flag(),
        }),
        7 => Message::Bitfield(bitfield(choices)),
        8 | 9 => Message::Range(range(choices)),
        _ => Message::Extension(Extension {
            name: String::from_utf8_lossy(choices.bytes(64))
                .into_owned()
                .into(),
            message: Buffer::copy_from(choices.bytes(64)),
        }),
    }
}

pub(crate) fn sync(choices: &mut Input<'_>) -> Sync {
    Sync {
        fork: u64::from(choices.byte() / 64),
        length: choices.number(),
        remote_length: choices.number(),
        can_upgrade: choices.flag(),
        uploading: choices.byte() & 3 != 0,
        downloading: choices.byte() & 3 != 0,
        has_manifest: choices.flag(),
        allow_push: choices.flag(),
    }
}

pub(crate) fn bitfield(choices: &mut Input<'_>) -> Bitfield {
    let words = choices.below(70);
    Bitfield {
        start: choices.number() & !31,
        bitfield: (0..words)
            .map(|_| u32::from(choices.byte()) * 0x0101_0101)
            .collect(),
    }
}

pub(crate) fn range(choices: &mut Input<'_>) -> Range {
    Range {
        drop: choices.flag(),
        start: choices.number(),
        length: choices.number(),
    }
}

pub(crate) fn request(choices: &mut Input<'_>) -> Request {
    let parts = choices.byte();
    let mut part = |bit: u8| (parts & bit != 0).then(|| (choices.number(), choices.number()));
    let (block, hash, seek, upgrade) = (part(1), part(2), part(4), part(8));
    let block_of = |(index, nodes)| RequestBlock { index, nodes };
    Request {
        id: choices.number(),
        fork: u64::from(parts >> 6),
        block: block.map(block_of),
        hash: hash.map(block_of),
        seek: seek.map(|(bytes, padding)| RequestSeek { bytes, padding }),
        upgrade: upgrade.map(|(start, length)| RequestUpgrade { start, length }),
        manifest: parts & 16 != 0,
        priority: 0,
    }
}

fn data(choices: &mut Input<'_>) -> Data {
    let parts = choices.byte();
    Data {
        request: choices.number(),
        fork: u64::from(parts >> 6),
        block: (parts & 1 != 0).then(|| DataBlock {
            index: choices.number(),
            value: Buffer::copy_from(choices.bytes(64)),
            nodes: nodes(choices),
        }),
        hash: (parts & 2 != 0).then(|| DataHash {
            index: choices.number(),
            nodes: nodes(choices),
        }),
        seek: (parts & 4 != 0).then(|| DataSeek {
            bytes: choices.number(),
            nodes: nodes(choices),
        }),
        upgrade: (parts & 8 != 0).then(|| DataUpgrade {
            start: choices.number(),
            length: choices.number(),
            nodes: nodes(choices),
            additional_nodes: nodes(choices),
            signature: choices.flag().then(|| Buffer::copy_from(choices.bytes(80))),
        }),
        manifest: None,
    }
}
