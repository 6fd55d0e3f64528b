//! Content from later releases is never fatal if it is not to Node, and applications can read it.

#[cfg(feature = "js_interop_tests")]
mod node;

use std::path::Path;
use std::time::Duration;

use hypercore_protocol::connection::Ignored;
use hypercore_protocol::schema::Unknown;
use hypercore_protocol::transport::Mode;
use hypercore_protocol::{Connection, ConnectionConfig, ConnectionEvent, Key, Message};
use serde_json::Value;

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a string in hex");
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The result of a session of the vectors.
struct Outcome {
    known: Vec<Message>,
    unknown: Vec<Unknown>,
    ignored: Ignored,
}

/// Replays the received records of a case.
fn replay(case: &Value, unknown_messages: bool) -> Outcome {
    let input = &case["input"];
    let array = |name: &str| unhex(&input[name]);
    let mut config = ConnectionConfig::new(input["isInitiator"] == true);
    config.transport.mode = Mode::Unencrypted {
        handshake_hash: array("handshakeHash").try_into().expect("64 bytes"),
    };
    config.unknown_messages = unknown_messages;
    let mut connection = Connection::new(config, Duration::ZERO);
    let key: Key = array("key").try_into().expect("32 bytes");
    connection.open(key).expect("an open channel");

    let mut outcome = Outcome {
        known: Vec::new(),
        unknown: Vec::new(),
        ignored: Ignored::default(),
    };
    for step in input["steps"].as_array().expect("steps") {
        let record = unhex(&step["receive"]);
        let length = (record.len() as u32).to_le_bytes();
        connection.receive(&length[..3], Duration::ZERO);
        connection.receive(&record, Duration::ZERO);
        while let Some(event) = connection.poll_event().expect("nothing is wrong") {
            match event {
                ConnectionEvent::Message {
                    message: Message::Unknown(message),
                    ..
                } => outcome.unknown.push(message),
                ConnectionEvent::Message { message, .. } => outcome.known.push(message),
                _ => {}
            }
        }
    }
    outcome.ignored = connection.ignored();
    outcome
}

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/channel/session.json");
    let text = std::fs::read_to_string(path).expect("the vectors of the repository");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let groups = file["groups"].as_array().expect("groups").iter();
    let cases = groups.flat_map(|group| group["cases"].as_array().expect("cases"));
    cases.cloned().collect()
}

#[test]
fn what_node_takes_from_later_releases_is_taken_and_counted() {
    let mut seen = [0; 3];
    for case in cases() {
        let has = |flag: &str| {
            case["flags"]
                .as_array()
                .is_some_and(|f| f.contains(&flag.into()))
        };
        let expected = [
            has("UnknownFlag"),
            has("TrailingBytes"),
            has("UnknownMessage"),
        ];
        if case["result"] != "valid" || expected == [false; 3] {
            continue;
        }
        let id = &case["id"];
        let steps = case["expect"]["output"]["steps"].as_array();
        let events = steps.expect("steps").iter();
        let events = events.flat_map(|step| step["events"].as_array().expect("events"));
        let node = events
            .filter(|event| event.get("message").is_some())
            .count();

        let outcome = replay(&case, false);
        let Ignored {
            unknown_flags,
            trailing_bytes,
            unknown_messages,
            ..
        } = outcome.ignored;
        let counted = [unknown_flags, trailing_bytes, unknown_messages].map(|count| count > 0);
        assert_eq!(counted, expected, "{id}");
        assert_eq!(
            (outcome.known.len(), outcome.unknown.len()),
            (node, 0),
            "{id}"
        );

        let asked = replay(&case, true);
        assert_eq!(asked.known, outcome.known, "{id}");
        assert_eq!(asked.unknown.len() as u64, unknown_messages, "{id}");
        assert_eq!(asked.ignored.unknown_messages, 0, "{id}");
        for (seen, expected) in seen.iter_mut().zip(expected) {
            *seen += u32::from(expected);
        }
    }
    assert!(seen.iter().all(|count| *count >= 7), "{seen:?}");
}

#[test]
fn rejects_with_trailing_bytes_are_counted_too() {
    let mut config = ConnectionConfig::new(true);
    config.transport.mode = Mode::Unencrypted {
        handshake_hash: [1; 64],
    };
    let mut connection = Connection::new(config, Duration::ZERO);
    connection.open([7; 32]).expect("an open channel");
    // A reject of our channel 1, with two bytes appended.
    connection.receive(&[5, 0, 0, 0, 2, 1, 9, 9], Duration::ZERO);
    while connection.poll_event().expect("nothing is wrong").is_some() {}
    assert_eq!(connection.ignored().mux.trailing_bytes, 1);
}

