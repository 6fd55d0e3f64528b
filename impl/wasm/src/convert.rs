//! Messages as JavaScript objects: `type` is Node's name of the message, the other fields are those that Node's codecs
//! decode to (hypercore 11.37.1, `lib/messages.js`). Integers are at most 2^53-1 on the wire, so numbers hold them.

use hypercore_protocol::encoding::{Decode, Encode, MAX_SAFE_INTEGER};
use hypercore_protocol::schema::{
    Bitfield, Cancel, Data, DataBlock, DataHash, DataSeek, DataUpgrade, Extension, NoData, Node,
    Range, Request, RequestBlock, RequestSeek, RequestUpgrade, Sync, Unwant, Want,
};
use hypercore_protocol::{Buffer, Key, Manifest, Message};
use js_sys::{Array, Object, Reflect, Uint8Array, Uint32Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::error::bad_input;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
export interface TreeNode { index: number, size: number, hash: Uint8Array }

/** A message of a hypercore channel. To send one, leave out what is zero, false or null. */
export type Message =
  | { type: 'sync', fork?: number, length?: number, remoteLength?: number, canUpgrade?: boolean, uploading?: boolean,
      downloading?: boolean, hasManifest?: boolean, allowPush?: boolean }
  | { type: 'request', id: number, fork?: number, block?: { index: number, nodes?: number } | null,
      hash?: { index: number, nodes?: number } | null, seek?: { bytes: number, padding?: number } | null,
      upgrade?: { start: number, length: number } | null, manifest?: boolean, priority?: number }
  | { type: 'cancel', request: number }
  | { type: 'data', request: number, fork?: number,
      block?: { index: number, value: Uint8Array, nodes?: TreeNode[] } | null,
      hash?: { index: number, nodes?: TreeNode[] } | null, seek?: { bytes: number, nodes?: TreeNode[] } | null,
      upgrade?: { start: number, length: number, nodes?: TreeNode[], additionalNodes?: TreeNode[],
        signature?: Uint8Array | null } | null,
      /** As it is on the wire. */
      manifest?: Uint8Array | null }
  | { type: 'noData', request: number, reason?: number }
  | { type: 'want' | 'unwant', start: number, length: number, any?: boolean }
  | { type: 'bitfield', start: number, bitfield: Uint32Array }
  | { type: 'range', drop?: boolean, start: number, length: number }
  | { type: 'extension', name: string, message: Uint8Array }

/** What the class `Error` does not say: the layer that refused and the rule that was broken, as the vectors name them. */
export interface HypercoreError extends Error { layer: string, class: string }
"#;

#[wasm_bindgen]
extern "C" {
    /// A key of 32 bytes: these, or 64 digits in hex.
    #[wasm_bindgen(typescript_type = "Uint8Array | string")]
    pub type KeyLike;
    /// A message, or several.
    #[wasm_bindgen(typescript_type = "Message | Message[]")]
    pub type MessageLike;
}

/// 32 bytes, or 64 digits in hex.
pub(crate) fn key(value: &JsValue) -> Result<Key, JsValue> {
    let bytes = match value.as_string() {
        Some(text) => unhex(text.trim()),
        None => value.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec),
    };
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| bad_input("a key is 32 bytes, or 64 hexadecimal digits"))
}

