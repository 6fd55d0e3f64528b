//! Content from later releases: messages of unknown types, and unknown parts of known messages.

use crate::buffer::Buffer;
use crate::encoding::{Decoded, Encode, EncodeError, Encoder};

use super::MessageType;

/// A message of a type that this release does not know: above 9, `raw message`.
///
/// hypercore 11.37.1 ignores such messages (protomux 3.12.1, index.js, `Channel._recv`), and so does this crate unless
/// told to pass them on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub(super) kind: u64,
    pub(super) body: Buffer,
}

impl Unknown {
    /// A message of this type number. `None` for the number of a known message, which would bypass this crate's state
    /// for it.
    pub fn new(kind: u64, body: impl Into<Buffer>) -> Option<Self> {
        match MessageType::from_id(kind) {
            Some(_) => None,
            None => Some(Self {
                kind,
                body: body.into(),
            }),
        }
    }

    /// The type number.
    pub fn kind(&self) -> u64 {
        self.kind
    }

    /// The message, without its type.
    pub fn body(&self) -> &Buffer {
        &self.body
    }
}

impl Encode for Unknown {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.raw(&self.body);
        Ok(())
    }
}

/// The unknown parts of a message or a handshake. They are not an error, neither here nor in Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// Unknown flag bits, of all flag fields of the message together.
    pub unknown_flags: u64,
    /// Bytes after the last known field.
    pub trailing: Buffer,
}

impl Unread {
    /// The unread rest of `bytes` after `read`.
    pub(crate) fn of<T>(read: &Decoded<T>, bytes: &Buffer) -> Self {
        Self {
            unknown_flags: read.unknown_flags,
            trailing: match read.trailing {
                0 => Buffer::new(),
                trailing => bytes.slice(bytes.len() - trailing..),
            },
        }
    }

    /// Whether everything was understood.
    pub fn is_empty(&self) -> bool {
        self.unknown_flags == 0 && self.trailing.is_empty()
    }
}
