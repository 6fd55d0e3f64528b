//! Range: blocks held or no longer held, as a run.

use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

const DROP: u64 = 1;
const LENGTH_IS_ONE: u64 = 2;

/// Type 8: `uint flags`, `uint start`, and `uint length` unless flag 2 says that it is 1.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.range`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// Flag 1: the sender no longer has these blocks.
    pub drop: bool,
    /// The first block.
    pub start: u64,
    /// How many blocks.
    pub length: u64,
}

impl Decode for Range {
    const MIN_LEN: usize = 2;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = decoder.flags(DROP | LENGTH_IS_ONE, "flags")?;
        Ok(Self {
            drop: flags & DROP != 0,
            start: decoder.uint("start")?,
            length: if flags & LENGTH_IS_ONE != 0 {
                1
            } else {
                decoder.uint("length")?
            },
        })
    }
}

impl Encode for Range {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        let drop = if self.drop { DROP } else { 0 };
        if self.length == 1 {
            encoder.uint(drop | LENGTH_IS_ONE, "flags")?;
            return encoder.uint(self.start, "start");
        }
        encoder.uint(drop, "flags")?;
        encoder.uint(self.start, "start")?;
        encoder.uint(self.length, "length")
    }
}
