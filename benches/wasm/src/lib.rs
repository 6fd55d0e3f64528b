//! The operation timed by `.ci/wasm bench`, on the host and in WebAssembly.

#[path = "../../common/mod.rs"]
mod common;

use common::{Pair, block};
use wasm_bindgen::prelude::wasm_bindgen;

/// Two connections, and the messages from one to the other.
#[wasm_bindgen]
pub struct Line {
    pair: Pair,
    message: hypercore_protocol::Message,
    window: usize,
}

#[wasm_bindgen]
impl Line {
    /// Performs the handshake and opens a channel, for blocks of this size.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            pair: Pair::new(),
            message: block(7, size),
            window: (1 << 18) / size,
        }
    }

    /// Sends this many windows of 256 KiB of blocks through encoder, mux, secretstream and frames, and reads them.
    ///
    /// # Panics
    /// If not all arrive.
    pub fn send(&mut self, windows: usize) {
        for _ in 0..windows {
            for _ in 0..self.window {
                let Pair { a, channel, .. } = &mut self.pair;
                a.send(*channel, &self.message).expect("sends");
            }
            assert_eq!(self.pair.carry(), self.window);
        }
    }
}