/// An integer from 0 to 2^53-1.
pub(crate) fn integer(value: f64) -> Option<u64> {
    let fits = value >= 0.0 && value <= MAX_SAFE_INTEGER as f64 && value.fract() == 0.0;
    fits.then_some(value as u64)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    // Checked first: a sign would pass from_str_radix.
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// The messages that JavaScript wants sent.
pub(crate) fn messages(value: &JsValue) -> Result<Vec<Message>, JsValue> {
    match value.dyn_ref::<Array>() {
        Some(array) => array.iter().map(|value| from_js(&value)).collect(),
        None => Ok(vec![from_js(value)?]),
    }
}

fn from_js(value: &JsValue) -> Result<Message, JsValue> {
    let fields = Fields::new(value, "message")?;
    let kind = fields.get("type").as_string();
    Ok(match kind.as_deref() {
        Some("sync") => Sync {
            fork: fields.uint("fork")?,
            length: fields.uint("length")?,
            remote_length: fields.uint("remoteLength")?,
            can_upgrade: fields.flag("canUpgrade"),
            uploading: fields.flag("uploading"),
            downloading: fields.flag("downloading"),
            has_manifest: fields.flag("hasManifest"),
            allow_push: fields.flag("allowPush"),
        }
        .into(),
        Some("request") => request(&fields)?.into(),
        Some("cancel") => Cancel {
            request: fields.uint("request")?,
        }
        .into(),
        Some("data") => data(&fields)?.into(),
        Some("noData") => NoData {
            request: fields.uint("request")?,
            reason: fields.uint("reason")?,
        }
        .into(),
        Some("want") => Want {
            start: fields.uint("start")?,
            length: fields.uint("length")?,
            any: fields.flag("any"),
        }
        .into(),
        Some("unwant") => Unwant {
            start: fields.uint("start")?,
            length: fields.uint("length")?,
            any: fields.flag("any"),
        }
        .into(),
        Some("bitfield") => {
            let words = fields.get("bitfield");
            let words = words
                .dyn_ref::<Uint32Array>()
                .ok_or_else(|| bad_input("bitfield is not a Uint32Array"))?;
            Bitfield {
                start: fields.uint("start")?,
                bitfield: words.to_vec(),
            }
            .into()
        }
        Some("range") => Range {
            drop: fields.flag("drop"),
            start: fields.uint("start")?,
            length: fields.uint("length")?,
        }
        .into(),
        Some("extension") => {
            let name = fields.get("name").as_string();
            Extension {
                name: name
                    .ok_or_else(|| bad_input("name is not a string"))?
                    .into(),
                message: fields.bytes("message")?,
            }
            .into()
        }
        Some(other) => return Err(bad_input(&format!("there is no message of type {other}"))),
        None => return Err(bad_input("a message has a type, which is a string")),
    })
}

fn request(fields: &Fields) -> Result<Request, JsValue> {
    let block = |block: Fields| {
        Ok::<_, JsValue>(RequestBlock {
            index: block.uint("index")?,
            nodes: block.uint("nodes")?,
        })
    };
    Ok(Request {
        id: fields.uint("id")?,
        fork: fields.uint("fork")?,
        block: fields.object("block")?.map(block).transpose()?,
        hash: fields.object("hash")?.map(block).transpose()?,
        seek: fields
            .object("seek")?
            .map(|seek| {
                Ok::<_, JsValue>(RequestSeek {
                    bytes: seek.uint("bytes")?,
                    padding: seek.uint("padding")?,
                })
            })
            .transpose()?,
        upgrade: fields
            .object("upgrade")?
            .map(|upgrade| {
                Ok::<_, JsValue>(RequestUpgrade {
                    start: upgrade.uint("start")?,
                    length: upgrade.uint("length")?,
                })
            })
            .transpose()?,
        manifest: fields.flag("manifest"),
        priority: fields.uint("priority")?,
    })
}

fn data(fields: &Fields) -> Result<Data, JsValue> {
    let mut data = Data {
        request: fields.uint("request")?,
        fork: fields.uint("fork")?,
        ..Data::default()
    };
    if !fields.get("manifest").is_null_or_undefined() {
        let manifest = Manifest::decode(&fields.bytes("manifest")?);
        let manifest = manifest.map_err(|error| bad_input(&format!("manifest: {error}")))?;
        data.manifest = Some(Box::new(manifest.value));
    }
    if let Some(block) = fields.object("block")? {
        data.block = Some(DataBlock {
            index: block.uint("index")?,
            value: block.bytes("value")?,
            nodes: block.nodes("nodes")?,
        });
    }
    if let Some(hash) = fields.object("hash")? {
        data.hash = Some(DataHash {
            index: hash.uint("index")?,
            nodes: hash.nodes("nodes")?,
        });
    }
    if let Some(seek) = fields.object("seek")? {
        data.seek = Some(DataSeek {
            bytes: seek.uint("bytes")?,
            nodes: seek.nodes("nodes")?,
        });
    }
    if let Some(upgrade) = fields.object("upgrade")? {
        let signature = upgrade.get("signature");
        data.upgrade = Some(DataUpgrade {
            start: upgrade.uint("start")?,
            length: upgrade.uint("length")?,
            nodes: upgrade.nodes("nodes")?,
            additional_nodes: upgrade.nodes("additionalNodes")?,
            signature: if signature.is_null_or_undefined() {
                None
            } else {
                Some(upgrade.bytes("signature")?)
            },
        });
    }
    Ok(data)
}

/// An object from JavaScript. A missing field is zero, false or `None`.
struct Fields(JsValue);

impl Fields {
    fn new(value: &JsValue, name: &str) -> Result<Self, JsValue> {
        if value.is_object() {
            Ok(Self(value.clone()))
        } else {
            Err(bad_input(&format!("{name} is not an object")))
        }
    }

    fn get(&self, name: &str) -> JsValue {
        Reflect::get(&self.0, &name.into()).unwrap_or(JsValue::UNDEFINED)
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).is_truthy()
    }

    fn uint(&self, name: &str) -> Result<u64, JsValue> {
        let value = self.get(name);
        if value.is_null_or_undefined() {
            return Ok(0);
        }
        value
            .as_f64()
            .and_then(integer)
            .ok_or_else(|| bad_input(&format!("{name} is not an integer from 0 to 2^53-1")))
    }

    fn bytes(&self, name: &str) -> Result<Buffer, JsValue> {
        self.get(name)
            .dyn_ref::<Uint8Array>()
            .map(|bytes| bytes.to_vec().into())
            .ok_or_else(|| bad_input(&format!("{name} is not a Uint8Array")))
    }

    fn object(&self, name: &str) -> Result<Option<Self>, JsValue> {
        let value = self.get(name);
        if value.is_null_or_undefined() {
            return Ok(None);
        }
        Self::new(&value, name).map(Some)
    }

    fn nodes(&self, name: &str) -> Result<Vec<Node>, JsValue> {
        let value = self.get(name);
        if value.is_null_or_undefined() {
            return Ok(Vec::new());
        }
        let array = value
            .dyn_ref::<Array>()
            .ok_or_else(|| bad_input(&format!("{name} is not an array")))?;
        let node = |value: JsValue| {
            let node = Self::new(&value, name)?;
            let hash: Result<[u8; 32], _> = node.bytes("hash")?.as_slice().try_into();
            Ok(Node {
                index: node.uint("index")?,
                size: node.uint("size")?,
                hash: hash.map_err(|_| bad_input("hash is not of 32 bytes"))?,
            })
        };
        array.iter().map(node).collect()
    }
}

