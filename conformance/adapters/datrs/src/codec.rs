//! Values and messages, by the crates' own `CompactEncoding`.

use compact_encoding::{CompactEncoding, EncodingError, EncodingErrorKind};
use hypercore_protocol::schema::*;
use hypercore_schema::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, RequestBlock, RequestSeek, RequestUpgrade,
};
use serde_json::{Value, json};

use crate::{Answer, bad_input, refused};

type Read<T> = Result<T, Value>;

/// The bytes in a field of the input.
pub(crate) fn bytes(input: &Value, name: &str) -> Read<Vec<u8>> {
    hex_of(&input[name]).ok_or_else(|| bad_input(format!("{name} is not hexadecimal")))
}

fn hex_of(value: &Value) -> Option<Vec<u8>> {
    hex::decode(value.as_str()?).ok()
}

fn uint(value: &Value) -> Read<u64> {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .ok_or_else(|| bad_input(format!("not an integer: {value}")))
}

/// Above 2^53-1 integers are strings.
fn number(value: u64) -> Value {
    if value < 1 << 53 {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

pub(crate) fn class(error: &EncodingError) -> &'static str {
    match error.kind {
        EncodingErrorKind::OutOfBounds => "out-of-bounds",
        EncodingErrorKind::Overflow => "unsafe-integer",
        _ => "bad-input",
    }
}

fn decoded<T: CompactEncoding>(layer: &str, bytes: &[u8], show: impl FnOnce(T) -> Value) -> Answer {
    match T::decode(bytes) {
        Ok((value, rest)) => {
            Ok(json!({ "value": show(value), "consumed": bytes.len() - rest.len() }))
        }
        Err(error) => Err(refused(layer, class(&error), error)),
    }
}

fn encoded<T: CompactEncoding>(layer: &str, value: &T) -> Answer {
    match value.to_encoded_bytes() {
        Ok(bytes) => Ok(json!({ "bytes": hex::encode(bytes) })),
        Err(error) => Err(refused(layer, class(&error), error)),
    }
}

fn nothing_for(what: &str) -> Value {
    bad_input(format!("the crate has nothing for {what}"))
}

/// `compact.decode`.
pub(crate) fn compact_decode(input: &Value) -> Answer {
    const LAYER: &str = "encoding";
    let bytes = bytes(input, "bytes")?;
    match input["type"].as_str().unwrap_or_default() {
        "uint" => decoded::<u64>(LAYER, &bytes, number),
        "buffer" => decoded::<Vec<u8>>(LAYER, &bytes, |value| json!(hex::encode(value))),
        "string" => decoded::<String>(LAYER, &bytes, |value| json!(value)),
        "fixed32" => decoded::<[u8; 32]>(LAYER, &bytes, |value| json!(hex::encode(value))),
        "fixed64" => decoded::<[u8; 64]>(LAYER, &bytes, |value| json!(hex::encode(value))),
        "uint32array" => decoded::<Vec<u32>>(LAYER, &bytes, |value| json!(value)),
        "array:fixed32" => decoded::<Vec<[u8; 32]>>(LAYER, &bytes, |value| {
            value.iter().map(hex::encode).collect::<Vec<_>>().into()
        }),
        "array:string" => decoded::<Vec<String>>(LAYER, &bytes, |value| json!(value)),
        other => Err(nothing_for(other)),
    }
}

/// `compact.encode`.
pub(crate) fn compact_encode(input: &Value) -> Answer {
    const LAYER: &str = "encoding";
    let value = &input["value"];
    let hex = || hex_of(value).ok_or_else(|| bad_input("not hexadecimal"));
    let list = || value.as_array().ok_or_else(|| bad_input("not an array"));
    match input["type"].as_str().unwrap_or_default() {
        "uint" => encoded(LAYER, &uint(value)?),
        "buffer" => encoded(LAYER, &hex()?),
        "string" => encoded(LAYER, &value.as_str().unwrap_or_default().to_owned()),
        "fixed32" => encoded(LAYER, &fixed::<32>(&hex()?)?),
        "fixed64" => encoded(LAYER, &fixed::<64>(&hex()?)?),
        "uint32array" => {
            let words = list()?.iter().map(|word| Read::Ok(uint(word)? as u32));
            encoded(LAYER, &words.collect::<Read<Vec<u32>>>()?)
        }
        "array:fixed32" => {
            let items = list()?
                .iter()
                .map(|item| fixed::<32>(&hex_of(item).unwrap_or_default()));
            encoded(LAYER, &items.collect::<Read<Vec<_>>>()?)
        }
        "array:string" => {
            let items = list()?
                .iter()
                .map(|item| item.as_str().unwrap_or_default().to_owned());
            encoded(LAYER, &items.collect::<Vec<_>>())
        }
        other => Err(nothing_for(other)),
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Read<[u8; N]> {
    bytes
        .try_into()
        .map_err(|_| refused("encoding", "bad-length", format!("{N} bytes are wanted")))
}

/// `message.decode`.
pub(crate) fn message_decode(input: &Value) -> Answer {
    const LAYER: &str = "message";
    let bytes = bytes(input, "bytes")?;
    match input["message"].as_str().unwrap_or_default() {
        "sync" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Synchronize(m))
        }),
        "request" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Request(m))
        }),
        "cancel" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Cancel(m))
        }),
        "data" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Data(m))
        }),
        "noData" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::NoData(m))
        }),
        "want" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Want(m))
        }),
        "unwant" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Unwant(m))
        }),
        "bitfield" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Bitfield(m))
        }),
        "range" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Range(m))
        }),
        "extension" => decoded(LAYER, &bytes, |m| {
            show(&hypercore_protocol::Message::Extension(m))
        }),
        other => Err(nothing_for(other)),
    }
}

