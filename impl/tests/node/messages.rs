//! Each message, and its form in Node's adapter.

use hypercore_protocol::Message;
use hypercore_protocol::schema::{
    Bitfield, Cancel, Data, DataBlock, DataHash, DataSeek, DataUpgrade, NoData, Node, Range,
    Request, RequestBlock, RequestSeek, RequestUpgrade, Sync, Unwant, Want,
};
use serde_json::{Value, json};

use super::hex;

fn node_hash(index: u64) -> Node {
    Node {
        index,
        size: 10 * index,
        hash: [index as u8; 32],
    }
}

fn node_json(index: u64) -> Value {
    json!({ "index": index, "size": 10 * index, "hash": hex([index as u8; 32]) })
}

/// Each message with all fields that both releases know, and its form in Node.
pub(crate) fn messages() -> Vec<(Message, Value)> {
    let data = Data {
        request: 300,
        fork: 1,
        block: Some(DataBlock {
            index: 7,
            value: b"a block".into(),
            nodes: vec![node_hash(1), node_hash(2)],
        }),
        hash: Some(DataHash {
            index: 9,
            nodes: vec![node_hash(3)],
        }),
        seek: Some(DataSeek {
            bytes: 70_000,
            nodes: vec![node_hash(4)],
        }),
        upgrade: Some(DataUpgrade {
            start: 1,
            length: 2,
            nodes: vec![node_hash(5)],
            additional_nodes: vec![node_hash(6)],
            signature: Some(vec![9; 64].into()),
        }),
        ..Data::default()
    };
    let data_json = json!({
        "request": 300, "fork": 1,
        "block": { "index": 7, "value": hex("a block"), "nodes": [node_json(1), node_json(2)] },
        "hash": { "index": 9, "nodes": [node_json(3)] },
        "seek": { "bytes": 70_000, "nodes": [node_json(4)] },
        "upgrade": {
            "start": 1, "length": 2, "nodes": [node_json(5)], "additionalNodes": [node_json(6)],
            "signature": hex([9; 64]),
        },
        "manifest": null,
    });
    let request = Request {
        id: 5,
        fork: 2,
        block: Some(RequestBlock { index: 1, nodes: 2 }),
        hash: Some(RequestBlock { index: 3, nodes: 4 }),
        seek: Some(RequestSeek {
            bytes: 1 << 40,
            padding: 6,
        }),
        upgrade: Some(RequestUpgrade {
            start: 7,
            length: 8,
        }),
        manifest: true,
        priority: 9,
    };
    let request_json = json!({
        "id": 5, "fork": 2, "block": { "index": 1, "nodes": 2 }, "hash": { "index": 3, "nodes": 4 },
        "seek": { "bytes": 1_u64 << 40, "padding": 6 }, "upgrade": { "start": 7, "length": 8 },
        "manifest": true, "priority": 9,
    });
    let sync = Sync {
        fork: 1,
        length: 2,
        remote_length: 3,
        can_upgrade: true,
        uploading: false,
        downloading: true,
        has_manifest: true,
        ..Sync::default()
    };
    vec![
        (
            sync.into(),
            json!({ "fork": 1, "length": 2, "remoteLength": 3, "canUpgrade": true, "uploading": false,
                    "downloading": true, "hasManifest": true }),
        ),
        (request.into(), request_json),
        (
            Cancel { request: 70_000 }.into(),
            json!({ "request": 70_000 }),
        ),
        (data.into(), data_json),
        (
            NoData {
                request: 4,
                ..NoData::default()
            }
            .into(),
            json!({ "request": 4 }),
        ),
        (
            Want {
                start: 1,
                length: 1 << 33,
                any: false,
            }
            .into(),
            json!({ "start": 1, "length": 1_u64 << 33 }),
        ),
        (
            Unwant {
                start: 2,
                length: 3,
                any: false,
            }
            .into(),
            json!({ "start": 2, "length": 3 }),
        ),
        (
            Bitfield {
                start: 32_768,
                bitfield: vec![1, u32::MAX, 0],
            }
            .into(),
            json!({ "start": 32_768, "bitfield": [1, u32::MAX, 0] }),
        ),
        (
            Range {
                drop: true,
                start: 3,
                length: 1,
            }
            .into(),
            json!({ "drop": true, "start": 3, "length": 1 }),
        ),
    ]
}

/// Whether Node shows all expected fields; a later release shows more.
pub(crate) fn shows(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(name, expected)| {
                actual
                    .get(name)
                    .is_some_and(|actual| shows(actual, expected))
            })
        }
        (actual, expected) => actual == expected,
    }
}
