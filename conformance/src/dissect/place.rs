//! Names for bytes: which field of a message lies at an offset.
//!
//! Layouts of encoded messages are not described a second time here. The expected bytes are cut off at the offset and
//! decoded by the reference implementation: it fails for lack of exactly that byte, and its error names the field that
//! it was reading. Bytes that are not decoded field by field (records, handshake messages, signables) have a small
//! table.

use serde_json::{Value, json};

use crate::adapter::Outcome;
use crate::reference::Reference;

/// The field at `offset` of the `expected` bytes, which are at `path` of the output of `op`.
pub fn name(op: &str, input: &Value, path: &str, expected: &[u8], offset: usize) -> Option<String> {
    if offset >= expected.len() {
        return Some("past the end of what is expected".into());
    }
    if let Some(name) = by_decoding(op, input, path, expected, offset) {
        return Some(name);
    }
    let (name, here) = by_layout(op, input, path, expected, offset)?;
    Some(if here == 0 {
        name
    } else {
        format!("{name}, byte {here}")
    })
}

/// The fields of `bytes` in order, each with its length; none if nothing is known about them.
///
/// `path` is their path in the output of `op`, or `bytes` for the input of a decoding operation.
pub fn map(op: &str, input: &Value, path: &str, bytes: &[u8]) -> Vec<(usize, String)> {
    let mut fields: Vec<(usize, String)> = Vec::new();
    for offset in 0..bytes.len() {
        let name = by_decoding(op, input, path, bytes, offset)
            .or_else(|| by_layout(op, input, path, bytes, offset).map(|(name, _)| name));
        match (fields.last_mut(), name) {
            (Some((length, last)), Some(name)) if *last == name => *length += 1,
            (_, Some(name)) => fields.push((1, name)),
            // Bytes left over after the last field.
            (Some((length, last)), None) if last == TRAILING => *length += 1,
            (Some(_), None) => fields.push((1, TRAILING.into())),
            (None, None) => return fields,
        }
    }
    fields
}

/// The name of bytes after the last field.
const TRAILING: &str = "(trailing)";

fn by_decoding(op: &str, input: &Value, path: &str, bytes: &[u8], offset: usize) -> Option<String> {
    if path != "bytes" {
        return None;
    }
    let decode = match op {
        "compact.encode" | "compact.decode" => "compact.decode",
        "message.encode" | "message.decode" => "message.decode",
        "manifest.encode" | "manifest.decode" => "manifest.decode",
        "multisig.encode" | "multisig.decode" => "multisig.decode",
        "mux.encode" | "mux.decode" => "mux.decode",
        _ => return None,
    };
    let mut question = json!({ "bytes": hex::encode(&bytes[..offset]) });
    // The parameters for reading the bytes have the same names in both directions.
    for name in ["message", "type", "version"] {
        if let Some(value) = input.get(name) {
            question[name] = value.clone();
        }
    }
    let Outcome::Error(error) = Reference::new().call(decode, &question) else {
        return None;
    };
    let field = error.get("field")?.as_str()?;
    Some(match input.get("message").and_then(Value::as_str) {
        Some(message) if !field.starts_with(message) => format!("{message}.{field}"),
        _ => field.to_owned(),
    })
}

/// Parts of a byte string in order, each with its length; the last takes the rest.
type Layout = Vec<(usize, String)>;

fn by_layout(
    op: &str,
    input: &Value,
    path: &str,
    expected: &[u8],
    offset: usize,
) -> Option<(String, usize)> {
    let length = expected.len();
    let parts = |parts: &[(usize, &str)]| -> Layout {
        parts
            .iter()
            .map(|&(length, name)| (length, name.to_owned()))
            .collect()
    };
    let layout = match (op, path) {
        ("key.keyPair", "secretKey") => parts(&[(32, "seed"), (32, "public key")]),
        ("stream.push", _) if path.starts_with("records") => parts(&[
            (1, "tag, encrypted"),
            (length.saturating_sub(17), "ciphertext"),
            (16, "MAC"),
        ]),
        ("datagram.seal", "datagram") => {
            parts(&[(8, "counter"), (16, "MAC"), (length, "ciphertext")])
        }
        ("frame.encode", "bytes") => parts(&[(3, "length of the record"), (length, "record")]),
        ("tree.signable", "signable") => parts(&[
            (32, "namespace"),
            (32, "manifest hash"),
            (32, "tree hash"),
            (8, "length"),
            (8, "fork"),
        ]),
        ("tree.signableCompat", "signable") => {
            let header: &[_] = if length > 48 {
                &[(32, "namespace")]
            } else {
                &[]
            };
            parts(&[header, &[(32, "tree hash"), (8, "length"), (8, "fork")]].concat())
        }
        ("noise.handshake", _) => handshake_message(input, step_of(path)?, length)?,
        ("connection.replay", _) if path.ends_with("sent") => frames(expected),
        _ => return None,
    };
    let mut start = 0;
    layout.into_iter().find_map(|(length, name)| {
        let here = offset.saturating_sub(start);
        start += length;
        (offset < start).then_some((name, here))
    })
}

