//! Differences of two values, by path, and two byte strings side by side.

use blake2::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::foreign;

/// The limit of reported differences; an answer may hold millions of values, all of them wrong.
const MAX_DIFFERENCES: usize = 1000;

/// A value with more parts is abridged after this many.
const ABRIDGED_PARTS: usize = 20_000;

/// Bytes in a row.
pub const ROW: usize = 16;

/// A difference between the actual and the expected value.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Difference {
    /// The path, as in `steps[2].sent[0].body`; empty for the whole value.
    pub path: String,
    /// The expected value, if any.
    pub expected: Option<Value>,
    /// The actual value, if any.
    pub actual: Option<Value>,
    /// The first differing byte, if both are bytes.
    pub first_byte: Option<usize>,
    /// The field at that byte, if known.
    pub field: Option<String>,
}

/// All differences between `actual` and `expected`, in the order of the expected value.
///
/// An expected `{"length": n, "blake2b256": hex}` stands for the bytes it is the digest of.
pub fn differences(expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", expected, actual, &mut found);
    found
}

fn compare(path: &str, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    if found.len() >= MAX_DIFFERENCES {
        return;
    }
    match (expected, actual) {
        (Value::Object(expected), Value::String(hex)) if is_digest(expected) => {
            compare_digest(path, expected, hex, found);
        }
        (Value::Object(expected), Value::Object(actual)) => {
            for (name, value) in expected {
                compare_parts(&join(path, name), Some(value), actual.get(name), found);
            }
            let more = actual.iter();
            for (name, value) in more
                .filter(|(name, _)| !expected.contains_key(*name))
                .take(MAX_DIFFERENCES)
            {
                compare_parts(&join(path, name), None, Some(value), found);
            }
        }
        (Value::Array(expected), Value::Array(actual)) => {
            // Of unexpected items, a few are enough to show.
            let most = expected.len().max(actual.len());
            for at in 0..most.min(expected.len() + MAX_DIFFERENCES) {
                compare_parts(
                    &format!("{path}[{at}]"),
                    expected.get(at),
                    actual.get(at),
                    found,
                );
            }
        }
        (Value::Number(a), Value::Number(b))
            if a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64() => {}
        _ if expected == actual => {}
        _ => {
            let first_byte = bytes_of(expected)
                .zip(bytes_of(actual))
                .map(|(a, b)| first_difference(&a, &b));
            found.push(difference(path, Some(expected), Some(actual), first_byte));
        }
    }
}

fn compare_parts(
    path: &str,
    expected: Option<&Value>,
    actual: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    match (expected, actual) {
        (Some(expected), Some(actual)) => compare(path, expected, actual, found),
        _ if found.len() < MAX_DIFFERENCES => {
            found.push(difference(path, expected, actual, None));
        }
        _ => {}
    }
}

fn compare_digest(
    path: &str,
    expected: &Map<String, Value>,
    hex: &str,
    found: &mut Vec<Difference>,
) {
    let actual = unhex(hex).map_or(Value::String(hex.to_owned()), |bytes| digest(&bytes));
    for (name, value) in expected {
        if actual.get(name) != Some(value) {
            found.push(difference(
                &join(path, name),
                Some(value),
                actual.get(name),
                None,
            ));
        }
    }
}

fn difference(
    path: &str,
    expected: Option<&Value>,
    actual: Option<&Value>,
    first_byte: Option<usize>,
) -> Difference {
    Difference {
        path: path.to_owned(),
        expected: expected.cloned(),
        actual: actual.cloned(),
        first_byte,
        field: None,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn is_digest(object: &Map<String, Value>) -> bool {
    object.len() == 2
        && object.get("length").is_some_and(Value::is_u64)
        && object.get("blake2b256").is_some_and(Value::is_string)
}

/// `{"length", "blake2b256"}` of some bytes, as vectors have it for an output over 2,048 bytes.
pub fn digest(bytes: &[u8]) -> Value {
    let hash = blake2::Blake2b::<blake2::digest::consts::U32>::digest(bytes);
    serde_json::json!({ "length": bytes.len(), "blake2b256": hex::encode(hash) })
}

/// The bytes that a string of hex stands for.
pub fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    value.as_str().and_then(unhex)
}

/// Hex as the adapter protocol has it: lower case, without a prefix.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // Without an early exit, so that the compiler vectorises it.
    let is_hex = text.bytes().fold(true, |all, byte| all & is_digit(byte));
    is_hex.then(|| hex::decode(text).ok()).flatten()
}

