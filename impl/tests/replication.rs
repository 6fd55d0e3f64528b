//! Cores that move between this crate and Node peers of both releases, in either direction, with either side as initiator.
//!
//! The Node side is `examples-nodejs/interop/replication.js`.
#![cfg(all(feature = "js_interop_tests", feature = "replication"))]

mod node;

use std::ops::Range;

use hypercore_protocol::manifest::{Prologue, Signer};
use hypercore_protocol::replication::{
    Core, CoreError, CoreOptions, Events, Memory, PartialSignature, PeerError, ProofError,
    Replicator, ReplicatorEvent, Session, SessionError,
};
use hypercore_protocol::schema::{Data, Sync};
use hypercore_protocol::{Buffer, Event, Key, KeyPair, Manifest, Message, ProtocolBuilder};
use node::{Node, hex, soon, unhex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const RELEASES: [&str; 2] = ["10.38.2", "11.37.1"];

/// What Node is told to make, and what we make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Default,
    Compat,
    TwoOfThree,
    Prologue,
}

const KINDS: [Kind; 4] = [
    Kind::Default,
    Kind::Compat,
    Kind::TwoOfThree,
    Kind::Prologue,
];

fn start(release: &str) -> Node {
    Node::start("interop/replication.js", &json!({ "release": release }))
}

/// The i-th block of a core made by count, as the Node side makes it.
fn block(index: u64, size: usize) -> Vec<u8> {
    let byte = |at: usize| (index as usize * 31 + at * 7 + (at >> 8)) as u8;
    (0..size).map(byte).collect()
}

fn blocks(range: Range<u64>, size: usize) -> Vec<Vec<u8>> {
    range.map(|index| block(index, size)).collect()
}

fn key_pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

fn key(answer: &Value) -> Key {
    unhex(&answer["key"]).try_into().expect("32 bytes")
}

fn reader(key: Key) -> Replicator {
    let core = Core::open(Memory::new(), CoreOptions::reader(key));
    Replicator::new(core.expect("a core in memory"))
}

fn writer(options: CoreOptions) -> Replicator {
    Replicator::new(Core::open(Memory::new(), options).expect("a core in memory"))
}

/// What two blocks a prologue vouches for.
const PROLOGUE: [&[u8]; 2] = [&[0, 255], &[1]];

/// A manifest whose signers are the key pairs of these seeds.
fn manifest(quorum: u64, seeds: &[u8], prologue: Option<Prologue>) -> Manifest {
    let mut manifest = Manifest::single_signer(*key_pair(seeds[0]).public_key());
    manifest.quorum = quorum;
    let signer = |seed: &u8| Signer {
        namespace: [9; 32],
        public_key: *key_pair(*seed).public_key(),
        ..manifest.signers[0]
    };
    manifest.signers = seeds.iter().map(signer).collect();
    manifest.prologue = prologue;
    manifest
}

fn core_of(kind: Kind) -> Replicator {
    match kind {
        Kind::Default => writer(CoreOptions::writer(key_pair(1))),
        Kind::Compat => {
            let mut options = CoreOptions::writer(key_pair(1));
            options.compat = true;
            writer(options)
        }
        Kind::TwoOfThree => writer(CoreOptions {
            manifest: Some(manifest(2, &[1, 2, 3], None)),
            ..CoreOptions::default()
        }),
        Kind::Prologue => {
            let other = writer(CoreOptions::writer(key_pair(77)));
            other.append(&PROLOGUE).expect("it is writable");
            let hash = other.info().expect("a hash").tree_hash;
            let prologue = Prologue { hash, length: 2 };
            let mut options = CoreOptions::writer(key_pair(1));
            options.manifest = Some(manifest(1, &[1], Some(prologue)));
            let core = writer(options);
            core.append(&PROLOGUE).expect("the prologue");
            core
        }
    }
}

