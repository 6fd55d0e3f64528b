use proptest::prelude::*;

use super::*;
use crate::class::{ErrorClass, Layer};
use crate::encoding::{Encode, Encoder};
use crate::mux::{Batch, Packet};
use crate::wire::{Range, Request, Want};
use crate::{keys, wire};

pub(super) const KEY: Key = Key::new([7; 32]);
const OTHER: Key = Key::new([8; 32]);
const ZERO: Duration = Duration::ZERO;

pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) now: Duration,
    events: Vec<ConnectionEvent>,
    pub(super) error: Option<Error>,
}

impl Peer {
    pub(super) fn new(is_initiator: bool) -> Self {
        Self::with(config(is_initiator))
    }

    pub(super) fn with(config: ConnectionConfig) -> Self {
        Self {
            connection: Connection::new(config, ZERO),
            now: ZERO,
            events: Vec::new(),
            error: None,
        }
    }

    pub(super) fn drain(&mut self) {
        loop {
            match self.connection.poll_event() {
                Ok(Some(event)) => self.events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert!(self.error.is_none(), "an error is reported once");
                    self.error = Some(error);
                }
            }
        }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.connection.swap_transmit(&mut bytes, self.now);
        bytes
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.connection.receive(bytes, self.now);
        self.drain();
    }

    pub(super) fn events(&mut self) -> Vec<ConnectionEvent> {
        self.drain();
        std::mem::take(&mut self.events)
    }

    fn messages(&mut self) -> Vec<Message> {
        let events = self.events();
        events
            .into_iter()
            .filter_map(|event| match event {
                ConnectionEvent::Message { message, .. } => Some(message),
                _ => None,
            })
            .collect()
    }

    fn fault(&self) -> (Layer, ErrorClass) {
        let error = self.error.as_ref().expect("no fault");
        (error.layer(), error.class())
    }
}

pub(super) fn config(is_initiator: bool) -> ConnectionConfig {
    let mut config = ConnectionConfig::new(is_initiator);
    let seed = if is_initiator { 1 } else { 2 };
    config.transport.key_pair = Some(keys::KeyPair::from_seed(&[seed; 32]));
    config
}

pub(super) fn settle(a: &mut Peer, b: &mut Peer) {
    a.drain();
    b.drain();
    loop {
        let (to_b, to_a) = (a.take(), b.take());
        if to_a.is_empty() && to_b.is_empty() {
            return;
        }
        b.receive(&to_b);
        a.receive(&to_a);
    }
}

pub(super) fn pair() -> (Peer, Peer) {
    let (mut a, mut b) = (Peer::new(true), Peer::new(false));
    settle(&mut a, &mut b);
    assert!(matches!(a.events()[..], [ConnectionEvent::Handshake(_)]));
    assert!(matches!(b.events()[..], [ConnectionEvent::Handshake(_)]));
    (a, b)
}

/// A pair with one open channel.
pub(super) fn channel() -> (Peer, Peer, ChannelHandle, ChannelHandle) {
    let (mut a, mut b) = pair();
    let here = a.connection.open(KEY).unwrap();
    let there = b.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    a.events();
    b.events();
    (a, b, here, there)
}

fn want(start: u64) -> Message {
    Want {
        start,
        length: 1,
        any: false,
    }
    .into()
}

pub(super) fn open_packet(id: u64, protocol: &str, channel_id: &[u8], handshake: &[u8]) -> Vec<u8> {
    Packet::Open {
        id,
        protocol: protocol.to_owned(),
        channel_id: Some(Buffer::copy_from(channel_id)),
        handshake: Buffer::copy_from(handshake),
    }
    .encode()
    .unwrap()
}

pub(super) fn sends(a: &mut Peer, b: &mut Peer, plaintext: &[u8]) {
    a.connection
        .send_plaintext_for_testing_only(plaintext)
        .unwrap();
    settle(a, b);
}

