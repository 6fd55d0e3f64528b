//! The carriers of a protocol, against Node: a Noise handshake of every pattern that Node's secret stream supports, a
//! handshake that took place elsewhere, and a carrier with its own encryption.
//!
//! Behind each there is a real hypercore, `examples-nodejs/interop/transport.js`, whose blocks are read.
#![cfg(feature = "js_interop_tests")]

mod node;

use std::time::Duration;

use hypercore_protocol::noise::{Handshake, HandshakeConfig, HandshakeResult};
use hypercore_protocol::schema::{Request, RequestBlock, Sync};
use hypercore_protocol::{
    Channel, ErrorClass, Event, Key, KeyPair, Layer, Message, Pattern, ProtocolBuilder,
};
use node::{Node, hex, soon, unhex};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const RELEASES: [&str; 2] = ["10.38.2", "11.37.1"];
const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];
const BLOCKS: [&str; 3] = ["first", "second", "third"];

fn ours() -> KeyPair {
    KeyPair::from_seed(&OURS)
}

fn theirs() -> KeyPair {
    KeyPair::from_seed(&THEIRS)
}

/// A Node peer that waits for us to dial.
struct Peer {
    node: Node,
    /// Its first output, when it began to listen.
    listening: Value,
}

impl Peer {
    async fn start(options: Value) -> Self {
        let mut node = Node::start("interop/transport.js", &options);
        let listening = node.event("listening").await;
        Self { node, listening }
    }

    async fn dial(&self) -> TcpStream {
        let port = self.listening["port"].as_u64().expect("a port") as u16;
        TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("a connection")
    }

    fn key(&self) -> Key {
        unhex(&self.listening["key"]).try_into().expect("a key")
    }

    /// Reads every block of Node's core, and compares both sides' knowledge of each other.
    async fn replicate(&mut self, builder: ProtocolBuilder, name: &str) {
        let mut protocol = builder.connect(self.dial().await);
        protocol.open(self.key()).expect("an open channel");
        let channel = loop {
            match soon(protocol.next()).await {
                Some(Ok(Event::Channel(channel))) => break channel,
                Some(Ok(Event::Handshake(_) | Event::DiscoveryKey(_))) => {}
                other => panic!("{name}: {other:?}"),
            }
        };
        let blocks = soon(protocol.drive(read(channel))).await;
        assert_eq!(
            blocks,
            BLOCKS.map(|block| block.as_bytes().to_vec()),
            "{name}"
        );

        let open = self.node.event("open").await;
        let hash = protocol.handshake_hash().map(hex);
        assert_eq!(open["hash"].as_str(), hash.as_deref(), "{name}");
        let remote = protocol.remote_public_key().map(hex);
        if let Some(public_key) = open["publicKey"].as_str() {
            assert_eq!(
                remote.as_deref().unwrap_or(public_key),
                public_key,
                "{name}"
            );
        }
        soon(protocol.close()).await.expect("a clean end");
        self.node.event("close").await;
    }
}

/// Requests each block, and with the first the proof of the length.
async fn read(channel: Channel) -> Vec<Vec<u8>> {
    let sync = Sync {
        downloading: true,
        ..Sync::default()
    };
    channel.sync(sync).await.expect("a sync");
    let mut blocks = Vec::new();
    for index in 0..BLOCKS.len() as u64 {
        let request = Request {
            id: index + 1,
            block: Some(RequestBlock { index, nodes: 0 }),
            ..Request::default()
        };
        channel.request(request).await.expect("a request");
        let data = loop {
            match channel.recv().await.expect("an open channel") {
                Message::Data(data) => break data,
                Message::NoData(no_data) => panic!("{no_data:?}"),
                _ => {}
            }
        };
        assert_eq!(data.request, index + 1);
        blocks.push(data.block.expect("a block").value.to_vec());
    }
    blocks
}

/// Each release, and each side as initiator: the argument says whether we are.
async fn with_each_peer(test: impl AsyncFn(&str, bool)) {
    for release in RELEASES {
        for is_initiator in [true, false] {
            test(release, is_initiator).await;
        }
    }
}

/// The patterns of Node's secret stream: it passes no pre-shared key on, and fails with NN, because it reads the
/// remote's static key at the end (@hyperswarm/secret-stream 6.9.2, lib/handshake.js, `_return`).
const NODE_PATTERNS: [Pattern; 3] = [Pattern::XX, Pattern::IK, Pattern::XK];

