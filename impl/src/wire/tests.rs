use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::encoding::tests::{check_codec, safe_integer};
use crate::encoding::{DecodeErrorKind, MAX_SAFE_INTEGER};
use crate::manifest::tests::manifests;
use crate::manifest::{Manifest, Prologue};

fn hash() -> impl Strategy<Value = [u8; 32]> {
    any::<u8>().prop_map(|byte| [byte; 32])
}

pub(crate) fn node() -> impl Strategy<Value = Node> {
    (safe_integer(), safe_integer(), hash()).prop_map(|(index, size, hash)| Node {
        index,
        size,
        hash,
    })
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    vec(node(), 0..4)
}

fn buffer() -> impl Strategy<Value = Buffer> {
    vec(any::<u8>(), 0..300).prop_map(Buffer::from)
}

fn pair() -> impl Strategy<Value = (u64, u64)> {
    (safe_integer(), safe_integer())
}

fn request() -> impl Strategy<Value = Request> {
    let block = || option::of(pair().prop_map(|(index, nodes)| RequestBlock { index, nodes }));
    let seek = option::of(pair().prop_map(|(bytes, padding)| RequestSeek { bytes, padding }));
    let upgrade = option::of(pair().prop_map(|(start, length)| RequestUpgrade { start, length }));
    (
        pair(),
        block(),
        block(),
        seek,
        upgrade,
        any::<bool>(),
        safe_integer(),
    )
        .prop_map(
            |((id, fork), block, hash, seek, upgrade, manifest, priority)| Request {
                id,
                fork,
                block,
                hash,
                seek,
                upgrade,
                manifest,
                priority,
            },
        )
}

fn data() -> impl Strategy<Value = Data> {
    let block = option::of((safe_integer(), buffer(), nodes()).prop_map(
        |(index, value, nodes)| DataBlock {
            index,
            value,
            nodes,
        },
    ));
    let hash =
        option::of((safe_integer(), nodes()).prop_map(|(index, nodes)| DataHash { index, nodes }));
    let seek =
        option::of((safe_integer(), nodes()).prop_map(|(bytes, nodes)| DataSeek { bytes, nodes }));
    let signature = option::of(vec(any::<u8>(), 1..100).prop_map(Buffer::from));
    let upgrade = option::of((pair(), nodes(), nodes(), signature).prop_map(
        |((start, length), nodes, additional_nodes, signature)| DataUpgrade {
            start,
            length,
            nodes,
            additional_nodes,
            signature,
        },
    ));
    let manifest = option::of(manifests().prop_map(Box::new));
    (pair(), block, hash, seek, upgrade, manifest).prop_map(
        |((request, fork), block, hash, seek, upgrade, manifest)| Data {
            request,
            fork,
            block,
            hash,
            seek,
            upgrade,
            manifest,
        },
    )
}

fn sync() -> impl Strategy<Value = Sync> {
    (pair(), safe_integer(), any::<[bool; 5]>()).prop_map(
        |((fork, length), remote_length, flags)| {
            let [
                can_upgrade,
                uploading,
                downloading,
                has_manifest,
                allow_push,
            ] = flags;
            Sync {
                fork,
                length,
                remote_length,
                can_upgrade,
                uploading,
                downloading,
                has_manifest,
                allow_push,
            }
        },
    )
}

