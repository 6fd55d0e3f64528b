//! Live tests against Node's own packages, for those who have only the crate's tests.
//!
//! `cargo test --features js_interop_tests` starts Node peers from `examples-nodejs/` beside the crate; npm installs
//! their packages the first time. Every test runs with hypercore 10.38.2 and 11.37.1, and with each side as initiator,
//! over TCP. The conformance suite's scenarios go further; these suffice to detect that a change broke the wire.
#![cfg(feature = "js_interop_tests")]

mod node;

use hypercore_protocol::runtime::Tokio;
use hypercore_protocol::schema::{
    Cancel, Data, DataBlock, Extension, Range, Request, RequestBlock, Sync,
};
use hypercore_protocol::{
    Channel, CloseReason, DiscoveryKey, Error, ErrorClass, Event, Key, KeyPair, Layer, Message,
    Protocol, ProtocolBuilder, discovery_key,
};
use node::messages::{messages, shows};
use node::{Node, hex, soon};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const RELEASES: [&str; 2] = ["10.38.2", "11.37.1"];
const KEY: Key = Key::new([7; 32]);

/// This crate and a Node peer, connected.
struct Pair {
    protocol: Protocol<Tokio<TcpStream>>,
    node: Node,
    /// A description of the pair, for failed assertions.
    name: String,
}

impl Pair {
    async fn connect(release: &str, is_initiator: bool) -> Self {
        let mut node = Node::adapter(release);
        let options = json!({ "keyPairSeed": hex([2; 32]), "keepAlive": 0 });
        let socket = if is_initiator {
            let port = node.ask("peer.listen", options).await["port"].as_u64();
            let port = u16::try_from(port.expect("a port")).expect("a port");
            TcpStream::connect(("127.0.0.1", port)).await
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
            let port = listener.local_addr().expect("an address").port();
            let mut options = options;
            options["port"] = port.into();
            node.ask("peer.dial", options).await;
            listener.accept().await.map(|(socket, _)| socket)
        };
        let mut protocol = ProtocolBuilder::new(is_initiator)
            .seed([1; 32])
            .keep_alive(None)
            .connect(socket.expect("a connection"));
        match soon(protocol.next()).await {
            Some(Ok(Event::Handshake(_))) => {}
            other => panic!("no handshake: {other:?}"),
        }
        let role = if is_initiator {
            "initiator"
        } else {
            "responder"
        };
        Self {
            protocol,
            node,
            name: format!("as {role} with Node {release}"),
        }
    }

