//! Each limit and each time-out, below it, at it and above it.

use super::tests::{KEY, Peer, config, open_packet, pair, settle};
use std::sync::Arc;

use super::*;
use crate::encoding::{Encode, Encoder};
use crate::mux::{Batch, Packet};
use crate::{keys, wire};

const SECOND: Duration = Duration::from_secs(1);

/// A peer that may do anything, and one with these options; the handshake is complete.
fn connected(change: impl FnOnce(&mut ConnectionConfig)) -> (Peer, Peer) {
    let mut config = config(false);
    change(&mut config);
    let (mut a, mut b) = (Peer::new(true), Peer::with(config));
    settle(&mut a, &mut b);
    b.events();
    (a, b)
}

/// As [`connected`], with the channel of a core open on both sides.
fn open(change: impl FnOnce(&mut ConnectionConfig)) -> (Peer, Peer) {
    let (mut a, mut b) = connected(change);
    a.connection.open(KEY).unwrap();
    b.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    assert!(matches!(
        b.events()[..],
        [ConnectionEvent::ChannelOpened { .. }]
    ));
    (a, b)
}

/// Sends a record of this plaintext, and hears no answer.
fn sends(a: &mut Peer, b: &mut Peer, plaintext: &[u8]) {
    a.connection
        .send_plaintext_for_testing_only(plaintext)
        .unwrap();
    let bytes = a.take();
    b.receive(&bytes);
}

/// The error of a peer, if it has one, as text.
fn error(peer: &mut Peer) -> Option<String> {
    peer.drain();
    peer.error.as_ref().map(ToString::to_string)
}

fn message(kind: u64, body: &[u8]) -> Vec<u8> {
    Packet::Message {
        channel: 1,
        kind,
        body: body.into(),
    }
    .encode()
    .unwrap()
}

/// Whether the peer is given up at this time.
fn gives_up(peer: &mut Peer, now: Duration) -> Option<Error> {
    peer.now = now;
    peer.connection.handle_timeout(now);
    peer.drain();
    peer.error.clone()
}

#[test]
fn a_record_before_any_channel_is_open_has_a_limit_and_is_refused_when_it_is_announced() {
    let early = |bytes: usize| {
        let (mut a, mut b) = connected(|config| config.limits.max_early_record = 100);
        // Of a type of control message that nobody knows.
        sends(&mut a, &mut b, &vec![0xa; bytes]);
        error(&mut b)
    };
    assert_eq!(early(99), None);
    assert_eq!(early(100), None);
    let told = "a record of 101 bytes is above the limit of 100 before a channel is open (record 3 at byte 222 of the stream)";
    let b_offset = early(101).unwrap();
    assert_eq!(
        b_offset.split(" (record").next(),
        told.split(" (record").next()
    );

    let (mut a, mut b) = connected(|_| {});
    sends(&mut a, &mut b, &vec![0xa; 1 << 20]);
    assert_eq!(error(&mut b), None);
    // One byte more, of which no more than the length has arrived.
    a.connection
        .send_plaintext_for_testing_only(&vec![0xa; (1 << 20) + 1])
        .unwrap();
    let length = &a.take()[..3];
    b.receive(length);
    let error = b.error.clone().unwrap();
    let Error::Connection(ConnectionError::RecordTooLarge {
        length,
        limit,
        is_early,
        ..
    }) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((length, limit, is_early), (1_048_577, 1 << 20, true));
}

#[test]
fn an_open_channel_lifts_the_limit_on_records_to_that_of_all() {
    for (bytes, told) in [
        (300, None),
        (
            301,
            Some("a record of 301 bytes is above the limit of 300 ("),
        ),
    ] {
        let (mut a, mut b) = open(|config| {
            config.limits.max_early_record = 200;
            config.limits.max_record = 300;
        });
        sends(&mut a, &mut b, &vec![0xa; bytes]);
        let error = error(&mut b);
        match told {
            None => assert_eq!(error, None),
            Some(told) => assert!(error.unwrap().starts_with(told)),
        }
    }
    // The channel of another protocol does so, too.
    let (mut a, mut b) = connected(|config| config.limits.max_early_record = 100);
    for peer in [&mut a, &mut b] {
        peer.connection
            .open_channel(&ChannelOptions::new("chat"))
            .unwrap();
    }
    settle(&mut a, &mut b);
    sends(&mut a, &mut b, &vec![0xa; 10_000]);
    assert_eq!(error(&mut b), None);
}