#[test]
fn both_sides_open_and_talk() {
    let (mut a, mut b) = pair();
    let here = a.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    let discovery_key = keys::discovery_key(&KEY);
    assert_eq!(b.events(), [ConnectionEvent::DiscoveryKey(discovery_key)]);
    assert_eq!(
        a.connection.send(here, &want(0)),
        Err(ChannelError::NotOpen.into()),
        "nothing is said to a peer that has not proved to know the key"
    );
    let there = b.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    for (peer, handle) in [(&mut a, here), (&mut b, there)] {
        match &peer.events()[..] {
            [
                ConnectionEvent::ChannelOpened {
                    channel,
                    key,
                    discovery_key: dk,
                    handshake,
                    handshake_bytes,
                    unread: _,
                    local_id,
                    remote_id,
                },
            ] => {
                assert_eq!((*channel, *key, *dk), (handle, KEY, discovery_key));
                assert!(handshake.seeks);
                assert_eq!(handshake.encode().unwrap(), handshake_bytes.to_vec());
                assert_eq!((*local_id, *remote_id), (1, 1));
            }
            other => panic!("{other:?}"),
        }
    }
    a.connection.send(here, &want(5)).unwrap();
    b.connection
        .send(there, &Message::Request(Request::default()))
        .unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.messages(), [want(5)]);
    assert_eq!(a.messages(), [Message::Request(Request::default())]);

    a.connection.close(here);
    a.connection.close(here);
    assert_eq!(
        a.connection.send(here, &want(0)),
        Err(ChannelError::Closed.into())
    );
    settle(&mut a, &mut b);
    let closed = |channel, reason| ConnectionEvent::ChannelClosed {
        channel,
        discovery_key,
        reason,
    };
    assert_eq!(a.events(), [closed(here, CloseReason::Local)]);
    assert_eq!(b.events(), [closed(there, CloseReason::Remote)]);
    a.connection.open(KEY).unwrap();
}

#[test]
fn what_is_sent_early_waits_at_the_peer() {
    let (mut a, mut b) = pair();
    let here = a.connection.open(KEY).unwrap();
    let extension = Message::from(wire::Extension {
        name: "x".into(),
        message: vec![1].into(),
    });
    a.connection.send_early(here, &want(1)).unwrap();
    a.connection.send_early(here, &extension).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.events().len(), 1, "the discovery key");
    b.connection.open(KEY).unwrap();
    assert_eq!(b.messages(), [want(1), extension]);
    let mut early = Peer::new(true);
    let handle = early.connection.open(KEY).unwrap();
    assert_eq!(
        early.connection.send_early(handle, &want(1)),
        Err(ChannelError::NotOpen.into())
    );
}

#[test]
fn channels_opened_before_the_handshake_wait_for_it() {
    let (mut a, mut b) = (Peer::new(true), Peer::new(false));
    a.connection.open(KEY).unwrap();
    b.connection.open(KEY).unwrap();
    let closed = a.connection.open(OTHER).unwrap();
    assert_eq!(
        a.connection.open(KEY),
        Err(ChannelError::AlreadyOpen.into())
    );
    a.connection.close(closed);
    settle(&mut a, &mut b);
    let kinds = |peer: &mut Peer| {
        peer.events()
            .iter()
            .map(|event| match event {
                ConnectionEvent::Handshake(_) => 'h',
                ConnectionEvent::ChannelOpened { .. } => 'o',
                ConnectionEvent::ChannelClosed { .. } => 'c',
                _ => '?',
            })
            .collect::<String>()
    };
    assert_eq!(kinds(&mut a), "cho");
    assert_eq!(kinds(&mut b), "ho");
}

