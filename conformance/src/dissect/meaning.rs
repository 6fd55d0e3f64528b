//! The meaning of fields' values, in words.

use std::borrow::Cow;

use hypercore_protocol::MessageType;
use hypercore_protocol::encoding::{Reading, ReadingKind};

use super::Field;

/// How many characters of a block's or an extension's text are shown.
const SHOWN_TEXT: usize = 40;

/// How many characters of a string are kept as its value.
const SHOWN_STRING: usize = 256;

/// The names of the flags of a field, lowest first.
pub(super) fn flag_names(message: &str, field: &str) -> &'static [(u64, &'static str)] {
    match (message, field) {
        ("handshake", "flags") => &[(1, "seeks")],
        ("sync", "flags") => &[
            (1, "canUpgrade"),
            (2, "uploading"),
            (4, "downloading"),
            (8, "hasManifest"),
            (16, "allowPush"),
        ],
        ("request", "flags") => &[
            (1, "block"),
            (2, "hash"),
            (4, "seek"),
            (8, "upgrade"),
            (16, "manifest"),
            (32, "priority"),
        ],
        ("data", "flags") => &[
            (1, "block"),
            (2, "hash"),
            (4, "seek"),
            (8, "upgrade"),
            (16, "manifest"),
        ],
        ("noData", "flags") => &[(1, "reason")],
        ("want" | "unwant", "flags") => &[(1, "any")],
        ("range", "flags") => &[(1, "drop"), (2, "length is 1")],
        (_, "manifest.flags") => &[
            (1, "allowPatch"),
            (2, "prologue"),
            (4, "linked"),
            (8, "userData"),
        ],
        _ => &[],
    }
}

/// Sets a field's meaning from its reading.
pub(super) fn explain(message: &str, reading: &Reading, bytes: &[u8], field: &mut Field) {
    match reading.kind {
        ReadingKind::Uint(value) => {
            field.value = Some(value.into());
            field.meaning = word(message, reading.field, value).into();
        }
        ReadingKind::Length(value) | ReadingKind::Count(value) => field.value = Some(value.into()),
        ReadingKind::Flags { value, known } => {
            field.value = Some(value.into());
            field.meaning = flags(message, reading.field, value, known);
        }
        ReadingKind::Text => {
            field.meaning = match std::str::from_utf8(bytes) {
                Err(_) => "not valid UTF-8".into(),
                Ok("") if message == "extension" => "the name last sent".into(),
                Ok(_) => String::new(),
            };
            // A character has at most four bytes.
            let beginning = &bytes[..bytes.len().min(4 * SHOWN_STRING)];
            let text = String::from_utf8_lossy(beginning);
            field.value = Some(text.chars().take(SHOWN_STRING).collect::<String>().into());
        }
        ReadingKind::Bytes if reading.field == "bitfield" => {
            let set: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
            field.meaning = format!("{} bits, {set} set", bytes.len() * 8);
        }
        ReadingKind::Bytes if matches!(reading.field, "" | "block.value" | "manifest.userData") => {
            field.meaning = text(bytes);
        }
        _ => {}
    }
    if is_longer_than_need_be(reading) {
        let because = "longer than need be";
        field.meaning = match field.meaning.as_str() {
            "" => because.into(),
            meaning => format!("{meaning}, {because}"),
        };
    }
}

/// Remarks on unusual but accepted readings.
pub(super) fn notes(message: &str, readings: &[Reading]) -> Vec<String> {
    let mut notes = Vec::new();
    for reading in readings {
        if let ReadingKind::Flags { value, known } = reading.kind
            && value & !known != 0
            && notes.len() < super::MAX_REMARKS
        {
            notes.push(format!("unknown flags 0x{:x} in {message}", value & !known));
        }
    }
    let long = readings
        .iter()
        .filter(|reading| is_longer_than_need_be(reading))
        .count();
    if long > 0 {
        notes.push(format!("{long} integers longer than need be in {message}"));
    }
    notes
}

fn is_longer_than_need_be(reading: &Reading) -> bool {
    let value = match reading.kind {
        ReadingKind::Uint(value)
        | ReadingKind::Length(value)
        | ReadingKind::Count(value)
        | ReadingKind::Flags { value, .. } => value,
        _ => return false,
    };
    let shortest = match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    };
    reading.length > shortest
}

fn flags(message: &str, field: &str, value: u64, known: u64) -> String {
    let mut words: Vec<String> = flag_names(message, field)
        .iter()
        .filter(|(flag, _)| value & known & flag != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    if value & !known != 0 {
        words.push(format!("unknown 0x{:x}", value & !known));
    }
    if words.is_empty() {
        return "none".into();
    }
    words.join(" | ")
}

fn word(message: &str, field: &str, value: u64) -> &'static str {
    match (message, field, value) {
        ("record", "channel", 0) => "control",
        ("control", "type", 0) => "batch",
        ("control", "type", 1) => "open",
        ("control", "type", 2) => "reject",
        ("control", "type", 3) => "close",
        ("control", "type", _) => "unknown, ignored",
        ("hypercore", "type", kind) => {
            MessageType::from_id(kind).map_or("unknown, ignored", MessageType::name)
        }
        ("noData", "reason", 1) => "not available",
        ("noData", "reason", 2) => "invalid request",
        (_, "manifest.hash", 0) => "BLAKE2b",
        (_, "manifest.type", 0) => "prologue",
        (_, "manifest.type", 1) => "one signer",
        (_, "manifest.type", 2) => "several signers",
        (_, "signer.signature", 0) => "Ed25519",
        _ => "",
    }
}

/// Bytes as text, if they are printable.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && matches!(crate::foreign::line(text), Cow::Borrowed(_)) => {
            let cut = if text.chars().count() > SHOWN_TEXT {
                "…"
            } else {
                ""
            };
            let shown: String = text.chars().take(SHOWN_TEXT).collect();
            format!("\"{shown}\"{cut}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hypercore_protocol::Buffer;
    use hypercore_protocol::encoding::{Decoder, Readings};

    use crate::dissect::{Kind, read_message};

    /// The decoders define which flags have a meaning: exactly those have a name here.
    #[test]
    fn every_known_flag_has_a_name() {
        let zeros = Buffer::from(vec![0; 80]);
        let mut seen = 0;
        for message in MessageType::ALL {
            let readings = Readings::default();
            read_message(message, &mut Decoder::observed(&zeros, &readings)).expect("zeros");
            seen += check(message.name(), &readings.take());
        }
        for (kind, bytes) in [
            (Kind::Handshake, vec![0; 33]),
            (Kind::Manifest, vec![1, 0, 0, 0, 0]),
        ] {
            let readings = Readings::default();
            let bytes = Buffer::from(bytes);
            let mut decoder = Decoder::observed(&bytes, &readings);
            use hypercore_protocol::encoding::Decode;
            match kind {
                Kind::Handshake => drop(hypercore_protocol::wire::Handshake::decode_from(
                    &mut decoder,
                )),
                _ => drop(hypercore_protocol::Manifest::decode_from(&mut decoder)),
            }
            seen += check(kind.name(), &readings.take());
        }
        assert_eq!(seen, 9);
    }

    fn check(message: &str, readings: &[Reading]) -> usize {
        let flags = readings.iter().filter_map(|reading| match reading.kind {
            ReadingKind::Flags { known, .. } => Some((reading.field, known)),
            _ => None,
        });
        flags
            .map(|(field, known)| {
                let named: u64 = flag_names(message, field)
                    .iter()
                    .map(|(flag, _)| flag)
                    .sum();
                assert_eq!(named, known, "{message}.{field}");
            })
            .count()
    }
}
