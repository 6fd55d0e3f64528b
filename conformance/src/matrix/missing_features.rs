//! The features that a release lacks: versions, types, flags or fields of today's wire that its bytes do not have.

use hypercore_protocol::Buffer;
use serde_json::Value;

use super::cell::MissingFeatures;
use super::compare::{kind_of_op, leaves_of, written_by};
use crate::diff::{Difference, bytes_of};
use crate::dissect::{Field, Kind};
use crate::run::Check;

/// The class with which a release refuses a version that it does not know.
pub(super) const UNKNOWN_VERSION: &str = "unknown-version";

/// How many bytes of a release's output are kept.
const KEPT: usize = 160;

/// The prefix of a manifest's fields in a containing message.
const MANIFEST: &str = "manifest.";

/// The features missing in a failed check.
pub(super) fn of_check(check: &Check) -> Option<MissingFeatures> {
    let (op, input) = (check.op.as_deref()?, check.input.as_ref()?);
    if let Some(error) = check.actual.as_ref().and_then(|actual| actual.get("error")) {
        return refused_version(op, input).filter(|_| error["class"] == UNKNOWN_VERSION);
    }
    let is_bytes = |difference: &&Difference| difference.path == "bytes";
    let difference = check.differences.iter().find(is_bytes)?;
    let (recorded, now) = (difference.expected.as_ref()?, difference.actual.as_ref()?);
    of_bytes(op, input, recorded, now)
}

/// The version of the manifest in bytes that are refused because of it.
pub(super) fn refused_version(op: &str, input: &Value) -> Option<MissingFeatures> {
    let kind = kind_of_op(op.strip_suffix(".decode")?, input)?;
    let fields = leaves_of(kind, &Buffer::from(bytes_of(&input["bytes"])?));
    let mut fields = fields.iter();
    let version = number(fields.find(|field| field.name == "manifest.version")?)?;
    Some(MissingFeatures {
        features: vec![format!("manifest, version {version}")],
        bytes: None,
    })
}

/// The named features of the recorded bytes that the bytes `now` lack, if any.
pub(super) fn of_bytes(
    op: &str,
    input: &Value,
    recorded: &Value,
    now: &Value,
) -> Option<MissingFeatures> {
    let kind = written_by(op, input)?;
    let (before, after) = (bytes_of(recorded)?, bytes_of(now)?);
    let name = match kind {
        Kind::MultiSignature => "multisignature",
        _ => input["message"].as_str().unwrap_or("manifest"),
    };
    let told = |(field, what): (Field, String)| match field.name.starts_with(MANIFEST) {
        true => format!("manifest, {what}"),
        false => format!("{name}, {what}"),
    };
    let features: Vec<String> = lost(kind, &before, &after).into_iter().map(told).collect();
    let bytes = (after.len() <= KEPT).then(|| hex::encode(&after));
    (!features.is_empty()).then_some(MissingFeatures { features, bytes })
}

/// The differing version or type, or else the unset flags, or else the omitted fields, each with its field: later
/// differences follow from it.
fn lost(kind: Kind, before: &[u8], after: &[u8]) -> Vec<(Field, String)> {
    let fields = |bytes: &[u8]| leaves_of(kind, &Buffer::from(bytes.to_vec()));
    let (recorded, now) = (fields(before), fields(after));
    for field in &recorded {
        let other = now.iter().find(|other| other.name == field.name);
        let (Some(had), Some(has)) = (number(field), other.and_then(number)) else {
            continue;
        };
        let what = match field.name.rsplit('.').next() {
            Some("version") if has != had => vec![format!("version {had}")],
            Some("type") if has != had => vec![format!("type {had}, {}", field.meaning)],
            Some("flags") => flags(field, had, had & !has),
            _ => continue,
        };
        if !what.is_empty() {
            return what.into_iter().map(|what| (field.clone(), what)).collect();
        }
    }
    let Some((from, to)) = left_out(before, after, &recorded) else {
        return Vec::new();
    };
    let within = |field: &Field| from <= field.offset && field.offset + field.length <= to;
    let gone = recorded.into_iter().filter(within);
    gone.map(|field| {
        let name = field.name.strip_prefix(MANIFEST).unwrap_or(&field.name);
        let what = format!("field {name}");
        (field, what)
    })
    .collect()
}

fn number(field: &Field) -> Option<u64> {
    field.value.as_ref()?.as_u64()
}

/// The range of omitted bytes, if that is the only difference. It starts at the beginning of a field, since equal bytes
/// make the position ambiguous.
fn left_out(before: &[u8], after: &[u8], fields: &[Field]) -> Option<(usize, usize)> {
    let length = before.len().checked_sub(after.len())?;
    let is_it = |from: &usize| {
        let (head, tail) = (before.get(..*from), before.get(from + length..));
        let whole = head.zip(tail).map(|(head, tail)| [head, tail].concat());
        length > 0 && whole.as_deref() == Some(after)
    };
    let from = fields.iter().map(|field| field.offset).find(is_it)?;
    Some((from, from + length))
}

/// The names of the flags in `set` that are `lost`.
fn flags(field: &Field, set: u64, lost: u64) -> Vec<String> {
    let bits = (0..u64::BITS).map(|bit| 1_u64 << bit);
    let names = field.meaning.split(" | ");
    bits.filter(|bit| set & bit != 0)
        .zip(names)
        .filter(|(bit, _)| lost & bit != 0)
        .map(|(bit, name)| format!("flag {name} ({bit})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_bytes_lack_is_a_version_a_flag_or_a_field() {
        let lacks = |name: &str, recorded: &str, now: &str| {
            let (op, input) = match name {
                "manifest" => ("manifest.encode", json!({})),
                name => ("message.encode", json!({ "message": name })),
            };
            let found = of_bytes(op, &input, &json!(recorded), &json!(now));
            found.map(|found| found.features).unwrap_or_default()
        };
        assert_eq!(
            lacks("sync", "1f000500", "07000500"),
            ["sync, flag hasManifest (8)", "sync, flag allowPush (16)"]
        );
        assert_eq!(lacks("sync", "1f000500", "1f000600"), [""; 0]);
        assert_eq!(
            lacks("noData", "070101", "07"),
            ["noData, field flags", "noData, field reason"]
        );
        // A seek without its padding: the following fields are not lost.
        for (with, without) in [
            ("040701fd001008", "040701fd0010"),
            ("340701fd00100802", "340701fd001002"),
            ("0c0701fd0010080309", "0c0701fd00100309"),
        ] {
            assert_eq!(
                lacks("request", with, without),
                ["request, field seek.padding"]
            );
        }
        assert_eq!(lacks("request", "040701fd001008", "040701fd00"), [""; 0]);
        assert_eq!(
            lacks("manifest", "0100000000", "000000"),
            ["manifest, version 1"]
        );
    }

    #[test]
    fn a_version_that_is_refused_is_named() {
        let mut check = Check::new(crate::run::Kind::Vector, "", "", "");
        check.op = Some("manifest.decode".into());
        check.input = Some(json!({ "bytes": "0200000000" }));
        let error = |class: &str| Some(json!({ "error": { "layer": "manifest", "class": class } }));
        check.actual = error("unknown-version");
        let found = of_check(&check).expect("a version");
        assert_eq!(found.features, ["manifest, version 2"]);
        assert_eq!(found.bytes, None);
        check.actual = error("out-of-bounds");
        assert_eq!(of_check(&check), None);
    }
}
