//! protomux-wakeup 2.9.0: peers announce which writers of a multi-writer log have something new.
//!
//! From the package's `index.js` and `spec/hyperschema/index.js`:
//!
//! - The channel: protocol `wakeup`, with the discovery key of the so-called capability, a secret of 32 bytes, as id.
//! - Its handshake: `uint` version (0), `fixed32` proof, `uint` flags (1: active). The proof is BLAKE2b-256 of the
//!   sender's role namespace (of `namespace('wakeup', 2)`, the initiator's first), the capability and the 64-byte
//!   handshake hash. The answer to a wrong one is a close.
//! - Type 0, lookup: `uint` flags, and with the flag 1 `fixed32` hash.
//! - Type 1, announce: an array of writers, each `fixed32` key and `uint` length.
//! - Type 2, info: `uint` flags (1: active).

use hypercore_protocol::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
use hypercore_protocol::keys::{blake2b256, namespace};
use hypercore_protocol::{
    Buffer, ChannelOptions, CloseReason, DiscoveryKey, Key, MuxChannel, ProtocolHandle,
    discovery_key,
};
use serde_json::json;

use crate::node::{hex, soon};
use crate::{Pair, in_each_role};

const PROTOCOL: &str = "wakeup";
const CAPABILITY: [u8; 32] = [7; 32];

const LOOKUP: u64 = 0;
const ANNOUNCE: u64 = 1;
const INFO: u64 = 2;

#[derive(Debug, PartialEq, Eq)]
struct Handshake {
    version: u64,
    proof: [u8; 32],
    is_active: bool,
}

impl Handshake {
    /// The handshake of the initiator, or the responder, of this connection.
    fn of(handle: &ProtocolHandle, by_initiator: bool, is_active: bool) -> Self {
        let namespaces = namespace("wakeup", 2);
        let role = &namespaces[usize::from(!by_initiator)];
        let hash = handle.handshake_hash().expect("a complete handshake");
        Self {
            version: 0,
            proof: blake2b256(&[role, &CAPABILITY, &hash], None),
            is_active,
        }
    }
}

impl Encode for Handshake {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.version, "version")?;
        encoder.raw(&self.proof);
        encoder.uint(self.is_active.into(), "flags")
    }
}

impl Decode for Handshake {
    const MIN_LEN: usize = 34;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: decoder.uint("version")?,
            proof: decoder.fixed("proof")?,
            is_active: decoder.flags(1, "flags")? & 1 != 0,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Writer {
    key: [u8; 32],
    length: u64,
}

impl Encode for Writer {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.raw(&self.key);
        encoder.uint(self.length, "length")
    }
}

