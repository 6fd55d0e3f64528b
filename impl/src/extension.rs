//! An [`Extension`]: messages or bytes under a name, on a core's channel or on the whole stream.

use std::fmt;
use std::future::poll_fn;
#[cfg(any(feature = "tokio", feature = "futures-io"))]
use std::io;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(any(feature = "tokio", feature = "futures-io"))]
use std::task::ready;
use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::error::Error;
use crate::mux::CloseReason;
use crate::protocol::Registration;

#[cfg(any(feature = "tokio", feature = "futures-io"))]
/// What is written to an [`ExtensionIo`] goes out in messages of at most this many bytes.
const CHUNK: usize = 64 * 1024;

/// An extension by name. It sends messages, and is a [`Stream`](futures_core::Stream) of those that arrive;
/// `into_io` makes it a stream of bytes, with the feature `tokio` or `futures-io`.
///
/// There are two kinds:
/// - [`Channel::register_extension`](crate::Channel::register_extension): **on a core's channel**, as Node's
///   `core.registerExtension(name)` (hypercore 11.37.1, `index.js`). The messages are those of type 9 on the channel, and
///   a name that is the same as the last in its direction is left out (`lib/replicator.js`, `extension`). It is open at
///   once, and a remote that has not registered the name drops what it gets: **the wire does not say whether it has.**
///   Nor has the wire an end for it: it closes with its channel, which it keeps open.
/// - [`Protocol::register_extension`](crate::Protocol::register_extension): **on the whole stream**. It is a protomux
///   channel whose protocol is the name, without id and handshake, and its messages are those of type 0, as they are. Node
///   reaches it by `mux.createChannel({ protocol: name, messages: [{ encoding: c.raw }] })`. It is open once both sides
///   have registered it, in whichever order; sending waits for that. When one side closes or drops it, it is closed for
///   both, and can be registered again.
///
/// Registering a name that is registered gives the same extension. Clones share one queue: each message is taken by one of
/// them. They can be used from any task, while the [`Protocol`](crate::Protocol) is polled by its own. When the last of
/// them is dropped, the name is no longer registered; what was accepted for sending before is still sent.
///
/// # Backpressure
/// Sending waits while the send buffer is full. The queue holds as many bytes as
/// [`ProtocolBuilder::receive_buffer`](crate::ProtocolBuilder::receive_buffer) says, counting all that each message takes,
/// and one message beyond it. While it is full nothing is read from the socket, of the channels neither, so that the remote
/// has to wait. Take what arrives, or drop the extension.
#[derive(Clone)]
pub struct Extension {
    registration: Arc<Registration>,
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extension")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Extension {
    pub(crate) fn new(registration: Arc<Registration>) -> Self {
        Self { registration }
    }

    /// The name under which both sides know it.
    pub fn name(&self) -> &str {
        self.registration.name()
    }

    /// Waits until the remote has registered the extension too. One that was open once counts as opened, and one of a
    /// core's channel is open as soon as its channel is, for nobody can know more.
    ///
    /// # Errors
    /// Why it was closed instead.
    pub async fn opened(&self) -> Result<(), CloseReason> {
        poll_fn(|cx| self.registration.poll_opened(cx)).await
    }

    /// Sends a message. Waits until the extension is open and while the send buffer is full, for which the protocol must
    /// be polled meanwhile; once it returns, the message is sent even if every handle is dropped, unless the stream
    /// breaks.
    ///
    /// # Errors
    /// [`MuxError::Closed`](crate::mux::MuxError::Closed), or
    /// [`MuxError::TooLarge`](crate::mux::MuxError::TooLarge) for a message that with its head is above 16,777,198 bytes.
    pub async fn send(&self, message: impl Into<Buffer>) -> Result<(), Error> {
        let message = message.into();
        poll_fn(|cx| self.registration.poll_send(cx, &message)).await
    }

