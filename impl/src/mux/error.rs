//! The errors of the mux.

use crate::class::ErrorClass;
use crate::encoding::{DecodeError, EncodeError};

/// The peer broke a rule of protomux, or the caller asked for something that cannot be sent.
///
/// A peer's fault ends the stream; [`MuxError::Closed`], [`MuxError::AlreadyOpen`], [`MuxError::TooLarge`] and
/// [`MuxError::Encode`] answer a caller, change nothing, and leave the stream as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// A record ends within one of its fields, or an integer in it is above 2^53-1.
    #[error("malformed record: {0}")]
    Decode(DecodeError),
    /// The peer opened a channel by an id that is 0, taken, or neither free nor the next.
    #[error("the peer opened channel {id}, where {next} is the next new id")]
    InvalidOpen {
        /// The peer's id.
        id: u64,
        /// The lowest id that the peer has not used yet.
        next: u64,
    },
    /// The peer rejected a channel that does not wait for its answer.
    #[error("the peer rejected channel {id}, which does not wait for an answer")]
    InvalidReject {
        /// Our id, as the peer gave it.
        id: u64,
    },
    /// Batches within batches, deeper than [`Limits::max_nesting`](super::Limits::max_nesting).
    #[error("batches are nested more than {limit} deep")]
    NestingTooDeep {
        /// The limit.
        limit: usize,
    },
    /// The channel, or the mux as a whole, is closed.
    #[error("the channel is closed")]
    Closed,
    /// A unique channel of this protocol and id is open already.
    #[error("a channel of this protocol and id is open already")]
    AlreadyOpen,
    /// The message does not fit into one record.
    #[error("a record of {length} bytes is above the limit of {limit}")]
    TooLarge {
        /// Bytes of plaintext that the record would have.
        length: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// The message cannot be expressed.
    #[error("cannot encode: {0}")]
    Encode(EncodeError),
}

impl MuxError {
    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Decode(error) => error.class(),
            Self::InvalidOpen { .. } => ErrorClass::InvalidOpen,
            Self::InvalidReject { .. } => ErrorClass::InvalidReject,
            Self::NestingTooDeep { .. } => ErrorClass::NestingTooDeep,
            Self::Closed => ErrorClass::Closed,
            Self::AlreadyOpen => ErrorClass::BadInput,
            Self::TooLarge { .. } => ErrorClass::TooLarge,
            Self::Encode(error) => error.class(),
        }
    }

    /// Whether the peer is at fault, which ends the stream.
    pub(crate) fn is_remote(&self) -> bool {
        match self {
            Self::Decode(_)
            | Self::InvalidOpen { .. }
            | Self::InvalidReject { .. }
            | Self::NestingTooDeep { .. } => true,
            Self::Closed | Self::AlreadyOpen | Self::TooLarge { .. } | Self::Encode(_) => false,
        }
    }
}

impl From<DecodeError> for MuxError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for MuxError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}
