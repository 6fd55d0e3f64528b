//! Validates adapters' answers against the JSON schema of the adapter protocol.

use std::collections::HashMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The schema, as it is published with the vectors.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../vectors/schema/adapter.schema.json"))
        .unwrap_or_default()
});

/// How many characters of the validator's message are shown: it quotes the answer, which may be megabytes.
const TOLD: usize = 400;

/// Validates answers; compiles each part of the schema on first use.
#[derive(Debug, Default)]
pub struct MessageSchema {
    compiled: HashMap<String, Option<Validator>>,
}

impl MessageSchema {
    /// Validates one answer to a request for `op`: its form, and the output of the operation.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&mut self, op: &str, answer: &Value) -> Result<(), String> {
        self.check_part("answer", answer, "")?;
        match answer.get("ok") {
            Some(output) => self.check_part(&format!("output.{op}"), output, "/ok"),
            None => Ok(()),
        }
    }

    fn check_part(&mut self, name: &str, value: &Value, at: &str) -> Result<(), String> {
        let compiled = self
            .compiled
            .entry(name.to_owned())
            .or_insert_with(|| compile(name));
        let Some(validator) = compiled else {
            // The schema has no output for an unknown operation.
            return Ok(());
        };
        match validator.iter_errors(value).next() {
            None => Ok(()),
            Some(error) => {
                let place = format!("{at}{}", error.instance_path());
                let mut text = error.to_string();
                if let Some((end, _)) = text.char_indices().nth(TOLD) {
                    text.truncate(end);
                    text.push('…');
                }
                Err(format!("{text} (at {place:?})"))
            }
        }
    }
}

fn compile(name: &str) -> Option<Validator> {
    let definitions = SCHEMA.get("$defs")?;
    definitions.get(name)?;
    let mut part = Map::new();
    for (key, value) in [("$schema", SCHEMA.get("$schema")?), ("$defs", definitions)] {
        part.insert(key.into(), value.clone());
    }
    part.insert("$ref".into(), json!(format!("#/$defs/{name}")));
    jsonschema::draft202012::new(&Value::Object(part)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_checked_as_that_of_its_operation() {
        let mut schema = MessageSchema::default();
        let mut check = |op: &str, answer: Value| schema.check(op, &answer);
        let good = json!({ "id": 1, "ok": { "bytes": "030000aabbcc" } });
        assert_eq!(check("frame.encode", good.clone()), Ok(()));
        assert!(check("frame.decode", good).is_err());
        let odd = check("frame.encode", json!({ "id": 1, "ok": { "bytes": "0A" } }));
        assert!(odd.expect_err("upper case").contains("/ok/bytes"));
        assert!(
            check(
                "frame.encode",
                json!({ "id": 1, "error": { "layer": "frame" } })
            )
            .is_err()
        );
        assert!(check("frame.encode", json!({ "id": 1, "ok": 1, "more": 1 })).is_err());
        assert_eq!(
            check("no.such", json!({ "id": 1, "unsupported": true })),
            Ok(())
        );
    }
}