proptest! {
    #[test]
    fn handshake_round_trips(seeks: bool, capability in hash()) {
        check_codec(&Handshake { seeks, capability }, true);
    }

    #[test]
    fn sync_round_trips(sync in sync()) {
        check_codec(&sync, true);
    }

    #[test]
    fn request_round_trips(request in request()) {
        check_codec(&request, true);
    }

    #[test]
    fn cancel_round_trips(request in safe_integer()) {
        check_codec(&Cancel { request }, true);
    }

    #[test]
    fn data_round_trips(data in data()) {
        check_codec(&data, true);
    }

    #[test]
    fn no_data_round_trips((request, reason) in pair()) {
        check_codec(&NoData { request, reason }, false);
    }

    #[test]
    fn want_and_unwant_round_trip((start, length) in pair(), any: bool) {
        check_codec(&Want { start, length, any }, false);
        check_codec(&Unwant { start, length, any }, false);
    }

    #[test]
    fn bitfield_round_trips(start in safe_integer(), bitfield in vec(any::<u32>(), 0..300)) {
        check_codec(&Bitfield { start, bitfield }, true);
    }

    #[test]
    fn range_round_trips(drop: bool, start in safe_integer(), length in safe_integer()) {
        check_codec(&Range { drop, start, length }, true);
        check_codec(&Range { drop, start, length: 1 }, true);
    }

    #[test]
    fn extension_round_trips(name in ".{0,40}", message in buffer()) {
        let extension = Extension { name: name.into(), message };
        let bytes = extension.encode().unwrap();
        let decoded = Extension::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.consumed, bytes.len());
        prop_assert_eq!(decoded.value, extension);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(kind in 0_u64..12, bytes in vec(any::<u8>(), 0..200)) {
        let body = Buffer::from(bytes);
        let Some(message_type) = MessageType::from_id(kind) else {
            prop_assert!(kind > 9);
            prop_assert_eq!(Message::decode(kind, &body), Ok(None));
            return Ok(());
        };
        match Message::decode_as(message_type, &body) {
            Ok(decoded) => {
                prop_assert_eq!(decoded.consumed + decoded.trailing, body.len());
                prop_assert_eq!(decoded.value.message_type(), message_type);
                // Any decoded message can be encoded, and decodes to the same.
                let again = Buffer::from(decoded.value.encode().unwrap());
                prop_assert_eq!(Message::decode(kind, &again).unwrap(), Some(decoded.value));
            }
            Err(error) => prop_assert!(error.offset <= body.len()),
        }
    }
}

