//! The messages that the scenarios send, and their form when an older release is at one end.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2bMac, Digest, digest::KeyInit, digest::Mac};
use serde_json::{Value, json};

/// The key of the core that scenarios call `name`; any 32 bytes would do.
pub(crate) fn core_key(name: &str) -> [u8; 32] {
    Blake2b::<U32>::digest(format!("core {name}")).into()
}

/// The key of a core with another's name, so that only the capability differs.
pub(super) fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(
        clippy::expect_used,
        reason = "keys of 1 to 64 bytes are taken, and the callers have 32 or 64"
    )]
    let mut mac = Blake2bMac::<U32>::new_from_slice(key).expect("a key of at most 64 bytes");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `BLAKE2b-256(key = core key, "hypercore")`; hypercore-crypto 3.7.0, index.js.
pub(super) fn discovery_key(key: &[u8; 32]) -> [u8; 32] {
    keyed_hash(key, &[b"hypercore"])
}

/// The capability of an end with this role; hypercore 11.37.1, lib/caps.js.
pub(super) fn capability(is_initiator: bool, key: &[u8; 32], handshake_hash: &[u8]) -> [u8; 32] {
    let name: [u8; 32] = Blake2b::<U32>::digest("hypercore").into();
    let index = if is_initiator { 1 } else { 2 };
    let mut namespace = Blake2b::<U32>::new();
    namespace.update(name);
    namespace.update([index]);
    let namespace: [u8; 32] = namespace.finalize().into();
    keyed_hash(handshake_hash, &[&namespace, key])
}

/// The plaintext record that opens a channel; protomux 3.12.1, index.js. All lengths here fit one byte.
pub(super) fn open_record(id: u8, protocol: &str, channel_id: &[u8], handshake: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 1, id, protocol.len() as u8];
    record.extend_from_slice(protocol.as_bytes());
    record.push(channel_id.len() as u8);
    record.extend_from_slice(channel_id);
    record.extend_from_slice(handshake);
    record
}

/// The form of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// Every part present, numbers of every width.
    Full,
    /// Every optional part absent, every number as small as it gets.
    Smallest,
}

/// Data with a block of this size, and nothing else.
pub(super) fn block(size: usize) -> Value {
    json!({
        "request": 1, "fork": 0,
        "block": { "index": 0, "value": "5a".repeat(size), "nodes": [] },
        "hash": null, "seek": null, "upgrade": null, "manifest": null,
    })
}

const MAX_SAFE: u64 = (1 << 53) - 1;

