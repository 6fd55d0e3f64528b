//! The handshake of a hypercore channel, carried in protomux's open.

use std::fmt;

use super::Flags;
use crate::buffer::ShortHex;
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

const SEEKS: u64 = 1;

/// The handshake in each side's open: 33 bytes, `uint flags` and `fixed32 capability`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.handshake`.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Flag 1: the sender can seek with padding. Node 11 always sets it.
    pub seeks: bool,
    /// Proves that the sender knows the core's key; see [`crate::keys::capability`]. 32 bytes.
    pub capability: [u8; 32],
}

impl Decode for Handshake {
    const MIN_LEN: usize = 33;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = decoder.flags(SEEKS, "flags")?;
        Ok(Self {
            seeks: flags & SEEKS != 0,
            capability: decoder.fixed("capability")?,
        })
    }
}

impl Encode for Handshake {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(if self.seeks { SEEKS } else { 0 }, "flags")?;
        encoder.raw(&self.capability);
        Ok(())
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("flags", &Flags(&[(self.seeks, "seeks")]))
            .field("capability", &ShortHex(&self.capability))
            .finish()
    }
}
