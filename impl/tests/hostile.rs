//! Hostile peers against a protocol with the default options: how much memory they can make it hold.
//!
//! A separate test program with one test at a time, since the allocator counts for the whole process. The peer runs in
//! the same task: its bytes are prepared before the measurement, and bytes written to it are discarded.

#[path = "random/mod.rs"]
mod random;

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream as _;
use hypercore_protocol::connection::ConnectionConfig;
use hypercore_protocol::encoding::{Encode, Encoder};
use hypercore_protocol::mux::{Batch, Packet};
use hypercore_protocol::runtime::{Io, Timer};
use hypercore_protocol::schema::{Data, DataBlock, DataHash, DataUpgrade, Node};
use hypercore_protocol::{
    Buffer, Channel, Connection, Event, Key, Protocol, ProtocolBuilder, discovery_key, keys,
};
use peak_alloc::PeakAlloc;
use random::Random;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

const KEY: Key = Key::new([3; 32]);

/// The builder's default.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// Bytes of a flood: three times what fills a queue.
const TOTAL: usize = 768 * 1024;
/// Records of the floods.
const RECORD: usize = 64 * 1024;
/// The driver's maximum read, which it also decrypts at once.
const READ: usize = 64 * 1024;
/// Everything else.
const REST: usize = 128 * 1024;

/// The limit documented by the driver for a peer that knows no key and opens nothing that is open here.
const STRANGER: usize = 8 * 1024 * 1024;

#[derive(Default)]
struct Socket {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
    /// The peer reads nothing.
    is_deaf: bool,
}

/// The victim's end.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Socket>>);

struct NoTime;

impl Timer for NoTime {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn poll_deadline(&mut self, _: &mut Context<'_>, _: Option<Duration>) -> Poll<()> {
        Poll::Pending
    }
}

impl Io for Wire {
    type Timer = NoTime;

    fn timer(&self) -> NoTime {
        NoTime
    }

    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let socket = &mut *self.0.lock().unwrap();
        let left = &socket.input[socket.read..];
        if left.is_empty() {
            return Poll::Pending;
        }
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        socket.read += count;
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = self.0.lock().unwrap();
        if socket.is_deaf {
            return Poll::Pending;
        }
        socket.output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A victim, and its peer's connection.
struct Scene {
    wire: Wire,
    victim: Protocol<Wire>,
    peer: Connection,
    /// Channels that the victim's application holds and does not read.
    channels: Vec<Channel>,
    /// Whether the application rejects unknown cores.
    rejects: bool,
    ended: bool,
}

impl Scene {
    /// After the handshake.
    fn new(builder: ProtocolBuilder) -> Self {
        let wire = Wire::default();
        let mut scene = Self {
            victim: builder.connect_with(wire.clone()),
            peer: Connection::new(ConnectionConfig::new(true), Duration::ZERO),
            wire,
            channels: Vec::new(),
            rejects: true,
            ended: false,
        };
        scene.settle();
        assert!(scene.peer.handshake().is_some());
        scene
    }

    /// With the channel of [`KEY`] open on both sides.
    fn opened(builder: ProtocolBuilder) -> Self {
        let mut scene = Self::new(builder);
        scene.victim.open(KEY).unwrap();
        scene.peer.open(KEY).unwrap();
        scene.settle();
        assert_eq!(scene.channels.len(), 1);
        scene
    }

    /// The victim's application: it opens the known core whenever the peer does, and reads no messages.
    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        // A poll ends before everything is read, for fairness.
        for _ in 0..8 {
            while let Poll::Ready(event) = pin!(&mut self.victim).poll_next(&mut cx) {
                match event {
                    Some(Ok(Event::Channel(channel))) => self.channels.push(channel),
                    Some(Ok(Event::Close { .. })) => self.channels.retain(|it| !it.is_closed()),
                    Some(Ok(Event::DiscoveryKey(key))) if key == discovery_key(&KEY) => {
                        self.victim.open(KEY).unwrap();
                    }
                    Some(Ok(Event::DiscoveryKey(key))) if self.rejects => {
                        self.victim.reject(&key);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => {
                        self.ended = true;
                        return;
                    }
                }
            }
        }
    }

