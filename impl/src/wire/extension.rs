//! Extension: an application's message on a core's channel.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

/// Type 9: `string name`, `raw message`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.extension`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// The extension's name as sent. Empty stands for the name last sent in this direction, which [`ExtensionNames`]
    /// keeps. Messages share their name's memory, since a peer may repeat a long one by a byte.
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

/// The names last used on a channel, so that a repeated name is sent only once.
///
/// Read from hypercore 11.37.1, `lib/replicator.js`, `extension` and `onextension`. As there, an extension with an
/// empty name cannot be distinguished from a repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionNames {
    sent: String,
    received: Arc<str>,
}

impl ExtensionNames {
    /// The form of `name` on the wire: empty if it is the last one sent.
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

    /// Length of the last received name, in bytes.
    pub(crate) fn received_len(&self) -> usize {
        self.received.len()
    }
}
