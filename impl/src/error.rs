//! [`Error`]: every failure of a connection and of the layers above it.

use crate::class::{ErrorClass, Layer};
use crate::connection::error::{ChannelError, ConnectionError};
use crate::datagram::DatagramError;
use crate::encoding::{DecodeError, EncodeError};
use crate::mux::MuxError;
use crate::transport::TransportError;
use crate::wire::MessageType;

/// Any failure of this crate. [`Error::layer`] and [`Error::class`] give the layer and the rule, by the vectors' names.
///
/// Like all errors of this crate its `Display` is complete, and it has no source that would repeat a part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value could not be encoded.
    #[error("cannot encode: {0}")]
    Encode(EncodeError),
    /// A hypercore message could not be decoded.
    #[error("malformed {message}: {error}")]
    #[non_exhaustive]
    Message {
        /// The type of the message.
        message: MessageType,
        /// The error, with its offset in the body.
        error: DecodeError,
    },
    /// The transport failed: the handshake, a frame or a sealed record.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A datagram could not be sealed or opened.
    #[error(transparent)]
    Datagram(#[from] DatagramError),
    /// A hypercore channel was refused, or is not open.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The connection as a whole took too long, or is closed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The socket failed. A reset by the peer is [`std::io::ErrorKind::ConnectionReset`].
    #[error("the stream failed: {message}")]
    #[non_exhaustive]
    Io {
        /// The kind of the system's error.
        kind: std::io::ErrorKind,
        /// The text of the system's error.
        message: String,
    },
    /// Protomux rejected an action of the peer or the caller.
    #[error(transparent)]
    Mux(#[from] MuxError),
}

impl Error {
    /// The layer that failed.
    pub fn layer(&self) -> Layer {
        match self {
            Self::Encode(_) => Layer::Encoding,
            Self::Message { .. } => Layer::Message,
            Self::Transport(error) => error.layer(),
            Self::Datagram(_) => Layer::Datagram,
            Self::Mux(_) => Layer::Mux,
            Self::Channel(_) => Layer::Channel,
            Self::Connection(_) | Self::Io { .. } => Layer::Connection,
        }
    }

    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Encode(error) => error.class(),
            Self::Message { error, .. } => error.class(),
            Self::Transport(error) => error.class(),
            Self::Datagram(error) => error.class(),
            Self::Mux(error) => error.class(),
            Self::Channel(error) => error.class(),
            Self::Connection(error) => error.class(),
            Self::Io { .. } => ErrorClass::Closed,
        }
    }

    /// Whether the stream or the channel is closed.
    pub fn is_closed(&self) -> bool {
        !matches!(self, Self::Io { .. }) && self.class() == ErrorClass::Closed
    }

    /// Whether a time-out ended the stream, one of ours or the socket's.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_timeout(),
            Self::Io { kind, .. } => *kind == std::io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// Whether the remote broke a rule of the protocol or exceeded a local limit, which ended the stream.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Message { .. } => true,
            Self::Transport(error) => error.position.is_some(),
            Self::Mux(error) => error.is_remote(),
            Self::Channel(error) => error.is_remote(),
            Self::Connection(error) => matches!(error, ConnectionError::RecordTooLarge { .. }),
            Self::Encode(_) | Self::Datagram(_) | Self::Io { .. } => false,
        }
    }
}

/// Why a message was not sent at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room in the send buffer, or an extension is not open yet; a later attempt may succeed.
    #[error("there is no room in the send buffer, or the extension is not open yet")]
    Full,
    /// It cannot be sent, now or later: see [`Error::is_closed`].
    #[error(transparent)]
    Rejected(#[from] Error),
}

impl TrySendError {
    /// Whether the channel or the stream is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Rejected(error) if error.is_closed())
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io {
            kind: error.kind(),
            message: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameError;
    use crate::noise::{NoiseError, NoiseErrorKind, Pattern};
    use crate::transport::TransportErrorKind;
    use crate::wire::Range;

    /// Reporters that follow the sources, such as anyhow's `{:#}`, would otherwise print the same text twice.
    fn says_it_once(error: &dyn std::error::Error) {
        let text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            assert!(!text.contains(&inner.to_string()), "{text}: {inner}");
            source = inner.source();
        }
    }

    #[test]
    fn no_error_says_its_cause_twice() {
        let decode = || crate::Message::decode(8, &crate::Buffer::new()).unwrap_err();
        let encode = || {
            let range = Range {
                drop: false,
                start: u64::MAX,
                length: 0,
            };
            crate::encoding::Encode::encode(&range).unwrap_err()
        };
        let noise = NoiseError {
            pattern: Pattern::XX,
            message: 1,
            expected: "e",
            kind: NoiseErrorKind::BadMac,
        };
        let frame = FrameError::TooLarge { actual: 1 << 24 };
        let transport = [
            TransportErrorKind::from(noise),
            TransportErrorKind::from(frame),
            TransportErrorKind::from(encode()),
        ];
        let transport = transport.map(|kind| TransportError {
            kind,
            position: None,
        });
        let mut errors: Vec<Error> = transport.into_iter().map(Error::from).collect();
        errors.extend([
            Error::Encode(encode()),
            Error::Message {
                message: MessageType::Sync,
                error: decode(),
            },
            Error::Channel(decode().into()),
            Error::Mux(decode().into()),
            Error::Mux(encode().into()),
            std::io::Error::other("it is unplugged").into(),
        ]);
        for error in &errors {
            says_it_once(error);
        }
    }

    #[test]
    fn errors_tell_time_outs_closed_streams_and_the_faults_of_the_remote_apart() {
        use std::time::Duration;

        let told = |error: &Error| (error.is_timeout(), error.is_closed(), error.is_remote());
        let (timeout, closed, remote, ours) = (
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (false, false, false),
        );
        let decode = || crate::Message::decode(8, &crate::Buffer::new()).unwrap_err();
        let transport = |position| {
            let kind = TransportErrorKind::from(FrameError::TooLarge { actual: 1 << 24 });
            Error::from(TransportError { kind, position })
        };
        let position = crate::transport::Position {
            record: 0,
            offset: 0,
        };
        let message = MessageType::Sync;
        let error = decode();
        let early = ConnectionError::RecordTooLarge {
            length: 2,
            limit: 1,
            is_early: true,
            position,
        };
        for (error, expected) in [
            (
                Error::from(ConnectionError::IdleTimeout(Duration::ZERO)),
                timeout,
            ),
            (
                ConnectionError::CloseTimeout(Duration::ZERO).into(),
                timeout,
            ),
            (
                std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
                timeout,
            ),
            (ConnectionError::Closed.into(), closed),
            (ChannelError::Closed.into(), closed),
            (MuxError::Closed.into(), closed),
            (Error::Message { message, error }, remote),
            (transport(Some(position)), remote),
            (MuxError::InvalidReject { id: 1 }.into(), remote),
            (ChannelError::from(decode()).into(), remote),
            (early.into(), remote),
            (transport(None), ours),
            (MuxError::AlreadyOpen.into(), ours),
            (ChannelError::NotOpen.into(), ours),
            (
                std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(),
                ours,
            ),
        ] {
            assert_eq!(told(&error), expected, "{error:?}");
        }
        assert!(TrySendError::from(Error::from(MuxError::Closed)).is_closed());
        assert!(!TrySendError::Full.is_closed());
    }
}
