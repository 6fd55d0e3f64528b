//! The messages of a hypercore channel, one file per family.
//!
//! Read from hypercore 11.37.1, `lib/messages.js` (layouts) and `lib/replicator.js` (numbers of the messages). All
//! integers are compact-encoding `uint`s unless a field says otherwise. Unknown flag bits and bytes after a message are
//! not errors; [`Decoded`] and [`Unread`] report both.

mod bitfield;
mod data;
mod extension;
mod handshake;
mod no_data;
mod range;
mod request;
mod sync;
mod unknown;
mod want;

use std::fmt;

use crate::buffer::Buffer;
use crate::encoding::{Decode, DecodeError, Decoded, Encode, EncodeError, Encoder};

pub use bitfield::Bitfield;
pub use data::{Data, DataBlock, DataHash, DataSeek, DataUpgrade, Node};
pub use extension::{Extension, ExtensionNames};
pub use handshake::Handshake;
pub use no_data::NoData;
pub use range::Range;
pub use request::{Cancel, Request, RequestBlock, RequestSeek, RequestUpgrade};
pub use sync::Sync;
pub use unknown::{Unknown, Unread};
pub use want::{Unwant, Want};

/// The protomux protocol of a hypercore channel.
pub const PROTOCOL: &str = "hypercore/alpha";

/// The other name of the protocol.
pub const PROTOCOL_ALIAS: &str = "hypercore";

/// The kinds of message on a hypercore channel, in the order in which Node registers them: the position is the type
/// number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MessageType {
    /// State of the sender's core, 0.
    Sync,
    /// Asks for a block, hash, seek or upgrade, 1.
    Request,
    /// Cancels a request, 2.
    Cancel,
    /// Answers a request, 3.
    Data,
    /// Answers that the data is not available, 4.
    NoData,
    /// Requests announcements of held blocks, 5.
    Want,
    /// Cancels a want, 6.
    Unwant,
    /// Blocks held, as bits, 7.
    Bitfield,
    /// Blocks held or no longer held, as a run, 8.
    Range,
    /// An application's message, 9.
    Extension,
    /// A later release's message of this number, above 9. [`MessageType::from_id`] never returns it.
    Unknown(u64),
}

impl MessageType {
    /// All known kinds, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Sync,
        Self::Request,
        Self::Cancel,
        Self::Data,
        Self::NoData,
        Self::Want,
        Self::Unwant,
        Self::Bitfield,
        Self::Range,
        Self::Extension,
    ];

    /// The kind with this number, if known.
    pub fn from_id(id: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The kind with this name in Node, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The number on the wire.
    pub fn id(self) -> u64 {
        match self {
            Self::Sync => 0,
            Self::Request => 1,
            Self::Cancel => 2,
            Self::Data => 3,
            Self::NoData => 4,
            Self::Want => 5,
            Self::Unwant => 6,
            Self::Bitfield => 7,
            Self::Range => 8,
            Self::Extension => 9,
            Self::Unknown(id) => id,
        }
    }

    /// Node's name: `sync`, `noData`, …; `unknown` if it has none.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Request => "request",
            Self::Cancel => "cancel",
            Self::Data => "data",
            Self::NoData => "noData",
            Self::Want => "want",
            Self::Unwant => "unwant",
            Self::Bitfield => "bitfield",
            Self::Range => "range",
            Self::Extension => "extension",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message of a hypercore channel.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// State of the sender's core.
    Sync(Sync),
    /// Asks for a block, hash, seek or upgrade.
    Request(Request),
    /// Cancels a request.
    Cancel(Cancel),
    /// Answers a request.
    Data(Data),
    /// Answers that the data is not available.
    NoData(NoData),
    /// Requests announcements of held blocks.
    Want(Want),
    /// Cancels a want.
    Unwant(Unwant),
    /// Blocks held, as bits.
    Bitfield(Bitfield),
    /// Blocks held or no longer held, as a run.
    Range(Range),
    /// An application's message.
    Extension(Extension),
    /// A message of a later release, if enabled: see
    /// [`ConnectionConfig::unknown_messages`](crate::ConnectionConfig::unknown_messages). It can be sent at any time.
    Unknown(Unknown),
}

impl Message {
    /// Decodes the body of a message of this number. `None` for an unknown number, which Node ignores. Block values
    /// share the body's allocation.
    ///
    /// # Errors
    /// When the body is malformed; Node destroys the stream.
    pub fn decode(message_type: u64, body: &Buffer) -> Result<Option<Self>, DecodeError> {
        MessageType::from_id(message_type)
            .map(|message_type| Ok(Self::decode_as(message_type, body)?.value))
            .transpose()
    }

