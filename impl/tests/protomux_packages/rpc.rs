//! protomux-rpc 1.10.0, with the client and server of `examples/rpc`, where its messages are described.
//!
//! From the package's `index.js`: the channel has the protocol `protomux-rpc`, and optionally an id and a handshake; a
//! custom handshake is `raw`, the rest of the open. Request ids count from 1 on each side, and 0 requests no answer.
//! Its own errors have the codes `UNKNOWN_METHOD`, `REQUEST_ERROR`, with the thrown error as cause, `DECODE_ERROR` and
//! `ENCODE_ERROR` (`lib/errors.js`); the receiver puts the code before the message.

#[path = "../../examples/rpc/rpc.rs"]
#[allow(dead_code, reason = "the example uses more of it")]
mod example;

use std::sync::{Arc, Mutex};

use hypercore_protocol::mux::MuxError;
use hypercore_protocol::schema::{Request, RequestBlock, Sync};
use hypercore_protocol::{
    Buffer, ChannelOptions, CloseReason, Error, ErrorClass, Event, Key, Message, ProtocolBuilder,
    ProtocolHandle,
};

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::node::{hex, soon, unhex};
use crate::{Pair, in_each_role};
use example::{Cause, Failure, Methods, PROTOCOL, Rpc, RpcError, from_optional, optional, options};

type Run = JoinHandle<Result<CloseReason, hypercore_protocol::DecodeError>>;

/// Opens a channel and runs it.
fn open(handle: &ProtocolHandle, options: ChannelOptions, methods: Methods) -> (Rpc, Run) {
    let channel = handle.open_channel(options).expect("an open channel");
    let rpc = Rpc::new(channel, methods);
    let run = tokio::spawn(rpc.clone().run());
    (rpc, run)
}

/// Opens a channel on both sides: as the initiator we pair Node's open, otherwise we open first.
async fn both_open(pair: &mut Pair, methods: Methods) -> (Rpc, Run) {
    if pair.handle.is_initiator() {
        pair.handle.pair(PROTOCOL, None);
        pair.ask("rpc.open", json!({})).await;
        pair.remote_open().await;
    } else {
        pair.ask("rpc.pair", json!({})).await;
    }
    let (rpc, run) = open(&pair.handle, options(), methods);
    let opened = soon(rpc.channel().opened()).await;
    assert_eq!(opened, Ok(Buffer::new()), "{}", pair.role);
    (rpc, run)
}

/// A number as a `uint` of one or three bytes of compact-encoding.
fn uint(value: u16) -> Vec<u8> {
    match u8::try_from(value) {
        Ok(byte) if byte <= 0xfc => vec![byte],
        _ => [&[0xfd], &value.to_le_bytes()[..]].concat(),
    }
}

fn from_uint(bytes: &[u8]) -> u16 {
    match *bytes {
        [byte] => byte.into(),
        [0xfd, low, high] => u16::from_le_bytes([low, high]),
        _ => panic!("no small uint: {bytes:?}"),
    }
}

/// The methods of Node's server that these tests call.
fn methods() -> Methods {
    Methods::default()
        .on("echo", |value| async { Ok(value) })
        .on("raw", |value| async { Ok(value) })
        .on("double", |value: Buffer| async move {
            Ok(uint(2 * from_uint(&value)).into())
        })
        .on("fail", |_| async {
            Err(Cause {
                message: "there is no tea".into(),
                ..Cause::default()
            })
        })
        .on("failWithCode", |_| async { Err(no_tea()) })
}

fn no_tea() -> Cause {
    Cause {
        message: "there is no tea".into(),
        code: Some("ENOTEA".into()),
        context: Some("in the kitchen".into()),
    }
}

fn failed(code: &str, message: &str, cause: Option<Cause>) -> Failure {
    Failure {
        message: message.into(),
        code: Some(code.into()),
        cause,
    }
}