#[cfg(feature = "js_interop_tests")]
mod with_node {
    use hypercore_protocol::runtime::Tokio;
    use hypercore_protocol::schema::{Request, RequestBlock, Unknown};
    use hypercore_protocol::{Channel, Event, Key, Message, Protocol, ProtocolBuilder};
    use serde_json::json;
    use tokio::net::TcpStream;

    use super::node::{Node, soon, unhex};

    struct Later {
        node: Node,
        protocol: Protocol<Tokio<TcpStream>>,
        channel: Channel,
    }

    /// Opens the core of a Node peer of a later release.
    async fn later(is_initiator: bool, unknown_messages: bool) -> Later {
        let options = json!({ "isInitiator": !is_initiator });
        let mut node = Node::start("interop/later.js", &options);
        let listening = node.event("listening").await;
        let port = listening["port"].as_u64().expect("a port") as u16;
        let socket = TcpStream::connect(("127.0.0.1", port)).await;
        let mut protocol = ProtocolBuilder::new(is_initiator)
            .unknown_messages(unknown_messages)
            .connect(socket.expect("a connection"));
        let key: Key = unhex(&listening["key"]).try_into().expect("a key");
        protocol.open(key).expect("an open channel");
        let channel = loop {
            match soon(protocol.next()).await {
                Some(Ok(Event::Channel(channel))) => break channel,
                Some(Ok(Event::Handshake(_) | Event::DiscoveryKey(_))) => {}
                other => panic!("{other:?}"),
            }
        };
        Later {
            node,
            protocol,
            channel,
        }
    }

    impl Later {
        /// Requests the block, and returns all messages up to its arrival.
        async fn read(&mut self) -> Vec<Message> {
            let request = Request {
                id: 1,
                block: Some(RequestBlock { index: 0, nodes: 0 }),
                ..Request::default()
            };
            let channel = self.channel.clone();
            let read = async {
                channel.request(request).await.expect("a request");
                let mut messages = Vec::new();
                loop {
                    match channel.recv().await.expect("an open channel") {
                        Message::Data(data) => {
                            let block = data.block.expect("a block");
                            assert_eq!(block.value, b"block");
                            return messages;
                        }
                        message => messages.push(message),
                    }
                }
            };
            soon(self.protocol.drive(read)).await
        }
    }

    #[tokio::test]
    async fn a_later_release_of_node_is_understood_as_far_as_it_is_known() {
        for is_initiator in [true, false] {
            let mut later = later(is_initiator, false).await;
            let channel = later.channel.clone();
            let first = soon(later.protocol.drive(channel.recv_with_unread())).await;
            let (first, unread) = first.expect("an open channel");
            assert!(matches!(first, Message::Sync(_)), "{first:?}");
            assert_eq!(
                (unread.unknown_flags, &unread.trailing),
                (64, &b"\x03new"[..].into())
            );
            let mut messages = later.read().await;
            messages.push(first);
            let syncs = messages
                .iter()
                .filter(|message| matches!(message, Message::Sync(sync) if sync.length == 1))
                .count() as u64;
            assert!(syncs > 0, "{messages:?}");
            assert!(!messages.iter().any(|m| matches!(m, Message::Unknown(_))));
            let ignored = later.protocol.ignored();
            assert_eq!(ignored.unknown_messages, 1);
            // The handshake and every sync.
            assert_eq!(ignored.unknown_flags, 1 + syncs);
            assert_eq!(ignored.trailing_bytes, 1 + syncs);
            let unread = later.channel.remote_handshake_unread();
            assert_eq!(
                (unread.unknown_flags, &unread.trailing),
                (64, &b"\x03new"[..].into())
            );
        }
    }

    #[tokio::test]
    async fn messages_of_a_later_release_pass_both_ways_for_those_who_ask() {
        for is_initiator in [true, false] {
            let mut later = later(is_initiator, true).await;
            let messages = later.read().await;
            let text = "from a later release";
            let body = [&[text.len() as u8], text.as_bytes()].concat();
            let expected = Unknown::new(10, body).expect("an unknown type");
            assert!(messages.contains(&expected.into()), "{messages:?}");
            assert_eq!(later.protocol.ignored().unknown_messages, 0);

            // Type 11 is as new to Node as type 10 is to us.
            for (kind, text) in [(11, "lost"), (10, "ours")] {
                let body = [&[text.len() as u8], text.as_bytes()].concat();
                let message = Unknown::new(kind, body).expect("an unknown type");
                let sent = later.protocol.drive(later.channel.send(message)).await;
                sent.expect("sent");
            }
            let event = later.protocol.drive(later.node.event("type 10")).await;
            assert_eq!(event["text"], "ours");
            later.read().await;
        }
    }
}
