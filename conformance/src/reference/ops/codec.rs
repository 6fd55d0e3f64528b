//! The operations compact.*, key.*, message.*, extension.*, manifest.*, tree.* and multisig.*.

use hypercore_protocol::encoding::{Decode, Decoded, Decoder, Encode, Encoder};
use hypercore_protocol::manifest::Manifest;
use hypercore_protocol::multisig::{MultiSignature, MultiSignatureV0};
use hypercore_protocol::wire::{Extension, ExtensionNames, Handshake, Message, MessageType};
use hypercore_protocol::{
    Buffer, DecodeError, EncodeError, ErrorClass, Key, KeyPair, Layer, keys, tree,
};
use serde_json::{Value, json};

use super::Op;
use super::values::{self, Fault, Result, array, boolean, bytes, hexed, list, text, uint};
use crate::adapter::Outcome;

/// The operations of this file.
pub(super) const OPS: &[Op] = &[
    ("compact.decode", |input| {
        answer(Layer::Encoding, compact_decode(input))
    }),
    ("compact.encode", |input| {
        answer(Layer::Encoding, compact_encode(input))
    }),
    ("key.hash", |input| answer(Layer::Key, key_hash(input))),
    ("key.namespace", |input| {
        answer(Layer::Key, key_namespace(input))
    }),
    ("key.discoveryKey", |input| {
        answer(Layer::Key, key_discovery_key(input))
    }),
    ("key.capability", |input| {
        answer(Layer::Key, key_capability(input))
    }),
    ("key.keyPair", |input| answer(Layer::Key, key_pair(input))),
    ("message.decode", |input| {
        answer(Layer::Message, message_decode(input))
    }),
    ("message.encode", |input| {
        answer(Layer::Message, message_encode(input))
    }),
    ("extension.receive", |input| {
        answer(Layer::Message, extension_receive(input))
    }),
    ("extension.send", |input| {
        answer(Layer::Message, extension_send(input))
    }),
    ("manifest.decode", |input| {
        answer(Layer::Manifest, manifest_decode(input))
    }),
    ("manifest.encode", |input| {
        answer(Layer::Manifest, manifest_encode(input))
    }),
    ("manifest.hash", |input| {
        answer(Layer::Manifest, manifest_hash(input))
    }),
    ("tree.leaf", |input| answer(Layer::Tree, tree_leaf(input))),
    ("tree.parent", |input| {
        answer(Layer::Tree, tree_parent(input))
    }),
    ("tree.root", |input| answer(Layer::Tree, tree_root(input))),
    ("tree.signable", |input| {
        answer(Layer::Tree, tree_signable(input))
    }),
    ("tree.signableCompat", |input| {
        answer(Layer::Tree, tree_signable_compat(input))
    }),
    ("multisig.decode", |input| {
        answer(Layer::Tree, multisig_decode(input))
    }),
    ("multisig.encode", |input| {
        answer(Layer::Tree, multisig_encode(input))
    }),
];

fn answer(layer: Layer, result: Result<Value>) -> Outcome {
    result.map_or_else(|fault| fault.outcome(layer), Outcome::Ok)
}

fn encoded(value: &impl Encode) -> Result<Value> {
    Ok(json!({ "bytes": hexed(value.encode()?) }))
}

fn decoded<T>(decoded: Decoded<T>, show: impl FnOnce(&T) -> Value) -> Value {
    json!({ "value": show(&decoded.value), "consumed": decoded.consumed })
}

/// The deepest accepted `array:`.
const MAX_ARRAY_DEPTH: usize = 8;

fn compact_type(input: &Value) -> Result<&str> {
    let name = text(input, "type")?;
    let mut item = name;
    let mut depth = 0;
    while let Some(rest) = item.strip_prefix("array:") {
        item = rest;
        depth += 1;
    }
    let known = [
        "uint",
        "uint8",
        "uint16",
        "uint24",
        "uint32",
        "uint64",
        "buffer",
        "optionalBuffer",
        "string",
        "fixed32",
        "fixed64",
        "raw",
        "uint32array",
    ];
    if !known.contains(&item) || depth > MAX_ARRAY_DEPTH {
        return Err(Fault::BadRequest(format!("unknown type: {name}")));
    }
    Ok(name)
}

fn compact_decode(input: &Value) -> Result<Value> {
    let kind = compact_type(input)?;
    let bytes = bytes(input, "bytes")?;
    let mut decoder = Decoder::new(&bytes);
    let value = compact_read(&mut decoder, kind)?;
    Ok(json!({ "value": value, "consumed": decoder.offset() }))
}

