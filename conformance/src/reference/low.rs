//! The operations compact.*, key.*, message.*, extension.*, manifest.*, tree.* and multisig.*.

use serde_json::Value;

use crate::adapter::Outcome;

/// The operations of this file.
pub(super) const OPS: &[&str] = &[];

/// Carries out one operation.
pub(super) fn call(op: &str, input: &Value) -> Outcome {
    let _ = (op, input);
    Outcome::Unsupported
}
