use super::super::tests::{Peer, channel, open_packet, pair, sends, settle};
use super::*;
use crate::class::ErrorClass;
use crate::connection::{ChannelError, ConnectionError};
use crate::keys::{self, Key};
use crate::mux::CloseReason;
use crate::wire::{Extension, Message};

const KEY: Key = Key::new([7; 32]);

fn chat() -> ChannelOptions {
    ChannelOptions::new("chat").id(b"room").handshake(b"ada")
}

/// The messages among these events.
fn bodies(events: &[ConnectionEvent]) -> Vec<(u64, &[u8])> {
    events
        .iter()
        .filter_map(|event| match event {
            ConnectionEvent::MuxMessage { kind, body, .. } => Some((*kind, &body[..])),
            _ => None,
        })
        .collect()
}

fn remote_open(protocol: &str, id: &[u8], handshake: &[u8]) -> ConnectionEvent {
    ConnectionEvent::RemoteOpen(RemoteOpen {
        protocol: protocol.to_owned(),
        id: some_id(Some(id)),
        handshake: Buffer::copy_from(handshake),
    })
}

/// Both sides have the channel open.
fn open_both(a: &mut Peer, b: &mut Peer) -> (ChannelHandle, ChannelHandle) {
    let here = a.connection.open_channel(&chat()).unwrap();
    let there = b.connection.open_channel(&chat()).unwrap();
    settle(a, b);
    a.events();
    b.events();
    (here, there)
}

#[test]
fn a_paired_protocol_is_answered() {
    let (mut a, mut b) = pair();
    b.connection.pair("chat", None);
    let here = a.connection.open_channel(&chat()).unwrap();
    // At once, as in Node: the peer keeps it.
    a.connection.send_raw(here, 3, b"early").unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.events(), [remote_open("chat", b"room", b"ada")]);
    let there = b
        .connection
        .open_channel(&ChannelOptions::new("chat").id("room").handshake("bob"))
        .unwrap();
    b.connection.send_raw(there, 0, b"").unwrap();
    assert_eq!(
        b.events(),
        [
            ConnectionEvent::MuxChannelOpened {
                channel: there,
                handshake: b"ada".into(),
                local_id: 1,
                remote_id: 1,
            },
            ConnectionEvent::MuxMessage {
                channel: there,
                kind: 3,
                body: b"early".into(),
                held: 5,
            }
        ]
    );
    settle(&mut a, &mut b);
    let events = a.events();
    assert!(matches!(
        &events[0],
        ConnectionEvent::MuxChannelOpened { handshake, .. } if *handshake == b"bob"
    ));
    assert_eq!(bodies(&events), [(0, &b""[..])]);

    b.connection.close(there);
    settle(&mut a, &mut b);
    let closed = |channel, reason| [ConnectionEvent::MuxChannelClosed { channel, reason }];
    assert_eq!(b.events(), closed(there, CloseReason::Local));
    assert_eq!(a.events(), closed(here, CloseReason::Remote));
    assert_eq!(
        a.connection.send_raw(here, 0, b""),
        Err(MuxError::Closed.into())
    );
    assert!(a.error.is_none() && b.error.is_none());
}

#[test]
fn what_is_not_paired_is_rejected() {
    let (mut a, mut b) = pair();
    b.connection.pair("chat", Some(b"other"));
    b.connection.pair("talk", None);
    b.connection.unpair("talk", None);
    // Unpairing one id leaves the others.
    b.connection.pair("chat", Some(b"third"));
    b.connection.unpair("chat", Some(b"third"));
    for options in [
        chat(),
        ChannelOptions::new("talk"),
        ChannelOptions::new("chat").id("third"),
    ] {
        let here = a.connection.open_channel(&options).unwrap();
        settle(&mut a, &mut b);
        let reason = CloseReason::Rejected;
        let channel = here;
        assert_eq!(
            a.events(),
            [ConnectionEvent::MuxChannelClosed { channel, reason }]
        );
        assert_eq!(b.events(), []);
    }
    assert_eq!(b.connection.ignored().rejected_opens, 3);
    a.connection
        .open_channel(&ChannelOptions::new("chat").id("other"))
        .unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.events(), [remote_open("chat", b"other", b"")]);
}

