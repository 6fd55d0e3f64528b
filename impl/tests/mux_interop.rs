//! Channels and extensions with Node's own protomux and hypercore at the other end.
#![cfg(all(feature = "tokio", feature = "js_interop_tests"))]

mod node;

use hypercore_protocol::{
    ChannelOptions, CloseReason, Event, Key, Protocol, ProtocolBuilder, ProtocolHandle,
    runtime::Tokio,
};
use node::{Node, hex, soon, unhex};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A Node peer, and this crate polled by a task.
struct Pair {
    node: Node,
    handle: ProtocolHandle,
    events: mpsc::UnboundedReceiver<Event>,
    /// The key of Node's core.
    key: Value,
}

impl Pair {
    async fn connect(is_initiator: bool, core: bool) -> Self {
        let options = json!({ "isInitiator": !is_initiator, "core": core });
        let mut node = Node::start("interop/protomux.js", &options);
        let listening = node.event("listening").await;
        let port = u16::try_from(listening["port"].as_u64().unwrap()).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut protocol: Protocol<Tokio<TcpStream>> = ProtocolBuilder::new(is_initiator)
            .keep_alive(None)
            .connect(socket);
        let handle = protocol.handle();
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = protocol.next().await {
                let _ = sender.send(event.expect("nothing is wrong"));
            }
        });
        node.event("open").await;
        let mut pair = Self {
            node,
            handle,
            events,
            key: listening["key"].clone(),
        };
        assert!(matches!(pair.event().await, Event::Handshake(_)));
        pair
    }

    async fn event(&mut self) -> Event {
        soon(self.events.recv()).await.expect("an event")
    }

    async fn node(&mut self, request: Value) {
        self.node.write_line(&request.to_string()).await;
    }

    /// Sends a request, and waits until it is done, skipping earlier events.
    async fn node_done(&mut self, request: Value) {
        self.node(request).await;
        self.node.event("done").await;
    }
}

#[tokio::test]
async fn node_opens_by_an_alias_with_an_id_and_a_handshake() {
    for is_initiator in [true, false] {
        let mut pair = Pair::connect(is_initiator, false).await;
        pair.handle.pair("chat-1", None);
        pair.node(
            json!({ "op": "create", "name": "a", "protocol": "chat-1", "aliases": ["chat-2"],
            "id": hex("room"), "handshake": hex("node") }),
        )
        .await;
        pair.node(json!({ "op": "send", "name": "a", "kind": 2, "body": hex("early") }))
            .await;
        let Event::RemoteOpen(open) = pair.event().await else {
            panic!("not the open");
        };
        assert_eq!(open.protocol, "chat-1");
        assert_eq!(open.id.as_deref(), Some(&b"room"[..]));
        assert_eq!(open.handshake, b"node");
        let options = ChannelOptions::new("chat-2").alias("chat-1");
        let options = options.id(b"room").handshake("rust");
        let channel = pair.handle.open_channel(options).unwrap();
        assert_eq!(soon(channel.opened()).await.unwrap(), b"node");
        let message = soon(channel.recv()).await.unwrap();
        assert_eq!((message.kind, &message.body[..]), (2, &b"early"[..]));
        let opened = pair.node.event("opened").await;
        assert_eq!(opened["handshake"], hex("rust"));

        // Node ignores types without a registered message.
        channel.send(9, "what?").await.unwrap();
        channel.send(1, "hello").await.unwrap();
        let message = pair.node.event("message").await;
        assert_eq!(
            (&message["kind"], &message["body"]),
            (&json!(1), &json!(hex("hello")))
        );
        pair.node(json!({ "op": "close", "name": "a" })).await;
        assert_eq!(soon(channel.closed()).await, CloseReason::Remote);
    }
}

