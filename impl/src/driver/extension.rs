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

/// A named extension. It is a [`Stream`](futures_core::Stream) of received messages and a [`Sink`](futures_sink::Sink) of
/// messages to send; with the feature `tokio` or `futures-io`, `into_io` makes it a byte stream.
///
/// There are two kinds:
/// - [`Channel::register_extension`](crate::Channel::register_extension): **on a core's channel**, as Node's
///   `core.registerExtension(name)` (hypercore 11.37.1, `index.js`). Its messages have type 9 on the channel, and a name
///   equal to the last one in its direction is omitted (`lib/replicator.js`, `extension`). It is open at once, and a
///   remote that has not registered the name drops the messages: **the wire does not say whether it has.** The wire has no
///   close for it either: it closes with its channel, which it keeps open.
/// - [`ProtocolHandle::register_extension`](crate::ProtocolHandle::register_extension): **on the whole stream**. It is a protomux
///   channel whose protocol is the name, without id and handshake, and its messages have type 0 and no further encoding.
///   Node opens it by `mux.createChannel({ protocol: name, messages: [{ encoding: c.raw }] })`. It is open once both
///   sides have registered it, in either order; sending waits for that. When one side closes or drops it, it is closed
///   for both, and can be registered again.
///
/// Registering a registered name returns the same extension. Clones share one queue: each message goes to one of them.
/// They can be used from any task, while another polls the [`Protocol`](crate::Protocol). Dropping the last clone
/// unregisters the name; messages accepted before are still sent.
///
/// # Backpressure
/// Sending waits while the send buffer is full. The queue holds up to
/// [`ProtocolBuilder::receive_buffer`](crate::ProtocolBuilder::receive_buffer) bytes of memory, plus one message. While it
/// is full nothing is read from the socket, for the channels neither, so that the remote has to wait. Read the messages,
/// or drop the extension.
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

    /// Waits until the remote has registered the extension too. An extension that was open before counts as opened. One on a
    /// core's channel opens with its channel, since the wire does not say whether the remote has registered it.
    ///
    /// # Errors
    /// Who closed it instead.
    pub async fn opened(&self) -> Result<(), CloseReason> {
        poll_fn(|cx| self.registration.poll_opened(cx)).await
    }

    /// Sends a message. Waits until the extension is open and the send buffer has room; the protocol must be polled
    /// meanwhile. Once it returns, the message is sent even if every handle is dropped, unless the stream fails.
    ///
    /// # Errors
    /// [`MuxError::Closed`], or [`MuxError::TooLarge`] for a message above 16,777,198 bytes with its header.
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

    /// The next message; `None` when the extension is closed and the queue is empty.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Buffer> {
        self.recv().await
    }

    /// As [`Extension::next`], from a shared handle.
    pub async fn recv(&self) -> Option<Buffer> {
        poll_fn(|cx| self.registration.poll_recv(cx)).await
    }

    /// Who closed the extension; `None` while it is open or waits for the remote.
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

    /// Closes the extension for all its clones and unregisters the name. Messages accepted before are still sent, and queued
    /// ones can still be read. The remote is notified only for an extension of the stream.
    pub fn close(&self) {
        self.registration.close();
    }
}

/// Received messages, until the extension is closed.
impl futures_core::Stream for Extension {
    type Item = Buffer;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Buffer>> {
        self.registration.poll_recv(cx)
    }
}
