use proptest::prelude::*;

use super::*;
use crate::class::ErrorClass;
use crate::encoding::{Encoder, Reading};
use crate::frame;

const PROTOCOL: &str = "test";

fn hex(text: &str) -> Buffer {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    bytes.into()
}

struct Peer {
    mux: Mux,
    sent: Vec<Buffer>,
    events: Vec<MuxEvent>,
}

impl Peer {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            mux: Mux::new(limits),
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    fn open(&mut self, protocol: &str, id: Option<&[u8]>) -> ChannelId {
        self.open_with(protocol, &[], id, true).unwrap()
    }

    fn open_with(
        &mut self,
        protocol: &str,
        aliases: &[&str],
        id: Option<&[u8]>,
        unique: bool,
    ) -> Result<ChannelId, MuxError> {
        let channel = self.mux.open(&OpenOptions {
            protocol,
            aliases,
            id,
            unique,
            handshake: &Raw(&[]),
        });
        self.drain().unwrap();
        channel
    }

    fn drain(&mut self) -> Result<(), MuxError> {
        while let Some(event) = self.mux.poll_event()? {
            self.events.push(event);
        }
        Ok(())
    }

    fn receive(&mut self, record: Buffer) -> Result<Vec<MuxEvent>, MuxError> {
        self.mux.receive(record);
        self.drain()?;
        Ok(std::mem::take(&mut self.events))
    }

    fn send(&mut self, channel: ChannelId, kind: u64, body: &[u8]) {
        self.mux.send(channel, kind, &Raw(body)).unwrap();
    }

    fn coalesce(&mut self, channel: ChannelId, kind: u64, body: &[u8]) {
        self.mux.send_coalesced(channel, kind, &Raw(body)).unwrap();
    }

    /// The records that were sent, and stay here.
    fn records(&mut self) -> &mut Vec<Buffer> {
        self.sent
            .extend(std::iter::from_fn(|| self.mux.poll_transmit()));
        &mut self.sent
    }

    fn take(&mut self) -> Vec<Buffer> {
        std::mem::take(self.records())
    }

    fn close(&mut self, channel: ChannelId) {
        self.mux.close(channel).unwrap();
        self.drain().unwrap();
    }

    /// Closes, and expects nothing but the report of it.
    fn close_quietly(&mut self, channel: ChannelId) {
        self.close(channel);
        let reason = CloseReason::Local;
        let events = std::mem::take(&mut self.events);
        assert_eq!(events, [MuxEvent::Closed { channel, reason }]);
    }

    fn sent(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        for record in self.take() {
            let mut reader = RecordReader::new(record, 1);
            while let Some(packet) = reader.next_packet().unwrap() {
                packets.push(packet);
            }
        }
        packets
    }

    fn class(&mut self, record: &str) -> ErrorClass {
        self.receive(hex(record)).unwrap_err().class()
    }
}

/// Moves records between two peers until both are silent.
fn settle(a: &mut Peer, b: &mut Peer) {
    while !a.records().is_empty() || !b.records().is_empty() {
        for record in a.take() {
            b.mux.receive(record);
            b.drain().unwrap();
        }
        for record in b.take() {
            a.mux.receive(record);
            a.drain().unwrap();
        }
    }
}

fn open_record(id: u64, protocol: &str) -> Buffer {
    Packet::Open {
        id,
        protocol: protocol.to_owned(),
        channel_id: None,
        handshake: Buffer::new(),
    }
    .encode()
    .unwrap()
    .into()
}

fn control(packet: &Packet) -> Buffer {
    packet.encode().unwrap().into()
}

fn message(channel: u64, kind: u64, body: &[u8]) -> Buffer {
    Packet::Message {
        channel,
        kind,
        body: Buffer::copy_from(body),
    }
    .encode()
    .unwrap()
    .into()
}

fn pending(events: &[MuxEvent]) -> PendingId {
    match events {
        [MuxEvent::RemoteOpen { pending, .. }] => *pending,
        other => panic!("no single open: {other:?}"),
    }
}

fn bodies(events: &[MuxEvent]) -> Vec<(u64, Vec<u8>)> {
    events
        .iter()
        .filter_map(|event| match event {
            MuxEvent::Message { kind, body, .. } => Some((*kind, body.to_vec())),
            _ => None,
        })
        .collect()
}

#[test]
fn two_peers_open_talk_and_close() {
    let (mut a, mut b) = (Peer::new(), Peer::new());
    let here = a.open(PROTOCOL, Some(b"id"));
    let there = b.open(PROTOCOL, Some(b"id"));
    settle(&mut a, &mut b);
    assert!(
        matches!(a.events[..], [MuxEvent::Opened { channel, remote: 1, .. }] if channel == here)
    );
    assert!(
        matches!(b.events[..], [MuxEvent::Opened { channel, remote: 1, .. }] if channel == there)
    );
    a.events.clear();
    b.events.clear();

    a.send(here, 3, b"hello");
    settle(&mut a, &mut b);
    assert_eq!(bodies(&b.events), [(3, b"hello".to_vec())]);
    b.events.clear();

    a.close(here);
    settle(&mut a, &mut b);
    assert_eq!(
        a.events,
        [MuxEvent::Closed {
            channel: here,
            reason: CloseReason::Local
        }]
    );
    assert_eq!(
        b.events,
        [MuxEvent::Closed {
            channel: there,
            reason: CloseReason::Remote
        }]
    );
    assert_eq!(
        a.open(PROTOCOL, Some(b"id")).local(),
        1,
        "the id is free again"
    );
    assert!(
        !a.mux.is_live(here),
        "an old name never means a new channel"
    );
    assert!(a.mux.names.len() == 1 && b.mux.names.is_empty() && b.mux.pairs.is_empty());
}

