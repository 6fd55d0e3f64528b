//! JSON values of the adapter protocol, from and to the types of the crate. Fields are named and shaped as the objects
//! that Node's codecs decode to.

use hypercore_protocol::encoding::{DecodeError, EncodeError, MAX_SAFE_INTEGER};
use hypercore_protocol::manifest::{HashId, Manifest, Prologue, SignatureId, Signer};
use hypercore_protocol::multisig::{MultiSignature, MultiSignatureV0, PatchV0, Proof, ProofV0};
use hypercore_protocol::wire::{
    Bitfield, Cancel, Data, DataBlock, DataHash, DataSeek, DataUpgrade, Extension, Handshake,
    Message, NoData, Node, Range, Request, RequestBlock, RequestSeek, RequestUpgrade, Sync, Unwant,
    Want,
};
use hypercore_protocol::{Buffer, ErrorClass, Key, Layer};
use serde_json::{Map, Value, json};

use crate::adapter::Outcome;

/// Why an operation has no output.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The request itself is invalid: a fault of the runner.
    BadRequest(String),
    /// The implementation refuses.
    Refused {
        class: ErrorClass,
        message: String,
        /// Further fields of the error, such as `offset`.
        more: Map<String, Value>,
    },
}

impl Fault {
    /// A refusal without further fields.
    pub(crate) fn refused(class: ErrorClass, message: impl Into<String>) -> Self {
        Self::Refused {
            class,
            message: message.into(),
            more: Map::new(),
        }
    }

    /// The answer to an operation of `layer`.
    pub(crate) fn outcome(self, layer: Layer) -> Outcome {
        match self {
            Self::BadRequest(message) => Outcome::error("adapter", "bad-input", message),
            Self::Refused {
                class,
                message,
                more,
            } => {
                let mut error = Map::new();
                error.insert("layer".into(), layer.to_string().into());
                error.insert("class".into(), class.to_string().into());
                error.insert("message".into(), message.into());
                error.extend(more);
                Outcome::Error(error.into())
            }
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        let mut more = Map::new();
        more.insert("offset".into(), error.offset.into());
        more.insert("field".into(), error.field.into());
        Self::Refused {
            class: error.class(),
            message: error.to_string(),
            more,
        }
    }
}

impl From<EncodeError> for Fault {
    fn from(error: EncodeError) -> Self {
        Self::refused(error.class(), error.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

fn bad<T>(name: &str, expected: &str) -> Result<T> {
    Err(Fault::BadRequest(format!("{name}: {expected} expected")))
}

/// A mandatory field.
pub(crate) fn get<'a>(object: &'a Value, name: &str) -> Result<&'a Value> {
    match object.get(name) {
        Some(value) => Ok(value),
        None => bad(name, "a value"),
    }
}

/// A field, unless it is null or absent.
pub(crate) fn optional<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// Lowercase hex as bytes.
pub(crate) fn hex_bytes(value: &Value, name: &str) -> Result<Vec<u8>> {
    value
        .as_str()
        .and_then(unhex)
        .map_or_else(|| bad(name, "lowercase hex"), Ok)
}

/// Marks a byte that is not a digit of lowercase hex.
const NO_DIGIT: u8 = 0xff;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < DIGITS.len() {
        values[DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

// Loops over indices, because the hex crate's iterators take seconds for a record of 16 MiB in a test build.

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    // `is_multiple_of` is newer than the oldest Rust that builds this file for WebAssembly.
    if !digits.chunks_exact(2).remainder().is_empty() {
        return None;
    }
    let mut bytes = vec![0; digits.len() / 2];
    let out = bytes.as_mut_slice();
    let mut at = 0;
    while at < out.len() {
        let high = VALUES[digits[2 * at] as usize];
        let low = VALUES[digits[2 * at + 1] as usize];
        if high | low == NO_DIGIT {
            return None;
        }
        out[at] = (high << 4) | low;
        at += 1;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2];
    let out = text.as_mut_slice();
    let mut at = 0;
    while at < bytes.len() {
        out[2 * at] = DIGITS[(bytes[at] >> 4) as usize];
        out[2 * at + 1] = DIGITS[(bytes[at] & 15) as usize];
        at += 1;
    }
    String::from_utf8(text).unwrap_or_default()
}

/// Lowercase hex as an array of bytes. Another length is refused by the operation's layer, as in Node.
pub(crate) fn hex_array<const N: usize>(value: &Value, name: &str) -> Result<[u8; N]> {
    let bytes = hex_bytes(value, name)?;
    <[u8; N]>::try_from(bytes.as_slice()).map_err(|_| {
        let message = format!("{name}: {N} bytes expected, not {}", bytes.len());
        Fault::refused(ErrorClass::BadLength, message)
    })
}

/// An integer: a number, or a decimal string if it is above 2^53-1.
pub(crate) fn integer(value: &Value, name: &str) -> Result<u64> {
    let number = match value {
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64(),
    };
    number.map_or_else(|| bad(name, "an unsigned integer"), Ok)
}

pub(crate) fn bytes(object: &Value, name: &str) -> Result<Vec<u8>> {
    hex_bytes(get(object, name)?, name)
}

pub(crate) fn optional_bytes(object: &Value, name: &str) -> Result<Option<Vec<u8>>> {
    optional(object, name)
        .map(|value| hex_bytes(value, name))
        .transpose()
}

pub(crate) fn array<const N: usize>(object: &Value, name: &str) -> Result<[u8; N]> {
    hex_array(get(object, name)?, name)
}

pub(crate) fn uint(object: &Value, name: &str) -> Result<u64> {
    integer(get(object, name)?, name)
}

pub(crate) fn boolean(object: &Value, name: &str) -> Result<bool> {
    get(object, name)?
        .as_bool()
        .map_or_else(|| bad(name, "true or false"), Ok)
}

pub(crate) fn text<'a>(object: &'a Value, name: &str) -> Result<&'a str> {
    get(object, name)?
        .as_str()
        .map_or_else(|| bad(name, "a string"), Ok)
}

pub(crate) fn items<'a>(value: &'a Value, name: &str) -> Result<&'a [Value]> {
    value
        .as_array()
        .map_or_else(|| bad(name, "an array"), |items| Ok(items.as_slice()))
}