/// Adds blocks, signed by the first and the last of the signers where one is not enough.
fn append(core: &Replicator, kind: Kind, values: &[Vec<u8>]) {
    if kind != Kind::TwoOfThree {
        core.append(values).expect("it is writable");
        return;
    }
    if values.is_empty() {
        return;
    }
    let held = core.length();
    let signed = |place: u64, seed| {
        let mut options = CoreOptions::writer(key_pair(seed));
        options.manifest = core.with_core(|core| core.manifest().cloned());
        let part = writer(options);
        for index in 0..held {
            let value = core.get_held(index).expect("the store").expect("a block");
            part.append(&[value]).expect("it is writable");
        }
        part.append(values).expect("it is writable");
        let length = part.length();
        part.with_core(|core| core.partial_signature(place, length))
            .expect("it is signed")
    };
    let parts: [PartialSignature; 2] = [signed(0, 1), signed(2, 3)];
    let signature = core.with_core(|core| core.assemble(&parts));
    let signature = signature.expect("a manifest");
    core.append_signed(values, signature)
        .expect("two have signed");
}

async fn node_core(node: &mut Node, kind: Kind) -> Key {
    let input = match kind {
        // As each release makes cores by default.
        Kind::Default => json!({ "seed": 4 }),
        Kind::Compat => json!({ "seed": 4, "compat": true }),
        Kind::TwoOfThree => json!({ "signers": [1, 2, 3], "quorum": 2 }),
        Kind::Prologue => json!({ "prologue": PROLOGUE.map(hex) }),
    };
    let key = key(&node.ask("open", input).await);
    if kind == Kind::Prologue {
        node.ask("append", json!({ "blocks": PROLOGUE.map(hex) }))
            .await;
    }
    key
}

async fn node_append(node: &mut Node, kind: Kind, count: u64, size: usize) {
    let mut input = json!({ "count": count, "size": size });
    if kind == Kind::TwoOfThree {
        input["signers"] = json!([1, 3]);
    }
    if count > 0 {
        node.ask("append", input).await;
    }
}

async fn connect(node: &mut Node, is_initiator: bool) -> TcpStream {
    let socket = if is_initiator {
        let port = node.ask("listen", json!({})).await["port"].as_u64();
        let port = u16::try_from(port.expect("a port")).expect("a port");
        TcpStream::connect(("127.0.0.1", port)).await
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        node.ask("dial", json!({ "port": port })).await;
        listener.accept().await.map(|(socket, _)| socket)
    };
    socket.expect("a connection")
}

/// A stream between cores of ours and a Node peer, which runs by itself.
struct Link(JoinHandle<Result<(), SessionError>>);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    async fn with(node: &mut Node, cores: &[&Replicator], is_initiator: bool) -> Self {
        let socket = connect(node, is_initiator).await;
        Self::over(socket, cores, is_initiator).await
    }

    async fn over(socket: TcpStream, cores: &[&Replicator], is_initiator: bool) -> Self {
        socket.set_nodelay(true).expect("a socket");
        let protocol = ProtocolBuilder::new(is_initiator).connect(socket);
        let mut session = Session::new(protocol);
        for core in cores {
            session.add(core).await.expect("an open stream");
        }
        Self(tokio::spawn(async move {
            let ended = session.run().await;
            // What is left to be said to a peer that is let go.
            let _ = session.close().await;
            ended
        }))
    }

    /// How it ended.
    async fn end(mut self) -> Result<(), SessionError> {
        soon(&mut self.0).await.expect("it does not panic")
    }
}

async fn link(one: &Replicator, other: &Replicator) -> (Link, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let dialled = TcpStream::connect(address).await.expect("a connection");
    let (accepted, _) = listener.accept().await.expect("a connection");
    (
        Link::over(dialled, &[one], true).await,
        Link::over(accepted, &[other], false).await,
    )
}

/// The digest of blocks, each behind its length, as the Node side makes it.
fn digest(core: &Replicator, range: Range<u64>) -> String {
    let mut hash = Sha256::new();
    for index in range {
        let value = core.get_held(index).expect("the store").expect("a block");
        let length = u32::try_from(value.len()).expect("a block's length");
        hash.update(length.to_le_bytes());
        hash.update(&value);
    }
    hex(hash.finalize())
}

