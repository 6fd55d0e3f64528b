//! `hypercore-protocol` for JavaScript: a [`Peer`] over a browser's WebSocket, or that of Node.
//!
//! ```js
//! import init, { Peer } from './hypercore_protocol_wasm.js'
//!
//! await init()
//! const peer = await Peer.connect('ws://localhost:8080')
//! const channel = await peer.open(key)
//! await channel.send([{ type: 'sync', downloading: true }, { type: 'request', id: 1, block: { index: 0 } }])
//! for await (const message of channel) {
//!   if (message.type === 'data' && message.request === 1) console.log(message.block.value)
//! }
//! ```
//!
//! A [`Core`] verifies what arrives.
//!
//! Nothing here knows more of the protocol than a user of the crate: it shows how the crate is used where there is no
//! tokio, no socket and no clock of the standard library.
//!
//! Memory: a channel's reader that stands still stops the reading of the stream after 256 KiB, as on every platform. A
//! WebSocket cannot be told to stop, so what then still arrives is kept up to 64 MiB, and more than that fails the stream.

#![deny(missing_docs)]

mod channel;
mod convert;
mod core;
mod error;
mod peer;
mod socket;

use wasm_bindgen::prelude::wasm_bindgen;

pub use self::core::Core;
pub use channel::Channel;
pub use peer::Peer;

#[wasm_bindgen(start)]
fn start() {
    // A panic is a bug: its message would otherwise be lost behind "unreachable executed".
    std::panic::set_hook(Box::new(|panic| {
        web_sys::console::error_1(&panic.to_string().into());
    }));
}
