//! The wire protocol of [hypercore](https://github.com/holepunchto/hypercore): Noise, secretstream, protomux and the
//! hypercore messages.
//!
//! **Every layer but the driver is a state machine that owns no socket, clock, task or randomness: bytes and the
//! present time go in, events and bytes come out.** The same input gives the same output, which is how the layers are
//! tested against vectors recorded from Node.
//!
//! Nothing that a peer sends may panic, hang, or make this crate allocate what the peer merely claims. A panic is
//! always a bug of this crate.
//!
//! # Layers
//!
//! Each knows only those below it.
//!
//! | module | what it does |
//! |---|---|
//! | `driver` | a connection over a socket: [`ProtocolBuilder`], [`Protocol`], [`ProtocolHandle`], [`Event`], [`Channel`], [`MuxChannel`], [`Extension`] |
//! | [`runtime`] | what the driver needs of a runtime: a byte stream and a clock |
//! | [`connection`] | a whole connection without IO: transport, mux and the channels of cores |
//! | [`mux`] | protomux: channels of many protocols over one stream |
//! | [`transport`] | records that are sealed, after the handshake that agrees on their keys |
//! | [`secret_stream`], [`datagram`] | stream ids, headers, sealed records; sealed datagrams beside the stream |
//! | [`noise`] | the Noise handshake over Ed25519 |
//! | [`frame`] | records out of a stream of bytes |
//! | [`wire`] (also `schema`), [`manifest`], [`multisig`] | what the messages of a core's channel say |
//! | [`tree`], [`keys`] | hashes, signables, discovery keys, capabilities |
//! | [`encoding`] | integers, buffers, strings and arrays |
//!
//! The [`guide`] draws them, and says what two peers say to each other and what a peer can do to you; [`migration`] leads from
//! datrs's releases up to 0.7 to this crate.
//!
//! A failure is an [`Error`]. [`Error::layer`] says which layer refused, and [`Error::class`] which rule was broken, in
//! the words of the vectors.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `tokio` (default) | protocols over tokio's streams |
//! | `futures-io` | protocols over the streams of smol, async-std and others |
//! | `replication` | cores: proofs, signatures, storage; served to peers and filled by them |
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