    /// Sends a message if the extension is open and there is room in the send buffer now, and says whether it was sent.
    ///
    /// # Errors
    /// As [`Extension::send`].
    pub fn try_send(&self, message: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.registration.try_send(message.as_ref())
    }

    /// The next message; none when the extension is closed and all that arrived was taken.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Buffer> {
        self.recv().await
    }

    /// As [`Extension::next`], from a shared handle.
    pub async fn recv(&self) -> Option<Buffer> {
        poll_fn(|cx| self.registration.poll_recv(cx)).await
    }

    /// Who closed the extension; none while it is open, or waits for the remote.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.registration.close_reason()
    }

    /// Whether the extension is closed.
    pub fn is_closed(&self) -> bool {
        self.close_reason().is_some()
    }

    /// Waits until the extension is closed, and says who closed it.
    pub async fn closed(&self) -> CloseReason {
        poll_fn(|cx| self.registration.poll_closed(cx)).await
    }

    /// Closes the extension, for every clone of it: the name is no longer registered. What was sent before is still sent,
    /// and what arrived can still be taken. The remote learns of it only if it is one of the stream.
    pub async fn close(&self) {
        self.registration.close();
    }

    #[cfg(any(feature = "tokio", feature = "futures-io"))]
    /// The extension as a stream of bytes in both directions. Message boundaries mean nothing there.
    pub fn into_io(self) -> ExtensionIo {
        ExtensionIo {
            extension: self,
            unread: Buffer::new(),
            ended: false,
        }
    }
}

/// The messages that arrive, until the extension is closed.
impl futures_core::Stream for Extension {
    type Item = Buffer;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Buffer>> {
        self.registration.poll_recv(cx)
    }
}

#[cfg(any(feature = "tokio", feature = "futures-io"))]
/// An [`Extension`] as a stream of bytes: it implements tokio's `AsyncRead` and `AsyncWrite` with the feature `tokio`, and
/// those of futures-io with the feature `futures-io`.
///
/// - **Writing** sends messages of up to 64 KiB, and waits until the extension is open and while the send buffer is full.
///   What was written leaves by itself, so that flushing does nothing.
/// - **Shutting down** an extension of the stream closes it, after all that was written. protomux has no half-closed
///   channels: what the remote sends from then on is lost, so that a protocol in which both sides end by themselves has to
///   say so in its bytes. An extension on a core's channel is only unregistered: **the remote reads no end**, for the
///   wire has none.
/// - **Reading** ends when the extension is closed by either side, after all that arrived; it fails with
///   [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the whole stream ended before that.
#[derive(Debug)]
pub struct ExtensionIo {
    extension: Extension,
    unread: Buffer,
    ended: bool,
}

#[cfg(any(feature = "tokio", feature = "futures-io"))]
impl ExtensionIo {
    /// The extension.
    pub fn extension(&self) -> &Extension {
        &self.extension
    }

    /// Arrived bytes, none at the end. At least one of them has to be consumed by [`ExtensionIo::consume`].
    fn poll_fill(&mut self, cx: &Context<'_>) -> Poll<io::Result<&[u8]>> {
        let registration = &self.extension.registration;
        while self.unread.is_empty() {
            match ready!(registration.poll_recv(cx)) {
                Some(message) => self.unread = message,
                None if registration.close_reason() == Some(CloseReason::Stream) => {
                    let message = "the stream ended while the extension was open";
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
        let sent = ready!(self.extension.registration.poll_send(cx, chunk));
        Poll::Ready(match sent {
            Ok(()) => Ok(chunk.len()),
            Err(error) => Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
        })
    }

    fn shut_down(&mut self) {
        self.ended = true;
        self.extension.registration.close();
    }
}

#[cfg(feature = "tokio")]
impl tokio::io::AsyncRead for ExtensionIo {
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
impl tokio::io::AsyncWrite for ExtensionIo {
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
impl futures_io::AsyncRead for ExtensionIo {
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
impl futures_io::AsyncWrite for ExtensionIo {
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