#[tokio::test]
async fn node_pairs_what_is_opened_here_and_rejects_the_rest() {
    let mut pair = Pair::connect(true, false).await;
    let chat = |id: &[u8]| ChannelOptions::new("chat").id(id).handshake("rust");
    let refused = pair.handle.open_channel(chat(b"x")).unwrap();
    assert_eq!(soon(refused.opened()).await, Err(CloseReason::Rejected));

    let answer = json!({ "name": "a", "protocol": "chat", "handshake": hex("node") });
    pair.node_done(json!({ "op": "pair", "protocol": "chat", "answer": answer }))
        .await;
    let channel = pair.handle.open_channel(chat(b"x")).unwrap();
    channel.send(0, "early").await.unwrap();
    assert_eq!(soon(channel.opened()).await.unwrap(), b"node");
    assert_eq!(pair.node.event("paired").await["id"], hex("x"));
    assert_eq!(pair.node.event("opened").await["handshake"], hex("rust"));
    assert_eq!(pair.node.event("message").await["body"], hex("early"));
    channel.close();
    assert_eq!(pair.node.event("closed").await["isRemote"], true);

    pair.node_done(json!({ "op": "unpair", "protocol": "chat" }))
        .await;
    let refused = pair.handle.open_channel(chat(b"y")).unwrap();
    assert_eq!(soon(refused.opened()).await, Err(CloseReason::Rejected));

    // And the other way round.
    pair.node(json!({ "op": "create", "name": "b", "protocol": "nobody" }))
        .await;
    let closed = pair.node.event("closed").await;
    assert_eq!(
        (&closed["name"], &closed["isRemote"]),
        (&json!("b"), &json!(true))
    );
    pair.handle.pair("somebody", None);
    pair.node(json!({ "op": "create", "name": "c", "protocol": "somebody" }))
        .await;
    assert!(matches!(pair.event().await, Event::RemoteOpen(_)));
    pair.handle.reject_channel("somebody", None);
    assert_eq!(pair.node.event("closed").await["name"], "c");
    assert_eq!(pair.handle.channels(), []);
    assert_eq!(pair.handle.ignored().rejected_opens, 1);
}

#[tokio::test]
async fn several_channels_of_one_name_are_matched_in_their_order() {
    let mut pair = Pair::connect(false, false).await;
    pair.handle.pair("chat", None);
    for name in ["a", "b"] {
        let create = json!({ "op": "create", "name": name, "protocol": "chat", "unique": false,
            "handshake": hex(name) });
        pair.node(create).await;
        assert!(matches!(pair.event().await, Event::RemoteOpen(_)));
    }
    let chat = || ChannelOptions::new("chat").unique(false);
    let first = pair.handle.open_channel(chat().handshake("1")).unwrap();
    let second = pair.handle.open_channel(chat().handshake("2")).unwrap();
    assert_eq!(soon(first.opened()).await.unwrap(), b"a");
    assert_eq!(soon(second.opened()).await.unwrap(), b"b");
    for (name, handshake) in [("a", "1"), ("b", "2")] {
        let opened = pair.node.event("opened").await;
        assert_eq!(
            (&opened["name"], &opened["handshake"]),
            (&json!(name), &json!(hex(handshake)))
        );
    }
    first.send(0, "to a").await.unwrap();
    let message = pair.node.event("message").await;
    assert_eq!(
        (&message["name"], &message["body"]),
        (&json!("a"), &json!(hex("to a")))
    );
    // A third channel, which Node was not told to accept.
    assert!(
        pair.handle
            .open_channel(ChannelOptions::new("chat"))
            .is_err()
    );
    let third = pair.handle.open_channel(chat()).unwrap();
    assert_eq!(soon(third.opened()).await, Err(CloseReason::Rejected));
}