#[test]
fn an_announced_open_can_be_rejected_also_after_unpairing() {
    let (mut a, mut b) = pair();
    b.connection.pair("chat", None);
    let options = chat().unique(false);
    let first = a.connection.open_channel(&options).unwrap();
    let second = a.connection.open_channel(&options).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.events().len(), 2, "each open is announced, as in Node");
    b.connection.unpair("chat", None);
    // Of another id: nothing happens.
    b.connection.reject_channel("chat", None);
    settle(&mut a, &mut b);
    assert_eq!(a.events(), []);
    b.connection.reject_channel("chat", Some(b"room"));
    settle(&mut a, &mut b);
    let reason = CloseReason::Rejected;
    assert_eq!(
        a.events(),
        [first, second].map(|channel| ConnectionEvent::MuxChannelClosed { channel, reason })
    );
    b.connection.reject_channel("chat", Some(b"room"));
    settle(&mut a, &mut b);
    assert!(a.error.is_none(), "a reject is sent once");
}

#[test]
fn an_answered_open_is_not_rejected_later() {
    let (mut a, mut b) = pair();
    b.connection.pair("old", None);
    a.connection
        .open_channel(&ChannelOptions::new("old").alias("new"))
        .unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.events(), [remote_open("old", b"", b"")]);
    // By the protocol's new name, of which the peer's is an alias, as is ours to the peer.
    let there = b
        .connection
        .open_channel(&ChannelOptions::new("new").alias("old"))
        .unwrap();
    assert!(b.connection.raw.waiting.is_empty());
    b.connection.reject_channel("old", None);
    settle(&mut a, &mut b);
    assert!(matches!(
        b.events()[..],
        [ConnectionEvent::MuxChannelOpened { channel, .. }] if channel == there
    ));
    assert!(a.connection.channels()[0].opened);
    assert!(a.error.is_none() && b.error.is_none());
}

#[test]
fn a_channel_is_unique_unless_it_is_not() {
    let (mut a, mut b) = pair();
    let (here, _) = open_both(&mut a, &mut b);
    let again = a.connection.open_channel(&chat());
    assert_eq!(again, Err(MuxError::AlreadyOpen.into()));
    let second = a.connection.open_channel(&chat().unique(false)).unwrap();
    assert_ne!(here, second);
    a.connection
        .open_channel(&ChannelOptions::new("chat").id(b"room 2"))
        .unwrap();
    // An empty id is none.
    a.connection
        .open_channel(&ChannelOptions::new("chat").id(b""))
        .unwrap();
    let none = a.connection.open_channel(&ChannelOptions::new("chat"));
    assert_eq!(none, Err(MuxError::AlreadyOpen.into()));
}

#[test]
fn the_list_of_channels() {
    let (mut a, mut b) = pair();
    let core = a.connection.open(KEY).unwrap();
    let raw = a.connection.open_channel(&chat()).unwrap();
    b.connection.open_channel(&chat()).unwrap();
    settle(&mut a, &mut b);
    let discovery_key = keys::discovery_key(&KEY);
    assert_eq!(
        a.connection.channels(),
        [
            ChannelInfo {
                handle: core,
                protocol: "hypercore/alpha".to_owned(),
                id: some_id(Some(&discovery_key)),
                discovery_key: Some(discovery_key),
                opened: false,
            },
            ChannelInfo {
                handle: raw,
                protocol: "chat".to_owned(),
                id: some_id(Some(b"room")),
                discovery_key: None,
                opened: true,
            }
        ]
    );
    a.connection.close(raw);
    assert_eq!(a.connection.channels().len(), 1);
    a.connection.close(core);
    assert_eq!(a.connection.channels(), []);
}

#[test]
fn opened_and_sent_before_the_handshake() {
    let (mut a, mut b) = (Peer::new(true), Peer::new(false));
    let core = a.connection.open(KEY).unwrap();
    let here = a.connection.open_channel(&chat()).unwrap();
    a.connection.send_raw(here, 1, b"early").unwrap();
    assert!(a.connection.held_len() > 0);
    let there = b.connection.open_channel(&chat()).unwrap();
    settle(&mut a, &mut b);
    let events = b.events();
    assert!(matches!(events[0], ConnectionEvent::Handshake(_)));
    assert_eq!(bodies(&events), [(1, &b"early"[..])]);
    assert!(b.connection.channels()[0].opened && b.connection.channels()[0].handle == there);
    assert_eq!(a.connection.channels()[0].handle, core);
}

