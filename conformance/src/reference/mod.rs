//! The reference implementation as an adapter: each operation of the protocol, carried out by the crate
//! `hypercore-protocol`.

use serde_json::Value;

use crate::adapter::{Hello, Implementation, Outcome};

mod codec;
mod crypto;
mod live;
mod mux;
mod socket;
mod transcript;
pub(crate) mod values;

/// The crate `hypercore-protocol`, as an implementation under test.
#[derive(Debug, Default)]
pub struct Reference {
    live: live::Live,
}

impl Reference {
    /// A fresh one, without any open connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every operation that it knows.
    pub fn ops() -> Vec<&'static str> {
        [
            codec::OPS,
            crypto::OPS,
            mux::OPS,
            transcript::OPS,
            live::OPS,
        ]
        .concat()
    }

    /// Carries out one operation.
    pub fn call(&mut self, op: &str, input: &Value) -> Outcome {
        if codec::OPS.contains(&op) {
            codec::call(op, input)
        } else if crypto::OPS.contains(&op) {
            crypto::call(op, input)
        } else if mux::OPS.contains(&op) {
            mux::call(op, input)
        } else if transcript::OPS.contains(&op) {
            transcript::call(op, input)
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