/// Node may send as soon as it has opened a channel. What is too large before the answer waits for it.
#[test]
fn a_large_record_behind_an_open_waits_for_the_answer() {
    let early = |answer: fn(&mut Connection)| {
        let (mut a, mut b) = connected(|config| config.limits.max_early_record = 200);
        b.connection.pair("chat", None);
        let chat = a
            .connection
            .open_channel(&ChannelOptions::new("chat"))
            .unwrap();
        a.connection.send_raw(chat, 0, &[7; 1000]).unwrap();
        settle(&mut a, &mut b);
        assert!(matches!(b.events()[..], [ConnectionEvent::RemoteOpen(_)]));
        assert_eq!(error(&mut b), None);
        assert!(!b.connection.wants_input());
        answer(&mut b.connection);
        b.drain();
        b
    };
    let mut b = early(|connection| {
        connection
            .open_channel(&ChannelOptions::new("chat"))
            .unwrap();
    });
    assert!(matches!(
        b.events()[..],
        [
            ConnectionEvent::MuxChannelOpened { .. },
            ConnectionEvent::MuxMessage { .. }
        ]
    ));
    let mut b = early(|connection| connection.reject_channel("chat", None));
    assert!(
        error(&mut b)
            .unwrap()
            .contains("1002 bytes is above the limit of 200")
    );
}

/// corestore opens all of its cores in one batch.
#[test]
fn the_opens_of_ten_thousand_cores_fit_into_one_record() {
    let (mut a, mut b) = connected(|_| {});
    let packets: Vec<_> = (1..=10_000_u64)
        .map(|id| Packet::Open {
            id,
            protocol: wire::PROTOCOL.to_owned(),
            channel_id: Some(Buffer::from(
                [&id.to_le_bytes()[..], &[0; 24]].concat().as_slice(),
            )),
            handshake: Buffer::from([0; 33]),
        })
        .collect();
    let batch = Batch(&packets).encode().unwrap();
    assert!(
        batch.len() <= Limits::default().max_early_record,
        "{}",
        batch.len()
    );
    sends(&mut a, &mut b, &batch);
    assert_eq!(error(&mut b), None);
    let limit = Limits::default().max_pending;
    assert_eq!(b.events().len(), limit);
    assert_eq!(
        b.connection.ignored().mux.opens_over_limit,
        10_000 - limit as u64
    );
}

#[test]
fn an_open_above_the_limit_is_rejected_unread() {
    let opens = |length: usize| {
        let (mut a, mut b) = connected(|config| config.limits.max_open = 100);
        b.connection.pair("chat", None);
        // Two bytes of channel and type, one of the id.
        let open = open_packet(1, "chat", &[], &vec![7; length - 7]);
        assert_eq!(open.len() - 2, length);
        sends(&mut a, &mut b, &open);
        (
            b.events().len(),
            b.connection.ignored().mux.opens_over_limit,
        )
    };
    assert_eq!(opens(99), (1, 0));
    assert_eq!(opens(100), (1, 0));
    assert_eq!(opens(101), (0, 1));
    // The peer's id is free again, and checked as ever.
    let (mut a, mut b) = connected(|config| config.limits.max_open = 100);
    b.connection.pair("chat", None);
    sends(&mut a, &mut b, &open_packet(1, "chat", &[], &[7; 200]));
    sends(&mut a, &mut b, &open_packet(1, "chat", &[], &[]));
    assert_eq!(b.events().len(), 1);
    sends(&mut a, &mut b, &open_packet(1, "chat", &[], &[7; 200]));
    assert!(error(&mut b).unwrap().contains("the peer opened channel 1"));
}