/// A field that is an array, each item read by `read`.
pub(crate) fn list<T>(
    object: &Value,
    name: &str,
    read: impl FnMut(&Value) -> Result<T>,
) -> Result<Vec<T>> {
    items(get(object, name)?, name)?.iter().map(read).collect()
}

/// An integer as JSON.
pub(crate) fn number(value: u64) -> Value {
    if value > MAX_SAFE_INTEGER {
        value.to_string().into()
    } else {
        value.into()
    }
}

/// Bytes as JSON.
pub(crate) fn hexed(bytes: impl AsRef<[u8]>) -> Value {
    hex(bytes.as_ref()).into()
}

/// An array as JSON.
pub(crate) fn listed<T>(items: &[T], show: impl FnMut(&T) -> Value) -> Value {
    items.iter().map(show).collect()
}

/// An optional value, as JSON.
pub(crate) fn nullable<T>(value: Option<T>, show: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, show)
}

pub(crate) fn node(value: &Value) -> Result<Node> {
    Ok(Node {
        index: uint(value, "index")?,
        size: uint(value, "size")?,
        hash: array(value, "hash")?,
    })
}

fn nodes(object: &Value, name: &str) -> Result<Vec<Node>> {
    list(object, name, node)
}

fn node_to_json(node: &Node) -> Value {
    json!({
        "index": number(node.index),
        "size": number(node.size),
        "hash": hexed(node.hash),
    })
}

fn nodes_to_json(nodes: &[Node]) -> Value {
    listed(nodes, node_to_json)
}

pub(crate) fn handshake(value: &Value) -> Result<Handshake> {
    Ok(Handshake {
        seeks: boolean(value, "seeks")?,
        capability: array(value, "capability")?,
    })
}

pub(crate) fn handshake_to_json(handshake: &Handshake) -> Value {
    json!({
        "seeks": handshake.seeks,
        "capability": hexed(handshake.capability),
    })
}

