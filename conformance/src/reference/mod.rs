//! The reference implementation as an adapter: each operation of the protocol, performed by the crate
//! `hypercore-protocol`.

use serde_json::Value;

use crate::adapter::{Hello, Implementation, Outcome};

mod live;
pub(crate) mod ops;
mod socket;

/// The crate `hypercore-protocol`, as an implementation under test.
#[derive(Debug, Default)]
pub struct Reference {
    live: live::Live,
}

impl Reference {
    /// An adapter without a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every supported operation.
    pub fn ops() -> Vec<&'static str> {
        ops::names().chain(live::OPS.iter().copied()).collect()
    }

    /// Performs one operation.
    pub fn call(&mut self, op: &str, input: &Value) -> Outcome {
        if let Some(outcome) = ops::call(op, input) {
            outcome
        } else if live::OPS.contains(&op) {
            self.live.call(op, input)
        } else {
            Outcome::Unsupported
        }
    }
}

impl Implementation for Reference {
    fn hello(&self) -> Hello {
        Hello {
            name: "hypercore-protocol".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            language: "rust".into(),
            release: None,
            ops: Self::ops().into_iter().map(str::to_owned).collect(),
            live: !live::OPS.is_empty(),
        }
    }

    fn call(&mut self, op: &str, input: &Value) -> Outcome {
        self.call(op, input)
    }
}
