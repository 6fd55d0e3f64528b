//! Bitfield: blocks held, as bits.

use std::fmt;

use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

/// Type 7: `uint start`, `uint32array bitfield`.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.bitfield`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bitfield {
    /// The block of the first bit. Node sends a multiple of 32.
    pub start: u64,
    /// The bits in words of 32, the lowest bit first.
    pub bitfield: Vec<u32>,
}

impl Bitfield {
    /// Whether the bitfield says that `block` is held.
    pub fn get(&self, block: u64) -> bool {
        let word = |bit: u64| self.bitfield.get(usize::try_from(bit / 32).ok()?).copied();
        let Some(bit) = block.checked_sub(self.start) else {
            return false;
        };
        word(bit).is_some_and(|word| word & (1 << (bit % 32)) != 0)
    }
}

impl Decode for Bitfield {
    const MIN_LEN: usize = 2;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            start: decoder.uint("start")?,
            bitfield: decoder.uint32array("bitfield")?,
        })
    }
}

impl Encode for Bitfield {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.start, "start")?;
        encoder.uint32array(&self.bitfield, "bitfield")
    }
}

/// Shows the number of set bits instead of all bits.
impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: u64 = self
            .bitfield
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        f.debug_struct("Bitfield")
            .field("start", &self.start)
            .field("bits", &(self.bitfield.len() * 32))
            .field("set", &set)
            .finish()
    }
}