/// Waits for what an event says.
async fn event<T>(events: &mut Events, find: impl Fn(&ReplicatorEvent) -> Option<T>) -> T {
    soon(async {
        loop {
            if let Some(found) = find(&events.next().await) {
                return found;
            }
        }
    })
    .await
}

async fn assert_same(core: &Replicator, node: &mut Node, name: &str) {
    let info = core.info().expect("a hash");
    let theirs = node.ask("info", json!({})).await;
    assert_eq!(theirs["length"], info.length, "{name}");
    assert_eq!(theirs["byteLength"], info.byte_length, "{name}");
    assert_eq!(theirs["fork"], info.fork, "{name}");
    if info.length > 0 {
        assert_eq!(theirs["treeHash"], hex(info.tree_hash), "{name}");
    }
    let theirs = node.ask("digest", json!({})).await;
    assert_eq!(theirs["sha256"], digest(core, 0..info.length), "{name}");
}

#[tokio::test]
async fn cores_of_every_kind_come_from_node() {
    for (at, release) in RELEASES.into_iter().enumerate() {
        for (kind_at, kind) in KINDS.into_iter().enumerate() {
            for (count_at, count) in [0, 1, 4].into_iter().enumerate() {
                let is_initiator = (at + kind_at + count_at) % 2 == 0;
                let name = format!("{count} blocks of {kind:?} from {release}, {is_initiator}");
                let mut node = start(release);
                let core = reader(node_core(&mut node, kind).await);
                node_append(&mut node, kind, count, 20).await;
                let length = count + if kind == Kind::Prologue { 2 } else { 0 };
                let _link = Link::with(&mut node, &[&core], is_initiator).await;
                let updated = soon(core.update()).await.expect("a store");
                assert_eq!(updated, length > 0, "{name}");
                soon(core.download(..length)).await.expect("a store");
                assert_eq!(core.length(), length, "{name}");
                assert_same(&core, &mut node, &name).await;
            }
        }
    }
}

#[tokio::test]
async fn cores_of_every_kind_go_to_node() {
    for (at, release) in RELEASES.into_iter().enumerate() {
        for (kind_at, kind) in KINDS.into_iter().enumerate() {
            for (count_at, count) in [0, 1, 4].into_iter().enumerate() {
                let is_initiator = (at + kind_at + count_at) % 2 == 0;
                let name = format!("{count} blocks of {kind:?} to {release}, {is_initiator}");
                let mut node = start(release);
                let core = core_of(kind);
                append(
                    &core,
                    kind,
                    &blocks(core.length()..core.length() + count, 20),
                );
                node.ask("open", json!({ "key": hex(core.key()) })).await;
                let _link = Link::with(&mut node, &[&core], is_initiator).await;
                if core.length() > 0 {
                    node.ask("update", json!({})).await;
                }
                let end = core.length();
                node.ask("download", json!({ "end": end })).await;
                assert_same(&core, &mut node, &name).await;
            }
        }
    }
}

#[tokio::test]
async fn a_thousand_blocks_go_both_ways() {
    for release in RELEASES {
        for is_initiator in [true, false] {
            let name = format!("{release}, {is_initiator}");
            let mut node = start(release);
            let theirs = reader(node_core(&mut node, Kind::Default).await);
            node_append(&mut node, Kind::Default, 1000, 100).await;
            let ours = core_of(Kind::Default);
            ours.append(&blocks(0..1000, 33)).expect("it is writable");

            let _link = Link::with(&mut node, &[&theirs, &ours], is_initiator).await;
            soon(theirs.download(..1000)).await.expect("a store");
            assert_same(&theirs, &mut node, &name).await;

            let input = json!({ "core": "ours", "key": hex(ours.key()) });
            node.ask("open", input).await;
            node.ask("update", json!({ "core": "ours" })).await;
            node.ask("download", json!({ "core": "ours", "end": 1000 }))
                .await;
            let sha256 = node.ask("digest", json!({ "core": "ours" })).await;
            assert_eq!(sha256["sha256"], digest(&ours, 0..1000), "{name}");
        }
    }
}

