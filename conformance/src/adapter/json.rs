//! Bounded parsing of an adapter's JSON.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Failure, beginning};

/// The most values in one answer, nested ones included. An array of the protocol has at most 2^20 items; a value of two
/// bytes on the line takes some 100 bytes of memory, so that 128 MiB of them would take gigabytes.
pub const MAX_VALUES: usize = 2 << 20;

/// Reads a line as JSON.
///
/// # Errors
/// If it is not JSON, if it nests deeper than 127 times, or if there are more than [`MAX_VALUES`] values in it.
pub fn read_json(line: &[u8]) -> Result<Value, Failure> {
    let left = Cell::new(MAX_VALUES);
    let mut from = serde_json::Deserializer::from_slice(line);
    let read = Bounded { left: &left }
        .deserialize(&mut from)
        .and_then(|value| from.end().map(|()| value));
    read.map_err(|error| match left.get() {
        0 => Failure::Invalid {
            reason: format!(
                "more than {MAX_VALUES} values, at byte {}: {}",
                error.column(),
                beginning(line)
            ),
        },
        _ => Failure::NotJson {
            line: beginning(line),
            reason: error.to_string(),
        },
    })
}

/// A value whose parts share one budget.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom("too many values")),
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            object.insert(name, fields.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_read_as_by_serde_json() {
        for text in [
            "null",
            r#"{"a":[1,-2,3.5,true,"x\u0041",{"b":{}}],"c":18446744073709551615}"#,
            "1e300",
            " [ ] ",
        ] {
            let value: Value = serde_json::from_str(text).expect(text);
            assert_eq!(read_json(text.as_bytes()), Ok(value), "{text}");
        }
        for text in ["", "{", "[1] 2", "1e999999999", r#"{"a":1,}"#, "\0\0"] {
            let kind = read_json(text.as_bytes()).expect_err(text).kind();
            assert_eq!(kind, "not-json", "{text}");
        }
    }

    #[test]
    fn many_values_and_deep_ones_are_refused_before_they_take_memory() {
        let wide = format!("[{}0]", "{},".repeat(MAX_VALUES));
        let error = read_json(wide.as_bytes()).expect_err("wide");
        assert!(
            error
                .to_string()
                .contains("more than 2097152 values, at byte 6291"),
            "{error}"
        );
        let fits = format!("[{}0]", "0,".repeat(MAX_VALUES - 2));
        assert!(read_json(fits.as_bytes()).is_ok());
        let deep = "[".repeat(100_000);
        let error = read_json(deep.as_bytes()).expect_err("deep");
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }
}