    fn settle(&mut self) {
        loop {
            self.poll();
            while let Ok(Some(_)) = self.peer.poll_event() {}
            let mut socket = self.wire.0.lock().unwrap();
            let output = std::mem::take(&mut socket.output);
            self.peer.receive(&output, Duration::ZERO);
            while let Ok(Some(_)) = self.peer.poll_event() {}
            let mut sent = Vec::new();
            self.peer.swap_transmit(&mut sent, Duration::ZERO);
            if output.is_empty() && sent.is_empty() {
                return;
            }
            socket.input.extend_from_slice(&sent);
        }
    }

    fn send(&mut self, plaintext: &[u8]) {
        self.peer
            .send_plaintext_for_testing_only(plaintext)
            .unwrap();
    }

    /// Lets the victim read the sent bytes, as far as it does, and returns how many it read and the memory held at most
    /// and in the end.
    fn attack(&mut self) -> Held {
        {
            let mut socket = self.wire.0.lock().unwrap();
            socket.is_deaf = true;
            let mut sent = Vec::new();
            self.peer.swap_transmit(&mut sent, Duration::ZERO);
            socket.input = sent;
            socket.read = 0;
        }
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let mut read = usize::MAX;
        while read != self.read() && !self.ended {
            read = self.read();
            self.poll();
        }
        Held {
            read: self.read(),
            peak: MEMORY.peak_usage().saturating_sub(before),
            kept: MEMORY.current_usage().saturating_sub(before),
        }
    }