/// `message.encode`.
pub(crate) fn message_encode(input: &Value) -> Answer {
    use hypercore_protocol::Message;
    const LAYER: &str = "message";
    match read(
        input["message"].as_str().unwrap_or_default(),
        &input["value"],
    )? {
        Message::Synchronize(m) => encoded(LAYER, &m),
        Message::Request(m) => encoded(LAYER, &m),
        Message::Cancel(m) => encoded(LAYER, &m),
        Message::Data(m) => encoded(LAYER, &m),
        Message::NoData(m) => encoded(LAYER, &m),
        Message::Want(m) => encoded(LAYER, &m),
        Message::Unwant(m) => encoded(LAYER, &m),
        Message::Bitfield(m) => encoded(LAYER, &m),
        Message::Range(m) => encoded(LAYER, &m),
        Message::Extension(m) => encoded(LAYER, &m),
        other => Err(nothing_for(other.name())),
    }
}

/// The name of a message as the suite has it.
pub(crate) fn name(message: &hypercore_protocol::Message) -> &'static str {
    use hypercore_protocol::Message::*;
    match message {
        Synchronize(_) => "sync",
        Request(_) => "request",
        Cancel(_) => "cancel",
        Data(_) => "data",
        NoData(_) => "noData",
        Want(_) => "want",
        Unwant(_) => "unwant",
        Bitfield(_) => "bitfield",
        Range(_) => "range",
        Extension(_) => "extension",
        other => other.name(),
    }
}

/// A message as JSON. What the crate has no field for is shown as where it is absent, so that a case fails where bytes
/// were read otherwise, and not for a name.
pub(crate) fn show(message: &hypercore_protocol::Message) -> Value {
    use hypercore_protocol::Message::*;
    match message {
        Synchronize(m) => json!({
            "fork": number(m.fork), "length": number(m.length), "remoteLength": number(m.remote_length),
            "canUpgrade": m.can_upgrade, "uploading": m.uploading, "downloading": m.downloading,
            "hasManifest": false, "allowPush": false,
        }),
        Request(m) => json!({
            "id": number(m.id), "fork": number(m.fork),
            "block": m.block.as_ref().map(show_request),
            "hash": m.hash.as_ref().map(show_request),
            "seek": m.seek.as_ref().map(|seek| json!({ "bytes": number(seek.bytes), "padding": 0 })),
            "upgrade": m.upgrade.as_ref().map(|u| json!({ "start": number(u.start), "length": number(u.length) })),
            "manifest": m.manifest, "priority": number(m.priority),
        }),
        Cancel(m) => json!({ "request": number(m.request) }),
        Data(m) => json!({
            "request": number(m.request), "fork": number(m.fork),
            "block": m.block.as_ref().map(|b| json!({
                "index": number(b.index), "value": hex::encode(&b.value), "nodes": show_nodes(&b.nodes),
            })),
            "hash": m.hash.as_ref().map(|h| json!({ "index": number(h.index), "nodes": show_nodes(&h.nodes) })),
            "seek": m.seek.as_ref().map(|s| json!({ "bytes": number(s.bytes), "nodes": show_nodes(&s.nodes) })),
            "upgrade": m.upgrade.as_ref().map(|u| json!({
                "start": number(u.start), "length": number(u.length), "nodes": show_nodes(&u.nodes),
                "additionalNodes": show_nodes(&u.additional_nodes),
                "signature": Some(&u.signature).filter(|signature| !signature.is_empty()).map(hex::encode),
            })),
            "manifest": null,
        }),
        NoData(m) => json!({ "request": number(m.request), "reason": 0 }),
        Want(m) => json!({ "start": number(m.start), "length": number(m.length), "any": false }),
        Unwant(m) => json!({ "start": number(m.start), "length": number(m.length), "any": false }),
        Bitfield(m) => json!({ "start": number(m.start), "bitfield": m.bitfield }),
        Range(m) => json!({ "drop": m.drop, "start": number(m.start), "length": number(m.length) }),
        Extension(m) => json!({ "name": m.name, "message": hex::encode(&m.message) }),
        other => json!(other.name()),
    }
}