fn encoded(message: impl Into<Message>) -> String {
    message
        .into()
        .encode()
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn layouts_are_nodes() {
    let flags = Sync {
        fork: 1,
        length: 2,
        remote_length: 3,
        ..Sync::default()
    };
    assert_eq!(encoded(flags), "00010203");
    assert_eq!(
        encoded(Sync {
            can_upgrade: true,
            ..flags
        }),
        "01010203"
    );
    assert_eq!(
        encoded(Sync {
            uploading: true,
            ..flags
        }),
        "02010203"
    );
    assert_eq!(
        encoded(Sync {
            downloading: true,
            ..flags
        }),
        "04010203"
    );
    assert_eq!(
        encoded(Sync {
            has_manifest: true,
            ..flags
        }),
        "08010203"
    );
    assert_eq!(
        encoded(Sync {
            allow_push: true,
            ..flags
        }),
        "10010203"
    );

    let request = Request {
        id: 1,
        fork: 2,
        block: Some(RequestBlock { index: 3, nodes: 4 }),
        hash: Some(RequestBlock { index: 5, nodes: 6 }),
        seek: Some(RequestSeek {
            bytes: 7,
            padding: 8,
        }),
        upgrade: Some(RequestUpgrade {
            start: 9,
            length: 10,
        }),
        manifest: true,
        priority: 11,
    };
    assert_eq!(encoded(request), "3f0102030405060708090a0b");
    assert_eq!(
        encoded(Request {
            id: 1,
            manifest: true,
            ..Request::default()
        }),
        "100100"
    );

    assert_eq!(
        encoded(NoData {
            request: 5,
            reason: 0
        }),
        "0500"
    );
    assert_eq!(
        encoded(NoData {
            request: 5,
            reason: 2
        }),
        "050102"
    );
    assert_eq!(
        encoded(Want {
            start: 1,
            length: 2,
            any: false
        }),
        "0102"
    );
    assert_eq!(
        encoded(Unwant {
            start: 1,
            length: 2,
            any: true
        }),
        "010201"
    );
    assert_eq!(
        encoded(Range {
            drop: false,
            start: 5,
            length: 1
        }),
        "0205"
    );
    assert_eq!(
        encoded(Range {
            drop: true,
            start: 5,
            length: 0
        }),
        "010500"
    );
    assert_eq!(
        encoded(Bitfield {
            start: 0,
            bitfield: vec![1, 0xff00_0000]
        }),
        "000201000000000000ff"
    );
    let extension = Extension {
        name: "ab".into(),
        message: Buffer::from([1, 2]),
    };
    assert_eq!(encoded(extension), "0261620102");
}

#[test]
fn the_parts_of_data_are_laid_out_as_nodes() {
    // H stands for a hash of 04 repeated 32 times.
    let hex = |bytes: String| bytes.replace(&"04".repeat(32), "H");
    let nodes = || {
        vec![Node {
            index: 2,
            size: 3,
            hash: [4; 32],
        }]
    };
    let data = Data {
        request: 1,
        fork: 2,
        ..Data::default()
    };
    let block = Some(DataBlock {
        index: 5,
        value: "ab".into(),
        nodes: nodes(),
    });
    let sent = Data {
        block,
        ..data.clone()
    };
    assert_eq!(hex(encoded(sent)), "01010205026162010203H");
    let hash = Some(DataHash {
        index: 5,
        nodes: nodes(),
    });
    let sent = Data {
        hash,
        ..data.clone()
    };
    assert_eq!(hex(encoded(sent)), "02010205010203H");
    let seek = Some(DataSeek {
        bytes: 5,
        nodes: vec![],
    });
    let sent = Data {
        seek,
        ..data.clone()
    };
    assert_eq!(hex(encoded(sent)), "0401020500");
    let upgrade = Some(DataUpgrade {
        start: 5,
        length: 6,
        nodes: vec![],
        additional_nodes: nodes(),
        signature: Some(Buffer::from([7])),
    });
    let sent = Data {
        upgrade,
        ..data.clone()
    };
    assert_eq!(hex(encoded(sent)), "080102050600010203H0107");
    let prologue = Prologue {
        hash: [4; 32],
        length: 0,
    };
    let manifest = Some(Box::new(Manifest {
        prologue: Some(prologue),
        ..Manifest::default()
    }));
    let sent = Data { manifest, ..data };
    assert_eq!(hex(encoded(sent)), "100102000000H");

    let handshake = Handshake {
        seeks: true,
        capability: [4; 32],
    };
    let bytes = handshake.encode().unwrap();
    assert_eq!((bytes[0], &bytes[1..]), (1, [4; 32].as_slice()));
}

#[test]
fn a_block_shares_the_memory_of_its_record() {
    let data = Data {
        request: 1,
        block: Some(DataBlock {
            index: 0,
            value: Buffer::from(vec![5; 1000]),
            nodes: vec![],
        }),
        ..Data::default()
    };
    let record = Buffer::from(data.encode().unwrap());
    let Some(Message::Data(read)) = Message::decode(3, &record).unwrap() else {
        panic!("data")
    };
    let value = read.block.unwrap().value;
    let range = record.as_ptr_range();
    assert!(range.contains(&value.as_ptr()));

    let extension = Buffer::from([1, b'a', 7, 7]);
    let Some(Message::Extension(read)) = Message::decode(9, &extension).unwrap() else {
        panic!("extension")
    };
    assert_eq!(read.message.as_ptr(), extension[2..].as_ptr());
}

#[test]
fn unknown_flags_and_trailing_bytes_are_seen_and_forgiven() {
    let body = Buffer::from([0xc1, 1, 2, 3, 9, 9]);
    let decoded = Message::decode_as(MessageType::Sync, &body).unwrap();
    assert_eq!(decoded.unknown_flags, 0xc0);
    assert_eq!((decoded.consumed, decoded.trailing), (4, 2));
    let sync = Sync {
        fork: 1,
        length: 2,
        remote_length: 3,
        can_upgrade: true,
        ..Sync::default()
    };
    assert_eq!(decoded.value, Message::Sync(sync));
}

#[test]
fn a_priority_of_10_18_reads_as_a_manifest_with_a_byte_left_over() {
    let decoded = Request::decode(&[0x10, 1, 0, 7]).unwrap();
    assert!(decoded.value.manifest);
    assert_eq!(decoded.value.priority, 0);
    assert_eq!(decoded.trailing, 1);
}

#[test]
fn no_data_of_older_peers_ends_after_the_request() {
    assert_eq!(
        NoData::decode(&[5]).unwrap().value,
        NoData {
            request: 5,
            reason: 0
        }
    );
}

#[test]
fn an_error_names_the_place_and_the_field() {
    let fields = |bytes: &[u8]| -> Vec<_> {
        (0..bytes.len())
            .map(|n| Request::decode(&bytes[..n]).unwrap_err().field)
            .collect()
    };
    let all = [0x3f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    let names = [
        "flags",
        "id",
        "fork",
        "block.index",
        "block.nodes",
        "hash.index",
        "hash.nodes",
        "seek.bytes",
        "seek.padding",
        "upgrade.start",
        "upgrade.length",
        "priority",
    ];
    assert_eq!(fields(&all), names);

    let error = Data::decode(&[1, 1, 0, 0, 0xfd, 0x10, 0x27, 1]).unwrap_err();
    assert_eq!((error.field, error.offset), ("block.value", 7));
    assert_eq!(
        error.kind,
        DecodeErrorKind::OutOfBounds {
            needed: 10_000,
            remaining: 1
        }
    );
    assert_eq!(
        error.to_string(),
        "out of bounds: 10000 bytes needed, 1 left at byte 7, in block.value"
    );
}

#[test]
fn a_large_integer_is_not_sent() {
    let mut out = vec![1, 2, 3];
    let error = Cancel {
        request: MAX_SAFE_INTEGER + 1,
    }
    .append_to(&mut out)
    .unwrap_err();
    let expected = EncodeError::UnsafeInteger {
        value: MAX_SAFE_INTEGER + 1,
        field: "request",
    };
    assert_eq!(error, expected);
    assert_eq!(out, [1, 2, 3]);
    Cancel {
        request: MAX_SAFE_INTEGER,
    }
    .append_to(&mut out)
    .unwrap();
    assert_eq!(out.len(), 12);
}

#[test]
fn hostile_counts_are_refused() {
    let nodes = |count: &[u8]| {
        let mut bytes = vec![2, 1, 0, 0];
        bytes.extend_from_slice(count);
        Data::decode(&bytes).unwrap_err().kind
    };
    assert!(matches!(
        nodes(&[0xfe, 0, 0, 0x10, 0]),
        DecodeErrorKind::OutOfBounds { .. }
    ));
    let too_big = DecodeErrorKind::ArrayTooBig { count: 0x10_0001 };
    assert_eq!(nodes(&[0xfe, 1, 0, 0x10, 0]), too_big);
    let too_big = DecodeErrorKind::ArrayTooBig { count: 1 << 32 };
    assert_eq!(nodes(&[0xff, 0, 0, 0, 0, 1, 0, 0, 0]), too_big);
    let unsafe_integer = DecodeErrorKind::UnsafeInteger { value: 1 << 60 };
    assert_eq!(nodes(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0x10]), unsafe_integer);
}

#[test]
fn a_bitfield_does_not_read_past_its_message() {
    // Node would read the words from memory behind the message.
    let record = Buffer::from([0, 1, 1, 0, 0, 0, 9, 9]);
    let body = record.slice(..5);
    let error = Message::decode(7, &body).unwrap_err();
    assert_eq!(
        error.kind,
        DecodeErrorKind::OutOfBounds {
            needed: 4,
            remaining: 3
        }
    );
    let huge = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0];
    let error = Bitfield::decode(&huge).unwrap_err();
    let needed = MAX_SAFE_INTEGER * 4;
    assert_eq!(
        error.kind,
        DecodeErrorKind::OutOfBounds {
            needed,
            remaining: 0
        }
    );
}