fn compact_read(decoder: &mut Decoder<'_>, kind: &str) -> std::result::Result<Value, DecodeError> {
    if let Some(item) = kind.strip_prefix("array:") {
        let min_len = match item {
            "fixed32" => 32,
            "fixed64" => 64,
            _ => 1,
        };
        let items = decoder.array_with(min_len, "count", |decoder| compact_read(decoder, item))?;
        return Ok(items.into());
    }
    Ok(match kind {
        "uint" => decoder.uint("value")?.into(),
        "uint8" => decoder.u8("value")?.into(),
        "uint16" => decoder.u16("value")?.into(),
        "uint24" => decoder.u24("value")?.into(),
        "uint32" => decoder.u32("value")?.into(),
        "uint64" => decoder.u64("value")?.into(),
        "buffer" => hexed(decoder.buffer_ref("value")?),
        "optionalBuffer" => values::nullable(decoder.optional_buffer("value")?, hexed),
        "string" => decoder.string("value")?.into(),
        "fixed32" => hexed(decoder.fixed::<32>("value")?),
        "fixed64" => hexed(decoder.fixed::<64>("value")?),
        "uint32array" => decoder.uint32array("value")?.into(),
        _ => hexed(decoder.raw_ref()),
    })
}

fn compact_encode(input: &Value) -> Result<Value> {
    let kind = compact_type(input)?;
    let mut out = Vec::new();
    compact_write(&mut out, kind, values::get(input, "value")?)?;
    Ok(json!({ "bytes": hexed(out) }))
}

fn compact_write(out: &mut Vec<u8>, kind: &str, value: &Value) -> Result<()> {
    if let Some(item) = kind.strip_prefix("array:") {
        let items = values::items(value, "value")?;
        Encoder::new(out).array_with(items, "count", |_, _| Ok(()))?;
        return items
            .iter()
            .try_for_each(|value| compact_write(out, item, value));
    }
    let mut encoder = Encoder::new(out);
    let integer = || values::integer(value, "value");
    // Node truncates an integer that is too large for its width; an encoder that loses bits is not worth matching.
    let narrow = |bits: u32| match u32::try_from(integer()?) {
        Ok(number) if u64::from(number) < 1 << bits => Ok(number),
        _ => {
            let message = format!("integer above {bits} bits");
            Err(Fault::refused(ErrorClass::BadInput, message))
        }
    };
    match kind {
        "uint" => encoder.uint(integer()?, "value")?,
        "uint8" => encoder.u8(narrow(8)? as u8),
        "uint16" => encoder.u16(narrow(16)? as u16),
        "uint24" => encoder.u24(narrow(24)?),
        "uint32" => encoder.u32(narrow(32)?),
        "uint64" => encoder.u64(integer()?, "value")?,
        "buffer" => encoder.buffer(&values::hex_bytes(value, "value")?, "value")?,
        "optionalBuffer" if value.is_null() => encoder.optional_buffer(None, "value")?,
        "optionalBuffer" => {
            encoder.optional_buffer(Some(&values::hex_bytes(value, "value")?), "value")?;
        }
        "string" => match value.as_str() {
            Some(text) => encoder.string(text, "value")?,
            None => return Err(Fault::BadRequest("value: a string expected".into())),
        },
        "fixed32" => encoder.raw(&values::hex_array::<32>(value, "value")?),
        "fixed64" => encoder.raw(&values::hex_array::<64>(value, "value")?),
        "uint32array" => {
            let words = values::items(value, "value")?.iter().map(values::word);
            encoder.uint32array(&words.collect::<Result<Vec<_>>>()?, "value")?;
        }
        _ => encoder.raw(&values::hex_bytes(value, "value")?),
    }
    Ok(())
}

/// The longest key that BLAKE2b takes, in bytes.
const MAX_HASH_KEY: usize = 64;

fn check_hash_key(key: &[u8]) -> Result<()> {
    if key.len() > MAX_HASH_KEY {
        let message = format!("a key of {} bytes is above {MAX_HASH_KEY}", key.len());
        return Err(Fault::refused(ErrorClass::BadLength, message));
    }
    Ok(())
}

fn key_hash(input: &Value) -> Result<Value> {
    let parts = list(input, "parts", |part| values::hex_bytes(part, "parts"))?;
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let key = values::optional_bytes(input, "key")?;
    check_hash_key(key.as_deref().unwrap_or_default())?;
    Ok(json!({ "hash": hexed(keys::blake2b256(&parts, key.as_deref())) }))
}

