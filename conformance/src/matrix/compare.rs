//! Differences between the fields of messages, in words.

use hypercore_protocol::{Buffer, MessageType};
use serde_json::Value;

use crate::dissect::{Field, Kind, dissect};

/// How many differences of one case are reported.
const TOLD: usize = 6;

pub(super) fn shorten(mut told: Vec<String>) -> String {
    if told.len() > TOLD {
        let more = told.len() - TOLD;
        told.truncate(TOLD);
        told.push(format!("and {more} more"));
    }
    told.join("; ")
}

/// The kind of an operation's output, if it has fields.
pub(super) fn written_by(op: &str, input: &Value) -> Option<Kind> {
    kind_of_op(op.strip_suffix(".encode")?, input)
}

/// The kind that an operation encodes or decodes: `message`, as in `message.encode`.
pub(super) fn kind_of_op(what: &str, input: &Value) -> Option<Kind> {
    match what {
        "message" => {
            let name = input.get("message")?.as_str()?;
            if name == "handshake" {
                return Some(Kind::Handshake);
            }
            MessageType::from_name(name).map(Kind::Message)
        }
        "manifest" => Some(Kind::Manifest),
        "multisig" => Some(Kind::MultiSignature),
        _ => None,
    }
}

/// The changed fields, in words.
pub(super) fn compare_fields(kind: Kind, recorded: Vec<u8>, now: Vec<u8>) -> Vec<String> {
    compare_leaves(
        &leaves_of(kind, &Buffer::from(recorded)),
        &leaves_of(kind, &Buffer::from(now)),
    )
}

/// The fields of a message that have no parts.
pub(super) fn leaves_of(kind: Kind, bytes: &Buffer) -> Vec<Field> {
    let mut found = Vec::new();
    leaves(&dissect(kind, bytes).fields, &mut found);
    found
}

/// The changes between two lists of fields.
pub(super) fn compare_leaves(recorded: &[Field], now: &[Field]) -> Vec<String> {
    let find =
        |fields: &[Field], name: &str| fields.iter().find(|field| field.name == name).cloned();
    let mut told = Vec::new();
    for field in recorded {
        match find(now, &field.name) {
            None => told.push(format!(
                "`{}` is not written (recorded {})",
                field.name,
                shown(field)
            )),
            Some(other) if (&other.hex, &other.value) != (&field.hex, &field.value) => {
                told.push(change(field, &other))
            }
            Some(_) => {}
        }
    }
    let gained = now
        .iter()
        .filter(|field| find(recorded, &field.name).is_none());
    told.extend(
        gained.map(|field| format!("`{}` is written besides: {}", field.name, shown(field))),
    );
    told
}

fn leaves(fields: &[Field], found: &mut Vec<Field>) {
    for field in fields {
        if field.fields.is_empty() {
            found.push(field.clone());
        } else {
            leaves(&field.fields, found);
        }
    }
}

fn shown(field: &Field) -> String {
    let hex = field.hex.clone().unwrap_or_default();
    if field.meaning.is_empty() {
        hex
    } else {
        format!("{hex}, {}", field.meaning)
    }
}

/// A changed field; for flags, the changed ones.
fn change(recorded: &Field, now: &Field) -> String {
    let name = &recorded.name;
    let number = |field: &Field| field.value.as_ref().and_then(Value::as_u64);
    if name.ends_with("flags")
        && let (Some(before), Some(after)) = (number(recorded), number(now))
    {
        let names = |field: &Field| -> Vec<String> {
            field.meaning.split(" | ").map(str::to_owned).collect()
        };
        let (had, has) = (names(recorded), names(now));
        let lost: Vec<&String> = had.iter().filter(|flag| !has.contains(flag)).collect();
        let gained: Vec<&String> = has.iter().filter(|flag| !had.contains(flag)).collect();
        let list = |flags: &[&String], bits: u64| {
            let flags: Vec<&str> = flags.iter().map(|flag| flag.as_str()).collect();
            format!("{} ({bits})", flags.join(", "))
        };
        let mut told = Vec::new();
        if before & !after != 0 {
            told.push(format!("lacks flag {}", list(&lost, before & !after)));
        }
        if after & !before != 0 {
            told.push(format!("gained flag {}", list(&gained, after & !before)));
        }
        return format!("`{name}` {before} → {after}: {}", told.join(", "));
    }
    format!("`{name}` {} → {}", shown(recorded), shown(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_came_is_named() {
        let sync = Kind::Message(MessageType::Sync);
        let told = compare_fields(sync, vec![0x0f, 0, 5, 0], vec![0x1f, 0, 5, 0]);
        assert_eq!(told, ["`flags` 15 → 31: gained flag allowPush (16)"]);
        let told = compare_fields(sync, vec![0x1f, 0, 5, 0], vec![0x0f, 0, 6, 0]);
        assert_eq!(
            told,
            [
                "`flags` 31 → 15: lacks flag allowPush (16)",
                "`length` 05 → 06"
            ]
        );
    }

    #[test]
    fn a_field_that_is_gone_is_named() {
        let no_data = Kind::Message(MessageType::NoData);
        let told = compare_fields(no_data, vec![7, 1, 2], vec![7]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("`flags` is not written"), "{told:?}");
    }
}