#[tokio::test]
async fn blocks_of_every_size_go_both_ways() {
    const SIZES: [usize; 9] = [
        0,
        1,
        255,
        65_519,
        65_536,
        70_000,
        1 << 20,
        0,
        8 * 1024 * 1024,
    ];
    for (at, release) in RELEASES.into_iter().enumerate() {
        let mut node = start(release);
        let theirs = reader(node_core(&mut node, Kind::Default).await);
        let ours = core_of(Kind::Default);
        for (index, size) in SIZES.into_iter().enumerate() {
            node_append(&mut node, Kind::Default, 1, size).await;
            ours.append(&[block(index as u64, size)])
                .expect("it is writable");
        }
        let input = json!({ "core": "ours", "key": hex(ours.key()) });
        node.ask("open", input).await;
        let _link = Link::with(&mut node, &[&theirs, &ours], at == 0).await;
        soon(theirs.download(..SIZES.len() as u64))
            .await
            .expect("a store");
        assert_same(&theirs, &mut node, release).await;
        for (index, size) in SIZES.into_iter().enumerate() {
            let value = theirs.get_held(index as u64).expect("a store");
            assert_eq!(value.expect("a block"), block(index as u64, size));
        }
        node.ask("update", json!({ "core": "ours" })).await;
        node.ask("download", json!({ "core": "ours", "end": SIZES.len() }))
            .await;
        let sha256 = node.ask("digest", json!({ "core": "ours" })).await;
        assert_eq!(sha256["sha256"], digest(&ours, 0..SIZES.len() as u64));
    }
}

#[tokio::test]
async fn appends_and_a_truncation_are_followed() {
    for (at, release) in RELEASES.into_iter().enumerate() {
        for (is_initiator, kind) in [(at == 0, Kind::Default), (at != 0, Kind::Compat)] {
            let name = format!("{release}, {kind:?}");
            let mut node = start(release);
            let theirs = reader(node_core(&mut node, kind).await);
            let ours = core_of(Kind::Default);
            node.ask("open", json!({ "core": "ours", "key": hex(ours.key()) }))
                .await;
            node.ask("follow", json!({ "core": "ours" })).await;
            let _all = theirs.download_all();
            let mut events = theirs.events();
            let _link = Link::with(&mut node, &[&theirs, &ours], is_initiator).await;

            for length in [1u64, 2, 9, 40] {
                node_append(&mut node, kind, length - theirs.length(), 10).await;
                soon(theirs.has_length(length)).await.expect("a store");
                soon(theirs.download(..length)).await.expect("a store");
                append(&ours, Kind::Default, &blocks(ours.length()..length, 10));
                node.ask("whole", json!({ "core": "ours", "length": length }))
                    .await;
            }
            assert_same(&theirs, &mut node, &name).await;

            node.ask("truncate", json!({ "length": 21 })).await;
            node.ask("append", json!({ "from": 100, "count": 5, "size": 3 }))
                .await;
            let truncated = event(&mut events, |event| match event {
                ReplicatorEvent::Truncated(truncated) => Some(*truncated),
                _ => None,
            })
            .await;
            assert_eq!((truncated.fork, truncated.from), (1, 40), "{name}");
            assert!(truncated.ancestors <= 21, "{name}: {truncated:?}");
            soon(theirs.has_length(26)).await.expect("a store");
            soon(theirs.download(..26)).await.expect("a store");
            assert_eq!(
                theirs.get_held(21).expect("a store").expect("a block"),
                block(100, 3)
            );
            assert_same(&theirs, &mut node, &name).await;

            ours.truncate(7, None).expect("it is writable");
            ours.append(&blocks(200..203, 4)).expect("it is writable");
            node.ask("whole", json!({ "core": "ours", "length": 10, "fork": 1 }))
                .await;
            let sha256 = node.ask("digest", json!({ "core": "ours" })).await;
            assert_eq!(sha256["sha256"], digest(&ours, 0..10), "{name}");
        }
    }
}

