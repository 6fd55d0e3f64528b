//! Want and unwant: the blocks about which a peer wants announcements.

use std::fmt;
use std::ops;

use super::Flags;
use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

const ANY: u64 = 1;

macro_rules! want {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            /// The first block.
            pub start: u64,
            /// How many blocks.
            pub length: u64,
            /// Flag 1: any one of the blocks suffices. Since 11.23.1; 11.37.1 reads it and never sets it.
            pub any: bool,
        }

        /// All of these blocks. A range that ends before it starts is empty.
        impl From<ops::Range<u64>> for $name {
            fn from(blocks: ops::Range<u64>) -> Self {
                let length = blocks.end.saturating_sub(blocks.start);
                Self { start: blocks.start, length, any: false }
            }
        }

        impl Decode for $name {
            const MIN_LEN: usize = 2;

            fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                let start = decoder.uint("start")?;
                let length = decoder.uint("length")?;
                let flags = if decoder.is_empty() { 0 } else { decoder.flags(ANY, "flags")? };
                Ok(Self { start, length, any: flags & ANY != 0 })
            }
        }

        impl Encode for $name {
            fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
                encoder.uint(self.start, "start")?;
                encoder.uint(self.length, "length")?;
                if self.any { encoder.uint(ANY, "flags") } else { Ok(()) }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("start", &self.start)
                    .field("length", &self.length)
                    .field("flags", &Flags(&[(self.any, "any")]))
                    .finish()
            }
        }
    };
}

want! {
    /// Type 5: `uint start`, `uint length`, and `uint flags` only if one is set.
    ///
    /// Read from hypercore 11.37.1, `lib/messages.js`, `wire.want`.
    Want
}

want! {
    /// Type 6: laid out as [`Want`].
    ///
    /// Read from hypercore 11.37.1, `lib/messages.js`, `wire.unwant`.
    Unwant
}