#[test]
fn bytes_of_each_control_message() {
    let mut peer = Peer::new();
    let channel = peer.open("ab", Some(&[7]));
    peer.send(channel, 300, &[9]);
    peer.mux.cork();
    peer.send(channel, 0, &[1]);
    peer.send(channel, 1, &[]);
    peer.close(channel);
    peer.mux.uncork();
    assert_eq!(
        *peer.records(),
        [
            hex("00 01 01 02 6162 01 07"),
            hex("01 fd2c01 09"),
            hex("00 00 01 02 0001 01 01 00 00 02 0301"),
        ]
    );
}

#[test]
fn a_batch_equals_what_the_packets_encode_to() {
    let mut peer = Peer::new();
    let one = peer.open("one", None);
    let two = peer.open("two", None);
    peer.records().clear();
    let messages = [(one, 0, "x"), (one, 1, ""), (two, 2, "yy"), (one, 0, "z")];
    peer.mux.cork();
    for (channel, kind, body) in messages {
        peer.send(channel, kind, body.as_bytes());
    }
    peer.mux.uncork();
    let packets = messages.map(|(channel, kind, body)| Packet::Message {
        channel: channel.local(),
        kind,
        body: Buffer::from(body),
    });
    assert_eq!(peer.records()[0], Batch(&packets).encode().unwrap());
    assert_eq!(peer.sent(), packets);
}

#[test]
fn corks_nest_and_an_empty_batch_is_not_sent() {
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.records().clear();
    peer.mux.cork();
    peer.mux.cork();
    peer.send(channel, 0, b"a");
    peer.mux.uncork();
    assert!(peer.records().is_empty());
    peer.mux.uncork();
    assert_eq!(peer.records().len(), 1);
    peer.mux.cork();
    peer.mux.uncork();
    peer.mux.uncork();
    assert_eq!(peer.records().len(), 1);
}

#[test]
fn what_is_coalesced_leaves_as_one_batch_and_alone_as_if_it_had_not_waited() {
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.records().clear();
    peer.mux.coalesce();
    peer.coalesce(channel, 3, b"ab");
    assert_eq!(peer.mux.corked_len(), 0);
    assert_eq!(peer.take(), [hex("01 03 6162")]);

    peer.coalesce(channel, 3, b"ab");
    peer.coalesce(channel, 4, b"c");
    assert_eq!(peer.take(), [hex("00 00 01 03 03 6162 02 04 63")]);
    assert_eq!(peer.take(), Vec::<Buffer>::new());

    // The first is moved to make room for what stands before it in a batch, its length in three bytes too.
    let other = peer.open("other", None);
    peer.records().clear();
    let long = [5; 300];
    peer.coalesce(channel, 3, &long);
    peer.coalesce(other, 4, b"c");
    let message = |channel, kind, body: &[u8]| Packet::Message {
        channel,
        kind,
        body: Buffer::copy_from(body),
    };
    let packets = [message(1, 3, &long), message(2, 4, b"c")];
    assert_eq!(peer.take(), [Batch(&packets).encode().unwrap()]);

    // One that is not to wait does not, nor does it overtake.
    peer.coalesce(channel, 3, b"ab");
    peer.send(channel, 4, b"c");
    assert_eq!(peer.take(), [hex("01 03 6162"), hex("01 04 63")]);

    // A large one does not wait, nor does it overtake.
    peer.coalesce(channel, 3, b"ab");
    peer.coalesce(channel, 4, &[7; 2048]);
    peer.coalesce(channel, 3, b"ab");
    let sent = peer.take();
    assert_eq!(sent[0], hex("01 03 6162"));
    assert_eq!(sent[1].len(), 2 + 2048);
    assert_eq!(sent[2], sent[0]);

    // Neither does what fills a record of some size.
    for _ in 0..20 {
        peer.coalesce(channel, 3, &[7; 1024]);
    }
    let sent = peer.take();
    assert_eq!(sent.len(), 2);
    assert!((16 * 1024..18 * 1024).contains(&sent[0].len()));

    // What waits is no part of the batch of a cork that follows, and a batch of one stays a batch.
    peer.coalesce(channel, 3, b"ab");
    peer.mux.cork();
    assert_eq!(peer.take(), [hex("01 03 6162")]);
    peer.coalesce(channel, 4, b"c");
    assert_eq!(peer.take(), Vec::<Buffer>::new());
    peer.mux.uncork();
    assert_eq!(peer.take(), [hex("00 00 01 02 04 63")]);
}