#[tokio::test]
async fn single_blocks_and_bytes_are_found() {
    const COUNT: u64 = 300;
    for (at, release) in RELEASES.into_iter().enumerate() {
        let mut node = start(release);
        let theirs = reader(node_core(&mut node, Kind::Default).await);
        node_append(&mut node, Kind::Default, COUNT, 50).await;
        let ours = core_of(Kind::Default);
        ours.append(&blocks(0..COUNT, 50)).expect("it is writable");
        node.ask("open", json!({ "core": "ours", "key": hex(ours.key()) }))
            .await;
        let _link = Link::with(&mut node, &[&theirs, &ours], at == 0).await;
        // Not in order, and several at a time.
        let order = (0..20).map(|at| (at * 137 + 29) % COUNT);
        let gets: Vec<_> = order
            .clone()
            .map(|index| (index, theirs.get(index)))
            .collect();
        for (index, get) in gets {
            let value = soon(get).await.expect("a store");
            assert_eq!(value, block(index, 50), "{release}");
        }
        assert_eq!(theirs.info().expect("a hash").held, 20, "{release}");
        for index in order {
            let input = json!({ "core": "ours", "index": index });
            let answer = node.ask("get", input).await;
            assert_eq!(answer["value"], hex(block(index, 50)), "{release}");
        }
        for bytes in [0, 1, 49, 50, 3210, 7777, 14_999, 15_000] {
            let found = soon(theirs.seek(bytes)).await.expect("a store");
            assert_eq!(found, (bytes / 50, bytes % 50), "{release}");
            let input = json!({ "core": "ours", "bytes": bytes });
            let answer = node.ask("seek", input).await;
            assert_eq!(answer["index"], bytes / 50, "{release}");
            assert_eq!(answer["offset"], bytes % 50, "{release}");
        }
        assert_eq!(theirs.info().expect("a hash").held, 20, "{release}");
    }
}

#[tokio::test]
async fn what_is_held_in_part_is_passed_on() {
    const HELD: [Range<u64>; 3] = [3..4, 100..140, 290..300];
    for (at, release) in RELEASES.into_iter().enumerate() {
        // Node holds a part of a core of ours, and hands it to another reader of ours.
        let ours = core_of(Kind::Default);
        ours.append(&blocks(0..300, 9)).expect("it is writable");
        let mut node = start(release);
        node.ask("open", json!({ "key": hex(ours.key()) })).await;
        let first = Link::with(&mut node, &[&ours], at == 0).await;
        node.ask("update", json!({})).await;
        for range in HELD {
            let input = json!({ "start": range.start, "end": range.end });
            node.ask("download", input).await;
        }
        drop(first);
        node.event("streamClosed").await;
        let other = reader(ours.key());
        let _second = Link::with(&mut node, &[&other], at != 0).await;
        for range in HELD {
            soon(other.download(range)).await.expect("a store");
        }
        let missing = other.get(50);
        assert_eq!(other.length(), 300);
        assert_eq!(other.info().expect("a hash").held, 51, "{release}");

        // And the other way round.
        let mut third = start(release);
        third.ask("open", json!({ "key": hex(ours.key()) })).await;
        let _third = Link::with(&mut third, &[&other], at == 0).await;
        third.ask("update", json!({})).await;
        for range in HELD {
            let input = json!({ "start": range.start, "end": range.end });
            third.ask("download", input).await;
            let input = json!({ "start": range.start, "end": range.end });
            let theirs = third.ask("digest", input).await;
            assert_eq!(theirs["sha256"], digest(&other, range), "{release}");
        }
        // Once somebody has it, whoever waits for it gets it.
        let (_one, _other) = link(&ours, &other).await;
        assert_eq!(soon(missing).await.expect("a store"), block(50, 9));
        let answer = third.ask("get", json!({ "index": 50 })).await;
        assert_eq!(answer["value"], hex(block(50, 9)), "{release}");
    }
}