impl Decode for Writer {
    const MIN_LEN: usize = 33;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: decoder.fixed("key")?,
            length: decoder.uint("length")?,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wakeup {
    Lookup(Option<[u8; 32]>),
    Announce(Vec<Writer>),
    Info { is_active: bool },
}

async fn send(channel: &MuxChannel, message: &Wakeup) {
    let mut body = Vec::new();
    let mut encoder = Encoder::new(&mut body);
    let kind = match message {
        Wakeup::Lookup(hash) => {
            encoder.u8(hash.is_some().into());
            encoder.raw(hash.as_ref().map_or(&[], |hash| hash.as_slice()));
            LOOKUP
        }
        Wakeup::Announce(writers) => {
            encoder.array(writers, "writers").expect("few writers");
            ANNOUNCE
        }
        Wakeup::Info { is_active } => {
            encoder.u8((*is_active).into());
            INFO
        }
    };
    soon(channel.send(kind, body))
        .await
        .expect("an open channel");
}

async fn recv(channel: &MuxChannel) -> Wakeup {
    let message = soon(channel.recv()).await.expect("an open channel");
    let mut decoder = Decoder::new(&message.body);
    let decoded = match message.kind {
        LOOKUP => match decoder.flags(1, "flags") {
            Ok(0) => Wakeup::Lookup(None),
            Ok(_) => Wakeup::Lookup(Some(decoder.fixed("hash").expect("a hash"))),
            Err(error) => panic!("{error}"),
        },
        ANNOUNCE => Wakeup::Announce(decoder.array("writers").expect("writers")),
        INFO => Wakeup::Info {
            is_active: decoder.flags(1, "flags").expect("flags") & 1 != 0,
        },
        other => panic!("type {other}"),
    };
    assert!(decoder.is_empty(), "{decoded:?} and more");
    decoded
}

fn options(pair: &Pair, is_active: bool) -> ChannelOptions {
    let by_us = pair.handle.is_initiator();
    let handshake = Handshake::of(&pair.handle, by_us, is_active);
    ChannelOptions::new(PROTOCOL)
        .id(topic())
        .handshake(handshake.encode().expect("a handshake"))
}

fn topic() -> DiscoveryKey {
    discovery_key(&Key::new(CAPABILITY))
}

/// Asserts that this is Node's handshake for this connection.
fn assert_proved(pair: &Pair, handshake: &Buffer, is_active: bool) {
    let by_node = !pair.handle.is_initiator();
    let expected = Handshake::of(&pair.handle, by_node, is_active);
    let handshake = Handshake::decode(handshake).expect("a handshake");
    assert_eq!(handshake.trailing, 0, "{}", pair.role);
    assert_eq!(handshake.value, expected, "{}", pair.role);
}

#[tokio::test]
async fn node_opens_the_topic_and_we_answer() {
    in_each_role(async |mut pair| {
        pair.handle.pair(PROTOCOL, None);
        let session = json!({ "capability": hex(CAPABILITY) });
        pair.ask("wakeup.session", session).await;
        pair.ask("wakeup.start", json!({})).await;
        let open = pair.remote_open().await;
        assert_eq!(open.protocol, PROTOCOL, "{}", pair.role);
        assert_eq!(open.id.as_deref(), Some(&topic()[..]), "{}", pair.role);
        assert_proved(&pair, &open.handshake, true);

        let channel = pair.handle.open_channel(options(&pair, false));
        let channel = channel.expect("an open channel");
        let peer = pair.node.event("wakeup.peerAdd").await;
        assert_eq!(peer["active"], false, "{}", pair.role);
        messages_pass(&mut pair, &channel).await;

        // Node drops the topic.
        pair.ask("wakeup.teardown", json!({})).await;
        let reason = soon(channel.closed()).await;
        assert_eq!(reason, CloseReason::Remote, "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn we_open_the_topic_and_node_answers() {
    in_each_role(async |mut pair| {
        // An inactive session opens no channel itself.
        let session = json!({ "capability": hex(CAPABILITY), "active": false });
        pair.ask("wakeup.session", session).await;
        pair.ask("wakeup.start", json!({})).await;
        let channel = pair.handle.open_channel(options(&pair, true));
        let channel = channel.expect("an open channel");
        let handshake = soon(channel.opened()).await;
        let handshake = handshake.expect("an open channel");
        assert_proved(&pair, &handshake, false);
        let peer = pair.node.event("wakeup.peerAdd").await;
        assert_eq!(peer["active"], true, "{}", pair.role);
        pair.node.event("wakeup.peerActive").await;
        pair.ask("wakeup.active", json!({})).await;
        let info = recv(&channel).await;
        assert_eq!(info, Wakeup::Info { is_active: true }, "{}", pair.role);
        send(&channel, &Wakeup::Info { is_active: false }).await;
        pair.node.event("wakeup.peerInactive").await;
        messages_pass(&mut pair, &channel).await;

        // We leave.
        channel.close();
        pair.node.event("wakeup.peerRemove").await;
    })
    .await;
}

/// Each message both ways, on a channel where Node is active and we are not.
async fn messages_pass(pair: &mut Pair, channel: &MuxChannel) {
    let role = pair.role;
    for hash in [None, Some([9; 32])] {
        send(channel, &Wakeup::Lookup(hash)).await;
        let lookup = pair.node.event("wakeup.lookup").await;
        assert_eq!(lookup["hash"], json!(hash.map(hex)), "{role}");
        let input = json!({ "hash": hash.map(hex) });
        pair.ask("wakeup.lookup", input).await;
        assert_eq!(recv(channel).await, Wakeup::Lookup(hash), "{role}");
    }

    for count in [0, 1, 300] {
        let writers = || (0..count).map(|length: u64| ([length as u8; 32], length));
        let shown = writers().map(|(key, length)| json!({ "key": hex(key), "length": length }));
        let shown: Vec<_> = shown.collect();
        let writers = || writers().map(|(key, length)| Writer { key, length });
        send(channel, &Wakeup::Announce(writers().collect())).await;
        let announce = pair.node.event("wakeup.announce").await;
        assert_eq!(announce["writers"], json!(shown), "{role}");
        pair.ask("wakeup.announce", json!({ "writers": shown }))
            .await;
        let announce = recv(channel).await;
        assert_eq!(announce, Wakeup::Announce(writers().collect()), "{role}");
    }

    send(channel, &Wakeup::Info { is_active: true }).await;
    pair.node.event("wakeup.peerActive").await;
    send(channel, &Wakeup::Info { is_active: false }).await;
    pair.node.event("wakeup.peerInactive").await;
    for is_active in [false, true] {
        let op = if is_active {
            "wakeup.active"
        } else {
            "wakeup.inactive"
        };
        pair.ask(op, json!({})).await;
        assert_eq!(recv(channel).await, Wakeup::Info { is_active }, "{role}");
    }
}

#[tokio::test]
async fn an_unknown_topic_is_rejected() {
    in_each_role(async |mut pair| {
        pair.ask("wakeup.start", json!({})).await;
        let channel = pair.handle.open_channel(options(&pair, true));
        let channel = channel.expect("an open channel");
        let opened = soon(channel.opened()).await;
        assert_eq!(opened, Err(CloseReason::Rejected), "{}", pair.role);
        let unknown = pair.node.event("wakeup.unknown").await;
        assert_eq!(unknown["discoveryKey"], hex(topic()), "{}", pair.role);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_proof_is_told_by_a_close() {
    in_each_role(async |mut pair| {
        let session = json!({ "capability": hex(CAPABILITY), "active": false });
        pair.ask("wakeup.session", session).await;
        pair.ask("wakeup.start", json!({})).await;
        // The other side's handshake, reflected.
        let by_node = !pair.handle.is_initiator();
        let handshake = Handshake::of(&pair.handle, by_node, true);
        let options = ChannelOptions::new(PROTOCOL)
            .id(topic())
            .handshake(handshake.encode().expect("a handshake"));
        let channel = pair.handle.open_channel(options).expect("an open channel");
        let reason = soon(channel.closed()).await;
        assert_eq!(reason, CloseReason::Remote, "{}", pair.role);
    })
    .await;
}