#[test]
fn a_bitfield_answers_for_single_blocks() {
    let bitfield = Bitfield {
        start: 32,
        bitfield: vec![0b101, 1 << 31],
    };
    let held: Vec<_> = (0..200).filter(|block| bitfield.get(*block)).collect();
    assert_eq!(held, [32, 34, 95]);
    assert!(!bitfield.get(u64::MAX));
}

#[test]
fn names_of_extensions_are_sent_once() {
    let mut names = ExtensionNames::default();
    let sent: Vec<_> = ["a", "a", "b", "b", "a"]
        .iter()
        .map(|name| names.send(name).to_owned())
        .collect();
    assert_eq!(sent, ["a", "", "b", "", "a"]);
    let heard: Vec<_> = sent
        .iter()
        .map(|name| names.receive(name).to_owned())
        .collect();
    assert_eq!(heard, ["a", "a", "b", "b", "a"]);
    assert_eq!(ExtensionNames::default().receive(""), "");
}

#[test]
fn numbers_and_names_are_nodes() {
    let names: Vec<_> = (0..)
        .map_while(MessageType::from_id)
        .map(MessageType::name)
        .collect();
    let expected = "sync request cancel data noData want unwant bitfield range extension";
    assert_eq!(names.join(" "), expected);
    assert!(
        MessageType::ALL
            .iter()
            .enumerate()
            .all(|(id, kind)| kind.id() == id as u64)
    );
    assert!(
        MessageType::ALL
            .iter()
            .all(|kind| MessageType::from_name(kind.name()) == Some(*kind))
    );
    assert_eq!(MessageType::NoData.to_string(), "noData");
    assert_eq!(MessageType::from_id(u64::MAX), None);
    assert_eq!(MessageType::from_name("handshake"), None);
}