fn show_request(block: &RequestBlock) -> Value {
    json!({ "index": number(block.index), "nodes": number(block.nodes) })
}

fn show_nodes(nodes: &[Node]) -> Value {
    nodes
        .iter()
        .map(|n| json!({ "index": number(n.index), "size": number(n.length), "hash": hex::encode(&n.hash) }))
        .collect()
}

/// A message from JSON. What the crate has no field for is left out of what is sent, as it would be by its users.
pub(crate) fn read(name: &str, v: &Value) -> Read<hypercore_protocol::Message> {
    let some = |field: &str| Some(&v[field]).filter(|value| !value.is_null());
    let flag = |field: &str| v[field].as_bool().unwrap_or_default();
    let block = |v: &Value| -> Read<RequestBlock> {
        Ok(RequestBlock {
            index: uint(&v["index"])?,
            nodes: uint(&v["nodes"])?,
        })
    };
    Ok(match name {
        "sync" => Synchronize {
            fork: uint(&v["fork"])?,
            length: uint(&v["length"])?,
            remote_length: uint(&v["remoteLength"])?,
            downloading: flag("downloading"),
            uploading: flag("uploading"),
            can_upgrade: flag("canUpgrade"),
        }
        .into(),
        "request" => Request {
            id: uint(&v["id"])?,
            fork: uint(&v["fork"])?,
            block: some("block").map(block).transpose()?,
            hash: some("hash").map(block).transpose()?,
            seek: some("seek")
                .map(|s| {
                    Read::Ok(RequestSeek {
                        bytes: uint(&s["bytes"])?,
                    })
                })
                .transpose()?,
            upgrade: some("upgrade")
                .map(|u| {
                    Read::Ok(RequestUpgrade {
                        start: uint(&u["start"])?,
                        length: uint(&u["length"])?,
                    })
                })
                .transpose()?,
            manifest: flag("manifest"),
            priority: uint(&v["priority"])?,
        }
        .into(),
        "cancel" => Cancel {
            request: uint(&v["request"])?,
        }
        .into(),
        "data" => Data {
            request: uint(&v["request"])?,
            fork: uint(&v["fork"])?,
            block: some("block")
                .map(|b| {
                    Read::Ok(DataBlock {
                        index: uint(&b["index"])?,
                        value: match b["value"].is_null() {
                            true => Vec::new(),
                            false => bytes(b, "value")?,
                        },
                        nodes: nodes(&b["nodes"])?,
                    })
                })
                .transpose()?,
            hash: some("hash")
                .map(|h| {
                    Read::Ok(DataHash {
                        index: uint(&h["index"])?,
                        nodes: nodes(&h["nodes"])?,
                    })
                })
                .transpose()?,
            seek: some("seek")
                .map(|s| {
                    Read::Ok(DataSeek {
                        bytes: uint(&s["bytes"])?,
                        nodes: nodes(&s["nodes"])?,
                    })
                })
                .transpose()?,
            upgrade: some("upgrade")
                .map(|u| {
                    Read::Ok(DataUpgrade {
                        start: uint(&u["start"])?,
                        length: uint(&u["length"])?,
                        nodes: nodes(&u["nodes"])?,
                        additional_nodes: nodes(&u["additionalNodes"])?,
                        signature: match u["signature"].is_null() {
                            true => Vec::new(),
                            false => bytes(u, "signature")?,
                        },
                    })
                })
                .transpose()?,
        }
        .into(),
        "noData" => NoData {
            request: uint(&v["request"])?,
        }
        .into(),
        "want" => Want {
            start: uint(&v["start"])?,
            length: uint(&v["length"])?,
        }
        .into(),
        "unwant" => Unwant {
            start: uint(&v["start"])?,
            length: uint(&v["length"])?,
        }
        .into(),
        "bitfield" => Bitfield {
            start: uint(&v["start"])?,
            bitfield: v["bitfield"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|word| Read::Ok(uint(word)? as u32))
                .collect::<Read<_>>()?,
        }
        .into(),
        "range" => Range {
            drop: flag("drop"),
            start: uint(&v["start"])?,
            length: uint(&v["length"])?,
        }
        .into(),
        "extension" => Extension {
            name: v["name"].as_str().unwrap_or_default().to_owned(),
            message: bytes(v, "message")?,
        }
        .into(),
        other => return Err(nothing_for(other)),
    })
}

fn nodes(value: &Value) -> Read<Vec<Node>> {
    let node = |n: &Value| {
        Read::Ok(Node::new(
            uint(&n["index"])?,
            bytes(n, "hash")?,
            uint(&n["size"])?,
        ))
    };
    value.as_array().into_iter().flatten().map(node).collect()
}