/// A received message. `null` is a field that the peer omitted.
pub(crate) fn to_js(message: &Message) -> JsValue {
    let object = Record::new().with("type", message.message_type().name());
    match message {
        Message::Sync(sync) => object
            .uint("fork", sync.fork)
            .uint("length", sync.length)
            .uint("remoteLength", sync.remote_length)
            .with("canUpgrade", sync.can_upgrade)
            .with("uploading", sync.uploading)
            .with("downloading", sync.downloading)
            .with("hasManifest", sync.has_manifest)
            .with("allowPush", sync.allow_push),
        Message::Request(request) => request_to_js(object, request),
        Message::Cancel(cancel) => object.uint("request", cancel.request),
        Message::Data(data) => data_to_js(object, data),
        Message::NoData(no_data) => object
            .uint("request", no_data.request)
            .uint("reason", no_data.reason),
        Message::Want(want) => object
            .uint("start", want.start)
            .uint("length", want.length)
            .with("any", want.any),
        Message::Unwant(unwant) => object
            .uint("start", unwant.start)
            .uint("length", unwant.length)
            .with("any", unwant.any),
        Message::Bitfield(bitfield) => object
            .uint("start", bitfield.start)
            .with("bitfield", Uint32Array::from(bitfield.bitfield.as_slice())),
        Message::Range(range) => object
            .with("drop", range.drop)
            .uint("start", range.start)
            .uint("length", range.length),
        Message::Extension(extension) => object
            .with("name", &*extension.name)
            .bytes("message", &extension.message),
        // A message of a later release of the crate: its type is all there is to say.
        _ => object,
    }
    .into()
}

