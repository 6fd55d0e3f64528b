//! The operations that need no connection, by subject. `conformance/wasm` builds this folder for WebAssembly unchanged.

mod codec;
mod crypto;
mod mux;
mod transcript;
pub(crate) mod values;

use serde_json::Value;

use crate::adapter::Outcome;

/// An operation: its name and its function.
type Op = (&'static str, fn(&Value) -> Outcome);

/// All of them. A new family is a file of this folder, and its lines here.
const ALL: [&[Op]; 4] = [codec::OPS, crypto::OPS, mux::OPS, transcript::OPS];

/// The names of all of them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().flatten().map(|(name, _)| *name)
}

/// Performs an operation, if it is one of these.
pub(crate) fn call(op: &str, input: &Value) -> Option<Outcome> {
    let mut all = ALL.into_iter().flatten();
    let (_, carry_out) = all.find(|(name, _)| *name == op)?;
    Some(carry_out(input))
}
