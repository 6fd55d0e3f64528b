//! This crate: the connection without IO, and the driver over a duplex stream in memory.

use std::hint::black_box;
use std::time::Duration;

use hypercore_protocol::connection::ChannelHandle;
use hypercore_protocol::encoding::Encode;
use hypercore_protocol::runtime::{Io, Tokio};
use hypercore_protocol::schema::{Data, DataBlock, Node, Range, Request, RequestBlock};
use hypercore_protocol::secret_stream::{ABYTES, Pull, Push, Tag};
use hypercore_protocol::{
    Channel, Connection, ConnectionConfig, ConnectionEvent, Event, KeyPair, Message, Protocol,
    ProtocolBuilder,
};
use tokio::io::DuplexStream;
use tokio::runtime::{Builder, Runtime};

use crate::{KEY, Load, WINDOW};

const NOW: Duration = Duration::ZERO;

pub fn block(index: u64, len: usize) -> Message {
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

fn blocks(len: usize) -> Vec<Message> {
    (0..32).map(|index| block(index, len)).collect()
}

pub fn messages() -> Vec<(&'static str, Message)> {
    let nodes = (0..17)
        .map(|at| Node {
            index: 1 << at,
            size: 1000 << at,
            hash: [at as u8; 32],
        })
        .collect();
    let proof = Data {
        request: 70_000,
        block: Some(DataBlock {
            index: 70_000,
            value: vec![0; 1024].into(),
            nodes,
        }),
        ..Data::default()
    };
    let range = Range {
        drop: false,
        start: 70_000,
        length: 300,
    };
    let request = Request {
        id: 300,
        block: Some(RequestBlock {
            index: 70_000,
            nodes: 2,
        }),
        ..Request::default()
    };
    vec![
        ("range", Message::Range(range)),
        ("request", Message::Request(request)),
        ("block of 1 KiB", block(70_000, 1024)),
        ("block with a proof of 17 nodes", Message::Data(proof)),
    ]
}

/// Encodes into allocated memory, as a connection does, and decodes from a record's memory.
pub fn codec(message: &Message, count: usize) {
    let kind = message.message_type();
    let record = message.encode().expect("encodes").into();
    let mut out = Vec::with_capacity(1 << 16);
    for _ in 0..count {
        out.clear();
        black_box(message).append_to(&mut out).expect("encodes");
        black_box(&out);
        let message = Message::decode_as(kind, black_box(&record)).expect("decodes");
        black_box(&message);
    }
}

pub fn seal(size: usize, count: usize) {
    let mut push = Push::new(&[1; 32], &[2; 24]);
    let mut record = vec![7; size + ABYTES];
    for _ in 0..count {
        push.seal(Tag::MESSAGE, black_box(&mut record))
            .expect("is long enough");
    }
}

pub fn seal_and_open(size: usize, count: usize) {
    let mut push = Push::new(&[1; 32], &[2; 24]);
    let mut pull = Pull::new(&[1; 32], &[2; 24]);
    let mut record = vec![7; size + ABYTES];
    for _ in 0..count {
        push.seal(Tag::MESSAGE, black_box(&mut record))
            .expect("is long enough");
        pull.open(black_box(&mut record)).expect("is right");
    }
}

/// Two connections that have opened a channel.
pub struct Pair {
    a: Connection,
    b: Connection,
    channel: ChannelHandle,
    spare: Vec<u8>,
}

pub fn connection(is_initiator: bool) -> Connection {
    let mut config = ConnectionConfig::new(is_initiator);
    config.transport.key_pair = Some(KeyPair::from_seed(&[u8::from(is_initiator) + 1; 32]));
    Connection::new(config, NOW)
}

fn carry(from: &mut Connection, to: &mut Connection, spare: &mut Vec<u8>) -> (usize, bool) {
    from.swap_transmit(spare, NOW);
    to.receive(spare, NOW);
    let (mut messages, mut opened) = (0, false);
    while let Some(event) = to.poll_event().expect("no error") {
        match event {
            ConnectionEvent::Message { .. } => messages += 1,
            ConnectionEvent::ChannelOpened { .. } => opened = true,
            _ => {}
        }
    }
    (messages, opened)
}

impl Pair {
    pub fn new() -> Self {
        let (mut a, mut b) = (connection(true), connection(false));
        let channel = a.open(KEY).expect("opens");
        b.open(KEY).expect("opens");
        let mut spare = Vec::new();
        let mut opened = [false; 2];
        while opened != [true; 2] {
            opened[0] |= carry(&mut a, &mut b, &mut spare).1;
            opened[1] |= carry(&mut b, &mut a, &mut spare).1;
        }
        Self {
            a,
            b,
            channel,
            spare,
        }
    }

    pub fn send(&mut self, load: Load) {
        let messages = blocks(load.size);
        let window = load.batch.max(WINDOW / load.size);
        let mut sent = 0;
        while sent < load.count {
            let mut waiting = 0;
            while waiting < window && sent < load.count {
                if load.batch > 1 {
                    self.a.cork();
                }
                for _ in 0..load.batch {
                    self.a
                        .send(self.channel, &messages[sent % messages.len()])
                        .expect("sends");
                    sent += 1;
                    waiting += 1;
                }
                if load.batch > 1 {
                    self.a.uncork();
                }
            }
            let (arrived, _) = carry(&mut self.a, &mut self.b, &mut self.spare);
            assert_eq!(arrived, waiting);
        }
    }
}

impl Pair {
    /// Sends a message `count` times before anything is written.
    pub fn queue(&mut self, message: &Message, count: usize) {
        for _ in 0..count {
            self.a.send(self.channel, message).expect("sends");
        }
        let (arrived, _) = carry(&mut self.a, &mut self.b, &mut self.spare);
        assert_eq!(arrived, count);
    }
}

/// Opens the channel, and keeps the protocol running.
pub async fn open<S>(mut protocol: Protocol<S>) -> Channel
where
    S: Io<Timer: 'static> + 'static,
{
    protocol.open(KEY).expect("opens");
    loop {
        let event = protocol.next().await.expect("goes on");
        if let Event::Channel(channel) = event.expect("no error") {
            tokio::task::spawn_local(async move { while protocol.next().await.is_some() {} });
            return channel;
        }
    }
}

pub fn builder(is_initiator: bool) -> ProtocolBuilder {
    ProtocolBuilder::new(is_initiator).seed([u8::from(is_initiator) + 1; 32])
}

pub fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starts")
}