/// Recorded from protomux 3.12.1: two channels opened, written to and one closed under two corks.
#[test]
fn a_corked_conversation_has_the_bytes_of_node() {
    let mut peer = Peer::new();
    let open = |peer: &mut Peer, protocol, id, handshake: &[u8]| {
        let options = OpenOptions {
            protocol,
            aliases: &[],
            id,
            unique: true,
            handshake: &Raw(handshake),
        };
        peer.mux.open(&options).unwrap()
    };
    peer.mux.cork();
    peer.mux.cork();
    let alpha = open(&mut peer, "alpha", Some(b"id"), b"hs");
    peer.send(alpha, 0, b"one");
    let beta = open(&mut peer, "beta", None, b"");
    peer.send(beta, 1, b"two");
    peer.send(beta, 0, b"three");
    peer.send(alpha, 1, b"");
    peer.mux.uncork();
    assert_eq!(*peer.records(), [] as [Buffer; 0]);
    peer.mux.close(beta).unwrap();
    peer.mux.uncork();
    assert_eq!(
        *peer.records(),
        [hex(
            "0000000d010105616c7068610269646873000104006f6e6500000801020462657461000002040174776f06007468726565000101010000020302"
        )]
    );
}

#[test]
fn a_large_batch_is_split_and_every_record_fits() {
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.records().clear();
    let block = vec![1; 6 * 1024 * 1024];
    peer.mux.cork();
    for _ in 0..5 {
        peer.send(channel, 0, &block);
    }
    peer.send(channel, 0, &vec![2; frame::MAX_RECORD_BYTES - 64]);
    peer.mux.uncork();
    assert!(
        peer.records()
            .iter()
            .all(|record| record.len() <= frame::MAX_RECORD_BYTES)
    );
    assert_eq!(peer.records().len(), 4, "two blocks pass 8 MiB");
    assert_eq!(peer.sent().len(), 6);
}

#[test]
fn a_message_that_fits_no_record_is_refused_and_changes_nothing() {
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.records().clear();
    let body = vec![0; frame::MAX_RECORD_BYTES - 1];
    let error = peer.mux.send(channel, 0, &Raw(&body)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::TooLarge);
    assert!(peer.records().is_empty());
    peer.send(channel, 0, &body[1..]);
    assert_eq!(peer.records()[0].len(), frame::MAX_RECORD_BYTES);
}

#[test]
fn opens_must_be_next_or_free() {
    for (before, record) in [
        (vec![], "00 01 00 01 61 00"),
        (vec![], "00 01 02 01 61 00"),
        (vec!["00 01 01 01 61 00"], "00 01 01 01 62 00"),
        (vec![], "00 01 ff 0000000002000000 01 61 00"),
        (vec![], "00 01 ff 0000000000001000 01 61 00"),
    ] {
        let mut peer = Peer::new();
        for record in before {
            peer.receive(hex(record)).unwrap();
        }
        assert_eq!(peer.class(record), ErrorClass::InvalidOpen, "{record}");
        assert!(!peer.mux.wants_record());
    }
    let mut peer = Peer::new();
    assert_eq!(
        peer.class("00 01 ff 0000000000000040 01 61 00"),
        ErrorClass::UnsafeInteger,
        "2^62"
    );
}

#[test]
fn a_rejected_id_may_be_used_again() {
    let mut peer = Peer::new();
    for _ in 0..3 {
        let events = peer.receive(open_record(1, "what")).unwrap();
        peer.mux.reject(pending(&events)).unwrap();
        assert_eq!(peer.sent(), [Packet::Reject { id: 1 }]);
    }
    assert!(peer.mux.pairs.is_empty() && peer.mux.names.is_empty());
}

#[test]
fn a_late_reject_does_not_hit_the_next_open() {
    let mut peer = Peer::new();
    let first = pending(&peer.receive(open_record(1, "a")).unwrap());
    peer.mux.reject(first).unwrap();
    peer.receive(open_record(1, "b")).unwrap();
    peer.records().clear();
    peer.mux.reject(first).unwrap();
    assert!(peer.records().is_empty());
    assert_eq!(peer.mux.pending(), 1);
}

#[test]
fn rejects_must_answer_an_open() {
    for record in ["00 02 00", "00 02 01", "00 02 ff 0000000000001000"] {
        assert_eq!(Peer::new().class(record), ErrorClass::InvalidReject);
    }
    let mut peer = Peer::new();
    peer.open(PROTOCOL, None);
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    assert_eq!(
        peer.class("00 02 01"),
        ErrorClass::InvalidReject,
        "open channel"
    );
}

#[test]
fn a_reject_closes_and_frees() {
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    let events = peer.receive(control(&Packet::Reject { id: 1 })).unwrap();
    assert_eq!(
        events,
        [MuxEvent::Closed {
            channel,
            reason: CloseReason::Rejected
        }]
    );
    assert_eq!(peer.open(PROTOCOL, None).local(), 1);
}

#[test]
fn an_id_closed_before_the_answer_is_free_only_after_it() {
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.close_quietly(channel);
    assert_eq!(peer.open("other", None).local(), 2);
    assert_eq!(peer.receive(open_record(1, PROTOCOL)).unwrap(), []);
    assert_eq!(peer.open("third", None).local(), 1);
    // The peer's id 1 was free again at once.
    assert_eq!(peer.receive(open_record(1, "fourth")).unwrap().len(), 1);
    // Closed and then rejected.
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.close_quietly(channel);
    assert_eq!(
        peer.receive(control(&Packet::Reject { id: 1 })).unwrap(),
        []
    );
    assert_eq!(peer.open(PROTOCOL, None).local(), 1);
}