/// A message of this name in this form, or `None` if there is no such message.
pub(super) fn message(name: &str, form: Form) -> Option<Value> {
    let full = form == Form::Full;
    Some(match name {
        "sync" if full => json!({
            "fork": 1, "length": 70_000, "remoteLength": MAX_SAFE,
            "canUpgrade": true, "uploading": true, "downloading": true, "hasManifest": true, "allowPush": true,
        }),
        "sync" => json!({
            "fork": 0, "length": 0, "remoteLength": 0,
            "canUpgrade": false, "uploading": false, "downloading": false, "hasManifest": false, "allowPush": false,
        }),
        "request" if full => json!({
            "id": 252, "fork": 253,
            "block": { "index": 65_535, "nodes": 65_536 },
            "hash": { "index": 4_294_967_295u64, "nodes": 2 },
            "seek": { "bytes": 4_294_967_296u64, "padding": 7 },
            "upgrade": { "start": 5, "length": MAX_SAFE },
            "manifest": true, "priority": 3,
        }),
        "request" => json!({
            "id": 0, "fork": 0, "block": null, "hash": null, "seek": null, "upgrade": null,
            "manifest": false, "priority": 0,
        }),
        "cancel" => json!({ "request": if full { 100_000 } else { 0 } }),
        "data" if full => json!({
            "request": 252, "fork": 3,
            "block": { "index": 300, "value": "00ff10".repeat(100), "nodes": nodes(3) },
            "hash": { "index": 70_000, "nodes": nodes(1) },
            "seek": { "bytes": MAX_SAFE, "nodes": nodes(2) },
            "upgrade": {
                "start": 0, "length": 301, "nodes": nodes(2), "additionalNodes": nodes(1), "signature": "5a".repeat(64),
            },
            "manifest": manifest(1),
        }),
        "data" => json!({
            "request": 0, "fork": 0, "block": null, "hash": null, "seek": null, "upgrade": null, "manifest": null,
        }),
        "noData" => {
            json!({ "request": if full { 253 } else { 0 }, "reason": if full { 1 } else { 0 } })
        }
        "want" | "unwant" => json!({
            "start": if full { 65_536 } else { 0 }, "length": if full { 4_294_967_296u64 } else { 0 }, "any": full,
        }),
        "bitfield" => json!({
            "start": if full { 32_768 } else { 0 },
            "bitfield": if full { (0..1024u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect() } else { vec![] },
        }),
        "range" if full => json!({ "drop": true, "start": 65_535, "length": 4_294_967_296u64 }),
        // A length of 1 is a flag and no number.
        "range" => json!({ "drop": false, "start": 0, "length": 1 }),
        "extension" => json!({
            "name": if full { "an/extension ü" } else { "e" },
            "message": if full { "00ff".repeat(500) } else { String::new() },
        }),
        _ => return None,
    })
}

/// A data message that carries only a manifest, with every part that its version has.
pub(super) fn data_with_manifest(version: u64) -> Value {
    let mut value = message("data", Form::Smallest).unwrap_or_default();
    value["manifest"] = manifest(version);
    value
}

fn manifest(version: u64) -> Value {
    let signer = |byte: &str| json!({ "signature": "ed25519", "namespace": byte.repeat(32), "publicKey": "07".repeat(32) });
    json!({
        "version": version, "hash": "blake2b", "allowPatch": true, "quorum": 2,
        "signers": [signer("01"), signer("02"), signer("03")],
        "prologue": { "hash": "0d".repeat(32), "length": 500 },
        "linked": if version >= 2 { json!(["0a".repeat(32), "0b".repeat(32)]) } else { Value::Null },
        "userData": if version >= 2 { json!("c0ffee") } else { Value::Null },
    })
}

fn nodes(count: u64) -> Vec<Value> {
    (0..count)
        .map(|i| json!({ "index": i * 300, "size": i * 70_000 + 1, "hash": format!("{:02x}", i + 1).repeat(32) }))
        .collect()
}

/// A decoded message as hypercore 10 has it: later fields are not compared.
///
/// hypercore 10.38.2, lib/messages.js has no sync.allowPush, noData.reason, want.any, unwant.any, manifest.linked and
/// manifest.userData.
pub(super) fn as_in_10(message: &str, mut value: Value) -> Value {
    let later: &[(&str, &str)] = match message {
        "sync" => &[("", "allowPush")],
        "noData" => &[("", "reason")],
        "want" | "unwant" => &[("", "any")],
        "data" => &[("/manifest", "linked"), ("/manifest", "userData")],
        _ => &[],
    };
    for (pointer, field) in later {
        if let Some(Value::Object(fields)) = value.pointer_mut(pointer) {
            fields.remove(*field);
        }
    }
    value
}

/// The expected value without fields that are null in it and absent from `got`: an earlier release does not have them.
pub(super) fn as_known(expected: &Value, got: &Value) -> Value {
    let (Value::Object(expected), Value::Object(known)) = (expected, got) else {
        return expected.clone();
    };
    let nothing = |value: &Value| matches!(value, Value::Null | Value::Bool(false)) || value == 0;
    let fields = expected
        .iter()
        .filter(|(name, value)| known.contains_key(*name) || !nothing(value))
        .map(|(name, value)| {
            let got = known.get(name).unwrap_or(&Value::Null);
            (name.clone(), as_known(value, got))
        });
    Value::Object(fields.collect())
}

/// Non-repeating bytes, in hex.
pub(super) fn pattern(length: usize) -> String {
    // Period 251, not a power of two, so that swapped pieces are detected.
    let cycle: Vec<u8> = (0..251).collect();
    let mut text = hex::encode(&cycle).repeat(length / cycle.len() + 1);
    text.truncate(length * 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_hypercore_crypto() {
        // hypercore-crypto 3.7.0: discoveryKey(Buffer.alloc(32, 0xaa)).
        assert_eq!(
            hex::encode(discovery_key(&[0xaa; 32])),
            "23a6a52cfe22c9f30231e933716dee66641ded8db6dbb0e6395e34dea8bacd3a"
        );
    }

    #[test]
    fn what_a_release_has_no_word_for_is_nothing() {
        let expected = json!({ "a": 1, "b": false, "c": { "d": null, "e": true } });
        let known = |got: Value| as_known(&expected, &got);
        assert_eq!(
            known(json!({ "a": 2, "c": { "e": true } })),
            json!({ "a": 1, "c": { "e": true } })
        );
        // A field with a value is missed.
        assert_eq!(
            known(json!({ "c": { "d": 1 } }))["c"],
            json!({ "d": null, "e": true })
        );
        assert_eq!(known(json!({}))["a"], 1);
    }

    #[test]
    fn every_message_has_both_forms() {
        for name in super::super::MESSAGES {
            assert!(message(name, Form::Full).is_some(), "{name}");
            assert_ne!(
                message(name, Form::Full),
                message(name, Form::Smallest),
                "{name}"
            );
        }
        assert_eq!(message("nonsense", Form::Full), None);
    }
}
