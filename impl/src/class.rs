//! The names of layers and broken rules that every error reports. No layer depends on another's errors for them.

use std::fmt;

/// The layer that refused something. `Display` is the name that the vectors use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// Compact encoding: integers, buffers, strings, arrays.
    Encoding,
    /// Keys, hashes and key pairs.
    Key,
    /// The Noise handshake.
    Noise,
    /// Records and their uint24 lengths.
    Frame,
    /// Stream ids, headers and encrypted records.
    SecretStream,
    /// Encrypted datagrams beside the stream.
    Datagram,
    /// Protomux: control messages, batches, channel ids.
    Mux,
    /// The hypercore channel: its handshake and capability.
    Channel,
    /// A hypercore message's body.
    Message,
    /// A manifest.
    Manifest,
    /// Tree hashes, signables and multi-signatures.
    Tree,
    /// The connection as a whole.
    Connection,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "encoding",
            Self::Key => "key",
            Self::Noise => "noise",
            Self::Frame => "frame",
            Self::SecretStream => "secretstream",
            Self::Datagram => "datagram",
            Self::Mux => "mux",
            Self::Channel => "channel",
            Self::Message => "message",
            Self::Manifest => "manifest",
            Self::Tree => "tree",
            Self::Connection => "connection",
        })
    }
}

/// The rule that was broken, independent of the error text. `Display` is the name that the vectors use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// A value extends past the end of its message.
    OutOfBounds,
    /// An integer above 2^53-1.
    UnsafeInteger,
    /// An array of more than 0x100000 items.
    ArrayTooBig,
    /// An unknown manifest version.
    UnknownVersion,
    /// An unknown manifest type.
    UnknownType,
    /// An unknown hash id.
    UnknownHash,
    /// An unknown signature id.
    UnknownSignature,
    /// A fixed-length value with the wrong length.
    BadLength,
    /// A curve point that is not canonical, of small order, or outside the prime-order subgroup.
    BadPoint,
    /// An authentication tag that does not match.
    BadMac,
    /// An unknown secretstream tag.
    BadTag,
    /// A Noise message that could not be read.
    HandshakeFailed,
    /// A stream id other than the peer's.
    WrongStreamId,
    /// More bytes than the format can carry.
    TooLarge,
    /// The stream ended within a record or before the handshake was done.
    Truncated,
    /// A protomux open that breaks the numbering.
    InvalidOpen,
    /// A protomux reject of something that was not opened.
    InvalidReject,
    /// Batches nested too deep.
    NestingTooDeep,
    /// A limit of this implementation.
    Limit,
    /// A capability that does not prove knowledge of the key.
    InvalidCapability,
    /// An action on something that is closed.
    Closed,
    /// The caller's input is invalid.
    BadInput,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfBounds => "out-of-bounds",
            Self::UnsafeInteger => "unsafe-integer",
            Self::ArrayTooBig => "array-too-big",
            Self::UnknownVersion => "unknown-version",
            Self::UnknownType => "unknown-type",
            Self::UnknownHash => "unknown-hash",
            Self::UnknownSignature => "unknown-signature",
            Self::BadLength => "bad-length",
            Self::BadPoint => "bad-point",
            Self::BadMac => "bad-mac",
            Self::BadTag => "bad-tag",
            Self::HandshakeFailed => "handshake-failed",
            Self::WrongStreamId => "wrong-stream-id",
            Self::TooLarge => "too-large",
            Self::Truncated => "truncated",
            Self::InvalidOpen => "invalid-open",
            Self::InvalidReject => "invalid-reject",
            Self::NestingTooDeep => "nesting-too-deep",
            Self::Limit => "limit",
            Self::InvalidCapability => "invalid-capability",
            Self::Closed => "closed",
            Self::BadInput => "bad-input",
        })
    }
}