#[test]
fn freed_ids_are_reused_last_first() {
    let mut peer = Peer::new();
    let names = ["a", "b", "c"];
    let channels: Vec<_> = names.iter().map(|name| peer.open(name, None)).collect();
    for (id, name) in (1..).zip(names) {
        peer.receive(open_record(id, name)).unwrap();
    }
    peer.close(channels[0]);
    peer.close(channels[2]);
    assert_eq!(peer.open("d", None).local(), 3);
    assert_eq!(peer.open("e", None).local(), 1);
    assert_eq!(peer.open("f", None).local(), 4);
}

#[test]
fn closes_of_what_is_not_open_are_ignored() {
    let mut peer = Peer::new();
    peer.open(PROTOCOL, None);
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    for record in ["00 03 00", "00 03 05", "00 03 ff 0000000000001000"] {
        assert_eq!(peer.receive(hex(record)).unwrap(), []);
    }
    assert_eq!(peer.receive(hex("00 03 01")).unwrap().len(), 1);
    assert_eq!(peer.receive(hex("00 03 01")).unwrap(), []);
    assert_eq!(peer.mux.ignored().closes, 4);
}

#[test]
fn messages_on_closed_and_unknown_channels_are_ignored_and_counted() {
    let mut peer = Peer::new();
    assert_eq!(peer.receive(hex("05 00 aa")).unwrap(), []);
    assert_eq!(peer.receive(hex("ff 0000000000001000 00 aa")).unwrap(), []);
    assert_eq!(peer.receive(hex("00 04 aa")).unwrap(), []);
    assert_eq!(peer.receive(hex("")).unwrap(), []);
    assert_eq!(
        peer.mux.ignored(),
        Ignored {
            messages: 2,
            controls: 1,
            empty_records: 1,
            ..Ignored::default()
        }
    );
    assert_eq!(
        peer.class("05"),
        ErrorClass::OutOfBounds,
        "the type is read first"
    );
}

#[test]
fn pairs_by_protocol_and_id_in_order_and_by_alias() {
    let mut peer = Peer::new();
    let first = peer.open_with("p", &["q"], None, false).unwrap();
    let second = peer.open_with("p", &["q"], None, false).unwrap();
    assert_eq!(
        peer.open_with("p", &["q"], None, true),
        Err(MuxError::AlreadyOpen)
    );
    let events = peer.receive(open_record(1, "q")).unwrap();
    assert!(
        matches!(events[..], [MuxEvent::Opened { channel, remote: 1, .. }] if channel == first)
    );
    let events = peer.receive(open_record(2, "p")).unwrap();
    assert!(
        matches!(events[..], [MuxEvent::Opened { channel, remote: 2, .. }] if channel == second)
    );
    let events = peer.receive(open_record(3, "p")).unwrap();
    assert_eq!(pending(&events).remote(), 3);
}

#[test]
fn an_alias_opened_by_the_peer_first_is_found() {
    let mut peer = Peer::new();
    peer.receive(open_record(1, "alias")).unwrap();
    peer.open_with("name", &["alias"], None, true).unwrap();
    assert!(matches!(
        peer.events[..],
        [MuxEvent::Opened { remote: 1, .. }]
    ));
    assert_eq!(peer.mux.pending(), 0);
}

#[test]
fn messages_before_the_answer_wait_for_it() {
    let mut peer = Peer::new();
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    for kind in 0..3 {
        assert_eq!(peer.receive(message(1, kind, b"m")).unwrap(), []);
    }
    peer.open(PROTOCOL, None);
    assert!(matches!(peer.events[0], MuxEvent::Opened { .. }));
    assert_eq!(
        bodies(&peer.events),
        [(0, b"m".to_vec()), (1, b"m".to_vec()), (2, b"m".to_vec())]
    );
    assert_eq!(peer.mux.buffered, 0);
}

#[test]
fn a_channel_closed_before_the_answer_delivers_and_closes() {
    let mut peer = Peer::new();
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    peer.receive(message(1, 0, b"m")).unwrap();
    assert_eq!(peer.receive(control(&Packet::Close { id: 1 })).unwrap(), []);
    assert_eq!(
        Peer::class(
            &mut {
                let mut same = Peer::new();
                same.receive(open_record(1, PROTOCOL)).unwrap();
                same.receive(control(&Packet::Close { id: 1 })).unwrap();
                same
            },
            "00 01 01 01 61 00"
        ),
        ErrorClass::InvalidOpen,
        "the id is taken until the answer"
    );
    let channel = peer.open(PROTOCOL, None);
    assert_eq!(peer.events.len(), 3);
    assert_eq!(
        peer.events[2],
        MuxEvent::Closed {
            channel,
            reason: CloseReason::Remote
        }
    );
    assert_eq!(
        peer.sent().len(),
        1,
        "only the open: the peer closed already"
    );
    assert!(!peer.mux.is_opened(PROTOCOL, None));
}