    /// Decodes the body of a message of this kind, and reports unknown flags, trailing bytes and over-long integers.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn decode_as(
        message_type: MessageType,
        body: &Buffer,
    ) -> Result<Decoded<Self>, DecodeError> {
        // Each kind has a function of its own, which constructs the message where it is returned: it is large, and
        // moving it costs more than decoding most kinds.
        fn read<T: Decode + Into<Message>>(body: &Buffer) -> Result<Decoded<Message>, DecodeError> {
            Ok(T::decode_shared(body)?.map(T::into))
        }
        match message_type {
            MessageType::Sync => read::<Sync>(body),
            MessageType::Request => read::<Request>(body),
            MessageType::Cancel => read::<Cancel>(body),
            MessageType::Data => read::<Data>(body),
            MessageType::NoData => read::<NoData>(body),
            MessageType::Want => read::<Want>(body),
            MessageType::Unwant => read::<Unwant>(body),
            MessageType::Bitfield => read::<Bitfield>(body),
            MessageType::Range => read::<Range>(body),
            MessageType::Extension => read::<Extension>(body),
            MessageType::Unknown(kind) => Ok(Decoded {
                value: Self::Unknown(Unknown {
                    kind,
                    body: body.clone(),
                }),
                consumed: body.len(),
                trailing: 0,
                unknown_flags: 0,
                long_uints: 0,
            }),
        }
    }

    /// Its kind.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Sync(_) => MessageType::Sync,
            Self::Request(_) => MessageType::Request,
            Self::Cancel(_) => MessageType::Cancel,
            Self::Data(_) => MessageType::Data,
            Self::NoData(_) => MessageType::NoData,
            Self::Want(_) => MessageType::Want,
            Self::Unwant(_) => MessageType::Unwant,
            Self::Bitfield(_) => MessageType::Bitfield,
            Self::Range(_) => MessageType::Range,
            Self::Extension(_) => MessageType::Extension,
            Self::Unknown(message) => MessageType::Unknown(message.kind()),
        }
    }
}

/// A message's memory beyond its own size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes in its own allocations.
    pub(crate) own: usize,
    /// Whether it keeps the body alive that it was decoded from.
    pub(crate) shares_body: bool,
}

impl Memory {
    const NONE: Self = Self {
        own: 0,
        shares_body: false,
    };
}

impl Message {
    /// The memory that queues account for it: a few bytes on the wire may take many in memory.
    pub(crate) fn memory(&self) -> Memory {
        match self {
            Self::Data(message) => message.memory(),
            Self::Bitfield(message) => Memory {
                own: size_of::<u32>() * message.bitfield.capacity(),
                shares_body: false,
            },
            // The name is shared with later messages, and is a part of the body if it was sent.
            Self::Extension(message) => Memory {
                own: 0,
                shares_body: !message.message.is_empty() || !message.name.is_empty(),
            },
            Self::Unknown(message) => Memory {
                own: 0,
                shares_body: !message.body.is_empty(),
            },
            Self::Sync(_)
            | Self::Request(_)
            | Self::Cancel(_)
            | Self::NoData(_)
            | Self::Want(_)
            | Self::Unwant(_)
            | Self::Range(_) => Memory::NONE,
        }
    }
}

/// Writes the body, without channel and type.
impl Encode for Message {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Sync(message) => message.encode_to(encoder),
            Self::Request(message) => message.encode_to(encoder),
            Self::Cancel(message) => message.encode_to(encoder),
            Self::Data(message) => message.encode_to(encoder),
            Self::NoData(message) => message.encode_to(encoder),
            Self::Want(message) => message.encode_to(encoder),
            Self::Unwant(message) => message.encode_to(encoder),
            Self::Bitfield(message) => message.encode_to(encoder),
            Self::Range(message) => message.encode_to(encoder),
            Self::Extension(message) => message.encode_to(encoder),
            Self::Unknown(message) => message.encode_to(encoder),
        }
    }
}

/// Shows the message itself, which names its kind.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync(message) => message.fmt(f),
            Self::Request(message) => message.fmt(f),
            Self::Cancel(message) => message.fmt(f),
            Self::Data(message) => message.fmt(f),
            Self::NoData(message) => message.fmt(f),
            Self::Want(message) => message.fmt(f),
            Self::Unwant(message) => message.fmt(f),
            Self::Bitfield(message) => message.fmt(f),
            Self::Range(message) => message.fmt(f),
            Self::Extension(message) => message.fmt(f),
            Self::Unknown(message) => message.fmt(f),
        }
    }
}

macro_rules! message_from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Message {
            fn from(message: $kind) -> Self {
                Self::$kind(message)
            }
        }
    )*};
}
message_from!(
    Sync, Request, Cancel, Data, NoData, Want, Unwant, Bitfield, Range, Extension, Unknown
);

/// The names of the set flags in Node, for debug output.
pub(crate) struct Flags<'a>(pub(crate) &'a [(bool, &'static str)]);

impl fmt::Debug for Flags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = self.0.iter().filter(|(set, _)| *set);
        match set.next() {
            None => f.write_str("none"),
            Some((_, first)) => {
                f.write_str(first)?;
                set.try_for_each(|(_, name)| write!(f, " | {name}"))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