#[tokio::test]
async fn a_mesh_of_two_and_two_fills_itself() {
    // A line with a loop: Node writes, Rust passes on to Node, which passes on to Rust, which has the writer, too.
    let mut writer = start(RELEASES[1]);
    let mut third = start(RELEASES[0]);
    // The older release reads cores of the newer ones.
    let key = node_core(&mut writer, Kind::Default).await;
    let (second, fourth) = (reader(key), reader(key));
    third.ask("open", json!({ "key": hex(key) })).await;
    let _links = [
        Link::with(&mut writer, &[&second], true).await,
        Link::with(&mut third, &[&second], false).await,
        Link::with(&mut third, &[&fourth], true).await,
        Link::with(&mut writer, &[&fourth], false).await,
    ];
    let _rust = link(&second, &fourth).await;
    let _all = [second.download_all(), fourth.download_all()];
    third.ask("follow", json!({})).await;
    let mut length = 0;
    for count in [1, 200, 37] {
        node_append(&mut writer, Kind::Default, count, 64).await;
        length += count;
        third.ask("whole", json!({ "length": length })).await;
        for core in [&second, &fourth] {
            soon(core.has_length(length)).await.expect("a store");
            soon(core.download(..length)).await.expect("a store");
        }
    }
    for core in [&second, &fourth] {
        assert_same(core, &mut writer, "the writer").await;
        assert_same(core, &mut third, "the other Node").await;
    }
}

const PARTS: [&str; 5] = ["block", "node", "upgradeNode", "signature", "manifest"];

/// What is wrong with a part, in Node's words.
fn code(part: &str) -> &'static str {
    match part {
        "block" | "node" => "INVALID_CHECKSUM",
        _ => "INVALID_SIGNATURE",
    }
}

