//! NoData: the requested data is not available.

use std::fmt;

use crate::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

const REASON: u64 = 1;

/// Type 4: `uint request`, and since 11.13.0 always `uint flags`, then `uint reason` if flag 1 is set. Older peers end
/// after the request, and ignore the additions of newer ones.
///
/// Read from hypercore 11.37.1, `lib/messages.js`, `wire.noData`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct NoData {
    /// The request's id.
    pub request: u64,
    /// The reason: [`NoData::NOT_AVAILABLE`], [`NoData::INVALID_REQUEST`], or 0 if not given.
    pub reason: u64,
}

impl NoData {
    /// The sender does not have the data.
    pub const NOT_AVAILABLE: u64 = 1;

    /// The request cannot be answered, and repeating it is useless.
    pub const INVALID_REQUEST: u64 = 2;
}

impl Decode for NoData {
    const MIN_LEN: usize = 1;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let request = decoder.uint("request")?;
        let flags = if decoder.is_empty() {
            0
        } else {
            decoder.flags(REASON, "flags")?
        };
        let reason = if flags & REASON != 0 {
            decoder.uint("reason")?
        } else {
            0
        };
        Ok(Self { request, reason })
    }
}

impl Encode for NoData {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.request, "request")?;
        if self.reason == 0 {
            return encoder.uint(0, "flags");
        }
        encoder.uint(REASON, "flags")?;
        encoder.uint(self.reason, "reason")
    }
}

impl fmt::Debug for NoData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason: &dyn fmt::Display = match self.reason {
            0 => &"none",
            Self::NOT_AVAILABLE => &"not available",
            Self::INVALID_REQUEST => &"invalid request",
            _ => &self.reason,
        };
        f.debug_struct("NoData")
            .field("request", &self.request)
            .field("reason", &format_args!("{reason}"))
            .finish()
    }
}
