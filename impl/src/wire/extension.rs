//! Extension: a user's message on a core's channel.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

/// Type 9: `string name`, `raw message`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.extension`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// The extension's name as it was sent. Empty stands for the name last sent in this direction, which
    /// [`ExtensionNames`] keeps. Shared by the messages of a name, for a peer may repeat a long one by a byte.
    pub name: Arc<str>,
    /// What the extension makes of it; the rest of the message.
    pub message: Buffer,
}

impl Decode for Extension {
    const MIN_LEN: usize = 1;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: decoder.string_ref("name")?.into(),
            message: decoder.raw(),
        })
    }
}

impl Encode for Extension {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.string(&self.name, "name")?;
        encoder.raw(&self.message);
        Ok(())
    }
}

/// The names last used on a channel, by which the same name twice in a row is sent only once.
///
/// Read from hypercore 11.37.1, `lib/replicator.js`, `extension` and `onextension`. As there, an extension whose own
/// name is empty cannot be told from a repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionNames {
    sent: String,
    received: Arc<str>,
}

impl ExtensionNames {
    /// What stands on the wire for `name`: empty if it is the one that was sent last.
    pub fn send<'a>(&mut self, name: &'a str) -> &'a str {
        if self.sent == name {
            return "";
        }
        self.sent.clear();
        self.sent.push_str(name);
        name
    }

    /// The name that `name` on the wire stands for. Empty if none was received before.
    pub fn receive(&mut self, name: &str) -> &str {
        if !name.is_empty() {
            self.received = name.into();
        }
        &self.received
    }

    /// As [`ExtensionNames::receive`]; repetitions share the memory of the name.
    pub(crate) fn resolve(&mut self, name: &Arc<str>) -> &Arc<str> {
        if !name.is_empty() {
            self.received = Arc::clone(name);
        }
        &self.received
    }

    /// Bytes of the name that was received last.
    pub(crate) fn received_len(&self) -> usize {
        self.received.len()
    }
}