#[test]
fn too_much_waiting_pauses_even_within_a_record() {
    let mut peer = Peer::new();
    let events = peer.receive(open_record(1, PROTOCOL)).unwrap();
    let item = Packet::Message {
        channel: 1,
        kind: 0,
        body: vec![0; 1000].into(),
    };
    let record = Batch(&vec![item; 100]).encode().unwrap();
    peer.receive(record.into()).unwrap();
    assert!(peer.mux.is_paused() && !peer.mux.wants_record());
    assert!(peer.mux.buffered <= 32_768 + 1512);
    peer.mux.reject(pending(&events)).unwrap();
    peer.drain().unwrap();
    assert!(peer.mux.wants_record());
    assert!(peer.mux.ignored().messages > 70);

    let mut peer = Peer::new();
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    let item = Packet::Message {
        channel: 1,
        kind: 0,
        body: vec![0; 1000].into(),
    };
    peer.receive(Batch(&vec![item; 100]).encode().unwrap().into())
        .unwrap();
    peer.open(PROTOCOL, None);
    assert_eq!(bodies(&peer.events).len(), 100, "none is lost");
}

#[test]
fn opens_beyond_the_limits_are_rejected() {
    let mut peer = Peer::with(Limits {
        max_pending: 2,
        ..Limits::default()
    });
    for id in 1..=4 {
        peer.receive(open_record(id, "x")).unwrap();
    }
    assert_eq!(
        peer.sent(),
        [Packet::Reject { id: 3 }, Packet::Reject { id: 4 }]
    );
    assert_eq!(peer.mux.ignored().opens_over_limit, 2);

    let mut peer = Peer::new();
    let long = "x".repeat(1024 * 1024 + 1);
    peer.receive(open_record(1, &long)).unwrap();
    assert_eq!(peer.sent(), [Packet::Reject { id: 1 }]);
}

#[test]
fn what_is_just_within_the_limits_is_held() {
    // Of the first: name, id and handshake. One byte more is too much.
    let mut peer = Peer::with(Limits {
        max_pending_bytes: 9,
        ..Limits::default()
    });
    let events = peer
        .receive(hex("00 01 01 03 616263 02 0708 01020304"))
        .unwrap();
    assert_eq!(peer.receive(hex("00 01 02 01 61 00")).unwrap(), []);
    assert_eq!(peer.sent(), [Packet::Reject { id: 2 }]);
    peer.mux.reject(pending(&events)).unwrap();
    assert_eq!(peer.receive(open_record(1, "123456789")).unwrap().len(), 1);

    // Two messages of no bytes.
    let mut peer = Peer::with(Limits {
        max_buffered: 1024,
        ..Limits::default()
    });
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    peer.receive(message(1, 0, b"")).unwrap();
    peer.receive(message(1, 0, b"")).unwrap();
    assert!(!peer.mux.is_paused());
    peer.receive(message(1, 0, b"")).unwrap();
    assert!(peer.mux.is_paused());
}

#[test]
fn bytes_after_a_reject_or_close_are_ignored_and_counted() {
    let mut peer = Peer::new();
    peer.open(PROTOCOL, None);
    peer.receive(hex("00 02 01 00")).unwrap();
    peer.receive(hex("00 00 00 04 03 05 0000 03 03 05 00 02 03 05"))
        .unwrap();
    assert_eq!(peer.mux.ignored().trailing_bytes, 3);
    assert_eq!(peer.mux.ignored().closes, 3);
}

#[test]
fn what_is_opened_here_or_waits_for_an_answer_is_known() {
    let mut peer = Peer::new();
    assert!(!peer.mux.is_opened("p", None));
    let channel = peer.open("p", Some(b"id"));
    let other = peer.open("p", None);
    assert!(peer.mux.is_opened("p", Some(b"id")) && peer.mux.is_opened("p", None));
    assert!(!peer.mux.is_opened("p", Some(b"other")) && !peer.mux.is_opened("q", None));
    peer.close_quietly(channel);
    assert!(!peer.mux.is_opened("p", Some(b"id")));
    assert!(peer.mux.is_opened("p", Some(b"")), "an empty id is none");
    peer.close_quietly(other);

    let first = pending(&peer.receive(open_record(1, "a")).unwrap());
    let second = pending(&peer.receive(open_record(2, "b")).unwrap());
    assert!(peer.mux.is_pending(first) && peer.mux.is_pending(second));
    peer.mux.reject(first).unwrap();
    peer.open("b", None);
    peer.events.clear();
    assert!(!peer.mux.is_pending(first) && !peer.mux.is_pending(second));
    let again = pending(&peer.receive(open_record(1, "a")).unwrap());
    assert!(peer.mux.is_pending(again) && !peer.mux.is_pending(first));
}

#[test]
fn all_corks_can_be_undone_at_once() {
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.records().clear();
    peer.mux.cork();
    peer.mux.cork();
    assert_eq!(peer.mux.corked_len(), 0);
    peer.send(channel, 3, b"ab");
    assert_eq!(peer.mux.corked_len(), 7);
    peer.mux.uncork_all();
    assert_eq!(*peer.records(), [hex("00 00 01 03 03 6162")]);
    assert_eq!(peer.mux.corked_len(), 0);
    peer.send(channel, 4, b"c");
    assert_eq!(peer.records().len(), 2);
}