/// Two protocols in one task each, on one thread.
pub struct Driven {
    runtime: Runtime,
    local: tokio::task::LocalSet,
    here: Channel,
    there: Channel,
}

impl Driven {
    pub fn new() -> Self {
        let (runtime, local) = (runtime(), tokio::task::LocalSet::new());
        let (here, there) = local.block_on(&runtime, async {
            let (a, b) = tokio::io::duplex(256 * 1024);
            let a: Protocol<Tokio<DuplexStream>> = builder(true).connect(a);
            let b = builder(false).connect(b);
            tokio::join!(open(a), open(b))
        });
        Self {
            runtime,
            local,
            here,
            there,
        }
    }

    pub fn send(&mut self, load: Load) {
        let messages = blocks(load.size);
        let (here, there) = (&self.here, &self.there);
        let send = async move {
            let mut sent = 0;
            while sent < load.count {
                if load.batch > 1 {
                    here.send_batch(&messages[..load.batch])
                        .await
                        .expect("sends");
                } else {
                    let message = &messages[sent % messages.len()];
                    here.send(message.clone()).await.expect("sends");
                }
                sent += load.batch;
            }
        };
        let receive = async move {
            for _ in 0..load.count {
                there.recv().await.expect("a message");
            }
        };
        self.local
            .block_on(&self.runtime, async { tokio::join!(send, receive) });
    }
}