#[test]
fn many_channels_at_once_keep_apart() {
    let (mut a, mut b) = pair();
    let keys: Vec<Key> = (0..20).map(|n| Key::new([n; 32])).collect();
    let here: Vec<_> = keys
        .iter()
        .map(|key| a.connection.open(*key).unwrap())
        .collect();
    for key in keys.iter().rev() {
        b.connection.open(*key).unwrap();
    }
    settle(&mut a, &mut b);
    let opened: HashMap<ChannelHandle, Key> = b
        .events()
        .into_iter()
        .filter_map(|event| match event {
            ConnectionEvent::ChannelOpened { channel, key, .. } => Some((channel, key)),
            _ => None,
        })
        .collect();
    for (n, handle) in here.iter().enumerate() {
        a.connection.send(*handle, &want(n as u64)).unwrap();
    }
    settle(&mut a, &mut b);
    for (n, event) in b.events().into_iter().enumerate() {
        match event {
            ConnectionEvent::Message {
                channel, message, ..
            } => {
                assert_eq!(opened[&channel], keys[n]);
                assert_eq!(message, want(n as u64));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_rejected_channel_says_so() {
    let (mut a, mut b) = pair();
    let here = a.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    let discovery_key = keys::discovery_key(&KEY);
    b.connection.reject(&keys::discovery_key(&OTHER));
    b.connection.reject(&discovery_key);
    b.connection.reject(&discovery_key);
    settle(&mut a, &mut b);
    assert_eq!(
        a.events(),
        [ConnectionEvent::ChannelClosed {
            channel: here,
            discovery_key,
            reason: CloseReason::Rejected
        }]
    );
    assert!(a.error.is_none() && b.error.is_none());
}

#[test]
fn other_protocols_and_second_opens_are_rejected() {
    let (mut a, mut b, ..) = channel();
    let discovery_key = keys::discovery_key(&KEY);
    for (protocol, id) in [
        ("unknown", &discovery_key[..]),
        ("hypercore/alpha", b"short"),
        ("hypercore/alpha", b""),
        ("hypercore/alpha", &discovery_key),
        ("hypercore", &discovery_key),
    ] {
        // Straight into the mux, so that its reject finds an open.
        let open = open_packet(2, protocol, id, &[]);
        a.connection.send_plaintext_for_testing_only(&open).unwrap();
        let bytes = a.take();
        b.receive(&bytes);
        assert_eq!(b.events(), []);
        let reply = b.take();
        assert!(!reply.is_empty(), "{protocol}");
    }
    assert_eq!(b.connection.ignored().rejected_opens, 5);
    assert!(b.error.is_none());
}

#[test]
fn a_wrong_capability_ends_the_stream() {
    let (mut a, mut b) = pair();
    b.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    a.events();
    let info = a.connection.handshake().cloned().unwrap();
    let discovery_key = keys::discovery_key(&KEY);
    let right = keys::capability(info.is_initiator, &KEY, &info.hash);
    let reflected = keys::capability(!info.is_initiator, &KEY, &info.hash);
    let mut almost = right;
    almost[31] ^= 1;
    for capability in [reflected, almost] {
        let (mut c, mut d) = pair();
        d.connection.open(KEY).unwrap();
        let handshake = Handshake {
            seeks: true,
            capability,
        };
        let open = open_packet(
            1,
            "hypercore/alpha",
            &discovery_key,
            &handshake.encode().unwrap(),
        );
        sends(&mut c, &mut d, &open);
        assert_eq!(d.fault(), (Layer::Channel, ErrorClass::InvalidCapability));
        assert!(d.connection.is_ended());
        assert!(matches!(
            d.events()[..],
            [ConnectionEvent::ChannelClosed {
                reason: CloseReason::Stream,
                ..
            }]
        ));
    }
    for length in [0, 1, 32] {
        let (mut c, mut d) = pair();
        d.connection.open(KEY).unwrap();
        let open = open_packet(1, "hypercore/alpha", &discovery_key, &[0; 33][..length]);
        sends(&mut c, &mut d, &open);
        assert_eq!(d.fault(), (Layer::Channel, ErrorClass::OutOfBounds));
    }
}

#[test]
fn an_open_by_the_alias_is_the_same_channel() {
    for local_first in [true, false] {
        let (mut a, mut b) = pair();
        if local_first {
            b.connection.open(KEY).unwrap();
            settle(&mut a, &mut b);
        }
        let info = a.connection.handshake().cloned().unwrap();
        let handshake = Handshake {
            seeks: false,
            capability: keys::capability(true, &KEY, &info.hash),
        };
        let open = open_packet(
            1,
            "hypercore",
            &keys::discovery_key(&KEY),
            &handshake.encode().unwrap(),
        );
        let bytes = {
            a.connection.send_plaintext_for_testing_only(&open).unwrap();
            a.take()
        };
        b.receive(&bytes);
        if !local_first {
            b.connection.open(KEY).unwrap();
        }
        assert!(b.events().iter().any(|event| matches!(
            event,
            ConnectionEvent::ChannelOpened { handshake, .. } if !handshake.seeks
        )));
    }
}

#[test]
fn extension_names_are_left_out_and_put_back() {
    let (mut a, mut b, here, _) = channel();
    let extension = |name: &str, message: &'static [u8]| -> Message {
        wire::Extension {
            name: name.into(),
            message: message.into(),
        }
        .into()
    };
    let sent = [
        extension("one", b"1"),
        extension("one", b"2"),
        extension("two", b"3"),
        extension("one", b"4"),
    ];
    let mut lengths = Vec::new();
    for message in &sent {
        a.connection.send(here, message).unwrap();
        lengths.push(a.connection.transmit().len());
    }
    assert_eq!(lengths[1] - lengths[0], lengths[0] - 3, "without its name");
    settle(&mut a, &mut b);
    assert_eq!(b.messages(), sent);
    // A message that could not be sent does not count as the last.
    let huge = vec![0; crate::transport::MAX_PLAINTEXT_BYTES];
    let error = a
        .connection
        .send_extension(here, "three", &huge)
        .unwrap_err();
    assert_eq!(
        (error.layer(), error.class()),
        (Layer::Mux, ErrorClass::TooLarge)
    );
    a.connection.send_extension(here, "three", b"").unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.messages(), [extension("three", b"")]);
}

#[test]
fn a_batch_is_one_record() {
    let (mut a, mut b, here, _) = channel();
    let messages: Vec<_> = (0..10).map(want).collect();
    a.connection.send_batch(here, &messages).unwrap();
    let bytes = a.take();
    assert_eq!(
        usize::from(bytes[0]) + 3,
        bytes.len(),
        "one frame is all there is"
    );
    b.receive(&bytes);
    assert_eq!(b.messages(), messages);
}

#[test]
fn malformed_messages_end_the_stream_after_what_came_before() {
    let (mut a, mut b, here, _) = channel();
    a.connection.send(here, &want(1)).unwrap();
    a.connection
        .send_plaintext_for_testing_only(&[1, 5, 3])
        .unwrap();
    a.connection.send(here, &want(2)).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.messages(), [want(1)]);
    assert_eq!(b.fault(), (Layer::Message, ErrorClass::OutOfBounds));
}

#[test]
fn unknown_messages_are_counted_and_ignored() {
    let (mut a, mut b, here, _) = channel();
    for record in [&[1, 10, 1][..], &[9, 0], &[0, 4], &[0, 3, 9], &[]] {
        sends(&mut a, &mut b, record);
    }
    a.connection.send(here, &want(1)).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.messages(), [want(1)]);
    let ignored = b.connection.ignored();
    assert_eq!(ignored.unknown_messages, 1);
    assert_eq!(ignored.mux.messages, 1);
    assert_eq!(ignored.mux.controls, 1);
    assert_eq!(ignored.mux.closes, 1);
    assert_eq!(ignored.mux.empty_records, 1);
}

