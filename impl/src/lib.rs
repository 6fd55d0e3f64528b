//! The wire protocol of [hypercore](https://github.com/holepunchto/hypercore): Noise, secretstream, protomux and the
//! hypercore messages.
//!
//! **Every layer but the driver is a state machine that owns no socket, clock, task or randomness: bytes and the
//! present time go in, events and bytes come out.** The same input gives the same output, which is how the layers are
//! tested against vectors recorded from Node.
//!
//! Nothing that a peer sends may panic, hang, or make this crate allocate what the peer merely claims. A panic is
//! always a bug of this crate.

#![deny(missing_docs)]

pub mod connection;
pub mod datagram;
pub mod encoding;
pub mod frame;
pub mod keys;
pub mod manifest;
pub mod multisig;
pub mod mux;
pub mod noise;
pub mod secret_stream;
pub mod transport;
pub mod tree;
pub mod wire;

mod buffer;
mod error;

#[cfg(feature = "tokio")]
mod builder;
#[cfg(feature = "tokio")]
mod channel;
#[cfg(feature = "tokio")]
mod protocol;

pub use buffer::Buffer;
#[cfg(feature = "tokio")]
pub use builder::ProtocolBuilder;
#[cfg(feature = "tokio")]
pub use channel::Channel;
pub use connection::{Connection, ConnectionConfig, ConnectionEvent};
pub use encoding::{DecodeError, EncodeError};
pub use error::{Error, ErrorClass, Layer};
pub use keys::{DiscoveryKey, Key, KeyPair, discovery_key};
pub use manifest::Manifest;
pub use mux::CloseReason;
pub use noise::Pattern;
#[cfg(feature = "tokio")]
pub use protocol::{Event, Protocol};
pub use transport::{End, HandshakeInfo, Transport, TransportConfig, TransportError};
pub use wire as schema;
pub use wire::{Message, MessageType};
