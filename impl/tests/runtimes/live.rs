//! Tests with Node peers: hypercore 10.38.2 and 11.37.1, and each side as initiator.

use std::time::{Duration, Instant};

use hypercore_protocol::schema::{Cancel, Extension};
use hypercore_protocol::{
    Channel, CloseReason, Error, Event, Key, KeyPair, Message, Protocol, ProtocolBuilder,
    discovery_key,
};
use serde_json::{Value, json};

use crate::drops::send_with_drops;
use crate::node::messages::{messages, shows};
use crate::node::{Node, hex, soon};
use crate::rt::Runtime;

const RELEASES: [&str; 2] = ["10.38.2", "11.37.1"];
const KEY: Key = Key::new([7; 32]);

/// This crate and a Node peer, connected.
struct Pair<R: Runtime> {
    protocol: Protocol<R::Io>,
    node: Node,
    /// A description of the pair, for failed assertions.
    name: String,
}

fn builder(is_initiator: bool) -> ProtocolBuilder {
    ProtocolBuilder::new(is_initiator)
        .seed([1; 32])
        .keep_alive(None)
}

impl<R: Runtime> Pair<R> {
    async fn connect(release: &str, builder: ProtocolBuilder, is_initiator: bool) -> Self {
        let mut node = Node::adapter(release);
        let mut options = json!({ "keyPairSeed": hex([2; 32]), "keepAlive": 200 });
        let socket = if is_initiator {
            let port = node.ask("peer.listen", options).await["port"].as_u64();
            R::dial(port.expect("a port") as u16).await
        } else {
            let (listener, port) = R::listen().await;
            options["port"] = port.into();
            node.ask("peer.dial", options).await;
            R::accept(&listener).await
        };
        let mut protocol = R::connect(builder, socket);
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

    /// Opens a core at both sides; returns our channel and Node's handle of it.
    async fn open(&mut self) -> (Channel, Value) {
        self.protocol.open(KEY).expect("an open channel");
        let answer = self.ask("peer.open", json!({ "key": hex(KEY) })).await;
        let channel = loop {
            match self.event().await {
                Event::Channel(channel) => break channel,
                Event::DiscoveryKey(_) => {}
                other => panic!("{}: {other:?}", self.name),
            }
        };
        self.node_event("open").await;
        (channel, answer["channel"].clone())
    }

    async fn recv(&mut self, channel: &Channel) -> Message {
        soon(self.protocol.drive(channel.recv()))
            .await
            .unwrap_or_else(|| panic!("{}: the channel is closed", self.name))
    }

    async fn send(&mut self, channel: &Channel, message: Message) {
        let sent = soon(self.protocol.drive(channel.send(message))).await;
        sent.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    async fn close_reason(&mut self, channel: &Channel) -> CloseReason {
        soon(self.protocol.drive(channel.closed())).await
    }
}

/// Runs a test with both releases and in both roles.
async fn with_each_peer<R: Runtime>(test: impl AsyncFn(Pair<R>)) {
    for release in RELEASES {
        for is_initiator in [true, false] {
            test(Pair::connect(release, builder(is_initiator), is_initiator).await).await;
        }
    }
}

pub(crate) async fn both_sides_agree_on_keys_and_handshake_hash<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
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

pub(crate) async fn every_message_passes_both_ways<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        let (channel, handle) = pair.open().await;
        for (message, expected) in messages() {
            let kind = message.message_type().name();
            pair.send(&channel, message.clone()).await;
            let event = pair.node_event("message").await;
            assert_eq!(event["name"], kind, "{}", pair.name);
            let value = &event["value"];
            assert!(shows(value, &expected), "{}: {kind} {value}", pair.name);
            let input = json!({ "channel": handle, "message": kind, "value": value });
            pair.ask("peer.send", input).await;
            assert_eq!(pair.recv(&channel).await, message, "{}", pair.name);
        }
    })
    .await;
}

pub(crate) async fn extensions_keep_their_names<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        let (channel, handle) = pair.open().await;
        for (name, byte) in [("one", 1), ("one", 2), ("two", 3), ("one", 4)] {
            let sent = channel.extension(name, vec![byte]);
            soon(pair.protocol.drive(sent)).await.expect("it is sent");
            let event = pair.node_event("extension").await;
            assert_eq!(event["name"], name, "{}", pair.name);
            assert_eq!(event["message"], hex([byte]), "{}", pair.name);
            let input = json!({ "channel": handle, "name": name, "message": hex([byte]) });
            pair.ask("peer.extension", input).await;
            let expected = Extension {
                name: name.into(),
                message: vec![byte].into(),
            };
            assert_eq!(pair.recv(&channel).await, expected.into(), "{}", pair.name);
        }
    })
    .await;
}

pub(crate) async fn either_side_closes_a_channel<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        let (channel, _) = pair.open().await;
        channel.close();
        assert_eq!(pair.node_event("close").await["by"], "remote");
        assert_eq!(pair.close_reason(&channel).await, CloseReason::Local);
        assert!(matches!(pair.event().await, Event::Close { .. }));
        let (channel, handle) = pair.open().await;
        let input = json!({ "channel": handle });
        pair.ask("peer.closeChannel", input).await;
        assert_eq!(pair.close_reason(&channel).await, CloseReason::Remote);
    })
    .await;
}