async fn failure(rpc: &Rpc, method: &str, value: Buffer) -> Failure {
    match soon(rpc.request(method, value)).await {
        Err(RpcError::Failed(failure)) => failure,
        other => panic!("{method}: {other:?}"),
    }
}

#[tokio::test]
async fn rust_calls_node() {
    in_each_role(async |mut pair| {
        let (rpc, _run) = both_open(&mut pair, Methods::default()).await;

        let echoed = soon(rpc.request("echo", optional(Some(b"hi")))).await;
        let echoed = from_optional(&echoed.expect("an answer")).expect("a value");
        assert_eq!(echoed.as_deref(), Some(&b"hi"[..]), "{}", pair.role);
        // The package sends null as an empty buffer.
        let null = soon(rpc.request("echo", optional(None))).await;
        assert_eq!(null.expect("an answer"), &[0], "{}", pair.role);
        let raw = soon(rpc.request("raw", "")).await;
        assert_eq!(raw.expect("an answer"), b"", "{}", pair.role);

        soon(rpc.event("note", optional(Some(b"by the way"))))
            .await
            .expect("an event");
        let note = pair.node.event("rpc.note").await;
        assert_eq!(note["value"], hex("by the way"), "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn node_tells_rust_of_its_errors() {
    in_each_role(async |mut pair| {
        let (rpc, _run) = both_open(&mut pair, Methods::default()).await;
        assert_eq!(
            failure(&rpc, "tea", optional(None)).await,
            failed("UNKNOWN_METHOD", "Unknown method 'tea'", None)
        );
        let plain = Cause {
            context: None,
            code: None,
            ..no_tea()
        };
        assert_eq!(
            failure(&rpc, "fail", optional(None)).await,
            failed("REQUEST_ERROR", "Request failed", Some(plain))
        );
        assert_eq!(
            failure(&rpc, "failWithCode", optional(None)).await,
            failed("REQUEST_ERROR", "Request failed", Some(no_tea()))
        );
        let undecoded = failure(&rpc, "double", Buffer::new()).await;
        assert_eq!(undecoded.code.as_deref(), Some("DECODE_ERROR"));
        let cause = undecoded.cause.expect("a cause");
        assert_eq!(cause.message, "Out of bounds", "{}", pair.role);
        let unencoded = failure(&rpc, "unencodable", optional(None)).await;
        assert_eq!(unencoded.code.as_deref(), Some("ENCODE_ERROR"));
        assert!(unencoded.cause.is_some(), "{}", pair.role);
        // None of them ends the channel.
        let double = soon(rpc.request("double", uint(300))).await;
        assert_eq!(double.expect("an answer"), uint(600), "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn node_calls_rust() {
    in_each_role(async |mut pair| {
        let (heard, mut notes) = mpsc::unbounded_channel();
        let methods = methods().on("note", move |value| {
            let _ = heard.send(value);
            async { Ok(Buffer::new()) }
        });
        let (_rpc, _run) = both_open(&mut pair, methods).await;
        let role = pair.role;
        let mut request = async |input: Value| pair.ask("rpc.request", input).await;

        let answer = request(json!({ "method": "echo", "value": hex("hi") })).await;
        assert_eq!(answer, json!({ "value": hex("hi") }), "{role}");
        let answer = request(json!({ "method": "echo", "value": null })).await;
        assert_eq!(answer, json!({ "value": null }), "{role}");
        let input = json!({ "method": "raw", "value": hex("hi"), "raw": true });
        assert_eq!(
            request(input).await,
            json!({ "value": hex("hi") }),
            "{role}"
        );

        let answer = request(json!({ "method": "tea" })).await;
        let unknown = "UNKNOWN_METHOD: Unknown method 'tea'";
        let expected = json!({ "message": unknown, "code": "UNKNOWN_METHOD", "cause": null });
        assert_eq!(answer["error"], expected, "{role}");
        let answer = request(json!({ "method": "failWithCode" })).await;
        let cause =
            json!({ "message": "there is no tea", "code": "ENOTEA", "context": "in the kitchen" });
        let request_failed = "REQUEST_ERROR: Request failed";
        let expected =
            json!({ "message": request_failed, "code": "REQUEST_ERROR", "cause": cause });
        assert_eq!(answer["error"], expected, "{role}");
        let answer = request(json!({ "method": "fail" })).await;
        let cause = json!({ "message": "there is no tea", "code": null, "context": null });
        assert_eq!(answer["error"]["cause"], cause, "{role}");

        // An event gets no answer: the next record that Node receives answers the request after it.
        let before = pair.ask("peer.records", json!({})).await;
        let note = json!({ "method": "note", "value": hex("by the way") });
        pair.ask("rpc.event", note).await;
        let note = soon(notes.recv()).await.expect("an event");
        assert_eq!(note, optional(Some(b"by the way")), "{role}");
        pair.ask("rpc.request", json!({ "method": "echo", "value": "" }))
            .await;
        assert_eq!(pair.records_since(&before).await, (2, 1), "{role}");
    })
    .await;
}

#[tokio::test]
async fn large_values_pass_both_ways() {
    in_each_role(async |mut pair| {
        let (rpc, _run) = both_open(&mut pair, methods()).await;
        // The largest record that a secretstream carries is 16 MiB less its overhead.
        for length in [65_535, 1 << 20, 15 << 20] {
            let value = soon(rpc.request("raw", vec![0xa5; length])).await;
            let value = value.expect("an answer");
            assert!(value.iter().all(|byte| *byte == 0xa5), "{}", pair.role);
            assert_eq!(value.len(), length, "{}", pair.role);
            let input = json!({ "method": "raw", "length": length });
            let answer = pair.ask("rpc.requestLarge", input).await;
            let expected = json!({ "length": length, "zeros": true });
            assert_eq!(answer, expected, "{}", pair.role);
        }
        let unsent = soon(rpc.request("raw", vec![0; 1 << 24])).await;
        match unsent {
            Err(RpcError::Unsent(error)) => assert_eq!(error.class(), ErrorClass::TooLarge),
            other => panic!("{}: {other:?}", pair.role),
        }
        soon(rpc.request("raw", "still there"))
            .await
            .expect("an answer");
    })
    .await;
}

#[tokio::test]
async fn a_thousand_requests_at_once_each_way() {
    in_each_role(async |mut pair| {
        let (rpc, _run) = both_open(&mut pair, methods()).await;
        let ours = async {
            let mut requests = JoinSet::new();
            for number in 0..1000 {
                let rpc = rpc.clone();
                requests.spawn(async move {
                    let answer = rpc.request("double", uint(number)).await;
                    assert_eq!(answer.expect("an answer"), uint(2 * number));
                });
            }
            while let Some(result) = soon(requests.join_next()).await {
                result.expect("an answer");
            }
        };
        let input = json!({ "method": "double", "count": 1000 });
        let ((), theirs) = tokio::join!(ours, pair.node.ask("rpc.requests", input));
        let doubled: Vec<u64> = (0..1000).map(|number| 2 * number).collect();
        assert_eq!(theirs, json!({ "values": doubled }), "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn batches_pass_both_ways() {
    in_each_role(async |mut pair| {
        let (rpc, _run) = both_open(&mut pair, methods()).await;
        soon(rpc.channel().opened()).await.expect("an open channel");

        let before = pair.ask("peer.records", json!({})).await;
        let input = json!({ "method": "double", "count": 1000, "corked": true });
        let answer = pair.ask("rpc.requests", input).await;
        let doubled: Vec<u64> = (0..1000).map(|number| 2 * number).collect();
        assert_eq!(answer, json!({ "values": doubled }), "{}", pair.role);
        let (sent, _) = pair.records_since(&before).await;
        assert_eq!(sent, 1, "{}: Node sends one batch", pair.role);

        let before = pair.ask("peer.records", json!({})).await;
        let cork = pair.handle.cork();
        let inner = pair.handle.cork();
        for number in 0..100_u8 {
            soon(rpc.event("note", optional(Some(&[number]))))
                .await
                .expect("an event");
        }
        drop(inner);
        drop(cork);
        for number in 0..100_u8 {
            let note = pair.node.event("rpc.note").await;
            assert_eq!(note["value"], hex([number]), "{}", pair.role);
        }
        let (_, received) = pair.records_since(&before).await;
        assert_eq!(received, 1, "{}: we send one batch", pair.role);
    })
    .await;
}

#[tokio::test]
async fn answers_come_in_any_order() {
    in_each_role(async |mut pair| {
        let (rpc, _run) = both_open(&mut pair, Methods::default()).await;
        let hold = |key: u16| {
            let rpc = rpc.clone();
            tokio::spawn(async move { rpc.request("hold", uint(key)).await })
        };
        let (first, second, abandoned) = (hold(1), hold(2), hold(3));
        for _ in 0..3 {
            pair.node.event("rpc.held").await;
        }
        // The answer to an abandoned request, and one to a request that never existed, are dropped.
        abandoned.abort();
        pair.ask("rpc.release", json!({ "key": 3 })).await;
        let answer = json!({ "id": 77, "value": hex("nobody asked") });
        pair.ask("rpc.respond", answer).await;
        for (key, request) in [(2, second), (1, first)] {
            pair.ask("rpc.release", json!({ "key": key })).await;
            let answer = soon(request).await.expect("a task").expect("an answer");
            assert_eq!(answer, uint(key), "{}", pair.role);
        }
    })
    .await;
}

#[tokio::test]
async fn requests_may_leave_before_the_handshake() {
    for is_initiator in [true, false] {
        let pairing = json!([{ "op": "rpc.pair", "input": {} }]);
        let (mut pair, request) = Pair::connect_with(is_initiator, pairing, |handle| {
            let (rpc, _run) = open(handle, options(), Methods::default());
            tokio::spawn(async move { rpc.request("double", uint(21)).await })
        })
        .await;
        let answer = soon(request).await.expect("a task");
        assert_eq!(answer.expect("an answer"), uint(42), "{}", pair.role);

        // Messages that arrive before we open the channel wait for it.
        pair.handle.pair("later", None);
        let late = json!({ "protocol": "later", "name": "late" });
        pair.ask("rpc.open", late).await;
        let note = json!({ "name": "late", "method": "note", "value": hex("early") });
        pair.ask("rpc.event", note).await;
        assert_eq!(pair.remote_open().await.protocol, "later");
        let (heard, mut notes) = mpsc::unbounded_channel();
        let methods = Methods::default().on("note", move |value| {
            let _ = heard.send(value);
            async { Ok(Buffer::new()) }
        });
        let (_rpc, _run) = open(&pair.handle, ChannelOptions::new("later"), methods);
        let note = soon(notes.recv()).await.expect("an event");
        assert_eq!(note, optional(Some(b"early")), "{}", pair.role);
    }
}

#[tokio::test]
async fn node_closes() {
    in_each_role(async |mut pair| {
        let (rpc, run) = both_open(&mut pair, methods()).await;
        let request = tokio::spawn({
            let rpc = rpc.clone();
            async move { rpc.request("hold", uint(1)).await }
        });
        pair.node.event("rpc.held").await;
        pair.ask("rpc.destroy", json!({})).await;
        match soon(request).await.expect("a task") {
            Err(RpcError::Closed(CloseReason::Remote)) => {}
            other => panic!("{}: {other:?}", pair.role),
        }
        let reason = soon(run).await.expect("a task");
        assert_eq!(reason, Ok(CloseReason::Remote), "{}", pair.role);
        match soon(rpc.request("echo", "")).await {
            Err(RpcError::Unsent(Error::Mux(MuxError::Closed))) => {}
            other => panic!("{}: {other:?}", pair.role),
        }

        // The same protocol and id can be opened again, on both sides.
        let (rpc, _run) = both_open(&mut pair, methods()).await;
        let double = soon(rpc.request("double", uint(3))).await;
        assert_eq!(double.expect("an answer"), uint(6), "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn node_ends_once_it_has_its_answers() {
    in_each_role(async |mut pair| {
        let asked = Arc::new(Notify::new());
        let release = Arc::new(Notify::new());
        let methods = {
            let (asked, release) = (asked.clone(), release.clone());
            Methods::default().on("slow", move |value| {
                let (asked, release) = (asked.clone(), release.clone());
                async move {
                    asked.notify_one();
                    release.notified().await;
                    Ok(value)
                }
            })
        };
        let (rpc, run) = both_open(&mut pair, methods).await;
        let answer = {
            let slow = json!({ "method": "slow", "value": hex("at last") });
            let request = pair.node.ask("rpc.request", slow);
            let releasing = async {
                soon(asked.notified()).await;
                assert!(!rpc.channel().is_closed(), "{}", pair.role);
                release.notify_one();
            };
            tokio::join!(request, releasing).0
        };
        assert_eq!(answer, json!({ "value": hex("at last") }), "{}", pair.role);
        pair.ask("rpc.end", json!({})).await;
        let reason = soon(run).await.expect("a task");
        assert_eq!(reason, Ok(CloseReason::Remote), "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn rust_closes() {
    in_each_role(async |mut pair| {
        let asked = Arc::new(Notify::new());
        let methods = {
            let asked = asked.clone();
            Methods::default().on("never", move |_| {
                asked.notify_one();
                std::future::pending()
            })
        };
        let (rpc, run) = both_open(&mut pair, methods).await;
        // Messages accepted before the close are sent.
        let closing = async {
            soon(asked.notified()).await;
            soon(rpc.event("note", optional(Some(b"last words"))))
                .await
                .expect("an event");
            rpc.channel().close();
        };
        let never = json!({ "method": "never" });
        let (answer, ()) = tokio::join!(pair.node.ask("rpc.request", never), closing);
        assert_eq!(answer["error"]["code"], "CHANNEL_CLOSED", "{}", pair.role);
        let note = pair.node.event("rpc.note").await;
        assert_eq!(note["value"], hex("last words"), "{}", pair.role);
        pair.node.event("rpc.close").await;
        let reason = soon(run).await.expect("a task");
        assert_eq!(reason, Ok(CloseReason::Local), "{}", pair.role);
        assert!(pair.handle.channels().is_empty(), "{}", pair.role);

        // So does a channel whose last handle is dropped; messages sent before arrive.
        pair.handle.pair(PROTOCOL, None);
        pair.ask("rpc.open", json!({})).await;
        pair.remote_open().await;
        let channel = pair.handle.open_channel(options());
        let channel = channel.expect("an open channel");
        let note = [&[0, 4], &b"note"[..], &optional(Some(b"and gone"))].concat();
        soon(channel.send(0, note)).await.expect("an open channel");
        drop(channel);
        let note = pair.node.event("rpc.note").await;
        assert_eq!(note["value"], hex("and gone"), "{}", pair.role);
        pair.node.event("rpc.close").await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_stream_fails_what_is_under_way() {
    in_each_role(async |mut pair| {
        let (rpc, run) = both_open(&mut pair, Methods::default()).await;
        let request = tokio::spawn(async move { rpc.request("hold", uint(1)).await });
        pair.node.event("rpc.held").await;
        pair.ask("peer.destroy", json!({})).await;
        match soon(request).await.expect("a task") {
            Err(RpcError::Closed(CloseReason::Stream)) => {}
            other => panic!("{}: {other:?}", pair.role),
        }
        let reason = soon(run).await.expect("a task");
        assert_eq!(reason, Ok(CloseReason::Stream), "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn opens_are_paired_by_protocol_and_id() {
    in_each_role(async |mut pair| {
        // A single id.
        pair.handle.pair(PROTOCOL, Some(b"kitchen"));
        for (name, id) in [("bath", "bath"), ("kitchen", "kitchen")] {
            let input = json!({ "name": name, "id": hex(id), "handshake": hex("knock knock") });
            pair.ask("rpc.open", input).await;
        }
        // The other was rejected.
        assert_eq!(pair.node.event("rpc.close").await["name"], "bath");
        let open_there = pair.remote_open().await;
        assert_eq!(open_there.protocol, "protomux-rpc", "{}", pair.role);
        assert_eq!(open_there.id.as_deref(), Some(&b"kitchen"[..]));
        assert_eq!(open_there.handshake, b"knock knock", "{}", pair.role);
        let options = open_there.options().handshake(b"come in");
        let (kitchen, _run) = open(&pair.handle, options, methods());
        let handshake = soon(kitchen.channel().opened()).await;
        assert_eq!(handshake.expect("an open channel"), b"knock knock");
        let opened = pair.node.event("rpc.open").await;
        assert_eq!(opened["handshake"], hex("come in"), "{}", pair.role);

        // Refused by us, and no longer paired.
        pair.handle.pair("guests", None);
        let guest = json!({ "name": "guest", "protocol": "guests", "id": hex("1") });
        pair.ask("rpc.open", guest.clone()).await;
        let open_there = pair.remote_open().await;
        let id = open_there.id.as_deref();
        pair.handle.reject_channel("guests", id);
        assert_eq!(pair.node.event("rpc.close").await["name"], "guest");
        pair.handle.unpair("guests", None);
        pair.ask("rpc.open", guest).await;
        assert_eq!(pair.node.event("rpc.close").await["name"], "guest");
        assert!(pair.events.try_recv().is_err(), "{}", pair.role);

        // Node pairs any id of a protocol, and we open first.
        let any = json!({ "protocol": "visits", "name": "visit" });
        pair.ask("rpc.pair", any).await;
        let options = ChannelOptions::new("visits").id("us");
        let (visit, _run) = open(&pair.handle, options, Methods::default());
        let name = soon(visit.request("name", optional(None))).await;
        assert_eq!(name.expect("an answer"), optional(Some(b"visit")));
        assert_eq!(pair.node.event("rpc.pair").await["id"], hex("us"));
    })
    .await;
}

#[tokio::test]
async fn channels_of_one_protocol_are_told_apart_by_id() {
    in_each_role(async |mut pair| {
        pair.handle.pair(PROTOCOL, None);
        // In the opposite order to ours.
        for id in ["two", "one"] {
            let input = json!({ "name": id, "id": hex(id) });
            pair.ask("rpc.open", input).await;
            let open_there = pair.remote_open().await;
            assert_eq!(open_there.id.as_deref(), Some(id.as_bytes()));
        }
        let mut channels = Vec::new();
        for id in ["one", "two"] {
            let options = options().id(id);
            channels.push(open(&pair.handle, options, methods()).0);
        }
        match pair.handle.open_channel(options().id("one")) {
            Err(Error::Mux(MuxError::AlreadyOpen)) => {}
            other => panic!("{}: {other:?}", pair.role),
        }
        for (rpc, expected) in channels.iter().zip(["one", "two"]) {
            let name = soon(rpc.request("name", optional(None))).await;
            let name = name.expect("an answer");
            assert_eq!(name, optional(Some(expected.as_bytes())), "{}", pair.role);
            let input = json!({ "name": expected, "method": "echo", "value": hex(expected) });
            let answer = pair.ask("rpc.request", input).await;
            assert_eq!(answer, json!({ "value": hex(expected) }), "{}", pair.role);
        }
        let ids = pair.handle.channels().into_iter().map(|channel| {
            assert!(channel.opened, "{}", pair.role);
            channel.id.map(Vec::from)
        });
        let expected = [Some(b"one".to_vec()), Some(b"two".to_vec())];
        assert_eq!(ids.collect::<Vec<_>>(), expected, "{}", pair.role);

        // Closing one does not affect the other.
        channels[0].channel().close();
        assert_eq!(pair.node.event("rpc.close").await["name"], "one");
        let name = soon(channels[1].request("name", optional(None))).await;
        assert_eq!(name.expect("an answer"), optional(Some(b"two")));
    })
    .await;
}

#[tokio::test]
async fn calls_pass_beside_a_core() {
    in_each_role(async |mut pair| {
        let core = json!({ "name": "core", "blocks": [hex("first"), hex("second")] });
        let core = pair.ask("store.create", core).await;
        let key: Key = unhex(&core["key"]).try_into().expect("a key");
        let (rpc, _run) = both_open(&mut pair, methods()).await;
        pair.ask("store.replicate", json!({ "offer": ["core"] }))
            .await;
        pair.handle.open(key).expect("an open channel");
        let channel = loop {
            match pair.event().await {
                Event::Channel(channel) => break channel,
                Event::DiscoveryKey(_) => {}
                other => panic!("{}: {other:?}", pair.role),
            }
        };
        let sync = Sync {
            downloading: true,
            ..Sync::default()
        };
        soon(channel.send(sync)).await.expect("an open channel");
        for index in [1, 0] {
            let request = Request {
                id: index + 1,
                block: Some(RequestBlock { index, nodes: 0 }),
                ..Request::default()
            };
            soon(channel.send(request)).await.expect("an open channel");
            let double = soon(rpc.request("double", uint(index as u16))).await;
            assert_eq!(double.expect("an answer"), uint(2 * index as u16));
            let block = loop {
                match soon(channel.recv()).await.expect("an open channel") {
                    Message::Data(data) => break data.block.expect("a block"),
                    // The core's own state.
                    Message::Sync(_) | Message::Range(_) => {}
                    other => panic!("{}: {other:?}", pair.role),
                }
            };
            let expected: &[u8] = [b"first".as_slice(), b"second"][index as usize];
            assert_eq!(block.value, expected, "{}", pair.role);
        }
        let protocols = pair
            .handle
            .channels()
            .into_iter()
            .map(|channel| channel.protocol);
        let protocols: Vec<_> = protocols.collect();
        assert_eq!(protocols, ["protomux-rpc", "hypercore/alpha"]);
        pair.ask("peer.stop", json!({})).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_message_of_the_protocol_ends_the_channel_alone() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut protocols = [(true, near), (false, far)]
        .map(|(is_initiator, io)| ProtocolBuilder::new(is_initiator).connect(io));
    let handle = protocols.each_ref().map(|protocol| protocol.handle());
    let errors = Arc::new(Mutex::new(Vec::new()));
    let driving = protocols.each_mut().map(|protocol| async {
        while let Some(event) = protocol.next().await {
            if let Err(error) = event {
                errors.lock().expect("a lock").push(error);
            }
        }
    });
    let [near, far] = driving;
    let test = async {
        let (_rpc, run) = open(&handle[0], options(), methods());
        let other = handle[0].open_channel(ChannelOptions::new("other"));
        let other = other.expect("an open channel");
        let theirs = handle[1].open_channel(options());
        let theirs = theirs.expect("an open channel");
        let _other = handle[1].open_channel(ChannelOptions::new("other"));
        // A method's name of 9 bytes, cut to 2; before it a type that no release has yet.
        theirs.send(2, "later").await.expect("an open channel");
        theirs
            .send(0, &[1, 9, b'e', b'c'])
            .await
            .expect("an open channel");
        let error = soon(run).await.expect("a task").expect_err("an error");
        assert_eq!(error.class(), ErrorClass::OutOfBounds);
        assert_eq!(soon(theirs.closed()).await, CloseReason::Remote);
        soon(other.opened()).await.expect("an open channel");
    };
    tokio::select! {
        () = test => {}
        _ = async { tokio::join!(near, far) } => panic!("the stream is over"),
    }
    assert!(errors.lock().expect("a lock").is_empty());
}
