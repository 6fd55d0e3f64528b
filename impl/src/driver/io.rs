//! [`ChannelIo`]: an extension or a channel as a byte stream.
#![cfg(any(feature = "tokio", feature = "futures-io"))]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::buffer::Buffer;
use crate::error::Error;
use crate::mux::CloseReason;

use super::extension::Extension;
use super::mux_channel::MuxChannel;

/// The maximum size of a message of written bytes.
const CHUNK: usize = 64 * 1024;

/// An [`Extension`] or a [`MuxChannel`] as a stream of bytes: it implements tokio's `AsyncRead` and `AsyncWrite` with the
/// feature `tokio`, and those of futures-io with the feature `futures-io`.
///
/// - **Writing** sends messages of up to 64 KiB, and waits while the send buffer is full or an extension is not open yet.
///   Written bytes are sent without flushing, which does nothing.
/// - **Shutting down** closes the channel, or the extension of the stream, after all written bytes. protomux has no
///   half-closed channels: data that the remote sends afterwards is lost, so a protocol in which each side ends on its own
///   needs an end marker in its bytes. An extension on a core's channel is only unregistered: **the remote reads no end of
///   file**, because the wire has none.
/// - **Reading** ends when either side closes, after all received bytes; it fails with
///   [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the whole stream ended before that.
#[derive(Debug)]
pub struct ChannelIo {
    messages: Messages,
    unread: Buffer,
    ended: bool,
}

#[derive(Debug)]
enum Messages {
    Extension(Extension),
    Channel { channel: MuxChannel, kind: u64 },
}

impl Messages {
    fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<Buffer>> {
        match self {
            Self::Extension(extension) => extension.registration().poll_recv(cx),
            Self::Channel { channel, kind } => loop {
                match ready!(channel.poll_recv(cx)) {
                    Some(message) if message.kind != *kind => {}
                    message => return Poll::Ready(message.map(|message| message.body)),
                }
            },
        }
    }

    fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<Result<(), Error>> {
        match self {
            Self::Extension(extension) => extension.registration().poll_send(cx, bytes),
            Self::Channel { channel, kind } => channel.poll_send(cx, *kind, bytes),
        }
    }

    fn close_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Extension(extension) => extension.close_reason(),
            Self::Channel { channel, .. } => channel.close_reason(),
        }
    }

    fn close(&self) {
        match self {
            Self::Extension(extension) => extension.close(),
            Self::Channel { channel, .. } => channel.close(),
        }
    }
}

impl Extension {
    /// The extension as a byte stream in both directions. Message boundaries are not preserved.
    pub fn into_io(self) -> ChannelIo {
        ChannelIo::new(Messages::Extension(self))
    }
}

impl MuxChannel {
    /// The channel as a byte stream in both directions, in messages of the type `kind`. Message boundaries are not preserved,
    /// and messages of other types are dropped.
    pub fn into_io(self, kind: u64) -> ChannelIo {
        let channel = self;
        ChannelIo::new(Messages::Channel { channel, kind })
    }
}

impl ChannelIo {
    fn new(messages: Messages) -> Self {
        Self {
            messages,
            unread: Buffer::new(),
            ended: false,
        }
    }

    /// Received bytes, empty at the end. The caller must consume at least one by [`ChannelIo::consume`].
    fn poll_fill(&mut self, cx: &Context<'_>) -> Poll<io::Result<&[u8]>> {
        while self.unread.is_empty() {
            match ready!(self.messages.poll_recv(cx)) {
                Some(message) => self.unread = message,
                None if self.messages.close_reason() == Some(CloseReason::Stream) => {
                    let message = "the stream ended while the channel was open";
                    let error = io::Error::new(io::ErrorKind::ConnectionAborted, message);
                    return Poll::Ready(Err(error));
                }
                None => break,
            }
        }
        Poll::Ready(Ok(&self.unread))
    }

    fn consume(&mut self, count: usize) {
        self.unread = self.unread.slice(count..);
    }

    fn poll_write_some(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            let error = io::Error::new(io::ErrorKind::BrokenPipe, "it was shut down");
            return Poll::Ready(Err(error));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let chunk = &bytes[..bytes.len().min(CHUNK)];
        let sent = ready!(self.messages.poll_send(cx, chunk));
        Poll::Ready(match sent {
            Ok(()) => Ok(chunk.len()),
            Err(error) => Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
        })
    }

    fn shut_down(&mut self) {
        self.ended = true;
        self.messages.close();
    }
}

#[cfg(feature = "tokio")]
impl tokio::io::AsyncRead for ChannelIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let bytes = ready!(self.poll_fill(cx))?;
        let count = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..count]);
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tokio")]
impl tokio::io::AsyncWrite for ChannelIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down();
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "futures-io")]
impl futures_io::AsyncRead for ChannelIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let bytes = ready!(self.poll_fill(cx))?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Poll::Ready(Ok(count))
    }
}

#[cfg(feature = "futures-io")]
impl futures_io::AsyncWrite for ChannelIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down();
        Poll::Ready(Ok(()))
    }
}