fn key_namespace(input: &Value) -> Result<Value> {
    let name = text(input, "name")?;
    let Ok(count) = u16::try_from(uint(input, "count")?) else {
        return Err(Fault::BadRequest("count: at most 65535 expected".into()));
    };
    let namespaces = keys::namespace(name, count.into());
    Ok(json!({ "namespaces": values::listed(&namespaces, |namespace| hexed(namespace)) }))
}

fn key_discovery_key(input: &Value) -> Result<Value> {
    let discovery_key = keys::discovery_key(&Key::new(array(input, "key")?));
    Ok(json!({ "discoveryKey": hexed(discovery_key) }))
}

fn key_capability(input: &Value) -> Result<Value> {
    let hash = bytes(input, "handshakeHash")?;
    check_hash_key(&hash)?;
    let is_initiator = boolean(input, "isInitiator")?;
    let capability = keys::capability(is_initiator, &Key::new(array(input, "key")?), &hash);
    Ok(json!({ "capability": hexed(capability) }))
}

fn key_pair(input: &Value) -> Result<Value> {
    let pair = KeyPair::from_seed(&array(input, "seed")?);
    Ok(json!({
        "publicKey": hexed(pair.public_key()),
        "secretKey": hexed(pair.secret_key()),
    }))
}

fn message_decode(input: &Value) -> Result<Value> {
    let name = text(input, "message")?;
    let body = Buffer::from(bytes(input, "bytes")?);
    if name == "handshake" {
        return Ok(decoded(
            Handshake::decode_shared(&body)?,
            values::handshake_to_json,
        ));
    }
    match MessageType::from_name(name) {
        Some(kind) => Ok(decoded(
            Message::decode_as(kind, &body)?,
            values::message_to_json,
        )),
        None => Err(Fault::BadRequest(format!("unknown message: {name}"))),
    }
}

fn message_encode(input: &Value) -> Result<Value> {
    let name = text(input, "message")?;
    let value = values::get(input, "value")?;
    if name == "handshake" {
        return encoded(&values::handshake(value)?);
    }
    match values::message(name, value)? {
        Some(message) => encoded(&message),
        None => Err(Fault::BadRequest(format!("unknown message: {name}"))),
    }
}

fn extension_receive(input: &Value) -> Result<Value> {
    let mut names = ExtensionNames::default();
    let messages = list(input, "messages", |message| {
        let bytes = Buffer::from(values::hex_bytes(message, "messages")?);
        let Extension { name, message } = Extension::decode_shared(&bytes)?.value;
        Ok(json!({ "name": names.receive(&name), "message": hexed(message) }))
    })?;
    Ok(json!({ "messages": messages }))
}

fn extension_send(input: &Value) -> Result<Value> {
    let mut names = ExtensionNames::default();
    let messages = list(input, "messages", |message| {
        let extension = Extension {
            name: names.send(text(message, "name")?).into(),
            message: bytes(message, "message")?.into(),
        };
        Ok(hexed(extension.encode()?))
    })?;
    Ok(json!({ "messages": messages }))
}

fn manifest_decode(input: &Value) -> Result<Value> {
    let manifest = Manifest::decode(&bytes(input, "bytes")?)?;
    Ok(decoded(manifest, values::manifest_to_json))
}

fn manifest_encode(input: &Value) -> Result<Value> {
    encoded(&values::manifest(values::get(input, "value")?)?)
}

fn manifest_hash(input: &Value) -> Result<Value> {
    let manifest = values::manifest(values::get(input, "value")?)?;
    Ok(json!({ "hash": hexed(manifest.hash()?) }))
}

fn tree_leaf(input: &Value) -> Result<Value> {
    Ok(json!({ "hash": hexed(tree::leaf(&bytes(input, "data")?)) }))
}

fn tree_parent(input: &Value) -> Result<Value> {
    let left = values::node(values::get(input, "left")?)?;
    let right = values::node(values::get(input, "right")?)?;
    Ok(json!({ "hash": hexed(tree::parent(&left, &right)?) }))
}

fn tree_root(input: &Value) -> Result<Value> {
    let roots = list(input, "roots", values::node)?;
    Ok(json!({ "hash": hexed(tree::root(&roots)?) }))
}

fn tree_signable(input: &Value) -> Result<Value> {
    let signable = tree::signable(
        &array(input, "manifestHash")?,
        &array(input, "treeHash")?,
        uint(input, "length")?,
        uint(input, "fork")?,
    )?;
    Ok(json!({ "signable": hexed(signable) }))
}

