//! The operations peer.*: a connection to a live peer.

use serde_json::Value;

use crate::adapter::Outcome;

/// The operations of this file.
pub(super) const OPS: &[&str] = &[];

/// The connection of this adapter, if one is open.
#[derive(Debug, Default)]
pub(super) struct Live {}

impl Live {
    /// Carries out one operation.
    pub(super) fn call(&mut self, op: &str, input: &Value) -> Outcome {
        let _ = (op, input);
        Outcome::Unsupported
    }
}