/// The first offset at which two different byte strings differ; the length of the shorter if it begins the longer.
pub fn first_difference(a: &[u8], b: &[u8]) -> usize {
    a.iter()
        .zip(b)
        .position(|(a, b)| a != b)
        .unwrap_or(a.len().min(b.len()))
}

/// Replaces strings of more than `limit` characters by a short form, and drops everything after 20,000 parts, so that a
/// report can hold any value.
pub fn abridge(value: &Value, limit: usize) -> Value {
    shorten(value, limit, &mut { ABRIDGED_PARTS })
}

fn shorten(value: &Value, limit: usize, left: &mut usize) -> Value {
    *left = left.saturating_sub(1);
    match value {
        Value::String(text) if text.len() > limit => match unhex(text) {
            Some(bytes) => digest(&bytes),
            None => Value::String(format!(
                "{}… ({} bytes)",
                text.chars().take(64).collect::<String>(),
                text.len()
            )),
        },
        Value::Array(items) => {
            let mut short = Vec::new();
            for item in items {
                if *left == 0 {
                    let more = items.len() - short.len();
                    short.push(Value::String(format!("… ({more} items more)")));
                    break;
                }
                short.push(shorten(item, limit, left));
            }
            Value::Array(short)
        }
        Value::Object(object) => {
            let mut short = Map::new();
            for (name, item) in object {
                if *left == 0 {
                    let more = object.len() - short.len();
                    short.insert("…".into(), Value::String(format!("{more} fields more")));
                    break;
                }
                let name = foreign::short(name, limit).into_owned();
                short.insert(name, shorten(item, limit, left));
            }
            Value::Object(short)
        }
        other => other.clone(),
    }
}

/// A row of up to [`ROW`] bytes of both strings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The offset of its first byte.
    pub offset: usize,
    /// The expected bytes of the row; fewer than [`ROW`] at the end.
    pub expected: Vec<u8>,
    /// The actual bytes of the row.
    pub actual: Vec<u8>,
}