#[test]
fn waiting_opens_have_limits_of_number_and_bytes() {
    let opens = |count: u64, change: fn(&mut Limits)| {
        let (mut a, mut b) = connected(|config| change(&mut config.limits));
        b.connection.pair("chat", None);
        for id in 1..=count {
            sends(&mut a, &mut b, &open_packet(id, "chat", &[id as u8], &[]));
        }
        (
            b.events().len(),
            b.connection.ignored().mux.opens_over_limit,
        )
    };
    let few = |limits: &mut Limits| limits.max_pending = 3;
    assert_eq!(opens(2, few), (2, 0));
    assert_eq!(opens(3, few), (3, 0));
    assert_eq!(opens(4, few), (3, 1));
    // Each has 5 bytes.
    let small = |limits: &mut Limits| limits.max_pending_bytes = 15;
    assert_eq!(opens(2, small), (2, 0));
    assert_eq!(opens(3, small), (3, 0));
    assert_eq!(opens(4, small), (3, 1));
}

#[test]
fn messages_before_an_answer_have_a_limit() {
    // Each counts for 512 bytes more than it has.
    for (bytes, reads) in [(487, true), (488, true), (489, false)] {
        let (mut a, mut b) = connected(|config| config.limits.max_buffered = 1000);
        b.connection.pair("chat", None);
        sends(&mut a, &mut b, &open_packet(1, "chat", &[], &[]));
        b.events();
        sends(&mut a, &mut b, &message(0, &vec![7; bytes]));
        assert_eq!(b.connection.wants_input(), reads, "{bytes}");
    }
}

#[test]
fn nested_batches_have_a_limit() {
    for (depth, is_refused) in [(2, false), (3, false), (4, true)] {
        let (mut a, mut b) = connected(|config| config.limits.max_nesting = 3);
        let mut nested = vec![0, 9];
        for _ in 0..depth {
            let mut item = vec![0, 0, 0];
            Encoder::new(&mut item)
                .buffer(&nested[1..], "item")
                .unwrap();
            nested = item;
        }
        sends(&mut a, &mut b, &nested);
        assert_eq!(error(&mut b).is_some(), is_refused, "{depth}");
    }
}

#[test]
fn a_peer_that_opens_and_closes_and_reads_nothing_is_not_read_for_ever() {
    let (mut a, mut b) = open(|config| config.limits.max_answers = 1000);
    let info = a.connection.handshake().unwrap().clone();
    let handshake = Handshake {
        seeks: true,
        capability: keys::capability(true, &KEY, &info.hash),
    };
    let discovery_key = keys::discovery_key(&KEY);
    let again = Batch(&[
        Packet::Close { id: 1 },
        Packet::Open {
            id: 1,
            protocol: wire::PROTOCOL.to_owned(),
            channel_id: Some(discovery_key.into()),
            handshake: handshake.encode().unwrap().into(),
        },
    ])
    .encode()
    .unwrap();
    let mut rounds = 0;
    while b.connection.wants_input() {
        rounds += 1;
        assert!(rounds < 100, "it is read for ever");
        a.connection
            .send_plaintext_for_testing_only(&again)
            .unwrap();
        let bytes = a.take();
        b.receive(&bytes);
        for event in b.events() {
            if let ConnectionEvent::DiscoveryKey(_) = event {
                b.connection.open(KEY).unwrap();
            }
        }
    }
    // An open has 86 bytes, and is sealed with 20 more.
    assert!((8..=12).contains(&rounds), "{rounds}");
    assert!(b.connection.transmit().len() < 1000 + 200);
    b.take();
    b.drain();
    assert!(b.connection.wants_input(), "they have left");
}