    fn read(&self) -> usize {
        self.wire.0.lock().unwrap().read
    }
}

#[derive(Debug)]
struct Held {
    read: usize,
    peak: usize,
    kept: usize,
}

impl Held {
    fn check(&self, bound: usize, what: &str) {
        let Self { read, peak, kept } = self;
        let times = *kept as f64 / *read as f64;
        println!(
            "{what}: {read} read, {peak} at most, {kept} kept ({times:.1} times), bound {bound}"
        );
        assert!(*peak <= bound, "{what}: {self:?}, more than {bound}");
    }
}

fn item(kind: u64, body: Vec<u8>) -> Packet {
    Packet::Message {
        channel: 1,
        kind,
        body: body.into(),
    }
}

fn data(data: Data) -> Packet {
    item(3, data.encode().unwrap())
}

/// Batches of these packets, repeated to this many bytes in all.
fn flood(packets: &[Packet], total: usize) -> Vec<Vec<u8>> {
    let size = Batch(packets).encode().unwrap().len();
    let times = (RECORD / size).max(1);
    let repeated: Vec<_> = std::iter::repeat_n(packets, times)
        .flatten()
        .cloned()
        .collect();
    let record = Batch(&repeated).encode().unwrap();
    vec![record.clone(); total.div_ceil(record.len())]
}

fn named(name: &[u8], message: &[u8]) -> Packet {
    let mut body = Vec::new();
    Encoder::new(&mut body).buffer(name, "name").unwrap();
    body.extend_from_slice(message);
    item(9, body)
}

/// Each kind of message that can wait in a channel's queue: however few bytes it has on the wire, the queue takes at
/// most twice its limit in memory.
#[test]
fn no_message_makes_a_queue_hold_more_than_another() {
    let _turn = turn();
    let nodes = |count: u64| {
        (0..count)
            .map(|index| Node {
                index,
                ..Node::default()
            })
            .collect::<Vec<_>>()
    };
    let block = |length: usize, count| DataBlock {
        index: 0,
        value: vec![7; length].into(),
        nodes: nodes(count),
    };
    let upgrade = DataUpgrade {
        nodes: nodes(3),
        additional_nodes: nodes(3),
        signature: Some(vec![7; 64].into()),
        ..DataUpgrade::default()
    };
    let with_block = |length, count| {
        data(Data {
            block: Some(block(length, count)),
            ..Data::default()
        })
    };
    let manifest = |signers: u8| {
        // Version 1, no flags, one hash, a quorum of 1, and signers of scheme, namespace and key.
        let mut body = vec![16, 1, 0, 1, 0, 0, 1, signers];
        for _ in 0..signers {
            body.extend([0; 65]);
        }
        item(3, body)
    };
    let floods: Vec<(&str, Vec<Packet>)> = vec![
        ("sync", vec![item(0, vec![0; 4])]),
        ("sync with more behind it", vec![item(0, vec![0; 5])]),
        ("request", vec![item(1, vec![0; 3])]),
        (
            "request of all",
            vec![item(1, [&[63][..], &[0; 11]].concat())],
        ),
        ("cancel", vec![item(2, vec![1])]),
        ("data", vec![item(3, vec![0; 3])]),
        ("data with an empty block", vec![with_block(0, 0)]),
        ("data with a byte", vec![with_block(1, 0)]),
        ("data with 1,000 bytes", vec![with_block(1000, 0)]),
        ("data with 40,000 bytes", vec![with_block(40_000, 0)]),
        ("data with 1 node", vec![with_block(1, 1)]),
        ("data with 100 nodes", vec![with_block(1, 100)]),
        (
            "data with a hash",
            vec![data(Data {
                hash: Some(DataHash {
                    index: 0,
                    nodes: nodes(10),
                }),
                ..Data::default()
            })],
        ),
        (
            "data with an upgrade",
            vec![data(Data {
                upgrade: Some(upgrade),
                ..Data::default()
            })],
        ),
        ("data with a manifest", vec![manifest(0)]),
        ("data with 20 signers", vec![manifest(20)]),
        ("noData", vec![item(4, vec![1])]),
        ("want", vec![item(5, vec![0, 1])]),
        ("unwant", vec![item(6, vec![0, 1])]),
        ("bitfield", vec![item(7, vec![0, 0])]),
        (
            "bitfield of 1,000 words",
            vec![item(7, [&[0, 0xfd, 0xe8, 3][..], &[7; 4000]].concat())],
        ),
        ("range", vec![item(8, vec![2, 1])]),
        ("extension", vec![named(b"a", b""), named(b"", b"")]),
        (
            "extension with a message",
            vec![named(b"a", b"b"), named(b"", b"b")],
        ),
        ("unknown", vec![item(40, vec![])]),
        ("unknown with a byte", vec![item(40, vec![1])]),
    ];
    for (what, packets) in floods {
        let mut scene = Scene::opened(ProtocolBuilder::new(false).unknown_messages(true));
        for record in flood(&packets, TOTAL) {
            scene.send(&record);
        }
        let held = scene.attack();
        assert!(!scene.ended, "{what} is a valid message");
        assert!(held.read < TOTAL, "{what}: the queue is never full");
        held.check(2 * RECEIVE_BUFFER + 2 * RECORD + READ + REST, what);
    }
}

/// The name of an extension is sent once and then repeated by one byte.
#[test]
fn a_long_name_that_is_repeated_is_held_once() {
    let _turn = turn();
    let name = vec![b'n'; 1_000_000];
    let mut scene = Scene::opened(ProtocolBuilder::new(false));
    let packets: Vec<_> = std::iter::once(named(&name, b""))
        .chain((0..2000).map(|_| named(b"", b"")))
        .collect();
    let record = Batch(&packets).encode().unwrap();
    scene.send(&record);
    let held = scene.attack();
    assert!(held.read >= name.len());
    // The record while it arrives, decrypted in place; the message cut from it; and the name.
    held.check(
        4 * record.len() + 2 * RECEIVE_BUFFER + REST,
        "a name of 1 MB, 2,000 times",
    );
}

/// Opens without an answer, with an immediate answer, and with a question to the application.
#[test]
fn no_control_message_is_held() {
    let _turn = turn();
    let open = |id: u64, protocol: &str, handshake: usize| Packet::Open {
        id,
        protocol: protocol.to_owned(),
        channel_id: Some(Buffer::from(
            [&id.to_le_bytes()[..], &[0; 24]].concat().as_slice(),
        )),
        handshake: vec![0; handshake].into(),
    };
    let unknown = Packet::UnknownControl {
        kind: 77,
        body: Buffer::new(),
    };
    let floods: Vec<(&str, Vec<Vec<u8>>)> = vec![
        (
            "closes of nothing",
            flood(&[Packet::Close { id: 9 }], TOTAL),
        ),
        ("unknown control messages", flood(&[unknown], TOTAL)),
        ("empty records", vec![Vec::new(); 20_000]),
        (
            "messages for nobody",
            flood(
                &[Packet::Message {
                    channel: 9,
                    kind: 0,
                    body: Buffer::new(),
                }],
                TOTAL,
            ),
        ),
        (
            "opens of unknown protocols",
            (0..20)
                .map(|batch| {
                    let ids = batch * 1000 + 1..batch * 1000 + 1001;
                    let packets: Vec<_> = ids.map(|id| open(id, "chat", 0)).collect();
                    Batch(&packets).encode().unwrap()
                })
                .collect(),
        ),
        (
            "opens of unknown cores",
            (0..20)
                .map(|batch| {
                    let ids = batch * 1000 + 1..batch * 1000 + 1001;
                    let packets: Vec<_> = ids.map(|id| open(id, "hypercore/alpha", 33)).collect();
                    Batch(&packets).encode().unwrap()
                })
                .collect(),
        ),
        (
            "opens with names of 60,000 bytes that are no text",
            (1..30)
                .map(|id| {
                    let mut record = vec![0, 1];
                    let mut encoder = Encoder::new(&mut record);
                    encoder.uint(id, "id").unwrap();
                    encoder.buffer(&[0xff; 60_000], "protocol").unwrap();
                    record.push(0);
                    record
                })
                .collect(),
        ),
    ];
    for (what, records) in floods {
        for rejects in [true, false] {
            let mut scene = Scene::new(ProtocolBuilder::new(false));
            scene.rejects = rejects;
            for record in &records {
                scene.send(record);
            }
            scene.attack().check(STRANGER, what);
        }
    }
}

/// The worst case of a stranger: all waiting opens, and a record that is never complete.
#[test]
fn a_stranger_takes_no_more_than_is_stated() {
    let _turn = turn();
    let mut scene = Scene::new(ProtocolBuilder::new(false));
    scene.rejects = false;
    let packets: Vec<_> = (1..=4096_u64)
        .map(|id| Packet::Open {
            id,
            protocol: "hypercore/alpha".to_owned(),
            channel_id: Some(Buffer::from(
                [&id.to_le_bytes()[..], &[0; 24]].concat().as_slice(),
            )),
            handshake: vec![0; 200].into(),
        })
        .collect();
    for packets in packets.chunks(1000) {
        scene.send(&Batch(packets).encode().unwrap());
    }
    // Messages on one of them, and then a record of 1 MiB without its last byte.
    for _ in 0..60 {
        scene.send(&item(0, vec![7; 8]).encode().unwrap());
    }
    let mut record = vec![0xff, 0xff, 0x0f];
    record.resize(3 + 0xf_fffe, 7);
    scene.peer.send_raw_for_testing_only(&record);
    let held = scene.attack();
    assert!(held.read > record.len());
    held.check(STRANGER, "4,096 opens and an unfinished record");

    // A peer that announces a larger one is dropped at once.
    let mut scene = Scene::new(ProtocolBuilder::new(false));
    scene.peer.send_raw_for_testing_only(&[0xff; 1 << 20]);
    let held = scene.attack();
    assert!(scene.ended && held.read <= READ, "{held:?}");
    held.check(2 * READ + REST, "a record of 16 MiB");
}

/// Also before the handshake is complete.
#[test]
fn a_handshake_that_is_never_complete_is_held_in_a_few_kilobytes() {
    let _turn = turn();
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[0x20, 0, 0],
        &[0xff, 0xff, 0, 1],
        &[0x20, 4, 0, 7],
    ] {
        let wire = Wire::default();
        let mut input = bytes.to_vec();
        input.resize(1000, 7);
        wire.0.lock().unwrap().input = input;
        let mut cx = Context::from_waker(Waker::noop());
        // Its own size, and that of the read buffer, allocated once per thread.
        drop(Scene::new(ProtocolBuilder::new(false)));
        let before = MEMORY.current_usage();
        let mut victim = ProtocolBuilder::new(false).connect_with(wire);
        let _ = pin!(&mut victim).poll_next(&mut cx);
        let held = MEMORY.current_usage() - before;
        assert!(held <= 16 * 1024, "{held} bytes for {bytes:x?}");
    }
}