#[test]
fn hostile_records_are_typed_errors() {
    for (record, layer, class) in [
        (
            &b"\x00\x01\xff\0\0\0\0\x02\0\0\0\x01a\0"[..],
            Layer::Mux,
            ErrorClass::InvalidOpen,
        ),
        (
            b"\x00\x01\xff\0\0\0\0\0\0\0\x40\x01a\0",
            Layer::Mux,
            ErrorClass::UnsafeInteger,
        ),
        (b"\x00\x02\x05", Layer::Mux, ErrorClass::InvalidReject),
        (b"\x00\x01\x00\x01a\0", Layer::Mux, ErrorClass::InvalidOpen),
        (b"\x01", Layer::Mux, ErrorClass::OutOfBounds),
        // Data with 2^32 nodes, and with 2^60.
        (
            b"\x01\x03\x02\x01\0\x05\xfe\xff\xff\xff\xff",
            Layer::Message,
            ErrorClass::ArrayTooBig,
        ),
        (
            b"\x01\x03\x02\x01\0\x05\xff\0\0\0\0\0\0\0\x10",
            Layer::Message,
            ErrorClass::UnsafeInteger,
        ),
        // A bitfield of 2^31 words.
        (
            b"\x01\x07\x00\xfe\0\0\0\x80",
            Layer::Message,
            ErrorClass::OutOfBounds,
        ),
    ] {
        let (mut a, mut b, ..) = channel();
        sends(&mut a, &mut b, record);
        assert_eq!(b.fault(), (layer, class), "{record:02x?}");
    }
    let mut nested = vec![0, 0, 0];
    for _ in 0..3000 {
        let mut inner = Vec::new();
        Encoder::new(&mut inner)
            .buffer(&nested[1..], "item")
            .unwrap();
        nested = [&[0, 0, 0], &inner[..]].concat();
    }
    let (mut a, mut b, ..) = channel();
    sends(&mut a, &mut b, &nested);
    assert_eq!(b.fault(), (Layer::Mux, ErrorClass::NestingTooDeep));
}