pub(crate) fn manifest(value: &Value) -> Result<Manifest> {
    let named = |field: &str, known: &str, class: ErrorClass| match text(value, field)? {
        name if name == known => Ok(()),
        name => Err(Fault::refused(class, format!("unknown {field}: {name}"))),
    };
    named("hash", "blake2b", ErrorClass::UnknownHash)?;
    let mut manifest = Manifest {
        version: uint(value, "version")?,
        hash: HashId::Blake2b,
        allow_patch: boolean(value, "allowPatch")?,
        quorum: uint(value, "quorum")?,
        signers: list(value, "signers", signer)?,
        ..Manifest::default()
    };
    if let Some(prologue) = optional(value, "prologue") {
        manifest.prologue = Some(Prologue {
            hash: array(prologue, "hash")?,
            length: uint(prologue, "length")?,
        });
    }
    if optional(value, "linked").is_some() {
        manifest.linked = Some(list(value, "linked", |key| {
            Ok(Key::new(hex_array(key, "linked")?))
        })?);
    }
    manifest.user_data = optional_bytes(value, "userData")?.map(Buffer::from);
    Ok(manifest)
}

fn signer(value: &Value) -> Result<Signer> {
    match text(value, "signature")? {
        "ed25519" => Ok(Signer {
            signature: SignatureId::Ed25519,
            namespace: array(value, "namespace")?,
            public_key: array(value, "publicKey")?,
        }),
        name => {
            let message = format!("unknown signature: {name}");
            Err(Fault::refused(ErrorClass::UnknownSignature, message))
        }
    }
}

pub(crate) fn manifest_to_json(manifest: &Manifest) -> Value {
    let signer = |signer: &Signer| {
        json!({
            "signature": "ed25519",
            "namespace": hexed(signer.namespace),
            "publicKey": hexed(signer.public_key),
        })
    };
    let prologue = |prologue: &Prologue| json!({ "hash": hexed(prologue.hash), "length": number(prologue.length) });
    json!({
        "version": number(manifest.version),
        "hash": "blake2b",
        "allowPatch": manifest.allow_patch,
        "quorum": number(manifest.quorum),
        "signers": listed(&manifest.signers, signer),
        "prologue": nullable(manifest.prologue.as_ref(), prologue),
        "linked": nullable(manifest.linked.as_deref(), |linked| listed(linked, |key| hexed(key))),
        "userData": nullable(manifest.user_data.as_ref(), hexed),
    })
}

/// A message by Node's name for it. `None` if there is no such message.
pub(crate) fn message(name: &str, value: &Value) -> Result<Option<Message>> {
    Ok(Some(match name {
        "sync" => sync(value)?.into(),
        "request" => request(value)?.into(),
        "cancel" => Cancel {
            request: uint(value, "request")?,
        }
        .into(),
        "data" => data(value)?.into(),
        "noData" => NoData {
            request: uint(value, "request")?,
            reason: uint(value, "reason")?,
        }
        .into(),
        "want" => Want {
            start: uint(value, "start")?,
            length: uint(value, "length")?,
            any: boolean(value, "any")?,
        }
        .into(),
        "unwant" => Unwant {
            start: uint(value, "start")?,
            length: uint(value, "length")?,
            any: boolean(value, "any")?,
        }
        .into(),
        "bitfield" => Bitfield {
            start: uint(value, "start")?,
            bitfield: list(value, "bitfield", word)?,
        }
        .into(),
        "range" => Range {
            drop: boolean(value, "drop")?,
            start: uint(value, "start")?,
            length: uint(value, "length")?,
        }
        .into(),
        "extension" => Extension {
            name: text(value, "name")?.into(),
            message: bytes(value, "message")?.into(),
        }
        .into(),
        _ => return Ok(None),
    }))
}

/// A word of 32 bits.
pub(crate) fn word(value: &Value) -> Result<u32> {
    u32::try_from(integer(value, "word")?).or_else(|_| bad("word", "an integer of 32 bits"))
}

fn sync(value: &Value) -> Result<Sync> {
    Ok(Sync {
        fork: uint(value, "fork")?,
        length: uint(value, "length")?,
        remote_length: uint(value, "remoteLength")?,
        can_upgrade: boolean(value, "canUpgrade")?,
        uploading: boolean(value, "uploading")?,
        downloading: boolean(value, "downloading")?,
        has_manifest: boolean(value, "hasManifest")?,
        allow_push: boolean(value, "allowPush")?,
    })
}

