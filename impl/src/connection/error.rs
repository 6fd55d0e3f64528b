//! The errors of a connection and its channels.

use std::time::Duration;

use crate::class::ErrorClass;
use crate::encoding::DecodeError;
use crate::keys::DiscoveryKey;
#[cfg(doc)]
use crate::mux::Limits;
use crate::transport::Position;

/// A fault of the connection as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The handshake took too long.
    #[error("the handshake took longer than {0:?}")]
    HandshakeTimeout(Duration),
    /// No record arrived for too long, not even a keep-alive.
    #[error("nothing was received for {0:?}")]
    IdleTimeout(Duration),
    /// A record began and was not whole in time.
    #[error("a record of {length} bytes was not whole within {timeout:?} of its first byte")]
    RecordTimeout {
        /// Bytes that it announced; 0 if its length had not arrived either.
        length: usize,
        /// The time limit: the builder's record time-out and a second for each 4,096 bytes.
        timeout: Duration,
    },
    /// The remote did not read our data for too long.
    #[error("the remote took nothing of what was sent to it for {0:?}")]
    WriteTimeout(Duration),
    /// The application did not take received data for too long, during which reading was paused.
    #[error(
        "nothing was read from the remote for {0:?}, for what it had sent was not taken or answered here"
    )]
    StallTimeout(Duration),
    /// The remote announced a record above [`Limits::max_early_record`] or [`Limits::max_record`].
    #[error(
        "a record of {length} bytes is above the limit of {limit}{} (record {} at byte {} of the stream)",
        if *.is_early { " before a channel is open" } else { "" },
        .position.record,
        .position.offset
    )]
    RecordTooLarge {
        /// Bytes of plaintext that it announced.
        length: usize,
        /// The limit that held.
        limit: usize,
        /// Whether no channel had been open on both sides.
        is_early: bool,
        /// The record.
        position: Position,
    },
    /// The remote did not read the remaining data, or did not end its side, in time.
    #[error("the stream could not be closed within {0:?}")]
    CloseTimeout(Duration),
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
}

impl ConnectionError {
    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::HandshakeTimeout(_)
            | Self::IdleTimeout(_)
            | Self::RecordTimeout { .. }
            | Self::WriteTimeout(_)
            | Self::StallTimeout(_)
            | Self::RecordTooLarge { .. }
            | Self::CloseTimeout(_) => ErrorClass::Limit,
            Self::Closed => ErrorClass::Closed,
        }
    }

    /// Whether a time-out ended the connection.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::HandshakeTimeout(_)
            | Self::IdleTimeout(_)
            | Self::RecordTimeout { .. }
            | Self::WriteTimeout(_)
            | Self::StallTimeout(_)
            | Self::CloseTimeout(_) => true,
            Self::RecordTooLarge { .. } | Self::Closed => false,
        }
    }
}

/// A fault of a hypercore channel. The first three are the peer's and end the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The handshake in the peer's open is too short.
    #[error("malformed channel handshake: {0}")]
    Handshake(DecodeError),
    /// The peer's capability does not prove that it knows the key.
    #[error("the peer does not know the key of the channel that it opened")]
    InvalidCapability {
        /// The channel's discovery key.
        discovery_key: DiscoveryKey,
    },
    /// The peer sent an extension's name that is too long to be kept: see [`Limits::max_extension_names`].
    #[error(
        "an extension's name of {length} bytes, with the {others} of other channels, is above the limit of {limit}"
    )]
    ExtensionName {
        /// Bytes of the name.
        length: usize,
        /// Bytes of the names that the other channels keep.
        others: usize,
        /// The limit.
        limit: usize,
    },
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// The peer has not opened the channel yet, so that it has not proved to know the key.
    #[error("the channel is not open on both sides yet")]
    NotOpen,
    /// The key's channel is open here already.
    #[error("the channel is open already")]
    AlreadyOpen,
}

impl ChannelError {
    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Handshake(error) => error.class(),
            Self::InvalidCapability { .. } => ErrorClass::InvalidCapability,
            Self::ExtensionName { .. } => ErrorClass::Limit,
            Self::Closed => ErrorClass::Closed,
            Self::NotOpen | Self::AlreadyOpen => ErrorClass::BadInput,
        }
    }

    /// Whether the peer is at fault, which ends the stream.
    pub(crate) fn is_remote(&self) -> bool {
        match self {
            Self::Handshake(_) | Self::InvalidCapability { .. } | Self::ExtensionName { .. } => {
                true
            }
            Self::Closed | Self::NotOpen | Self::AlreadyOpen => false,
        }
    }
}

impl From<DecodeError> for ChannelError {
    fn from(error: DecodeError) -> Self {
        Self::Handshake(error)
    }
}