#[test]
fn a_flood_of_opens_is_answered_in_pieces() {
    let (mut a, mut b) = pair();
    let packets: Vec<_> = (1..=100_000)
        .map(|id| Packet::Open {
            id,
            protocol: String::new(),
            channel_id: None,
            handshake: Buffer::new(),
        })
        .collect();
    let flood = Batch(&packets).encode().unwrap();
    a.connection
        .send_plaintext_for_testing_only(&flood)
        .unwrap();
    let bytes = a.take();
    b.receive(&bytes);
    let mut most = 0;
    let mut rounds = 0;
    loop {
        let answers = b.take();
        if answers.is_empty() {
            break;
        }
        most = most.max(answers.len());
        rounds += 1;
        assert!(rounds < 100);
        b.drain();
    }
    assert!(most < 2 * Limits::default().max_answers, "{most}");
    assert_eq!(b.connection.ignored().rejected_opens, 100_000);
    assert!(b.connection.wants_input());
}

#[test]
fn unanswered_channels_with_too_much_on_them_stop_the_reading_until_answered() {
    let (mut a, mut b) = pair();
    let open = open_packet(1, "hypercore/alpha", &[3; 32], &[]);
    sends(&mut a, &mut b, &open);
    for _ in 0..50 {
        sends(&mut a, &mut b, &[&[1, 0][..], &[0; 1000]].concat());
    }
    assert!(!b.connection.wants_input());
    b.connection.reject(&DiscoveryKey::new([3; 32]));
    b.drain();
    assert!(b.connection.wants_input());

    // The peer goes away without waiting for the answer.
    let (mut a, mut b) = pair();
    sends(&mut a, &mut b, &open);
    for _ in 0..50 {
        sends(&mut a, &mut b, &[&[1, 0][..], &[0; 1000]].concat());
    }
    b.events();
    b.connection.receive_end();
    assert_eq!(b.events(), [ConnectionEvent::End(End::Clean)]);
}

#[test]
fn ends_are_told_apart() {
    let (_, mut b, ..) = channel();
    b.connection.receive_end();
    assert!(matches!(
        b.events()[..],
        [
            ConnectionEvent::End(End::Clean),
            ConnectionEvent::ChannelClosed {
                reason: CloseReason::Stream,
                ..
            }
        ]
    ));
    assert_eq!(
        b.connection.open(OTHER),
        Err(ConnectionError::Closed.into())
    );

    let (mut a, mut b, here, _) = channel();
    a.connection.send(here, &want(1)).unwrap();
    let bytes = a.take();
    b.receive(&bytes[..bytes.len() - 1]);
    b.connection.receive_end();
    b.drain();
    assert_eq!(b.fault(), (Layer::Frame, ErrorClass::Truncated));

    let mut b = Peer::new(false);
    b.connection.receive_end();
    assert_eq!(b.events(), [ConnectionEvent::End(End::BeforeHandshake)]);
}

#[test]
fn a_bad_configuration_is_the_first_thing_reported() {
    let mut config = config(true);
    config.transport.pattern = crate::Pattern::IK;
    let mut peer = Peer::with(config);
    peer.drain();
    assert_eq!(peer.fault().0, Layer::Noise);
    assert!(peer.connection.is_ended());
}

#[test]
fn deadlines() {
    let second = Duration::from_secs(1);
    let mut peer = Peer::new(false);
    assert_eq!(peer.connection.next_deadline(), Some(30 * second));
    peer.connection.handle_timeout(29 * second);
    peer.drain();
    assert!(peer.error.is_none());
    peer.connection.handle_timeout(30 * second);
    peer.drain();
    assert_eq!(
        peer.error,
        Some(ConnectionError::HandshakeTimeout(30 * second).into())
    );
    assert_eq!(peer.connection.next_deadline(), None);

    let (mut a, mut b, here, _) = channel();
    assert_eq!(a.connection.next_deadline(), Some(5 * second));
    a.now = 3 * second;
    a.connection.send(here, &want(1)).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(a.connection.next_deadline(), Some(8 * second), "put off");
    a.connection.handle_timeout(7 * second);
    assert!(a.connection.transmit().is_empty());
    a.connection.handle_timeout(8 * second);
    assert_eq!(a.connection.transmit().len(), 20, "an empty record");
    settle(&mut a, &mut b);
    assert_eq!(b.messages().len(), 1);
    assert_eq!(b.connection.ignored().mux.empty_records, 1);

    let mut config = config(false);
    config.idle_timeout = Some(10 * second);
    let (mut a, mut b) = (Peer::new(true), Peer::with(config));
    b.now = second;
    settle(&mut a, &mut b);
    b.connection.handle_timeout(10 * second);
    b.drain();
    assert!(b.error.is_none());
    b.connection.handle_timeout(11 * second);
    b.drain();
    assert_eq!(
        b.error,
        Some(ConnectionError::IdleTimeout(10 * second).into())
    );
}