#[test]
fn answers_have_a_limit_that_ends_when_the_last_of_them_has_left() {
    // Each reject has 3 bytes, and is sealed with 20 more.
    for (limit, reads) in [(229, false), (230, true), (231, true)] {
        let (mut a, mut b) = connected(|config| config.limits.max_answers = limit);
        b.connection.pair("chat", None);
        for id in 1..=10 {
            sends(&mut a, &mut b, &open_packet(id, "chat", &[id as u8], &[]));
        }
        assert_eq!(b.events().len(), 10);
        for id in 1..=10 {
            b.connection.reject_channel("chat", Some(&[id]));
        }
        assert_eq!(b.connection.transmit().len(), 230);
        assert_eq!(b.connection.wants_input(), reads, "{limit}");
        b.take();
        assert!(
            b.connection.wants_input(),
            "nothing more has to be sent for that"
        );
    }
}

/// What waits to share a record with others is the caller's, whichever call closes that record.
#[test]
fn what_the_caller_sent_is_no_answer() {
    let answers = |protocol: &str, reject: fn(&mut Connection)| {
        let (mut a, mut b) = open(|config| config.coalesce = true);
        b.connection.pair("chat", None);
        let id = [9; 32];
        sends(&mut a, &mut b, &open_packet(2, protocol, &id, &[]));
        let channel = b.connection.channels()[0].handle;
        for at in 0..8 {
            let block = Message::Data(wire::Data {
                block: Some(wire::DataBlock {
                    index: at,
                    value: vec![7; 1500].into(),
                    nodes: Vec::new(),
                }),
                ..wire::Data::default()
            });
            b.connection.send(channel, &block).unwrap();
        }
        let queued = b.connection.queued_len();
        reject(&mut b.connection);
        let grown = b.connection.queued_len() - queued;
        assert_eq!(b.connection.answers, grown);
        grown
    };
    // A reject has 3 bytes, and is sealed with 20 more.
    let core = answers("hypercore/alpha", |it| {
        it.reject(&DiscoveryKey::new([9; 32]))
    });
    assert_eq!(core, 23);
    let chat = answers("chat", |it| it.reject_channel("chat", Some(&[9; 32])));
    assert_eq!(chat, 23);
}

#[test]
fn names_of_extensions_have_a_limit_over_all_channels() {
    let named = |name: &[u8]| {
        let mut body = Vec::new();
        Encoder::new(&mut body).buffer(name, "name").unwrap();
        message(9, &body)
    };
    for (length, is_refused) in [(99, false), (100, false), (101, true)] {
        let (mut a, mut b) = open(|config| config.limits.max_extension_names = 100);
        sends(&mut a, &mut b, &named(&vec![b'n'; length]));
        assert_eq!(error(&mut b).is_some(), is_refused, "{length}");
        if !is_refused {
            // One name takes the place of the last.
            sends(&mut a, &mut b, &named(&[b'm'; 100]));
            sends(&mut a, &mut b, &named(&[]));
            assert_eq!(error(&mut b), None);
            let Some(ConnectionEvent::Message { message, .. }) = b.events().pop() else {
                panic!("no message");
            };
            let Message::Extension(extension) = message else {
                panic!("{message:?}");
            };
            assert_eq!(&*extension.name, "m".repeat(100));
        }
    }
    let (mut a, mut b) = open(|config| config.limits.max_extension_names = 100);
    let other = [9; 32];
    a.connection.open(other).unwrap();
    b.connection.open(other).unwrap();
    settle(&mut a, &mut b);
    sends(&mut a, &mut b, &named(&[b'n'; 60]));
    let second = Packet::Message {
        channel: 2,
        kind: 9,
        body: [&[41][..], &[b'm'; 41]].concat().into(),
    };
    sends(&mut a, &mut b, &second.encode().unwrap());
    assert_eq!(
        error(&mut b).unwrap(),
        "an extension's name of 41 bytes, with the 60 of other channels, is above the limit of 100"
    );
}

