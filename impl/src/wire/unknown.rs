//! What later releases send: messages of unknown types, and what known messages hold beyond what is known of them.

use crate::buffer::Buffer;
use crate::encoding::{Decoded, Encode, EncodeError, Encoder};

use super::MessageType;

/// A message of a type that this release does not know: above 9, `raw message`.
///
/// hypercore 11.37.1 ignores such messages (protomux 3.12.1, index.js, `Channel._recv`), and so does this crate unless it
/// is asked to hand them on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub(super) kind: u64,
    pub(super) body: Buffer,
}

impl Unknown {
    /// A message of this type number. `None` when the number is that of a known message: it would be sent past what this
    /// crate keeps of it.
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

/// What a message or a handshake held beyond what this release knows of it. To Node, and here, none of it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// Flag bits without a meaning, those of all flag fields of the message together.
    pub unknown_flags: u64,
    /// What follows the last known field.
    pub trailing: Buffer,
}

impl Unread {
    /// What was left of `bytes` when this was read from it.
    pub(crate) fn of<T>(read: &Decoded<T>, bytes: &Buffer) -> Self {
        Self {
            unknown_flags: read.unknown_flags,
            trailing: match read.trailing {
                0 => Buffer::new(),
                trailing => bytes.slice(bytes.len() - trailing..),
            },
        }
    }

    /// Whether all was understood.
    pub fn is_empty(&self) -> bool {
        self.unknown_flags == 0 && self.trailing.is_empty()
    }
}