#[test]
fn corks_nest_over_all_channels_and_end_with_the_stream() {
    let (mut a, mut b, core, _) = channel();
    let (here, _) = open_both(&mut a, &mut b);
    a.connection.cork();
    a.connection.cork();
    a.connection.send_raw(here, 0, b"one").unwrap();
    let extension = Message::Extension(Extension {
        name: "x".into(),
        message: b"two".into(),
    });
    a.connection.send(core, &extension).unwrap();
    a.connection.uncork();
    assert_eq!(a.take(), b"");
    let corked = a.connection.corked_len();
    assert!(corked > 0 && corked == a.connection.held_len());
    a.connection.uncork();
    // uint24, tag, 2 of the batch's head, 2 channels, one switch, 2 lengths, the messages, and the MAC.
    assert_eq!(a.take().len(), 3 + corked + 17);

    // What is corked when the stream ends is not lost, and no cork is left.
    for finish in [Connection::finish, Connection::end] {
        let (mut a, mut b) = pair();
        let (here, _) = open_both(&mut a, &mut b);
        a.connection.cork();
        a.connection.send_raw(here, 7, b"last").unwrap();
        finish(&mut a.connection);
        let bytes = a.take();
        b.receive(&bytes);
        assert_eq!(bodies(&b.events()), [(7, &b"last"[..])]);
        a.connection.uncork();
        let refused = a.connection.open_channel(&chat().unique(false));
        assert_eq!(refused, Err(ConnectionError::Closed.into()));
        let refused = a.connection.send_raw(here, 7, b"later");
        assert_eq!(refused, Err(MuxError::Closed.into()));
    }
}

#[test]
fn a_batch_is_one_record_and_stops_at_what_cannot_be_sent() {
    let (mut a, mut b) = pair();
    let (here, _) = open_both(&mut a, &mut b);
    let batch = [(0, Buffer::from(b"one")), (300, Buffer::from(b"two"))];
    a.connection.send_batch_raw(here, &batch).unwrap();
    let bytes = a.take();
    // Head 2, channel 1, 1 + 4, 1 + 6.
    assert_eq!(bytes.len(), 3 + 17 + 2 + 1 + 5 + 7);
    b.receive(&bytes);
    assert_eq!(bodies(&b.events()), [(0, &b"one"[..]), (300, b"two")]);

    let batch = [
        (0, Buffer::from(b"one")),
        (1 << 53, Buffer::new()),
        (1, Buffer::new()),
    ];
    let error = a.connection.send_batch_raw(here, &batch).unwrap_err();
    assert_eq!(error.class(), ErrorClass::UnsafeInteger);
    settle(&mut a, &mut b);
    assert_eq!(bodies(&b.events()), [(0, &b"one"[..])]);
}

#[test]
fn a_core_and_a_raw_channel_of_the_same_name_exclude_each_other() {
    let discovery_key = keys::discovery_key(&KEY);
    let raw = ChannelOptions::new("hypercore/alpha").id(discovery_key);
    let (mut a, _) = pair();
    let core = a.connection.open(KEY).unwrap();
    let refused = a.connection.open_channel(&raw);
    assert_eq!(refused, Err(MuxError::AlreadyOpen.into()));
    a.connection.close(core);
    a.connection.open_channel(&raw).unwrap();
    let refused = a.connection.open(KEY);
    assert_eq!(refused, Err(ChannelError::AlreadyOpen.into()));
    assert_eq!(a.connection.channels().len(), 1);

    // The core's waits for the handshake while the other does not.
    let (mut a, mut b) = (Peer::new(true), Peer::new(false));
    let core = a.connection.open(KEY).unwrap();
    a.connection.open_channel(&raw).unwrap();
    settle(&mut a, &mut b);
    let closed = a.events().into_iter().find_map(|event| match event {
        ConnectionEvent::ChannelClosed {
            channel, reason, ..
        } => Some((channel, reason)),
        _ => None,
    });
    assert_eq!(closed, Some((core, CloseReason::Local)));
    assert!(a.error.is_none() && b.error.is_none());
}