/// The index in `steps[3].message`.
fn step_of(path: &str) -> Option<usize> {
    path.strip_prefix("steps[")?.split(']').next()?.parse().ok()
}

/// The tokens of each message of a pattern, as the Noise specification writes them.
fn tokens(pattern: &str, message: usize) -> Option<&'static [&'static str]> {
    let messages: &[&[&str]] = match pattern.trim_end_matches("psk0") {
        "XX" => &[&["e"], &["e", "ee", "s", "es"], &["s", "se"]],
        "IK" => &[&["e", "es", "s", "ss"], &["e", "ee", "se"]],
        "XK" => &[&["e", "es"], &["e", "ee"], &["s", "se"]],
        "NN" => &[&["e"], &["e", "ee"]],
        _ => return None,
    };
    messages.get(message).copied()
}

fn handshake_message(input: &Value, message: usize, length: usize) -> Option<Layout> {
    let pattern = input.get("pattern")?.as_str()?;
    let mut keyed = pattern.ends_with("psk0");
    for before in 0..message {
        keyed |= tokens(pattern, before)?
            .iter()
            .any(|token| token.len() == 2);
    }
    let mut layout = Layout::new();
    for &token in tokens(pattern, message)? {
        match token {
            "e" => layout.push((32, "ephemeral public key (e)".into())),
            "s" if keyed => {
                layout.extend([
                    (32, "static public key (s), encrypted".into()),
                    (16, "tag of s".into()),
                ]);
            }
            "s" => layout.push((32, "static public key (s)".into())),
            _ => keyed = true,
        }
    }
    let used: usize = layout.iter().map(|(length, _)| length).sum();
    let tag = if keyed { 16 } else { 0 };
    layout.push((length.saturating_sub(used + tag), "payload".into()));
    layout.push((tag, "tag of the payload".into()));
    Some(layout)
}

fn frames(bytes: &[u8]) -> Layout {
    let mut layout = Layout::new();
    let mut rest = bytes;
    for number in 1.. {
        let [a, b, c, more @ ..] = rest else { break };
        let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        layout.push((3, format!("length of record {number} of this step")));
        layout.push((length, format!("record {number} of this step")));
        rest = more.get(length..).unwrap_or_default();
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_what_is_not_decoded() {
        let name = |op, path, length: usize, offset| {
            name(
                op,
                &json!({ "pattern": "XX" }),
                path,
                &vec![1; length],
                offset,
            )
        };
        assert_eq!(
            name("stream.push", "records[0]", 20, 0).as_deref(),
            Some("tag, encrypted")
        );
        assert_eq!(
            name("stream.push", "records[0]", 20, 2).as_deref(),
            Some("ciphertext, byte 1")
        );
        assert_eq!(
            name("stream.push", "records[0]", 20, 4).as_deref(),
            Some("MAC")
        );
        assert_eq!(
            name("stream.push", "records[0]", 17, 1).as_deref(),
            Some("MAC")
        );
        assert_eq!(
            name("tree.signableCompat", "signable", 48, 32).as_deref(),
            Some("length")
        );
        assert_eq!(
            name("tree.signableCompat", "signable", 80, 32).as_deref(),
            Some("tree hash")
        );
        assert_eq!(
            name("noise.handshake", "steps[0].message", 32, 31).as_deref(),
            Some("ephemeral public key (e), byte 31")
        );
        assert_eq!(
            name("noise.handshake", "steps[1].message", 96, 32).as_deref(),
            Some("static public key (s), encrypted")
        );
        assert_eq!(
            name("noise.handshake", "steps[1].message", 96, 95).as_deref(),
            Some("tag of the payload, byte 15")
        );
        assert_eq!(name("noise.handshake", "hash", 64, 0), None);
        assert_eq!(
            name("frame.encode", "bytes", 4, 9).as_deref(),
            Some("past the end of what is expected")
        );
    }

    #[test]
    fn frames_are_counted_within_a_step() {
        let bytes = [2, 0, 0, 9, 9, 1, 0, 0, 7];
        let name = |offset| {
            name(
                "connection.replay",
                &json!({}),
                "steps[1].sent",
                &bytes,
                offset,
            )
        };
        assert_eq!(
            name(1).as_deref(),
            Some("length of record 1 of this step, byte 1")
        );
        assert_eq!(name(4).as_deref(), Some("record 1 of this step, byte 1"));
        assert_eq!(name(8).as_deref(), Some("record 2 of this step"));
    }
}