/// Both byte strings in rows, side by side: the row of the first difference, with up to `before` rows above it and
/// `after` below.
pub fn rows(expected: &[u8], actual: &[u8], before: usize, after: usize) -> Vec<Row> {
    let middle = first_difference(expected, actual) / ROW;
    let count = expected.len().max(actual.len()).div_ceil(ROW).max(1);
    (middle.saturating_sub(before)..count.min(middle + after + 1))
        .map(|row| {
            let part = |bytes: &[u8]| bytes.chunks(ROW).nth(row).unwrap_or_default().to_vec();
            Row {
                offset: row * ROW,
                expected: part(expected),
                actual: part(actual),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(expected: Value, actual: Value) -> Vec<String> {
        differences(&expected, &actual)
            .into_iter()
            .map(|difference| difference.path)
            .collect()
    }

    #[test]
    fn a_million_wrong_values_are_not_all_told() {
        let million = Value::Array(vec![json!({}); 1_000_000]);
        assert_eq!(differences(&json!([1]), &million).len(), MAX_DIFFERENCES);
        assert_eq!(differences(&json!({ "a": million }), &json!(1)).len(), 1);
        let short = abridge(&json!({ "a": million, "b": [1, 2] }), 100);
        assert!(short.to_string().len() < 100_000);
        let items = short["a"].as_array().expect("items");
        let last = items.last().and_then(Value::as_str).unwrap_or_default();
        assert!(last.ends_with("items more)"), "{last}");
        assert!(short["b"].is_null(), "{short:.200}");
    }

    #[test]
    fn names_each_difference_by_its_path() {
        let expected = json!({ "a": 1, "b": [{ "c": "00ff" }, 2], "d": null });
        assert_eq!(paths(expected.clone(), expected.clone()), [""; 0]);
        assert_eq!(
            paths(
                expected.clone(),
                json!({ "a": 2, "b": [{ "c": "00fe" }], "e": 1 })
            ),
            ["a", "b[0].c", "b[1]", "d", "e"]
        );
        assert_eq!(paths(json!([1]), json!([1.0])), [""; 0]);
        assert_eq!(paths(json!("1"), json!(1)), [""]);
        assert_eq!(
            paths(
                json!(9_007_199_254_740_993_u64),
                json!(9_007_199_254_740_992_u64)
            ),
            [""]
        );
    }

    #[test]
    fn a_null_is_not_an_absent_field() {
        assert_eq!(paths(json!({ "a": null }), json!({})), ["a"]);
        assert_eq!(paths(json!({}), json!({ "a": null })), ["a"]);
    }

    #[test]
    fn marks_the_first_byte_that_differs() {
        let first = |a: &str, b: &str| differences(&json!(a), &json!(b))[0].first_byte;
        assert_eq!(first("0011", "0012"), Some(1));
        assert_eq!(first("0011", "001122"), Some(2));
        assert_eq!(first("0011", "text"), None);
    }

    #[test]
    fn a_digest_stands_for_its_bytes() {
        let bytes = vec![0xab; 3000];
        let expected = json!({ "bytes": digest(&bytes) });
        assert_eq!(
            paths(expected.clone(), json!({ "bytes": hex::encode(&bytes) })),
            [""; 0]
        );
        assert_eq!(
            paths(
                expected.clone(),
                json!({ "bytes": hex::encode(&bytes[1..]) })
            )
            .len(),
            2
        );
        for not_as_it_should_be in [hex::encode_upper(&bytes), hex::encode_prefixed(&bytes)] {
            assert_eq!(
                paths(expected.clone(), json!({ "bytes": not_as_it_should_be })).len(),
                2
            );
        }
        let mut other = bytes;
        other[2999] = 8;
        assert_eq!(
            paths(expected.clone(), json!({ "bytes": hex::encode(&other) })),
            ["bytes.blake2b256"]
        );
        assert_eq!(paths(expected, json!({ "bytes": "no hex" })).len(), 2);
    }

    #[test]
    fn rows_hold_both_sides_around_the_first_difference() {
        let expected: Vec<u8> = (0..100).collect();
        let mut actual = expected[..70].to_vec();
        actual[50] = 0;
        let rows = rows(&expected, &actual, 1, 1);
        assert_eq!(
            rows.iter().map(|row| row.offset).collect::<Vec<_>>(),
            [32, 48, 64]
        );
        assert_eq!(rows[2].expected.len(), 16);
        assert_eq!(rows[2].actual.len(), 6);
    }

    #[test]
    fn only_a_length_and_a_hash_are_a_digest() {
        let of_no_bytes = digest(&[]);
        assert_eq!(paths(of_no_bytes.clone(), json!("")), [""; 0]);
        for value in [
            json!({}),
            json!({ "length": 0 }),
            json!({ "length": "0", "blake2b256": of_no_bytes["blake2b256"] }),
            json!({ "length": 0, "blake2b256": 0 }),
            json!({ "length": 0, "bytes": "" }),
            json!({ "count": 0, "blake2b256": "" }),
            json!({ "length": 0, "blake2b256": "", "more": 1 }),
        ] {
            assert_eq!(paths(value.clone(), json!("")), [""], "{value}");
        }
    }

    #[test]
    fn what_is_long_is_abridged() {
        let bytes = "ab".repeat(4);
        let text = "x".repeat(70);
        for (value, limit, short) in [
            (json!(bytes), 8, json!(bytes)),
            (json!(bytes), 7, digest(&[0xab; 4])),
            (json!(text), 70, json!(text)),
            (
                json!(text),
                69,
                json!(format!("{}… (70 bytes)", "x".repeat(64))),
            ),
            (
                json!({ "a": [bytes, 1, null], "b": "ab" }),
                7,
                json!({ "a": [digest(&[0xab; 4]), 1, null], "b": "ab" }),
            ),
        ] {
            assert_eq!(abridge(&value, limit), short);
        }
    }
}