fn request(value: &Value) -> Result<Request> {
    let block = |name: &str| -> Result<Option<RequestBlock>> {
        let Some(block) = optional(value, name) else {
            return Ok(None);
        };
        Ok(Some(RequestBlock {
            index: uint(block, "index")?,
            nodes: uint(block, "nodes")?,
        }))
    };
    let mut request = Request {
        id: uint(value, "id")?,
        fork: uint(value, "fork")?,
        block: block("block")?,
        hash: block("hash")?,
        manifest: boolean(value, "manifest")?,
        priority: uint(value, "priority")?,
        ..Request::default()
    };
    if let Some(seek) = optional(value, "seek") {
        request.seek = Some(RequestSeek {
            bytes: uint(seek, "bytes")?,
            padding: uint(seek, "padding")?,
        });
    }
    if let Some(upgrade) = optional(value, "upgrade") {
        request.upgrade = Some(RequestUpgrade {
            start: uint(upgrade, "start")?,
            length: uint(upgrade, "length")?,
        });
    }
    Ok(request)
}

fn data(value: &Value) -> Result<Data> {
    let mut data = Data {
        request: uint(value, "request")?,
        fork: uint(value, "fork")?,
        ..Data::default()
    };
    if let Some(block) = optional(value, "block") {
        data.block = Some(DataBlock {
            index: uint(block, "index")?,
            value: bytes(block, "value")?.into(),
            nodes: nodes(block, "nodes")?,
        });
    }
    if let Some(hash) = optional(value, "hash") {
        data.hash = Some(DataHash {
            index: uint(hash, "index")?,
            nodes: nodes(hash, "nodes")?,
        });
    }
    if let Some(seek) = optional(value, "seek") {
        data.seek = Some(DataSeek {
            bytes: uint(seek, "bytes")?,
            nodes: nodes(seek, "nodes")?,
        });
    }
    if let Some(upgrade) = optional(value, "upgrade") {
        data.upgrade = Some(DataUpgrade {
            start: uint(upgrade, "start")?,
            length: uint(upgrade, "length")?,
            nodes: nodes(upgrade, "nodes")?,
            additional_nodes: nodes(upgrade, "additionalNodes")?,
            signature: optional_bytes(upgrade, "signature")?.map(Buffer::from),
        });
    }
    if let Some(value) = optional(value, "manifest") {
        data.manifest = Some(Box::new(manifest(value)?));
    }
    Ok(data)
}

/// The object that Node decodes a message to.
pub(crate) fn message_to_json(message: &Message) -> Value {
    match message {
        Message::Sync(sync) => json!({
            "fork": number(sync.fork),
            "length": number(sync.length),
            "remoteLength": number(sync.remote_length),
            "canUpgrade": sync.can_upgrade,
            "uploading": sync.uploading,
            "downloading": sync.downloading,
            "hasManifest": sync.has_manifest,
            "allowPush": sync.allow_push,
        }),
        Message::Request(request) => request_to_json(request),
        Message::Cancel(cancel) => json!({ "request": number(cancel.request) }),
        Message::Data(data) => data_to_json(data),
        Message::NoData(no_data) => json!({
            "request": number(no_data.request),
            "reason": number(no_data.reason),
        }),
        Message::Want(want) => json!({
            "start": number(want.start),
            "length": number(want.length),
            "any": want.any,
        }),
        Message::Unwant(unwant) => json!({
            "start": number(unwant.start),
            "length": number(unwant.length),
            "any": unwant.any,
        }),
        Message::Bitfield(bitfield) => json!({
            "start": number(bitfield.start),
            "bitfield": bitfield.bitfield,
        }),
        Message::Range(range) => json!({
            "drop": range.drop,
            "start": number(range.start),
            "length": number(range.length),
        }),
        Message::Extension(extension) => json!({
            "name": *extension.name,
            "message": hexed(&extension.message),
        }),
        // The crate may gain messages that the vectors do not have.
        other => json!({ "unknown": other.message_type().name() }),
    }
}