    async fn event(&mut self) -> Event {
        match soon(self.protocol.next()).await {
            Some(Ok(event)) => event,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    /// Sends a request to Node while the protocol runs.
    async fn ask(&mut self, op: &str, input: Value) -> Value {
        soon(self.protocol.drive(self.node.ask(op, input))).await
    }

    /// Waits for an event of Node while the protocol runs.
    async fn node_event(&mut self, kind: &str) -> Value {
        soon(self.protocol.drive(self.node.peer_event(kind))).await
    }

    async fn opened(&mut self) -> Channel {
        loop {
            match self.event().await {
                Event::Channel(channel) => return channel,
                Event::DiscoveryKey(_) => {}
                other => panic!("{}: {other:?}", self.name),
            }
        }
    }

    /// Opens a core at both sides; returns our channel and Node's handle of it.
    async fn open(&mut self, key: Key) -> (Channel, Value) {
        self.protocol.open(key).expect("an open channel");
        let answer = self.ask("peer.open", json!({ "key": hex(key) })).await;
        let channel = self.opened().await;
        self.node_event("open").await;
        (channel, answer["channel"].clone())
    }

    async fn recv(&mut self, channel: &Channel) -> Message {
        soon(self.protocol.drive(channel.recv()))
            .await
            .unwrap_or_else(|| panic!("{}: the channel is closed", self.name))
    }

    async fn send(&mut self, channel: &Channel, message: impl Into<Message>) {
        let sent = soon(self.protocol.drive(channel.send(message))).await;
        sent.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }
}

/// Runs a test with both releases and in both roles.
async fn with_each_peer(test: impl AsyncFn(Pair)) {
    for release in RELEASES {
        for is_initiator in [true, false] {
            test(Pair::connect(release, is_initiator).await).await;
        }
    }
}

#[tokio::test]
async fn both_sides_agree_on_keys_and_handshake_hash() {
    with_each_peer(async |mut pair| {
        let node = pair.node_event("handshake").await;
        let protocol = &pair.protocol;
        let node_key = *KeyPair::from_seed(&[2; 32]).public_key();
        assert_eq!(protocol.remote_public_key(), Some(node_key));
        assert_eq!(node["publicKey"], hex(node_key));
        assert_eq!(node["remotePublicKey"], hex(protocol.public_key()));
        let hash = protocol.handshake_hash().map(hex);
        assert_eq!(node["handshakeHash"].as_str(), hash.as_deref());
    })
    .await;
}

#[tokio::test]
async fn every_message_passes_both_ways() {
    with_each_peer(async |mut pair| {
        let (channel, handle) = pair.open(KEY).await;
        for (message, expected) in messages() {
            let kind = message.message_type().name();
            pair.send(&channel, message.clone()).await;
            let event = pair.node_event("message").await;
            assert_eq!(event["name"], kind, "{}", pair.name);
            assert!(
                shows(&event["value"], &expected),
                "{}: {kind} {}",
                pair.name,
                event["value"]
            );
            let input = json!({ "channel": handle, "message": kind, "value": event["value"] });
            pair.ask("peer.send", input).await;
            assert_eq!(pair.recv(&channel).await, message, "{}", pair.name);
        }
    })
    .await;
}

#[tokio::test]
async fn batches_and_large_blocks_pass() {
    with_each_peer(async |mut pair| {
        let (channel, _) = pair.open(KEY).await;
        let batch: Vec<Message> = (0..100).map(|request| Cancel { request }.into()).collect();
        let sent = soon(pair.protocol.drive(channel.send_batch(&batch))).await;
        sent.expect("a batch");
        for request in 0..100 {
            let event = pair.node_event("message").await;
            assert_eq!(
                event["value"],
                json!({ "request": request }),
                "{}",
                pair.name
            );
        }
        for length in [65_535, 65_536, 1 << 20] {
            let block = DataBlock {
                index: 0,
                value: vec![0xa5; length].into(),
                nodes: Vec::new(),
            };
            pair.send(
                &channel,
                Data {
                    request: 1,
                    block: Some(block),
                    ..Data::default()
                },
            )
            .await;
            let event = pair.node_event("message").await;
            let value = event["value"]["block"]["value"].as_str().map(str::len);
            assert_eq!(value, Some(2 * length), "{}", pair.name);
        }
    })
    .await;
}

#[tokio::test]
async fn extensions_keep_their_names() {
    with_each_peer(async |mut pair| {
        let (channel, handle) = pair.open(KEY).await;
        for (name, byte) in [("one", 1), ("one", 2), ("two", 3), ("one", 4)] {
            let message = vec![byte];
            let sent = channel.extension(name, message.clone());
            soon(pair.protocol.drive(sent)).await.expect("an extension");
            let event = pair.node_event("extension").await;
            assert_eq!(event["name"], name, "{}", pair.name);
            assert_eq!(event["message"], hex(&message), "{}", pair.name);
            let input = json!({ "channel": handle, "name": name, "message": hex(&message) });
            pair.ask("peer.extension", input).await;
            let expected = Extension {
                name: name.into(),
                message: message.into(),
            };
            assert_eq!(pair.recv(&channel).await, expected.into(), "{}", pair.name);
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_cores_are_announced_and_can_be_opened_or_rejected() {
    with_each_peer(async |mut pair| {
        let unknown: DiscoveryKey = discovery_key(&KEY);
        pair.ask("peer.open", json!({ "key": hex(KEY) })).await;
        match pair.event().await {
            Event::DiscoveryKey(announced) => assert_eq!(announced, unknown),
            other => panic!("{}: {other:?}", pair.name),
        }
        pair.protocol.reject(&unknown);
        assert_eq!(pair.node_event("close").await["by"], "rejected");

        pair.ask("peer.open", json!({ "key": hex(KEY) })).await;
        assert!(matches!(pair.event().await, Event::DiscoveryKey(_)));
        pair.protocol.open(KEY).expect("an open channel");
        pair.opened().await;
        assert_eq!(pair.node_event("open").await["seeks"], true);

        let other = [8; 32];
        let ours = pair.protocol.open(other).expect("an open channel");
        let announced = pair.node_event("discoveryKey").await;
        assert_eq!(
            announced["discoveryKey"],
            hex(discovery_key(&Key::new(other)))
        );
        let input = json!({ "discoveryKey": announced["discoveryKey"] });
        pair.ask("peer.reject", input).await;
        loop {
            match pair.event().await {
                // The first channel was dropped with its handle.
                Event::Close { channel, .. } if channel != ours => {}
                Event::Close { reason, .. } => {
                    assert_eq!(reason, CloseReason::Rejected, "{}", pair.name);
                    break;
                }
                other => panic!("{}: {other:?}", pair.name),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn either_side_closes_a_channel() {
    with_each_peer(async |mut pair| {
        let (channel, _) = pair.open(KEY).await;
        channel.close();
        assert_eq!(pair.node_event("close").await["by"], "remote");
        let closed = soon(pair.protocol.drive(channel.closed())).await;
        assert_eq!(closed, CloseReason::Local, "{}", pair.name);
        drop(channel);

        assert!(matches!(pair.event().await, Event::Close { .. }));
        let (channel, handle) = pair.open(KEY).await;
        pair.ask("peer.closeChannel", json!({ "channel": handle }))
            .await;
        let closed = soon(pair.protocol.drive(channel.closed())).await;
        assert_eq!(closed, CloseReason::Remote, "{}", pair.name);
    })
    .await;
}

#[tokio::test]
async fn a_block_is_read_from_a_node_core() {
    with_each_peer(async |mut pair| {
        let blocks = json!([hex("first"), hex("second"), hex("third")]);
        let core = json!({
            "keySeed": hex([5; 32]), "key": null, "blocks": blocks, "compat": false, "extensions": [],
        });
        let core = pair.ask("peer.core", core).await;
        let key = core["key"].as_str().expect("a key");
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(key.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("hex");
            *byte = u8::from_str_radix(digits, 16).expect("hex");
        }
        pair.protocol.open(bytes).expect("an open channel");
        let channel = pair.opened().await;
        // A core closes the channel to a peer that wants nothing.
        pair.send(
            &channel,
            Sync {
                downloading: true,
                ..Sync::default()
            },
        )
        .await;
        match pair.recv(&channel).await {
            Message::Sync(sync) => assert_eq!((sync.fork, sync.length), (0, 3)),
            other => panic!("{}: {other:?}", pair.name),
        }
        assert_eq!(
            pair.recv(&channel).await,
            Range {
                drop: false,
                start: 0,
                length: 3
            }
            .into(),
            "{}",
            pair.name
        );
        pair.send(
            &channel,
            Request {
                id: 1,
                block: Some(RequestBlock { index: 1, nodes: 0 }),
                ..Request::default()
            },
        )
        .await;
        let answer = loop {
            match pair.recv(&channel).await {
                // Node may repeat its own state.
                Message::Sync(_) | Message::Range(_) => {}
                answer => break answer,
            }
        };
        match answer {
            Message::Data(data) => {
                let block = data.block.expect("a block");
                assert_eq!((data.request, block.index), (1, 1));
                assert_eq!(&block.value[..], b"second", "{}", pair.name);
            }
            other => panic!("{}: {other:?}", pair.name),
        }
    })
    .await;
}

#[tokio::test]
async fn ends_are_clean_and_a_reset_is_not() {
    with_each_peer(async |mut pair| {
        let (channel, _) = pair.open(KEY).await;
        for request in 0..50 {
            pair.send(&channel, Cancel { request }).await;
        }
        let Pair {
            protocol,
            mut node,
            name,
        } = pair;
        let (closed, ()) = tokio::join!(soon(protocol.close()), async {
            for request in 0..50 {
                let event = soon(node.peer_event("message")).await;
                assert_eq!(event["value"], json!({ "request": request }), "{name}");
            }
            soon(node.peer_event("end")).await;
        });
        closed.unwrap_or_else(|error| panic!("{name}: {error}"));
    })
    .await;
    with_each_peer(async |mut pair| {
        let (_channel, _) = pair.open(KEY).await;
        pair.ask("peer.end", json!({})).await;
        assert!(matches!(pair.event().await, Event::End(_)), "{}", pair.name);
        assert!(matches!(pair.event().await, Event::Close { .. }));
        assert!(soon(pair.protocol.next()).await.is_none());
    })
    .await;
    with_each_peer(async |mut pair| {
        let (_channel, _) = pair.open(KEY).await;
        pair.node.ask("peer.reset", json!({})).await;
        let error = soon(pair.protocol.next()).await.expect("an error");
        assert!(
            matches!(
                error,
                Err(Error::Io {
                    kind: std::io::ErrorKind::ConnectionReset,
                    ..
                })
            ),
            "{}: {error:?}",
            pair.name
        );
    })
    .await;
}

#[tokio::test]
async fn what_node_may_not_send_is_a_typed_error() {
    with_each_peer(async |mut pair| {
        let (_channel, _) = pair.open(KEY).await;
        // A reject of an open channel.
        let reject = json!({ "bytes": "000201" });
        pair.node.ask("peer.plaintext", reject).await;
        match soon(pair.protocol.next()).await {
            Some(Err(error)) => assert_eq!(
                (error.layer(), error.class()),
                (Layer::Mux, ErrorClass::InvalidReject),
                "{}",
                pair.name
            ),
            other => panic!("{}: {other:?}", pair.name),
        }
    })
    .await;
}