fn request_to_js(object: Record, request: &Request) -> Record {
    let block = |block: &RequestBlock| {
        Record::new()
            .uint("index", block.index)
            .uint("nodes", block.nodes)
    };
    object
        .uint("id", request.id)
        .uint("fork", request.fork)
        .with("block", nullable(request.block.as_ref().map(block)))
        .with("hash", nullable(request.hash.as_ref().map(block)))
        .with(
            "seek",
            nullable(request.seek.map(|seek| {
                Record::new()
                    .uint("bytes", seek.bytes)
                    .uint("padding", seek.padding)
            })),
        )
        .with(
            "upgrade",
            nullable(request.upgrade.map(|upgrade| {
                Record::new()
                    .uint("start", upgrade.start)
                    .uint("length", upgrade.length)
            })),
        )
        .with("manifest", request.manifest)
        .uint("priority", request.priority)
}

fn data_to_js(object: Record, data: &Data) -> Record {
    let block = data.block.as_ref().map(|block| {
        Record::new()
            .uint("index", block.index)
            .bytes("value", &block.value)
            .with("nodes", nodes(&block.nodes))
    });
    let hash = data.hash.as_ref().map(|hash| {
        Record::new()
            .uint("index", hash.index)
            .with("nodes", nodes(&hash.nodes))
    });
    let seek = data.seek.as_ref().map(|seek| {
        Record::new()
            .uint("bytes", seek.bytes)
            .with("nodes", nodes(&seek.nodes))
    });
    let upgrade = data.upgrade.as_ref().map(|upgrade| {
        Record::new()
            .uint("start", upgrade.start)
            .uint("length", upgrade.length)
            .with("nodes", nodes(&upgrade.nodes))
            .with("additionalNodes", nodes(&upgrade.additional_nodes))
            .with(
                "signature",
                nullable(upgrade.signature.as_ref().map(|bytes| bytes_to_js(bytes))),
            )
    });
    // A manifest that was decoded can be encoded.
    let manifest = data.manifest.as_ref().and_then(|it| it.encode().ok());
    object
        .uint("request", data.request)
        .uint("fork", data.fork)
        .with("block", nullable(block))
        .with("hash", nullable(hash))
        .with("seek", nullable(seek))
        .with("upgrade", nullable(upgrade))
        .with("manifest", nullable(manifest.map(|it| bytes_to_js(&it))))
}

fn nodes(nodes: &[Node]) -> Array {
    nodes
        .iter()
        .map(|node| {
            JsValue::from(
                Record::new()
                    .uint("index", node.index)
                    .uint("size", node.size)
                    .bytes("hash", &node.hash),
            )
        })
        .collect()
}

/// A copy: the memory of the module moves when it grows.
pub(crate) fn bytes_to_js(bytes: &[u8]) -> Uint8Array {
    Uint8Array::from(bytes)
}

fn nullable(value: Option<impl Into<JsValue>>) -> JsValue {
    value.map_or(JsValue::NULL, Into::into)
}

/// An object that is being made.
pub(crate) struct Record(Object);

impl Record {
    pub(crate) fn new() -> Self {
        Self(Object::new())
    }

    pub(crate) fn with(self, name: &str, value: impl Into<JsValue>) -> Self {
        // Setting a field of a fresh object cannot fail.
        let _ = Reflect::set(&self.0, &name.into(), &value.into());
        self
    }

    fn uint(self, name: &str, value: u64) -> Self {
        // At most 2^53-1, which a double holds.
        self.with(name, value as f64)
    }

    fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        self.with(name, bytes_to_js(bytes))
    }
}

impl From<Record> for JsValue {
    fn from(record: Record) -> Self {
        record.0.into()
    }
}