/// A name is read only if its length is within the limit, and repeated without a copy.
#[test]
fn a_repeated_name_is_one_allocation() {
    let (mut a, mut b) = open(|_| {});
    let name = "n".repeat(10_000);
    let mut first = Vec::new();
    Encoder::new(&mut first).string(&name, "name").unwrap();
    let packets: Vec<_> = std::iter::once(Buffer::from(first))
        .chain((0..100).map(|_| Buffer::from([0])))
        .map(|body| Packet::Message {
            channel: 1,
            kind: 9,
            body,
        })
        .collect();
    sends(&mut a, &mut b, &Batch(&packets).encode().unwrap());
    let names: Vec<_> = b
        .events()
        .into_iter()
        .map(|event| match event {
            ConnectionEvent::Message {
                message: Message::Extension(extension),
                held,
                ..
            } => (extension.name, held),
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(names.len(), 101);
    assert!(names.iter().all(|(of, _)| Arc::ptr_eq(of, &names[0].0)));
    assert!(names[0].1 >= 10_000 && names[1].1 <= 1, "{names:?}");
}

#[test]
fn a_silent_peer_is_given_up() {
    let idle = || open(|config| config.idle_timeout = Some(10 * SECOND)).1;
    assert_eq!(gives_up(&mut idle(), 9 * SECOND), None);
    let error = ConnectionError::IdleTimeout(10 * SECOND).into();
    assert_eq!(gives_up(&mut idle(), 10 * SECOND), Some(error));
    // The default.
    let (_, mut b) = open(|_| {});
    assert_eq!(
        gives_up(&mut b, 30 * SECOND - Duration::from_nanos(1)),
        None
    );
    let error = ConnectionError::IdleTimeout(30 * SECOND).into();
    assert_eq!(gives_up(&mut b, 30 * SECOND), Some(error));
}

#[test]
fn two_peers_with_nothing_to_say_keep_each_other() {
    let (mut a, mut b) = pair();
    for second in 1..1000 {
        for peer in [&mut a, &mut b] {
            peer.now = second * SECOND;
            peer.connection.handle_timeout(second * SECOND);
        }
        settle(&mut a, &mut b);
    }
    assert_eq!((error(&mut a), error(&mut b)), (None, None));
}

/// Bytes alone keep nothing alive.
#[test]
fn a_record_must_be_whole_in_time_and_has_more_of_it_the_longer_it_is() {
    for (bytes, seconds) in [(10, 10), (4096 - 17, 11), (40_960, 20)] {
        let (mut a, mut b) = open(|config| {
            config.idle_timeout = Some(5 * SECOND);
            config.record_timeout = Some(10 * SECOND);
        });
        a.connection
            .send_plaintext_for_testing_only(&vec![0xa; bytes])
            .unwrap();
        let record = a.take();
        b.now = SECOND;
        b.receive(&record[..4]);
        for second in 2..seconds + 1 {
            assert_eq!(gives_up(&mut b, second * SECOND), None, "{bytes}");
            b.receive(&record[second as usize + 2..second as usize + 3]);
            b.error = None;
        }
        let timeout = seconds * SECOND;
        let length = record.len() - 3;
        assert_eq!(
            gives_up(&mut b, SECOND + timeout),
            Some(ConnectionError::RecordTimeout { length, timeout }.into())
        );
    }
    // Half of a length is a record that has begun.
    let (_, mut b) = open(|config| config.record_timeout = Some(10 * SECOND));
    b.receive(&[1]);
    assert_eq!(
        gives_up(&mut b, 10 * SECOND),
        Some(
            ConnectionError::RecordTimeout {
                length: 0,
                timeout: 10 * SECOND
            }
            .into()
        )
    );
}

#[test]
fn time_while_nothing_is_read_on_purpose_is_not_the_peers_and_has_a_limit_of_its_own() {
    let (mut a, mut b) = open(|config| {
        config.idle_timeout = Some(5 * SECOND);
        config.record_timeout = Some(10 * SECOND);
        config.stall_timeout = Some(100 * SECOND);
    });
    a.connection
        .send_plaintext_for_testing_only(&[0xa; 9])
        .unwrap();
    let record = a.take();
    b.connection.pause_reading(2 * SECOND);
    assert_eq!(gives_up(&mut b, 101 * SECOND), None);
    b.connection.resume_reading(101 * SECOND);
    assert_eq!(gives_up(&mut b, 103 * SECOND), None);
    b.receive(&record[..5]);
    b.connection.pause_reading(104 * SECOND);
    assert_eq!(gives_up(&mut b, 203 * SECOND), None);
    b.connection.resume_reading(203 * SECOND);
    assert_eq!(gives_up(&mut b, 211 * SECOND), None);
    b.receive(&record[5..]);
    assert_eq!(error(&mut b), None);
    b.connection.pause_reading(300 * SECOND);
    b.error = None;
    assert_eq!(gives_up(&mut b, 399 * SECOND), None);
    let error = ConnectionError::StallTimeout(100 * SECOND).into();
    assert_eq!(gives_up(&mut b, 400 * SECOND), Some(error));
}

#[test]
fn zero_is_no_time_out_and_all_durations_may_be_the_longest() {
    for duration in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
        let (mut a, mut b) = open(|config| {
            config.handshake_timeout = duration;
            config.keep_alive = duration;
            config.idle_timeout = duration;
            config.record_timeout = duration;
            config.stall_timeout = duration;
        });
        let year = 31_557_600 * SECOND;
        assert_eq!(gives_up(&mut b, year), None);
        assert!(b.connection.transmit().is_empty(), "{duration:?}");
        a.connection
            .send_plaintext_for_testing_only(&[0xa; 9])
            .unwrap();
        let record = a.take();
        b.receive(&record[..5]);
        assert_eq!(gives_up(&mut b, 2 * year), None);
        b.connection.pause_reading(2 * year);
        assert_eq!(gives_up(&mut b, 3 * year), None);
        b.connection.resume_reading(Duration::MAX);
        let _ = b.connection.next_deadline();
    }
}

#[test]
fn keep_alives_are_no_flood() {
    let sent = |interval: Duration| {
        let (_, mut b) = open(|config| config.keep_alive = Some(interval));
        b.take();
        let mut records = 0;
        // Ten milliseconds, in steps of a microsecond.
        for at in 0..10_000 {
            b.now = Duration::from_micros(at);
            b.connection.handle_timeout(b.now);
            records += b.take().len() / 20;
        }
        records
    };
    assert_eq!(sent(Duration::ZERO), 0);
    assert_eq!(sent(Duration::from_nanos(1)), 9);
    assert_eq!(sent(Duration::from_millis(1)), 9);
    assert_eq!(sent(Duration::from_millis(2)), 4);
}

#[test]
fn a_record_of_a_million_ignored_messages_is_read_in_pieces() {
    let (mut a, mut b) = connected(|_| {});
    // Each item is one byte of a type that nobody knows, on the control channel.
    let batch: Vec<_> = [0, 0, 0]
        .into_iter()
        .chain([1, 9].repeat(500_000))
        .collect();
    a.connection
        .send_plaintext_for_testing_only(&batch)
        .unwrap();
    let bytes = a.take();
    b.connection.receive(&bytes, Duration::ZERO);
    let mut pieces = 0;
    while !b.connection.wants_input() {
        let mut packets = 1000;
        assert!(
            b.connection
                .poll_event_within(&mut packets)
                .unwrap()
                .is_none()
        );
        pieces += 1;
        assert!(pieces < 600);
    }
    assert_eq!(pieces, 501);
    assert_eq!(b.connection.ignored().mux.controls, 500_000);
}

#[test]
fn no_debug_output_shows_the_hash_of_a_handshake_or_the_key_of_a_core() {
    let (mut a, mut b) = connected(|_| {});
    let hash = a.connection.handshake().unwrap().hash;
    a.connection.open(KEY).unwrap();
    b.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    let events = b.events();
    let info = b.connection.handshake();
    let event = ConnectionEvent::Handshake(info.unwrap().clone());
    let shown = format!("{:?} {info:?} {event:?} {events:?}", b.connection);
    assert!(shown.contains("ChannelOpened"), "{shown}");
    for secret in [&hash[..], &KEY] {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{secret:?}");
        assert!(!shown.contains(&hex[..16]), "{shown}");
        assert!(!shown.contains(&list[1..20]), "{shown}");
    }
}
