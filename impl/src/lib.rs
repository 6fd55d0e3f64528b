//! The wire protocol of [hypercore](https://github.com/holepunchto/hypercore): Noise, secretstream, protomux and the
//! hypercore messages.
//!
//! **Every layer but the driver is a state machine that owns no socket, clock, task or randomness: bytes and the
//! present time go in, events and bytes come out.** The same input gives the same output, which is how the layers are
//! tested against vectors recorded from Node.
//!
//! No input from a peer may cause a panic, a hang, or an allocation sized by a length that the peer only claims. A panic
//! is always a bug in this crate.
//!
//! # Layers
//!
//! Each layer depends only on those below it.
//!
//! | module | what it does |
//! |---|---|
//! | `driver` | a connection over a socket: [`ProtocolBuilder`], [`Protocol`], [`ProtocolHandle`], [`Event`], [`Channel`], [`MuxChannel`], [`Extension`] |
//! | [`runtime`] | what the driver needs from a runtime: a byte stream and a clock |
//! | [`connection`] | a whole connection without IO: transport, mux and the channels of cores |
//! | [`mux`] | protomux: channels of many protocols over one stream |
//! | [`transport`] | the handshake, then records encrypted with its keys |
//! | [`secret_stream`], [`datagram`] | stream ids, headers, sealed records; sealed datagrams beside the stream |
//! | [`noise`] | the Noise handshake over Ed25519 |
//! | [`frame`] | splits a byte stream into records |
//! | [`wire`] (also `schema`), [`manifest`], [`multisig`] | the messages of a core's channel |
//! | [`tree`], [`keys`] | hashes, signables, discovery keys, capabilities |
//! | [`encoding`] | integers, buffers, strings and arrays |
//!
//! The [`guide`] has a diagram of them, the exchange between two peers, and what a hostile peer can do; [`migration`] leads
//! from datrs's releases up to 0.7 to this crate.
//!
//! Failures are [`Error`]s. [`Error::layer`] gives the layer that failed and [`Error::class`] the rule that was broken,
//! by the names used in the vectors.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `tokio` (default) | protocols over tokio's streams |
//! | `futures-io` | protocols over the streams of smol, async-std and others |
//! | `replication` | cores: proofs, signatures, storage; upload to and download from peers |
//! | `wasm` | what `wasm32-unknown-unknown` needs in browsers and Node; see [`runtime`] |
//!
//! # Speed
//!
//! - Set `TCP_NODELAY` on every TCP socket (`set_nodelay(true)`), on both sides: without it each request may wait 40 ms for
//!   the acknowledgement of the message before.
//! - A debug build spends some 40 ms of processor time on each connection, for the curve arithmetic and the ciphers are not
//!   optimised in it, and cargo takes no profiles from dependencies. Put this into the `Cargo.toml` of your workspace; the
//!   README names the packages that matter most:
//!
//!   ```toml
//!   [profile.dev.package."*"]
//!   opt-level = 2
//!   ```
//!
//! # Messages by hand
//!
//! ```
//! use hypercore_protocol::encoding::Encode;
//! use hypercore_protocol::schema::Range;
//! use hypercore_protocol::{Buffer, Message};
//!
//! let range = Range { drop: false, start: 0, length: 5 };
//! let body = Buffer::from(range.encode()?);
//! assert_eq!(body, &[0, 0, 5]);
//! assert_eq!(Message::decode(8, &body)?, Some(Message::Range(range)));
//!
//! let error = Message::decode(8, &body.slice(..2)).unwrap_err();
//! assert_eq!(error.to_string(), "out of bounds: 1 bytes needed, 0 left at byte 2, in length");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(missing_docs)]

pub mod connection;
pub mod datagram;
pub mod encoding;
pub mod frame;
#[cfg(doc)]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}
#[cfg(any(doc, all(doctest, feature = "tokio")))]
#[doc = include_str!("../docs/migration.md")]
pub mod migration {}
pub mod keys;
pub mod manifest;
pub mod multisig;
pub mod mux;
pub mod noise;
#[cfg(feature = "replication")]
pub mod replication;
pub mod runtime;
pub mod secret_stream;
pub mod transport;
pub mod tree;
pub mod wire;

/// The examples of the README are tested.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;

mod buffer;
mod class;
mod error;

mod driver;
mod sync;

pub use buffer::Buffer;
pub use class::{ErrorClass, Layer};
pub use connection::{
    ChannelError, ChannelHandle, ChannelInfo, ChannelOptions, Connection, ConnectionConfig,
    ConnectionError, ConnectionEvent, Ignored, RemoteOpen,
};
pub use datagram::{DatagramError, Datagrams};
#[cfg(any(feature = "tokio", feature = "futures-io"))]
pub use driver::ChannelIo;
pub use driver::{
    Channel, Cork, Event, Extension, MuxChannel, MuxMessage, Protocol, ProtocolBuilder,
    ProtocolHandle,
};
pub use encoding::{DecodeError, EncodeError};
pub use error::{Error, TrySendError};
pub use keys::{DiscoveryKey, Key, KeyPair, ParseKeyError, discovery_key};
pub use manifest::Manifest;
pub use mux::{CloseReason, Limits, MuxError};
pub use noise::{HandshakeResult, Pattern};
pub use runtime::Io;
pub use transport::{End, HandshakeInfo, Transport, TransportConfig, TransportError};
pub use wire as schema;
pub use wire::{Message, MessageType};