#[test]
fn a_pair_of_the_core_protocol_comes_before_its_own_event() {
    let (mut a, mut b) = pair();
    b.connection.pair("hypercore/alpha", None);
    a.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    assert!(matches!(
        &b.events()[..],
        [ConnectionEvent::RemoteOpen(RemoteOpen { protocol, .. })] if protocol == "hypercore/alpha"
    ));
    // Either kind of open answers it.
    b.connection.open(KEY).unwrap();
    assert!(b.connection.raw.waiting.is_empty());
    settle(&mut a, &mut b);
    let opened = |events: Vec<ConnectionEvent>| {
        matches!(events[..], [ConnectionEvent::ChannelOpened { .. }])
    };
    assert!(opened(a.events()) && opened(b.events()));

    let (mut a, mut b) = pair();
    a.connection.open(KEY).unwrap();
    settle(&mut a, &mut b);
    let discovery_key = keys::discovery_key(&KEY);
    assert_eq!(b.events(), [ConnectionEvent::DiscoveryKey(discovery_key)]);
    let raw = ChannelOptions::new("hypercore/alpha").id(discovery_key);
    b.connection.open_channel(&raw).unwrap();
    assert!(b.connection.unknown.is_empty());
}

#[test]
fn the_end_closes_raw_channels_and_forgets_what_waits() {
    let (mut a, mut b) = pair();
    let (here, _) = open_both(&mut a, &mut b);
    a.connection.pair("new", None);
    b.connection
        .open_channel(&ChannelOptions::new("new"))
        .unwrap();
    settle(&mut a, &mut b);
    assert_eq!(a.events().len(), 1);
    a.connection.receive_end();
    let events = a.events();
    assert!(matches!(events[0], ConnectionEvent::End(_)));
    let reason = CloseReason::Stream;
    let channel = here;
    assert_eq!(
        events[1..],
        [ConnectionEvent::MuxChannelClosed { channel, reason }]
    );
    assert!(a.connection.raw.waiting.is_empty() && a.connection.channels.len() == 0);
    let queued = a.connection.queued_len();
    a.connection.reject_channel("new", None);
    assert_eq!(a.connection.queued_len(), queued);
}

#[test]
fn opens_that_nobody_answers_stop_the_reading_and_no_more() {
    let (mut a, mut b) = pair();
    b.connection.pair("flood", None);
    let open = open_packet(1, "flood", b"", b"");
    sends(&mut a, &mut b, &open);
    let message = [&[1, 0][..], &[0; 40_000]].concat();
    sends(&mut a, &mut b, &message);
    sends(&mut a, &mut b, &message);
    assert!(!b.connection.wants_input());
    assert_eq!(b.events().len(), 1);
    b.connection.reject_channel("flood", None);
    b.drain();
    assert!(b.connection.wants_input());
    assert_eq!(b.connection.ignored().mux.messages, 1);
    assert!(b.error.is_none());
}

#[test]
fn an_end_behind_an_open_that_nobody_answers_is_told() {
    let (mut a, mut b) = pair();
    b.connection.pair("flood", None);
    let open = open_packet(1, "flood", b"", b"");
    let message = [&[1, 0][..], &[0; 40_000]].concat();
    for plaintext in [&open, &message, &message] {
        sends(&mut a, &mut b, plaintext);
    }
    b.connection.receive_end();
    let events = b.events();
    assert!(matches!(events.last(), Some(ConnectionEvent::End(_))));
    assert!(b.error.is_none());
}

#[test]
fn a_small_message_does_not_hold_its_record() {
    let (mut a, mut b) = pair();
    let (here, _) = open_both(&mut a, &mut b);
    let batch = [(0, Buffer::from(b"small")), (0, vec![0; 100_000].into())];
    a.connection.send_batch_raw(here, &batch).unwrap();
    settle(&mut a, &mut b);
    let events = b.events();
    let [
        ConnectionEvent::MuxMessage { body: small, .. },
        ConnectionEvent::MuxMessage { body: large, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    let record = large.as_ptr() as usize - 2000..large.as_ptr() as usize;
    assert!(!record.contains(&(small.as_ptr() as usize)));
}