fn request_to_json(request: &Request) -> Value {
    let block = |block: &RequestBlock| json!({ "index": number(block.index), "nodes": number(block.nodes) });
    let seek = |seek: &RequestSeek| json!({ "bytes": number(seek.bytes), "padding": number(seek.padding) });
    let upgrade = |upgrade: &RequestUpgrade| json!({ "start": number(upgrade.start), "length": number(upgrade.length) });
    json!({
        "id": number(request.id),
        "fork": number(request.fork),
        "block": nullable(request.block.as_ref(), block),
        "hash": nullable(request.hash.as_ref(), block),
        "seek": nullable(request.seek.as_ref(), seek),
        "upgrade": nullable(request.upgrade.as_ref(), upgrade),
        "manifest": request.manifest,
        "priority": number(request.priority),
    })
}

fn data_to_json(data: &Data) -> Value {
    let block = |block: &DataBlock| {
        json!({
            "index": number(block.index),
            "value": hexed(&block.value),
            "nodes": nodes_to_json(&block.nodes),
        })
    };
    let hash = |hash: &DataHash| json!({ "index": number(hash.index), "nodes": nodes_to_json(&hash.nodes) });
    let seek = |seek: &DataSeek| json!({ "bytes": number(seek.bytes), "nodes": nodes_to_json(&seek.nodes) });
    let upgrade = |upgrade: &DataUpgrade| {
        json!({
            "start": number(upgrade.start),
            "length": number(upgrade.length),
            "nodes": nodes_to_json(&upgrade.nodes),
            "additionalNodes": nodes_to_json(&upgrade.additional_nodes),
            "signature": nullable(upgrade.signature.as_ref(), hexed),
        })
    };
    json!({
        "request": number(data.request),
        "fork": number(data.fork),
        "block": nullable(data.block.as_ref(), block),
        "hash": nullable(data.hash.as_ref(), hash),
        "seek": nullable(data.seek.as_ref(), seek),
        "upgrade": nullable(data.upgrade.as_ref(), upgrade),
        "manifest": nullable(data.manifest.as_deref(), manifest_to_json),
    })
}

pub(crate) fn multisig(value: &Value) -> Result<MultiSignature> {
    Ok(MultiSignature {
        proofs: list(value, "proofs", |proof| {
            Ok(Proof {
                signer: uint(proof, "signer")?,
                signature: array(proof, "signature")?,
                patch: uint(proof, "patch")?,
            })
        })?,
        patch: nodes(value, "patch")?,
    })
}

pub(crate) fn multisig_to_json(signature: &MultiSignature) -> Value {
    let proof = |proof: &Proof| {
        json!({
            "signer": number(proof.signer),
            "signature": hexed(proof.signature),
            "patch": number(proof.patch),
        })
    };
    json!({
        "proofs": listed(&signature.proofs, proof),
        "patch": nodes_to_json(&signature.patch),
    })
}

pub(crate) fn multisig_v0(value: &Value) -> Result<MultiSignatureV0> {
    let patch = |patch: &Value| -> Result<PatchV0> {
        Ok(PatchV0 {
            start: uint(patch, "start")?,
            length: uint(patch, "length")?,
            nodes: list(patch, "nodes", |node| integer(node, "nodes"))?,
        })
    };
    Ok(MultiSignatureV0 {
        proofs: list(value, "proofs", |proof| {
            Ok(ProofV0 {
                signer: uint(proof, "signer")?,
                signature: array(proof, "signature")?,
                patch: optional(proof, "patch").map(patch).transpose()?,
            })
        })?,
        patch: nodes(value, "patch")?,
    })
}

pub(crate) fn multisig_v0_to_json(signature: &MultiSignatureV0) -> Value {
    let patch = |patch: &PatchV0| {
        json!({
            "start": number(patch.start),
            "length": number(patch.length),
            "nodes": listed(&patch.nodes, |node| number(*node)),
        })
    };
    let proof = |proof: &ProofV0| {
        json!({
            "signer": number(proof.signer),
            "signature": hexed(proof.signature),
            "patch": nullable(proof.patch.as_ref(), patch),
        })
    };
    json!({
        "proofs": listed(&signature.proofs, proof),
        "patch": nodes_to_json(&signature.patch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_that_of_the_hex_crate_and_lowercase() {
        let all: Vec<u8> = (0..=255).collect();
        let text = ::hex::encode(&all);
        assert_eq!(hex(&all), text);
        assert_eq!(unhex(&text), Some(all));
        assert_eq!(unhex(""), Some(Vec::new()));
        for bad in ["a", "0A", "0g", "g0", " 0", "0ü", "é"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
