//! An [`Extension`]: messages or bytes under a name, on a core's channel or on the whole stream.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::error::{Error, TrySendError};
use crate::mux::CloseReason;
#[cfg(doc)]
use crate::mux::MuxError;

use super::registration::Registration;

/// An extension by name. It sends messages, and is a [`Stream`](futures_core::Stream) of those that arrive and a
/// [`Sink`](futures_sink::Sink) of those that are sent; `into_io` makes it a stream of bytes, with the feature `tokio` or
/// `futures-io`.
///
/// There are two kinds:
/// - [`Channel::register_extension`](crate::Channel::register_extension): **on a core's channel**, as Node's
///   `core.registerExtension(name)` (hypercore 11.37.1, `index.js`). The messages are those of type 9 on the channel, and
///   a name that is the same as the last in its direction is left out (`lib/replicator.js`, `extension`). It is open at
///   once, and a remote that has not registered the name drops what it gets: **the wire does not say whether it has.**
///   Nor has the wire an end for it: it closes with its channel, which it keeps open.
/// - [`ProtocolHandle::register_extension`](crate::ProtocolHandle::register_extension): **on the whole stream**. It is a protomux
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
    pub(super) fn new(registration: Registration) -> Self {
        Self {
            registration: Arc::new(registration),
        }
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.registration
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
    /// [`MuxError::Closed`], or
    /// [`MuxError::TooLarge`] for a message that with its head is above 16,777,198 bytes.
    pub async fn send(&self, message: impl Into<Buffer>) -> Result<(), Error> {
        let message = message.into();
        poll_fn(|cx| self.registration.poll_send(cx, &message)).await
    }

    /// Sends a message if the extension is open and there is room in the send buffer now.
    ///
    /// # Errors
    /// [`TrySendError::Full`], also while the remote has not registered the extension, or as [`Extension::send`].
    pub fn try_send(&self, message: impl AsRef<[u8]>) -> Result<(), TrySendError> {
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
    pub fn close(&self) {
        self.registration.close();
    }
}

/// The messages that arrive, until the extension is closed.
impl futures_core::Stream for Extension {
    type Item = Buffer;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Buffer>> {
        self.registration.poll_recv(cx)
    }
}