#[test]
fn what_later_releases_send_is_kept_as_it_is() {
    let unknown = Unknown::new(300, vec![1, 2]).expect("no known number");
    assert_eq!((unknown.kind(), &unknown.body()[..]), (300, &[1, 2][..]));
    assert_eq!(encoded(unknown.clone()), "0102");
    let body = Buffer::from(vec![1, 2]);
    let read = Message::decode_as(MessageType::Unknown(300), &body).unwrap();
    assert_eq!(read.value, Message::Unknown(unknown));
    for known in 0..10 {
        assert_eq!(Unknown::new(known, Buffer::new()), None);
    }

    let unread = |bytes: &[u8]| {
        let bytes = Buffer::copy_from(bytes);
        Unread::of(&Cancel::decode_shared(&bytes).unwrap(), &bytes)
    };
    assert_eq!(unread(&[5]), Unread::default());
    assert!(unread(&[5]).is_empty());
    assert_eq!(unread(&[5, 6]).trailing[..], [6]);
    let more = unread(&[5, 6, 7]);
    assert_eq!((more.unknown_flags, &more.trailing[..]), (0, &[6, 7][..]));
    assert!(!more.is_empty());
    let bytes = Buffer::from(vec![4, 1, 2]);
    let flags = Unread::of(&Range::decode_shared(&bytes).unwrap(), &bytes);
    assert_eq!((flags.unknown_flags, flags.trailing.len()), (4, 0));
    assert!(!flags.is_empty());
}

#[test]
fn the_debug_form_explains() {
    let sync = Sync {
        length: 5,
        can_upgrade: true,
        allow_push: true,
        ..Sync::default()
    };
    let shown = "Sync { fork: 0, length: 5, remote_length: 0, flags: canUpgrade | allowPush }";
    assert_eq!(format!("{:?}", Message::from(sync)), shown);
    for (reason, shown) in [
        (0, "none"),
        (1, "not available"),
        (2, "invalid request"),
        (3, "3"),
    ] {
        let no_data = NoData { request: 1, reason };
        let shown = format!("NoData {{ request: 1, reason: {shown} }}");
        assert_eq!(format!("{no_data:?}"), shown);
    }
    let handshake = Handshake {
        seeks: true,
        capability: [0xab; 32],
    };
    assert_eq!(
        format!("{handshake:?}"),
        format!(
            "Handshake {{ flags: seeks, capability: {} }}",
            "ab".repeat(32)
        )
    );
    let shown = "Want { start: 1, length: 2, flags: none }";
    assert_eq!(
        format!(
            "{:?}",
            Want {
                start: 1,
                length: 2,
                any: false
            }
        ),
        shown
    );
    let shown = "Bitfield { start: 0, bits: 64, set: 3 }";
    assert_eq!(
        format!(
            "{:?}",
            Bitfield {
                start: 0,
                bitfield: vec![3, 1]
            }
        ),
        shown
    );
    let node = Node {
        index: 2,
        size: 3,
        hash: [0xab; 32],
    };
    assert_eq!(
        format!("{node:?}"),
        format!("Node {{ index: 2, size: 3, hash: {} }}", "ab".repeat(32))
    );
    let request = Request {
        id: 1,
        manifest: true,
        ..Request::default()
    };
    assert_eq!(
        format!("{request:?}"),
        "Request { id: 1, fork: 0, manifest: true }"
    );
    let request = Request {
        priority: 2,
        ..Request::default()
    };
    assert_eq!(
        format!("{request:?}"),
        "Request { id: 0, fork: 0, priority: 2 }"
    );
    let data = Data {
        request: 1,
        hash: Some(DataHash::default()),
        ..Data::default()
    };
    assert_eq!(
        format!("{data:?}"),
        "Data { request: 1, fork: 0, hash: DataHash { index: 0, nodes: [] } }"
    );
}