#[tokio::test]
async fn a_cork_has_the_bytes_of_node() {
    let mut pair = Pair::connect(true, false).await;
    for (name, protocol) in [("a", "alpha"), ("b", "beta")] {
        pair.node_done(json!({ "op": "pair", "protocol": protocol,
            "answer": { "name": name, "protocol": protocol } }))
            .await;
    }
    let open = |protocol| pair.handle.open_channel(ChannelOptions::new(protocol));
    let (alpha, beta) = (open("alpha").unwrap(), open("beta").unwrap());
    soon(alpha.opened()).await.unwrap();
    soon(beta.opened()).await.unwrap();
    pair.node_done(json!({ "op": "record", "on": true })).await;

    // The same steps on both sides, on channels with the same numbers.
    let long = vec![7; 300];
    let steps: [(&str, u64, &[u8]); 5] = [
        ("a", 0, b"one"),
        ("b", 1, b"two"),
        ("b", 2, &long),
        ("a", 2, b""),
        ("a", 0, b"three"),
    ];
    let cork = pair.handle.cork();
    for (name, kind, body) in steps {
        let channel = if name == "a" { &alpha } else { &beta };
        channel.send(kind, body.to_vec()).await.unwrap();
    }
    beta.close();
    let gamma = pair
        .handle
        .open_channel(ChannelOptions::new("gamma").id("id").handshake("hs"))
        .unwrap();
    drop(cork);
    let read = pair.node.event("read").await;
    // Node has answered the close and the open: its next numbers are the ones that were used here.
    let closed = pair.node.event("closed").await;
    assert_eq!(closed["name"], "b");
    assert_eq!(soon(gamma.opened()).await, Err(CloseReason::Rejected));
    drop(gamma);

    // A second connection, on which Node takes the steps.
    let mut other = Pair::connect(true, false).await;
    other.handle.pair("alpha", None);
    other.handle.pair("beta", None);
    let mut kept = Vec::new();
    for (name, protocol) in [("a", "alpha"), ("b", "beta")] {
        other
            .node(json!({ "op": "create", "name": name, "protocol": protocol }))
            .await;
        assert!(matches!(other.event().await, Event::RemoteOpen(_)));
        let channel = other.handle.open_channel(ChannelOptions::new(protocol));
        kept.push(channel.unwrap());
        other.node.event("opened").await;
    }
    other.node_done(json!({ "op": "record", "on": true })).await;
    other.node(json!({ "op": "cork" })).await;
    for (name, kind, body) in steps {
        other
            .node(json!({ "op": "send", "name": name, "kind": kind, "body": hex(body) }))
            .await;
    }
    other.node(json!({ "op": "close", "name": "b" })).await;
    other
        .node(
            json!({ "op": "create", "name": "c", "protocol": "gamma", "id": hex("id"),
            "handshake": hex("hs") }),
        )
        .await;
    other.node(json!({ "op": "uncork" })).await;
    let wrote = other.node.event("wrote").await;
    assert_eq!(read["bytes"], wrote["bytes"]);
    assert_eq!(&unhex(&wrote["bytes"])[..2], [0, 0], "it is a batch");
    // And both decode it the same.
    let message = soon(kept[0].recv()).await.unwrap();
    assert_eq!((message.kind, &message.body[..]), (0, &b"one"[..]));
}