#[tokio::test]
async fn what_node_spoils_is_refused() {
    for (at, release) in RELEASES.into_iter().enumerate() {
        for (part_at, part) in PARTS.into_iter().enumerate() {
            let name = format!("{part} from {release}");
            let mut node = start(release);
            // The manifest of a compat core is not sent.
            let core = reader(node_core(&mut node, Kind::TwoOfThree).await);
            node_append(&mut node, Kind::TwoOfThree, 5, 20).await;
            node.ask("tamper", json!({ "part": part })).await;
            let mut events = core.events();
            let _get = core.get(2);
            let link = Link::with(&mut node, &[&core], (at + part_at) % 2 == 0).await;
            let error = event(&mut events, |event| match event {
                ReplicatorEvent::Refused { error, .. } => Some(error.clone()),
                _ => None,
            })
            .await;
            assert_eq!(error.code(), code(part), "{name}: {error}");
            let wrong = error.to_string();
            let named = match part {
                "block" | "node" => wrong.starts_with("block: the hash of node"),
                "upgradeNode" | "signature" => wrong.starts_with("upgrade.signature: signer 0"),
                _ => matches!(error, ProofError::WrongManifest),
            };
            assert!(named, "{name}: {wrong}");
            match link.end().await {
                Err(SessionError::Peer {
                    error: PeerError::Proof(ended),
                    ..
                }) => assert_eq!(ended, error, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
            assert!(!core.with_core(|core| core.has(2)), "{name}");
        }
    }
}

/// Serves a core by hand, and spoils a part of every answer.
async fn serve_spoiled(socket: TcpStream, is_initiator: bool, core: Core, part: &str) {
    let mut protocol = ProtocolBuilder::new(is_initiator).connect(socket);
    protocol.open(*core.key()).await.expect("an open stream");
    let channel = loop {
        match protocol.next().await {
            Some(Ok(Event::Channel(channel))) => break channel,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    let sync = Sync {
        length: core.length(),
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        ..Sync::default()
    };
    let serve = async {
        channel.sync(sync).await?;
        channel.have(0, core.length()).await?;
        while let Some(message) = channel.recv().await {
            if let Message::Request(request) = message {
                let data = core.create_proof(&request).expect("a proof");
                channel.data(spoiled(data.expect("a block"), part)).await?;
            }
        }
        Ok::<(), hypercore_protocol::Error>(())
    };
    // It lasts until Node has seen enough.
    let _ = protocol.drive(serve).await;
}

fn spoiled(data: Data, part: &str) -> Data {
    let mut data = data;
    let flip = |bytes: &Buffer, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        Buffer::from(bytes)
    };
    let block = data.block.as_mut();
    let upgrade = data.upgrade.as_mut();
    match part {
        "block" => block
            .into_iter()
            .for_each(|it| it.value = flip(&it.value, 0)),
        "node" => {
            let nodes = block.and_then(|it| it.nodes.first_mut());
            nodes.into_iter().for_each(|it| it.hash[31] ^= 1);
        }
        "upgradeNode" => {
            let nodes = upgrade.and_then(|it| it.nodes.first_mut());
            nodes.into_iter().for_each(|it| it.hash[31] ^= 1);
        }
        "signature" => {
            let signature = upgrade.and_then(|it| it.signature.as_mut());
            signature.into_iter().for_each(|it| *it = flip(it, 40));
        }
        _ => {
            let manifest = data.manifest.as_mut();
            manifest
                .into_iter()
                .for_each(|it| it.signers[0].public_key[31] ^= 1);
        }
    }
    data
}

#[tokio::test]
async fn what_rust_spoils_is_refused_by_node() {
    for (at, release) in RELEASES.into_iter().enumerate() {
        for (part_at, part) in PARTS.into_iter().enumerate() {
            let name = format!("{part} to {release}");
            let mut node = start(release);
            let mut core = Core::open(Memory::new(), CoreOptions::writer(key_pair(1)))
                .expect("a core in memory");
            core.append(&blocks(0..5, 20)).expect("it is writable");
            node.ask("open", json!({ "key": hex(core.key()) })).await;
            let is_initiator = (at + part_at) % 2 == 0;
            let socket = connect(&mut node, is_initiator).await;
            let peer = tokio::spawn(async move {
                serve_spoiled(socket, is_initiator, core, part).await;
            });
            node.ask("want", json!({ "index": 2 })).await;
            let refused = node.event("verificationError").await;
            assert_eq!(refused["code"], code(part), "{name}: {refused}");
            let has = node.ask("has", json!({ "index": 2 })).await;
            assert_eq!(has["has"], false, "{name}");
            peer.abort();
        }
    }
}

#[tokio::test]
async fn two_histories_are_a_conflict() {
    for (at, release) in RELEASES.into_iter().enumerate() {
        // We know one by its tree, and Node serves another of the same key.
        let one = core_of(Kind::Default);
        one.append(&blocks(0..4, 20)).expect("it is writable");
        let core = reader(one.key());
        let first = link(&core, &one).await;
        soon(core.has_length(4)).await.expect("a store");
        drop(first);

        let mut node = start(release);
        let made = node
            .ask("open", json!({ "seed": 1, "compat": false }))
            .await;
        assert_eq!(key(&made), one.key());
        node_append(&mut node, Kind::Default, 3, 21).await;
        node_append(&mut node, Kind::Default, 1, 21).await;
        let mut events = core.events();
        let get = core.get(0);
        let link_to_node = Link::with(&mut node, &[&core], at == 0).await;
        let conflict = event(&mut events, |event| match event {
            ReplicatorEvent::Conflict(conflict) => Some(conflict.clone()),
            _ => None,
        })
        .await;
        assert_eq!((conflict.length, conflict.fork), (4, 0), "{release}");
        assert!(matches!(soon(get).await, Err(CoreError::Frozen)));
        let ended = link_to_node.end().await;
        let is_conflict = matches!(
            &ended,
            Err(SessionError::Peer {
                error: PeerError::Conflict,
                ..
            })
        );
        assert!(is_conflict, "{release}: {ended:?}");
        // Node was shown our proof.
        let theirs = node.event("conflict").await;
        assert_eq!(theirs["length"], 4, "{release}");
    }
}

#[tokio::test]
async fn two_that_send_to_each_other_do_not_wait_for_one_another() {
    // More than all buffers on the way hold, in both directions at once and on two channels.
    const COUNT: u64 = 64;
    const SIZE: usize = 1 << 20;
    let cores: [Replicator; 2] = [5, 6].map(|seed| writer(CoreOptions::writer(key_pair(seed))));
    for core in &cores {
        core.append(&vec![vec![1; SIZE]; COUNT as usize])
            .expect("it is writable");
    }
    let copies = [reader(cores[0].key()), reader(cores[1].key())];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let dialled = TcpStream::connect(address).await.expect("a connection");
    let (accepted, _) = listener.accept().await.expect("a connection");
    let _links = [
        Link::over(dialled, &[&cores[0], &copies[1]], true).await,
        Link::over(accepted, &[&copies[0], &cores[1]], false).await,
    ];
    let all = futures::future::join_all(copies.iter().map(|copy| copy.download(..COUNT)));
    for downloaded in soon(all).await {
        downloaded.expect("a store");
    }
}

#[tokio::test]
async fn many_cores_share_a_stream_and_a_bad_one_ends_alone() {
    for release in RELEASES {
        let mut node = start(release);
        let mut cores = Vec::new();
        for seed in 10..30 {
            let name = format!("core {seed}");
            let input = json!({ "core": name, "seed": seed });
            let core = reader(key(&node.ask("open", input).await));
            let input = json!({ "core": name, "count": seed, "size": 10 });
            node.ask("append", input).await;
            cores.push((name, u64::from(seed as u8), core));
        }
        // One that Node does not have, and one that it spoils.
        let unknown = reader(core_of(Kind::Default).key());
        let input = json!({ "core": "core 20", "part": "block" });
        node.ask("tamper", input).await;
        let socket = connect(&mut node, true).await;
        let mut session = Session::new(ProtocolBuilder::new(true).connect(socket));
        for (_, _, core) in &cores {
            session.add(core).await.expect("an open stream");
        }
        session.add(&unknown).await.expect("an open stream");
        // Once Node has refused it, it is known that there is nothing to be had.
        let updated = soon(session.drive(unknown.update())).await;
        assert!(!updated.expect("a stream").expect("a store"), "{release}");
        let all = cores.iter().map(|(_, count, core)| core.download(..*count));
        let all = futures::future::join_all(all.collect::<Vec<_>>());
        let mut all = std::pin::pin!(all);
        match soon(session.drive(all.as_mut())).await {
            Err(SessionError::Peer { discovery_key, .. }) => {
                assert_eq!(discovery_key, cores[10].2.discovery_key(), "{release}");
            }
            other => panic!("{release}: {other:?}"),
        }
        let others = cores.iter().filter(|(name, ..)| name != "core 20");
        for (name, count, core) in others {
            let downloaded = soon(session.drive(core.download(..*count))).await;
            downloaded.expect("the stream goes on").expect("a store");
            let theirs = node.ask("digest", json!({ "core": name })).await;
            assert_eq!(theirs["sha256"], digest(core, 0..*count), "{release}");
        }
        assert_eq!(cores[10].2.info().expect("a hash").held, 0, "{release}");
        soon(session.close()).await.expect("an end");
    }
}

#[tokio::test]
async fn what_waits_ends_with_the_stream() {
    let core = core_of(Kind::Default);
    let copy = reader(core.key());
    let mut node = start(RELEASES[1]);
    let socket = connect(&mut node, true).await;
    let mut session = Session::new(ProtocolBuilder::new(true).connect(socket));
    session.add(&copy).await.expect("an open stream");
    // Node has refused it, so it has the stream.
    let updated = soon(session.drive(copy.update())).await;
    assert!(!updated.expect("a stream").expect("a store"));
    node.ask("disconnect", json!({})).await;
    // Not for ever, even if nobody has the block.
    let ended = soon(session.drive(copy.get(0))).await;
    assert!(ended.is_err(), "{ended:?}");
}