/// It keeps closing and opening the channel of a core, and reads nothing.
#[test]
fn storms_of_close_and_open_stop() {
    let _turn = turn();
    let mut scene = Scene::opened(ProtocolBuilder::new(false));
    let hash = scene.peer.handshake().unwrap().hash;
    let mut handshake = vec![1];
    handshake.extend(keys::capability(true, &KEY, &hash));
    let packets = [
        Packet::Close { id: 1 },
        Packet::Open {
            id: 1,
            protocol: "hypercore/alpha".to_owned(),
            channel_id: Some(Buffer::from(discovery_key(&KEY))),
            handshake: handshake.into(),
        },
    ];
    for record in flood(&packets, 3 << 20) {
        scene.send(&record);
    }
    let held = scene.attack();
    assert!(held.read < 2 << 20, "{held:?}: it is read for ever");
    held.check(2 << 20, "close and open");
}

/// Random messages, right and wrong, whole and cut, of a peer that knows the key and reads nothing: nothing that it says
/// adds up to more than the limits do.
#[test]
fn random_conversations_stay_within_the_limits() {
    let _turn = turn();
    let mut random = Random::new();
    for _ in 0..20 {
        let mut scene = Scene::opened(ProtocolBuilder::new(false).unknown_messages(true));
        scene.rejects = random.below(2) == 0;
        let hash = scene.peer.handshake().unwrap().hash;
        let mut proof = vec![1];
        proof.extend(keys::capability(true, &KEY, &hash));
        let mut next = 2;
        let mut total = 0;
        while total < 1 << 19 {
            let mut packets = Vec::new();
            for _ in 0..1 + random.below(300) {
                let repeat = 1 + random.below(50) as usize;
                let length = match random.below(20) {
                    0 => random.below(40_000),
                    1..4 => random.below(300),
                    _ => random.below(4),
                };
                let body = vec![random.below(256) as u8; length as usize];
                let packet = match random.below(12) {
                    0 => Packet::Close {
                        id: random.below(4),
                    },
                    1 => Packet::Open {
                        id: 1,
                        protocol: "hypercore/alpha".to_owned(),
                        channel_id: Some(Buffer::from(discovery_key(&KEY))),
                        handshake: proof.clone().into(),
                    },
                    2 => {
                        next += 1;
                        Packet::Open {
                            id: next - 1,
                            protocol: ["hypercore/alpha", "chat"][random.below(2) as usize]
                                .to_owned(),
                            channel_id: Some(vec![random.below(256) as u8; 32].into()),
                            handshake: body.into(),
                        }
                    }
                    3 => Packet::UnknownControl {
                        kind: 9,
                        body: body.into(),
                    },
                    4 => named(&body, b""),
                    5 => named(b"", &body),
                    6 => item(3, [&[1, 1, 0, 0][..], &[0, 0]].concat()),
                    7 => item(8, vec![2, 1]),
                    8 => item(5, vec![0, 1]),
                    9 => item(7, vec![0, 1, 7, 7, 7, 7]),
                    10 => item(40, body),
                    // Occasionally a protocol violation.
                    _ if random.below(3000) == 0 => Packet::Reject { id: 77 },
                    _ => item(1, [&[63][..], &[1; 11]].concat()),
                };
                let opens = matches!(packet, Packet::Open { .. } | Packet::Close { .. });
                packets.extend(std::iter::repeat_n(packet, if opens { 1 } else { repeat }));
            }
            let record = Batch(&packets).encode().unwrap();
            total += record.len();
            scene.send(&record);
        }
        // One queue, its messages kept by the application; the waiting opens; a record or two.
        let bound = STRANGER + 4 * RECEIVE_BUFFER + (8 << 20);
        scene.attack().check(bound, "a random conversation");
    }
}
