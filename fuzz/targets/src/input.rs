//! The fuzzer's bytes as choices.
//!
//! All choices are read from the front, so that a seed can be written as bytes: see `seeds`.

use arbitrary::Unstructured;
use hypercore_protocol::encoding::MAX_SAFE_INTEGER;

/// A fuzzer's input. When it is used up, each choice is 0.
#[derive(Debug)]
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is at most 256; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Two bytes, little-endian.
    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// An integer of the protocol: mostly small, else near a boundary.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small % 40),
            200..=219 => u64::from(self.short()),
            220..=229 => MAX_SAFE_INTEGER - u64::from(self.byte() % 4),
            230..=239 => {
                let power = 1_u64 << (self.byte() % 53);
                (power + u64::from(self.byte() % 3)).saturating_sub(1) & MAX_SAFE_INTEGER
            }
            // Around the size of a page of the bitfield, and the maximum of a want.
            240..=247 => 2_097_152 + u64::from(self.short()),
            _ => {
                let high = u64::from(self.short()) << 37;
                (high | u64::from(self.short())) & MAX_SAFE_INTEGER
            }
        }
    }

    /// At most `max` bytes, preceded by their number.
    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let wanted = if max > 255 {
            usize::from(self.short())
        } else {
            usize::from(self.byte())
        };
        self.take(wanted.min(max))
    }

    /// `count` bytes, or the rest if shorter.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let count = count.min(self.0.len());
        self.0.bytes(count).unwrap_or_default()
    }

    /// The rest.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }
}