#[test]
fn the_first_protocols_are_shared_by_all_their_channels() {
    let mut peer = Peer::new();
    for id in [b"1", b"2"] {
        for n in 0..SHARED_PROTOCOLS + 2 {
            peer.open(&n.to_string(), Some(id));
        }
    }
    let shared: Vec<&str> = peer.mux.protocols.iter().map(|name| &**name).collect();
    assert_eq!(shared, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    for protocol in &peer.mux.protocols {
        let holds = |name: &&Name| Arc::ptr_eq(&name.protocol, protocol);
        assert_eq!(peer.mux.names.keys().filter(holds).count(), 2, "{protocol}");
    }
}

#[test]
fn a_pair_lives_as_long_as_one_of_its_channels() {
    let mut peer = Peer::new();
    let channels = [1, 2].map(|id| {
        let channel = peer.open_with("p", &[], None, false).unwrap();
        peer.receive(open_record(id, "p")).unwrap();
        channel
    });
    peer.close_quietly(channels[0]);
    assert!(peer.mux.is_opened("p", None));
    assert_eq!(
        peer.open_with("p", &[], None, true),
        Err(MuxError::AlreadyOpen)
    );
    peer.close_quietly(channels[1]);
    assert!(peer.mux.pairs.is_empty() && peer.mux.names.is_empty());
}

#[test]
fn a_batch_takes_what_surely_fits_its_record() {
    // What an item may need beside its type and body: the head of a batch, two channels and a length.
    const BESIDE: usize = 2 + 1 + 9 + 9;
    let mut peer = Peer::new();
    let channel = peer.open(PROTOCOL, None);
    peer.records().clear();
    let body = vec![0; frame::MAX_RECORD_BYTES - BESIDE];
    peer.mux.cork();
    assert_eq!(
        peer.mux.send(channel, 0, &Raw(&body)),
        Err(MuxError::TooLarge {
            length: frame::MAX_RECORD_BYTES + 1,
            limit: frame::MAX_RECORD_BYTES
        })
    );
    assert_eq!((peer.mux.corked_len(), peer.records().len()), (0, 0));
    peer.send(channel, 0, &body[1..]);
    peer.mux.uncork();
    assert_eq!(peer.records().len(), 1);

    for (more, records) in [(0, 1), (1, 2)] {
        peer.records().clear();
        peer.mux.cork();
        peer.send(channel, 0, &body[..5000]);
        let room = frame::MAX_RECORD_BYTES - peer.mux.corked_len() - BESIDE - 1;
        peer.send(channel, 0, &body[..room + more]);
        peer.mux.uncork();
        assert_eq!(peer.records().len(), records);
    }
}

#[test]
fn a_reader_can_note_where_each_value_stands() {
    // A message of channel 1, a close with a byte too many, and an open.
    let record = hex("00 00 01 03 07 aabb 00 00 03 03 05 ff 05 01 02 01 61 00");
    let mut reader = RecordReader::observed(record.clone(), 1);
    let mut seen = Vec::new();
    while reader.next_packet().unwrap().is_some() {
        let readings = reader.take_readings();
        let place = |reading: &Reading| (reading.field, reading.offset, reading.length);
        seen.push(readings.iter().map(place).collect::<Vec<_>>());
    }
    assert_eq!(
        seen,
        [
            vec![
                ("channel", 0, 1),
                ("type", 1, 1),
                ("channel", 2, 1),
                ("length", 3, 1),
                ("type", 4, 1),
                ("body", 5, 2),
            ],
            vec![
                ("length", 7, 1),
                ("channel", 8, 1),
                ("length", 9, 1),
                ("type", 10, 1),
                ("id", 11, 1),
                ("(trailing)", 12, 1),
            ],
            vec![
                ("length", 13, 1),
                ("type", 14, 1),
                ("id", 15, 1),
                ("protocol", 16, 1),
                ("protocol", 17, 1),
                ("channelId", 18, 1),
                ("channelId", 19, 0),
                ("", 19, 0),
            ],
        ]
    );
    assert_eq!((reader.trailing(), reader.record_len()), (1, 19));

    let mut reader = RecordReader::new(record, 1);
    while reader.next_packet().unwrap().is_some() {}
    assert_eq!(reader.take_readings(), []);
}

#[test]
fn an_error_stands_where_the_record_breaks_off() {
    for (record, offset) in [
        ("00 00 01 03 07 aabb fd", 8),
        ("00 00 01 03 07 aabb 00", 8),
        ("00 00 00 06 01 01 05 6162", 7),
        ("00 01 01 05 6162", 4),
    ] {
        let mut reader = RecordReader::new(hex(record), 1);
        let error = loop {
            match reader.next_packet() {
                Ok(packet) => assert!(packet.is_some(), "{record}"),
                Err(MuxError::Decode(error)) => break error,
                Err(error) => panic!("{record}: {error}"),
            }
        };
        assert_eq!(error.offset, offset, "{record}: {error}");
    }
}

#[test]
fn options_show_what_they_open() {
    let options = OpenOptions {
        protocol: "p",
        aliases: &["q"],
        id: None,
        unique: true,
        handshake: &Raw(&[]),
    };
    assert_eq!(
        format!("{options:?}"),
        r#"OpenOptions { protocol: "p", aliases: ["q"], unique: true, .. }"#
    );
}

#[test]
fn batches_switch_clamp_and_open() {
    let mut peer = Peer::new();
    peer.open("a", None);
    peer.open("b", None);
    // Opens of both, a message on each, and one whose length reaches past the batch.
    let events = peer
        .receive(hex(
            "00 00 00 05 01 01 01 61 00 05 01 02 01 62 00 00 01 02 00 aa 00 02 02 00 bb 7f 03 cc dd",
        ))
        .unwrap();
    assert_eq!(
        bodies(&events),
        [(0, vec![0xaa]), (0, vec![0xbb]), (3, vec![0xcc, 0xdd])]
    );
    assert_eq!(events.len(), 5);
    assert_eq!(peer.receive(hex("00 00 01")).unwrap(), [], "no items");
    assert_eq!(
        peer.receive(hex("00 00 09 02 00 aa")).unwrap(),
        [],
        "unknown channel"
    );
}

#[test]
fn a_broken_batch_delivers_what_came_before() {
    for (record, class) in [
        ("00 00 01 02 00 aa 00", ErrorClass::OutOfBounds),
        ("00 00 01 02 00 aa fd", ErrorClass::OutOfBounds),
        ("00 00 01 02 00 aa 01 fd", ErrorClass::OutOfBounds),
        (
            "00 00 01 02 00 aa ff ffffffffffffffff",
            ErrorClass::UnsafeInteger,
        ),
    ] {
        let mut peer = Peer::new();
        peer.open("a", None);
        peer.receive(open_record(1, "a")).unwrap();
        assert_eq!(peer.class(record), class, "{record}");
        assert_eq!(bodies(&peer.events), [(0, vec![0xaa])], "{record}");
    }
    for record in [
        "00",
        "00 00",
        "01",
        "fd 01",
        "00 01",
        "00 01 01 05 61",
        "00 02",
        "00 03",
    ] {
        assert_eq!(
            Peer::new().class(record),
            ErrorClass::OutOfBounds,
            "{record}"
        );
    }
}

/// A batch within a batch, `depth` times.
fn nested(depth: usize) -> Buffer {
    let mut record = vec![1, 0, 0xaa];
    for level in 0..depth {
        let mut outer = vec![0, 0, 0];
        if level > 0 {
            outer[2] = 0;
        } else {
            outer[2] = 1;
            record.remove(0);
        }
        let inner = if level > 0 {
            record.split_off(1)
        } else {
            record
        };
        let mut encoder = Encoder::new(&mut outer);
        encoder.buffer(&inner, "item").unwrap();
        record = outer;
    }
    record.into()
}

#[test]
fn nesting_is_bounded() {
    for (depth, expected) in [(1, true), (2, true), (64, true), (65, false), (3000, false)] {
        let mut peer = Peer::new();
        peer.open("a", None);
        peer.receive(open_record(1, "a")).unwrap();
        match peer.receive(nested(depth)) {
            Ok(events) => {
                assert!(expected, "{depth}");
                assert_eq!(bodies(&events), [(0, vec![0xaa])]);
            }
            Err(error) => {
                assert!(!expected, "{depth}: {error}");
                assert_eq!(error.class(), ErrorClass::NestingTooDeep);
            }
        }
    }
}

#[test]
fn small_messages_that_wait_do_not_hold_their_record() {
    let mut peer = Peer::new();
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    let record: Buffer = Batch(&[
        Packet::Message {
            channel: 1,
            kind: 0,
            body: vec![7].into(),
        },
        Packet::Message {
            channel: 9,
            kind: 0,
            body: vec![0; 1_000_000].into(),
        },
    ])
    .encode()
    .unwrap()
    .into();
    let range = record.as_ptr_range();
    peer.receive(record.clone()).unwrap();
    peer.open(PROTOCOL, None);
    match &peer.events[1] {
        MuxEvent::Message { body, .. } => assert!(!range.contains(&body.as_ptr())),
        other => panic!("{other:?}"),
    }

    // Half of the record is no small share.
    let mut peer = Peer::new();
    peer.receive(open_record(1, PROTOCOL)).unwrap();
    let record = hex("00 00 01 0a 00 aabbccddeeff001122 03 00 ddee");
    let range = record.as_ptr_range();
    peer.receive(record.clone()).unwrap();
    peer.open(PROTOCOL, None);
    let held = peer.events.iter().filter(
        |event| matches!(event, MuxEvent::Message { body, .. } if range.contains(&body.as_ptr())),
    );
    assert_eq!(held.count(), 1);
}

#[test]
fn the_end_closes_every_channel() {
    let mut peer = Peer::new();
    let a = peer.open("a", None);
    let b = peer.open("b", None);
    peer.receive(open_record(1, "a")).unwrap();
    peer.mux.end();
    peer.drain().unwrap();
    let closed: Vec<_> = [a, b]
        .map(|channel| MuxEvent::Closed {
            channel,
            reason: CloseReason::Stream,
        })
        .into();
    assert_eq!(peer.events, closed);
    assert_eq!(peer.mux.send(a, 0, &Raw(&[])), Err(MuxError::Closed));
}

#[derive(Debug, Clone)]
enum Step {
    Open(u8),
    Close(u8),
    Send(u8),
    Answer(bool),
    Deliver(bool),
    Cork(bool),
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    let step = prop_oneof![
        (0..4u8).prop_map(Step::Open),
        (0..8u8).prop_map(Step::Close),
        (0..8u8).prop_map(Step::Send),
        any::<bool>().prop_map(Step::Answer),
        any::<bool>().prop_map(Step::Deliver),
        any::<bool>().prop_map(Step::Cork),
    ];
    prop::collection::vec((any::<bool>(), step), 0..120)
}

proptest! {
    /// Whatever two honest peers do, and however their records cross, neither ever blames the other, and in the end
    /// nothing is left over.
    #[test]
    fn honest_peers_never_break_a_rule(steps in steps()) {
        let mut peers = [Peer::new(), Peer::new()];
        let mut channels: [Vec<ChannelId>; 2] = [Vec::new(), Vec::new()];
        let mut flight: [VecDeque<Buffer>; 2] = [VecDeque::new(), VecDeque::new()];
        let mut corks = [0; 2];
        for (side, step) in steps {
            let side = usize::from(side);
            let peer = &mut peers[side];
            match step {
                Step::Open(n) => {
                    let name = ["a", "b", "c", "d"][usize::from(n)];
                    if let Ok(channel) = peer.open_with(name, &[], None, n != 0) {
                        channels[side].push(channel);
                    }
                }
                Step::Close(n) => {
                    if let Some(&channel) = channels[side].get(usize::from(n)) {
                        peer.close(channel);
                        channels[side].remove(usize::from(n));
                    }
                }
                Step::Send(n) => {
                    if let Some(&channel) = channels[side].get(usize::from(n)) {
                        let _ = peer.mux.send(channel, 1, &Raw(b"x"));
                    }
                }
                Step::Answer(accept) => {
                    for event in std::mem::take(&mut peer.events) {
                        if let MuxEvent::RemoteOpen { pending, protocol, .. } = event {
                            if accept {
                                let _ = peer.open_with(&protocol, &[], None, false);
                            } else {
                                peer.mux.reject(pending).unwrap();
                            }
                        }
                    }
                }
                Step::Deliver(all) => loop {
                    let Some(record) = flight[1 - side].pop_front() else { break };
                    peer.mux.receive(record);
                    peer.drain().unwrap();
                    if !all {
                        break;
                    }
                },
                Step::Cork(on) => {
                    if on {
                        peer.mux.cork();
                        corks[side] += 1;
                    } else if corks[side] > 0 {
                        corks[side] -= 1;
                        peer.mux.uncork();
                    }
                }
            }
            let sent = peer.take();
            flight[side].extend(sent);
        }
        for side in 0..2 {
            for _ in 0..corks[side] {
                let peer = &mut peers[side];
                peer.mux.uncork();
            }
            let sent = peers[side].take();
            flight[side].extend(sent);
        }
        // Let everything arrive, reject what is unanswered, close what is open.
        for _ in 0..4 {
            for side in 0..2 {
                while let Some(record) = flight[1 - side].pop_front() {
                    peers[side].mux.receive(record);
                    peers[side].drain().unwrap();
                }
                let peer = &mut peers[side];
                let waiting: Vec<_> = peer
                    .mux
                    .remote
                    .iter()
                    .filter_map(|(&remote, state)| match state {
                        Remote::Pending(pending) => Some(PendingId { serial: pending.serial, remote }),
                        Remote::Open { .. } => None,
                    })
                    .collect();
                for pending in waiting {
                    peer.mux.reject(pending).unwrap();
                }
                for local in 1..=peer.mux.local.len() as u64 {
                    if let Some(Local::Opening { channel, .. } | Local::Open { channel, .. }) = peer.mux.local.get(index(local)) {
                        let channel = *channel;
                        peer.close(channel);
                    }
                }
                let sent = peer.take();
                flight[side].extend(sent);
            }
        }
        for peer in &peers {
            prop_assert_eq!(peer.mux.pending, 0);
            prop_assert_eq!(peer.mux.pending_bytes, 0);
            prop_assert_eq!(peer.mux.buffered, 0);
            prop_assert!(peer.mux.remote.is_empty());
            prop_assert!(peer.mux.pairs.is_empty());
            prop_assert!(peer.mux.names.is_empty());
            prop_assert_eq!(peer.mux.free.len(), peer.mux.local.len());
        }
    }

    #[test]
    fn no_bytes_panic(records in prop::collection::vec(prop::collection::vec(
        prop_oneof![3 => 0..6u8, 1 => any::<u8>()], 0..40), 0..20)) {
        let mut peer = Peer::new();
        peer.open("a", None);
        peer.open("", None);
        for record in records {
            if peer.receive(record.into()).is_err() {
                break;
            }
        }
    }

    #[test]
    fn packets_survive_a_batch(items in prop::collection::vec((1..4u64, 0..300u64, prop::collection::vec(any::<u8>(), 0..20)), 1..30)) {
        let packets: Vec<Packet> = items
            .into_iter()
            .map(|(channel, kind, body)| Packet::Message { channel, kind, body: body.into() })
            .collect();
        let mut reader = RecordReader::new(Batch(&packets).encode().unwrap().into(), 1);
        for packet in packets {
            prop_assert_eq!(reader.next_packet().unwrap(), Some(packet));
        }
        prop_assert_eq!(reader.next_packet().unwrap(), None);
    }
}