#[tokio::test]
async fn an_extension_of_the_stream_is_a_plain_channel_to_node() {
    let mut pair = Pair::connect(true, false).await;
    let early = pair.handle.register_extension("early").unwrap();
    // Node has no such channel yet, and rejects; it opens it later.
    pair.node_done(json!({ "op": "stream", "name": "early" }))
        .await;
    soon(early.opened()).await.unwrap();
    early.send("hello").await.unwrap();
    assert_eq!(pair.node.event("message").await["body"], hex("hello"));
    pair.node(json!({ "op": "send", "name": "early", "kind": 0, "body": hex("hi") }))
        .await;
    assert_eq!(soon(early.recv()).await.unwrap(), b"hi");

    // As bytes, in messages of any size.
    let mut io = early.into_io();
    let bytes: Vec<u8> = (0..200_000).map(|at| (at / 7) as u8).collect();
    io.write_all(&bytes).await.unwrap();
    let mut received = Vec::new();
    while received.len() < bytes.len() {
        received.extend(unhex(&pair.node.event("message").await["body"]));
    }
    assert!(received == bytes);
    pair.node(json!({ "op": "send", "name": "early", "kind": 0, "body": hex("end") }))
        .await;
    pair.node(json!({ "op": "close", "name": "early" })).await;
    let mut rest = Vec::new();
    soon(io.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"end");

    // The name is free again; Node's pairing answers it.
    let answer = json!({ "name": "late", "protocol": "late" });
    pair.node_done(json!({ "op": "pair", "protocol": "late", "answer": answer }))
        .await;
    let mut late = pair.handle.register_extension("late").unwrap().into_io();
    late.write_all(b"bye").await.unwrap();
    late.shutdown().await.unwrap();
    assert_eq!(pair.node.event("message").await["body"], hex("bye"));
    let closed = pair.node.event("closed").await;
    assert_eq!(
        (&closed["name"], &closed["isRemote"]),
        (&json!("late"), &json!(true))
    );
}

#[tokio::test]
async fn extensions_of_a_core_are_those_of_node() {
    for is_initiator in [true, false] {
        let mut pair = Pair::connect(is_initiator, true).await;
        pair.node_done(json!({ "op": "extension", "name": "one" }))
            .await;
        pair.node_done(json!({ "op": "extension", "name": "two", "session": true }))
            .await;
        let key: Key = unhex(&pair.key).try_into().unwrap();
        pair.handle.open(key).unwrap();
        let channel = loop {
            if let Event::Channel(channel) = pair.event().await {
                break channel;
            }
        };
        let one = channel.register_extension("one");
        let two = channel.register_extension("two");
        // Node's own messages continue beside them.
        assert!(soon(channel.recv()).await.is_some());
        pair.node_done(json!({ "op": "record", "on": true })).await;
        // The second of two in a row has no name on the wire, in either direction.
        for (extension, body, named) in [
            (&one, "1", true),
            (&one, "2", false),
            (&two, "3", true),
            (&one, "4", true),
        ] {
            extension.send(body).await.unwrap();
            let read = pair.node.event("read").await;
            let message = unhex(&read["bytes"]);
            // Channel, type 9, the name's length.
            assert_eq!(&message[1..3], [9, if named { 3 } else { 0 }]);
            let event = pair.node.event("extension").await;
            assert_eq!(
                (&event["name"], &event["body"]),
                (&json!(extension.name()), &json!(hex(body)))
            );
        }
        for (extension, body, named) in [
            (&two, "5", true),
            (&two, "6", false),
            (&one, "7", true),
            (&two, "8", true),
        ] {
            let name = extension.name();
            pair.node(json!({ "op": "sendExtension", "name": name, "body": hex(body) }))
                .await;
            let wrote = unhex(&pair.node.event("wrote").await["bytes"]);
            assert_eq!(&wrote[1..3], [9, if named { 3 } else { 0 }]);
            assert_eq!(soon(extension.recv()).await.unwrap(), body.as_bytes());
        }

        // Unregistered there, messages are dropped; a later one is still found by its name.
        pair.node_done(json!({ "op": "destroyExtension", "name": "one" }))
            .await;
        one.send("lost").await.unwrap();
        two.send("found").await.unwrap();
        let event = pair.node.event("extension").await;
        assert_eq!(
            (&event["name"], &event["body"]),
            (&json!("two"), &json!(hex("found")))
        );

        // A stream of bytes arrives at Node as messages.
        let mut io = two.into_io();
        io.write_all(&[9; 100_000]).await.unwrap();
        let sizes = [
            pair.node.event("extension").await["body"]
                .as_str()
                .unwrap()
                .len()
                / 2,
            pair.node.event("extension").await["body"]
                .as_str()
                .unwrap()
                .len()
                / 2,
        ];
        assert_eq!(sizes, [65_536, 34_464]);
    }
}