#[tokio::test]
async fn a_core_is_read_with_every_pattern_of_nodes_streams() {
    with_each_peer(async |release, is_initiator| {
        for pattern in NODE_PATTERNS {
            let name = format!("{pattern}, initiator {is_initiator}, Node {release}");
            let mut peer = Peer::start(json!({
                "mode": "noise", "release": release, "isInitiator": !is_initiator,
                "pattern": pattern.name(), "seed": hex(THEIRS),
                "remotePublicKey": hex(ours().public_key()),
            }))
            .await;
            let builder = ProtocolBuilder::new(is_initiator)
                .key_pair(ours())
                .pattern(pattern)
                .remote_public_key(*theirs().public_key());
            peer.replicate(builder, &name).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_remote_with_another_key_than_the_pinned_one_is_refused() {
    for is_initiator in [true, false] {
        for pattern in NODE_PATTERNS {
            let name = format!("{pattern}, initiator {is_initiator}");
            let mut peer = Peer::start(json!({
                "mode": "noise", "isInitiator": !is_initiator, "pattern": pattern.name(),
                "seed": hex(THEIRS), "remotePublicKey": hex(ours().public_key()),
            }))
            .await;
            let other = *KeyPair::from_seed(&[3; 32]).public_key();
            let mut protocol = ProtocolBuilder::new(is_initiator)
                .key_pair(ours())
                .pattern(pattern)
                .remote_public_key(other)
                .connect(peer.dial().await);
            let knows_it_already = is_initiator && pattern.needs_remote_public_key();
            let first = soon(protocol.next()).await.expect("an event");
            if knows_it_already {
                // Node cannot decrypt a message for another key, and destroys the stream.
                assert!(
                    !matches!(first, Ok(Event::Handshake(_))),
                    "{name}: {first:?}"
                );
                let event = peer.node.event("error").await;
                assert_eq!(event["message"], "Noise handshake failed", "{name}");
            } else {
                let error = first.expect_err(&name);
                assert_eq!(
                    (error.layer(), error.class()),
                    (Layer::Noise, ErrorClass::HandshakeFailed),
                    "{name}"
                );
                let text = error.to_string();
                assert!(text.contains("another public key than expected"), "{text}");
                drop(protocol);
                peer.node.event("close").await;
            }
        }
    }
}

/// A handshake with noise-handshake, over the peer's stdin and stdout.
async fn shake_hands(
    node: &mut Node,
    pattern: Pattern,
    is_initiator: bool,
    psk: Option<[u8; 32]>,
) -> HandshakeResult {
    let needs_key = is_initiator && pattern.needs_remote_public_key();
    let mut config = HandshakeConfig::new(pattern, is_initiator);
    config.key_pair = Some(ours());
    config.remote_public_key = needs_key.then(|| *theirs().public_key());
    config.psk = psk.map(Into::into);
    let mut handshake = Handshake::new(config).expect("a handshake");
    while handshake.result().is_none() {
        if handshake.is_our_turn() {
            let mut message = Vec::new();
            handshake.write(&[], &mut message).expect("a message");
            node.write_line(&hex(message)).await;
        } else {
            let message = unhex(&node.event("noise").await["message"]);
            handshake.read(&message).expect("Node's message");
        }
    }
    handshake.result().expect("complete").clone()
}

#[tokio::test]
async fn a_core_is_read_after_a_handshake_that_took_place_elsewhere() {
    with_each_peer(async |release, is_initiator| {
        for pattern in Pattern::ALL {
            let name = format!("{pattern}, initiator {is_initiator}, Node {release}");
            let psk = pattern.needs_psk().then_some([9; 32]);
            let needs_key = !is_initiator && pattern.needs_remote_public_key();
            let mut node = Node::start(
                "interop/transport.js",
                &json!({
                    "mode": "handshake", "release": release, "isInitiator": !is_initiator,
                    "pattern": pattern.name(), "seed": hex(THEIRS), "psk": psk.map(hex),
                    "remotePublicKey": needs_key.then(|| hex(ours().public_key())),
                }),
            );
            let result = shake_hands(&mut node, pattern, is_initiator, psk).await;
            let listening = node.event("listening").await;
            assert_eq!(listening["handshake"]["hash"], hex(result.hash), "{name}");
            let mut builder = ProtocolBuilder::new(is_initiator)
                .handshake_done(*ours().public_key(), result.clone());
            if pattern.has_static_keys() {
                assert_eq!(
                    result.remote_public_key,
                    Some(*theirs().public_key()),
                    "{name}"
                );
                builder = builder.remote_public_key(*theirs().public_key());
            }
            Peer { node, listening }.replicate(builder, &name).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_elsewhere_with_the_wrong_remote_is_refused() {
    let (socket, _other) = tokio::io::duplex(100);
    let result = HandshakeResult {
        tx: [1; 32],
        rx: [2; 32],
        hash: [3; 64],
        remote_public_key: Some(*theirs().public_key()),
    };
    let mut protocol = ProtocolBuilder::new(true)
        .handshake_done(*ours().public_key(), result)
        .remote_public_key([7; 32])
        .connect(socket);
    let error = soon(protocol.next()).await.expect("an event").unwrap_err();
    assert_eq!(
        (error.layer(), error.class()),
        (Layer::Noise, ErrorClass::HandshakeFailed)
    );
}

#[tokio::test]
async fn a_core_is_read_over_frames_without_encryption() {
    with_each_peer(async |release, is_initiator| {
        let name = format!("unencrypted, initiator {is_initiator}, Node {release}");
        let mut peer = Peer::start(json!({
            "mode": "unencrypted", "release": release, "isInitiator": !is_initiator,
            "handshakeHash": hex([5; 64]),
        }))
        .await;
        let builder = ProtocolBuilder::new(is_initiator)
            .unencrypted([5; 64])
            // Often enough that Node's protomux gets some.
            .keep_alive(Some(Duration::from_millis(1)));
        peer.replicate(builder, &name).await;
    })
    .await;
}

#[tokio::test]
async fn without_encryption_too_the_key_must_be_proved_on_this_very_connection() {
    let mut peer = Peer::start(json!({
        "mode": "unencrypted", "isInitiator": false, "handshakeHash": hex([5; 64]),
    }))
    .await;
    let mut protocol = ProtocolBuilder::new(true)
        .unencrypted([6; 64])
        .connect(peer.dial().await);
    protocol.open(peer.key()).expect("an open channel");
    let error = loop {
        match soon(protocol.next()).await {
            Some(Ok(Event::Handshake(_) | Event::DiscoveryKey(_))) => {}
            Some(Err(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (error.layer(), error.class()),
        (Layer::Channel, ErrorClass::InvalidCapability)
    );
    drop(protocol);
    peer.node.event("close").await;
}