#[test]
fn small_messages_of_large_records_do_not_hold_them() {
    let (mut a, mut b, ..) = channel();
    let block = wire::Data {
        request: 1,
        block: Some(wire::DataBlock {
            index: 0,
            value: vec![1; 10].into(),
            nodes: Vec::new(),
        }),
        ..wire::Data::default()
    };
    let record = Batch(&[
        Packet::Message {
            channel: 1,
            kind: 3,
            body: block.encode().unwrap().into(),
        },
        Packet::Message {
            channel: 5,
            kind: 0,
            body: vec![0; 1_000_000].into(),
        },
    ])
    .encode()
    .unwrap();
    sends(&mut a, &mut b, &record);
    assert_eq!(b.messages(), [Message::Data(block)]);
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (0..1u64 << 40).prop_map(want),
        (0..9u64, 0..9u64).prop_map(|(start, length)| Range {
            drop: false,
            start,
            length
        }
        .into()),
        ("[a-c]?", prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(name, message)| {
            wire::Extension {
                name: format!("x{name}").into(),
                message: message.into(),
            }
            .into()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_arrives_in_any_chunking(
        messages in prop::collection::vec(message(), 0..20),
        chunk in 1..300usize,
        corked in any::<bool>(),
    ) {
        let (mut a, mut b, here, _) = channel();
        if corked {
            a.connection.send_batch(here, &messages).unwrap();
        } else {
            for message in &messages {
                a.connection.send(here, message).unwrap();
            }
        }
        for bytes in a.take().chunks(chunk) {
            b.receive(bytes);
        }
        prop_assert_eq!(b.messages(), messages);
    }

    #[test]
    fn no_plaintext_panics(records in prop::collection::vec(prop::collection::vec(
        prop_oneof![3 => 0..10u8, 1 => any::<u8>()], 0..60), 1..10)) {
        let (mut a, mut b, ..) = channel();
        for record in &records {
            // One way only: the answers to what nobody opened are not for an honest sender.
            a.connection.send_plaintext_for_testing_only(record).unwrap();
            let bytes = a.take();
            b.receive(&bytes);
            b.take();
            if b.error.is_some() {
                break;
            }
        }
    }

    #[test]
    fn no_bytes_panic(position in 0..400usize, flip in 1..=255u8, garbage in prop::collection::vec(any::<u8>(), 0..80)) {
        let (mut a, mut b) = (Peer::new(true), Peer::new(false));
        a.connection.open(KEY).unwrap();
        b.connection.open(KEY).unwrap();
        let mut seen = 0;
        for _ in 0..6 {
            let mut bytes = a.take();
            if let Some(at) = position.checked_sub(seen) {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= flip;
                }
            }
            seen += bytes.len();
            b.receive(&bytes);
            let bytes = b.take();
            a.receive(&bytes);
        }
        b.receive(&garbage);
        b.connection.receive_end();
        b.drain();
        prop_assert!(b.connection.is_ended());
    }
}

/// A carrier that encrypts by itself leaves room for 17 bytes more in each record, and the limit is the carrier's.
#[test]
fn without_encryption_a_message_may_fill_a_whole_frame() {
    let peer = |is_initiator| {
        let mut config = config(is_initiator);
        config.transport.mode = crate::transport::Mode::Unencrypted {
            handshake_hash: [3; 64],
        };
        Peer::with(config)
    };
    let (mut a, mut b) = (peer(true), peer(false));
    let options = ChannelOptions::new("chat");
    let channel = a.connection.open_channel(&options).unwrap();
    b.connection.open_channel(&options).unwrap();
    settle(&mut a, &mut b);
    b.events();
    // The ids of channel and type take a byte each.
    let body = vec![7; 0xff_ffff - 2 + 1];
    let Err(Error::Mux(error)) = a.connection.send_raw(channel, 0, &body) else {
        panic!("it does not fit");
    };
    let (length, limit) = (0x100_0000, 0xff_ffff);
    assert_eq!(error, mux::MuxError::TooLarge { length, limit });
    a.connection.send_raw(channel, 0, &body[1..]).unwrap();
    settle(&mut a, &mut b);
    let [ConnectionEvent::MuxMessage { body, .. }] = &b.events()[..] else {
        panic!("one message");
    };
    assert_eq!(body.len(), 0xff_ffff - 2);
}