pub(crate) async fn an_open_is_rejected_by_either_side<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        pair.ask("peer.open", json!({ "key": hex(KEY) })).await;
        match pair.event().await {
            Event::DiscoveryKey(announced) => {
                assert_eq!(announced, discovery_key(&KEY), "{}", pair.name);
                pair.protocol.reject(&announced);
            }
            other => panic!("{}: {other:?}", pair.name),
        }
        assert_eq!(pair.node_event("close").await["by"], "rejected");

        pair.protocol.open(KEY).expect("an open channel");
        let announced = pair.node_event("discoveryKey").await;
        let input = json!({ "discoveryKey": announced["discoveryKey"] });
        pair.ask("peer.reject", input).await;
        match pair.event().await {
            Event::Close { reason, .. } => {
                assert_eq!(reason, CloseReason::Rejected, "{}", pair.name);
            }
            other => panic!("{}: {other:?}", pair.name),
        }
    })
    .await;
}

pub(crate) async fn either_side_ends_the_stream<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        let (channel, _) = pair.open().await;
        for request in 0..50 {
            pair.send(&channel, Cancel { request }.into()).await;
        }
        let started = Instant::now();
        let closed = soon(pair.protocol.close()).await;
        closed.unwrap_or_else(|error| panic!("{}: {error}", pair.name));
        assert!(started.elapsed() < Duration::from_secs(9));
        for request in 0..50 {
            let event = pair.node.peer_event("message").await;
            assert_eq!(
                event["value"],
                json!({ "request": request }),
                "{}",
                pair.name
            );
        }
        pair.node.peer_event("end").await;
        assert_eq!(channel.close_reason(), Some(CloseReason::Stream));
    })
    .await;
    with_each_peer::<R>(async |mut pair| {
        let (channel, _) = pair.open().await;
        pair.ask("peer.end", json!({})).await;
        assert!(matches!(pair.event().await, Event::End(_)), "{}", pair.name);
        assert!(matches!(pair.event().await, Event::Close { .. }));
        assert!(soon(pair.protocol.next()).await.is_none());
        assert_eq!(channel.close_reason(), Some(CloseReason::Stream));
    })
    .await;
}

pub(crate) async fn a_reset_is_an_error<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        let (channel, _) = pair.open().await;
        pair.node.ask("peer.reset", json!({})).await;
        let error = soon(pair.protocol.next()).await;
        let is_reset = matches!(
            error,
            Some(Err(Error::Io {
                kind: std::io::ErrorKind::ConnectionReset,
                ..
            }))
        );
        assert!(is_reset, "{}: {error:?}", pair.name);
        assert_eq!(channel.close_reason(), Some(CloseReason::Stream));
    })
    .await;
}

pub(crate) async fn what_was_accepted_reaches_node_when_the_protocol_is_dropped<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        let (channel, _) = pair.open().await;
        for request in 0..20 {
            let sent = channel.send(Cancel { request }).await;
            sent.unwrap_or_else(|error| panic!("{}: {error}", pair.name));
        }
        let Pair {
            protocol,
            mut node,
            name,
        } = pair;
        drop(protocol);
        for request in 0..20 {
            let event = node.peer_event("message").await;
            assert_eq!(event["value"], json!({ "request": request }), "{name}");
        }
        node.peer_event("end").await;
    })
    .await;
}

/// Both sides send one every 200 ms.
pub(crate) async fn keep_alives_of_both_sides_keep_a_stream<R: Runtime>() {
    let limit = Duration::from_secs(2);
    for release in RELEASES {
        let builder = builder(true)
            .idle_timeout(Some(limit))
            .keep_alive(Some(limit / 10));
        let mut pair = Pair::<R>::connect(release, builder, true).await;
        let (channel, handle) = pair.open().await;
        let started = Instant::now();
        while started.elapsed() < limit + limit / 4 {
            // Node waits a while for an event, and there is none.
            let wait = json!({ "id": 0, "op": "peer.next", "input": { "timeoutMs": 500 } });
            pair.node.write_line(&wait.to_string()).await;
            pair.ask("hello", json!({})).await;
        }
        assert!(pair.protocol.ignored().mux.empty_records >= 5);
        let input = json!({ "channel": handle });
        pair.ask("peer.closeChannel", input).await;
        assert_eq!(pair.close_reason(&channel).await, CloseReason::Remote);
    }
}

pub(crate) async fn what_was_accepted_reaches_node_when_futures_are_dropped<R: Runtime>() {
    with_each_peer::<R>(async |mut pair| {
        let (channel, _) = pair.open().await;
        let accepted = send_with_drops(&mut pair.protocol, &channel, 1).await;
        assert!(!accepted.is_empty());
        drop(channel);
        let closed = soon(pair.protocol.close()).await;
        closed.unwrap_or_else(|error| panic!("{}: {error}", pair.name));
        for request in accepted {
            let event = pair.node.peer_event("message").await;
            assert_eq!(event["value"]["request"], request, "{}", pair.name);
        }
        assert_eq!(pair.node.peer_event("close").await["by"], "remote");
    })
    .await;
}