fn tree_signable_compat(input: &Value) -> Result<Value> {
    let tree_hash = array(input, "treeHash")?;
    let length = uint(input, "length")?;
    let fork = uint(input, "fork")?;
    let signable: std::result::Result<Vec<u8>, EncodeError> = if boolean(input, "noHeader")? {
        tree::signable_legacy(&tree_hash, length, fork).map(Vec::from)
    } else {
        tree::signable_compat(&tree_hash, length, fork).map(Vec::from)
    };
    Ok(json!({ "signable": hexed(signable?) }))
}

fn multisig_decode(input: &Value) -> Result<Value> {
    let bytes = bytes(input, "bytes")?;
    let value = match uint(input, "version")? {
        0 => values::multisig_v0_to_json(&MultiSignatureV0::decode(&bytes)?.value),
        1 => values::multisig_to_json(&MultiSignature::decode(&bytes)?.value),
        version => return Err(unknown_multisig(version)),
    };
    Ok(json!({ "value": value }))
}

fn multisig_encode(input: &Value) -> Result<Value> {
    let value = values::get(input, "value")?;
    match uint(input, "version")? {
        0 => encoded(&values::multisig_v0(value)?),
        1 => encoded(&values::multisig(value)?),
        version => Err(unknown_multisig(version)),
    }
}

fn unknown_multisig(version: u64) -> Fault {
    Fault::BadRequest(format!("unknown version of a multi-signature: {version}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::run::verdict::{Verdict, judge};
    use crate::vectors;

    fn call(op: &str, input: &Value) -> Outcome {
        super::super::call(op, input).unwrap_or(Outcome::Unsupported)
    }

    #[test]
    fn recorded_vectors_hold_strictly() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors");
        let mut asked = 0;
        let mut missed = Vec::new();
        for file in vectors::load(&folder).expect("vectors") {
            for group in file
                .groups
                .iter()
                .filter(|group| OPS.iter().any(|(op, _)| *op == group.op))
            {
                for case in &group.cases {
                    asked += 1;
                    let input = vectors::expand(&case.input).expect("short forms expand");
                    let answer = Ok(call(&group.op, &input));
                    let judgement = judge(case.expected(None), case.node.as_ref(), false, &answer);
                    if judgement.verdict != Verdict::Ok {
                        missed.push((case.id.clone(), judgement, answer));
                    }
                }
            }
        }
        assert!(asked > 2000, "only {asked} cases found");
        assert!(
            missed.is_empty(),
            "{} of {asked}: {:#?}",
            missed.len(),
            missed.first()
        );
    }

    #[test]
    fn every_operation_is_carried_out() {
        for (op, _) in OPS {
            let Outcome::Error(error) = call(op, &Value::Null) else {
                panic!("{op} answered a request without fields");
            };
            assert_eq!(error["layer"], "adapter", "{op}");
        }
        assert_eq!(call("compact.guess", &Value::Null), Outcome::Unsupported);
    }

    #[test]
    fn a_request_that_makes_no_sense_is_the_runners_mistake() {
        let asked = |op: &str, input: Value| match call(op, &input) {
            Outcome::Error(error) => error["layer"].clone(),
            other => panic!("{other:?}"),
        };
        let requests = [
            ("compact.decode", json!({ "type": "int", "bytes": "00" })),
            ("compact.decode", json!({ "type": "uint", "bytes": "0" })),
            ("compact.decode", json!({ "type": "uint", "bytes": "0A" })),
            ("compact.encode", json!({ "type": "uint", "value": -1 })),
            ("compact.encode", json!({ "type": "string", "value": 5 })),
            (
                "message.decode",
                json!({ "message": "wave", "bytes": "00" }),
            ),
            ("multisig.decode", json!({ "version": 2, "bytes": "0000" })),
            ("key.namespace", json!({ "name": "a", "count": 65536 })),
        ];
        for (op, input) in requests {
            assert_eq!(asked(op, input.clone()), "adapter", "{op} {input}");
        }
    }

    #[test]
    fn nothing_is_cut_to_fit() {
        for (kind, value) in [("uint8", 256), ("uint16", 1 << 16), ("uint24", 1 << 24)] {
            let input = json!({ "type": kind, "value": value });
            let Outcome::Error(error) = call("compact.encode", &input) else {
                panic!("{kind} took {value}");
            };
            assert_eq!(
                (&error["layer"], &error["class"]),
                (&json!("encoding"), &json!("bad-input"))
            );
        }
    }
}
