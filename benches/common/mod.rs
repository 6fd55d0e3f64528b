//! Shared by the benches: messages, and connections after their handshake.

// Each bench compiles this module and uses a part of it.
#![allow(dead_code)]

use std::time::Duration;

use hypercore_protocol::connection::ChannelHandle;
use hypercore_protocol::schema::{Bitfield, Data, DataBlock, Node, Range, Request, RequestBlock};
use hypercore_protocol::{
    Buffer, Connection, ConnectionConfig, ConnectionEvent, Key, KeyPair, Message,
};

/// The sizes of a block, from a small message to the largest usual one.
pub(crate) const SIZES: [usize; 6] = [64, 256, 1024, 4096, 16_384, 65_536];

pub(crate) const KEY: Key = Key::new([3; 32]);
const NOW: Duration = Duration::ZERO;

/// A block of this length, without a proof.
pub(crate) fn block(index: u64, len: usize) -> Message {
    Message::Data(Data {
        request: index,
        block: Some(DataBlock {
            index,
            value: vec![index as u8; len].into(),
            nodes: Vec::new(),
        }),
        ..Data::default()
    })
}

/// One message of each kind that is relevant for speed, by name.
pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    let nodes = |count: u64| -> Vec<Node> {
        (0..count)
            .map(|at| Node {
                index: 1 << at,
                size: 1000 << at,
                hash: [at as u8; 32],
            })
            .collect()
    };
    let request = Request {
        id: 300,
        block: Some(RequestBlock {
            index: 70_000,
            nodes: 2,
        }),
        ..Request::default()
    };
    let proof = Data {
        request: 300,
        block: Some(DataBlock {
            index: 70_000,
            value: vec![7; 1024].into(),
            nodes: nodes(17),
        }),
        ..Data::default()
    };
    let range = Range {
        drop: false,
        start: 70_000,
        length: 300,
    };
    let bitfield = Bitfield {
        start: 0,
        bitfield: vec![0xff00_ff00; 1024],
    };
    vec![
        ("range", Message::Range(range)),
        ("request", Message::Request(request)),
        ("block of 1 KiB", block(70_000, 1024)),
        ("block of 64 KiB", block(70_000, 65_536)),
        ("block with a proof of 17 nodes", Message::Data(proof)),
        ("bitfield of 1,024 words", Message::Bitfield(bitfield)),
    ]
}

pub(crate) fn encoded(message: &Message) -> Buffer {
    use hypercore_protocol::encoding::Encode;
    message.encode().expect("encodes").into()
}

/// Two connections with a channel open on both sides.
pub(crate) struct Pair {
    pub(crate) a: Connection,
    pub(crate) b: Connection,
    pub(crate) channel: ChannelHandle,
    spare: Vec<u8>,
}

/// A connection before its handshake; the static keys are the same each time.
pub(crate) fn connection(is_initiator: bool) -> Connection {
    let mut config = ConnectionConfig::new(is_initiator);
    config.transport.key_pair = Some(KeyPair::from_seed(&[u8::from(is_initiator) + 1; 32]));
    Connection::new(config, NOW)
}

/// Performs the handshake and opens the channel on both sides.
pub(crate) fn connect(a: Connection, b: Connection) -> Pair {
    let (mut a, mut b) = (a, b);
    a.open(KEY).expect("opens");
    let channel = b.open(KEY).expect("opens");
    let mut opened = [false; 2];
    let mut spare = Vec::new();
    while opened != [true; 2] {
        for (at, turn) in opened.iter_mut().enumerate() {
            let (from, to) = if at == 0 {
                (&mut a, &mut b)
            } else {
                (&mut b, &mut a)
            };
            from.swap_transmit(&mut spare, NOW);
            to.receive(&spare, NOW);
            while let Some(event) = to.poll_event().expect("no error") {
                *turn |= matches!(event, ConnectionEvent::ChannelOpened { .. });
            }
        }
    }
    Pair {
        a,
        b,
        channel,
        spare,
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        connect(connection(true), connection(false))
    }

    /// Carries pending bytes of `a` to `b`, and counts the messages received.
    pub(crate) fn carry(&mut self) -> usize {
        self.a.swap_transmit(&mut self.spare, NOW);
        self.b.receive(&self.spare, NOW);
        let mut count = 0;
        while let Some(event) = self.b.poll_event().expect("no error") {
            count += usize::from(matches!(event, ConnectionEvent::Message { .. }));
        }
        count
    }
}
