//! The reference implementation in WebAssembly: the operations that need no socket, over the very sources of the
//! conformance suite, so that a vector says the same of both.
//!
//! `examples-nodejs/wasm/adapter.js` makes an adapter of it.

#![deny(missing_docs)]
// The tests in these sources are the suite's.
#![cfg(not(test))]

use serde_json::Value;
use wasm_bindgen::prelude::wasm_bindgen;

/// What the operations take of the suite, which starts processes and cannot be compiled here.
mod adapter {
    use serde_json::{Value, json};

    /// What an operation came to, as in the suite.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) enum Outcome {
        Ok(Value),
        Error(Value),
        Unsupported,
    }

    impl Outcome {
        pub(crate) fn error(layer: &str, class: &str, message: impl Into<String>) -> Self {
            Self::Error(json!({ "layer": layer, "class": class, "message": message.into() }))
        }
    }
}

// Some of it serves the live operations, which are not here.
#[allow(dead_code)]
#[path = "../../src/reference/ops/mod.rs"]
mod reference;

use adapter::Outcome;

/// Every operation that [`call`] knows.
#[wasm_bindgen]
#[must_use]
pub fn ops() -> Vec<String> {
    reference::names().map(str::to_owned).collect()
}

/// Carries out an operation: JSON in, the fields `ok`, `error` or `unsupported` of an answer out.
#[wasm_bindgen]
#[must_use]
pub fn call(op: &str, input: &str) -> String {
    let outcome = match serde_json::from_str::<Value>(input) {
        Err(error) => Outcome::error("adapter", "bad-input", error.to_string()),
        Ok(input) => reference::call(op, &input).unwrap_or(Outcome::Unsupported),
    };
    match outcome {
        Outcome::Ok(value) => serde_json::json!({ "ok": value }),
        Outcome::Error(value) => serde_json::json!({ "error": value }),
        Outcome::Unsupported => serde_json::json!({ "unsupported": true }),
    }
    .to_string()
}
