//! A [`MuxChannel`]: a channel of any protocol on a [`Protocol`](crate::Protocol).

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::connection::{ChannelHandle, ChannelOptions, Connection};
use crate::error::{Error, TrySendError};
use crate::mux::CloseReason;
#[cfg(doc)]
use crate::mux::MuxError;

use super::open_channel::OpenChannel;
use super::shared::{MuxMessage, Shared};

/// A channel of any protocol, opened by [`ProtocolHandle::open_channel`](crate::ProtocolHandle::open_channel). It is a
/// [`Stream`](futures_core::Stream) of received messages and a [`Sink`](futures_sink::Sink) of messages to send, and
/// [`MuxChannel::into_io`] makes it a byte stream.
///
/// Messages can be sent at once, as in Node: the remote buffers those that arrive before it opens the channel too, and
/// drops them if it rejects the channel.
///
/// Clones share one queue: each message goes to one of them. They can be used from any task, while another polls the
/// [`Protocol`](crate::Protocol). Dropping the last clone closes the channel; messages accepted before are still sent.
///
/// The queue holds up to [`ProtocolBuilder::receive_buffer`](crate::ProtocolBuilder::receive_buffer) bytes, plus one
/// message. While it is full nothing is read, for the other channels either.
#[derive(Clone)]
pub struct MuxChannel {
    inner: Arc<Inner>,
}

struct Inner {
    channel: OpenChannel,
    protocol: String,
    id: Option<Buffer>,
}

impl fmt::Debug for MuxChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxChannel")
            .field("handle", &self.handle())
            .field("protocol", &self.inner.protocol)
            .field("id", &self.inner.id)
            .finish_non_exhaustive()
    }
}

impl MuxChannel {
    pub(super) fn open(shared: &Arc<Shared>, options: ChannelOptions) -> Result<Self, Error> {
        let channel = OpenChannel::open(shared, &options)?;
        Ok(Self {
            inner: Arc::new(Inner {
                channel,
                protocol: options.protocol,
                id: options.id,
            }),
        })
    }

    pub(super) fn channel(&self) -> &OpenChannel {
        &self.inner.channel
    }

    /// The protocol's name, as it was given to open the channel.
    pub fn protocol(&self) -> &str {
        &self.inner.protocol
    }

    /// The id of the channel among those of its protocol.
    pub fn id(&self) -> Option<&[u8]> {
        self.inner.id.as_deref()
    }

    /// Identifies this channel among all of its [`Protocol`](crate::Protocol), including closed ones.
    pub fn handle(&self) -> ChannelHandle {
        self.channel().handle()
    }

    /// Waits until the remote has opened the channel too, and returns its handshake. A channel that was open before counts as
    /// opened.
    ///
    /// # Errors
    /// Who closed it instead: [`CloseReason::Rejected`] if the remote does not know the protocol.
    pub async fn opened(&self) -> Result<Buffer, CloseReason> {
        poll_fn(|cx| self.channel().poll_opened(cx)).await
    }

    /// Sends a message of the type `kind`. Waits while the send buffer is full; the protocol must be polled meanwhile. Once
    /// it returns, the message is sent even if every handle is dropped, unless the stream fails.
    ///
    /// While the protocol is corked, the batch grows to 8 MiB before this waits.
    ///
    /// # Errors
    /// [`MuxError::Closed`], [`MuxError::TooLarge`] above 16 MiB, or [`MuxError::Encode`] for a type above 2^53-1.
    pub async fn send(&self, kind: u64, body: impl Into<Buffer>) -> Result<(), Error> {
        let body = body.into();
        poll_fn(|cx| self.poll_send(cx, kind, &body)).await
    }

    pub(super) fn poll_send(
        &self,
        cx: &Context<'_>,
        kind: u64,
        body: &[u8],
    ) -> Poll<Result<(), Error>> {
        let handle = self.handle();
        let send = |connection: &mut Connection| connection.send_raw(handle, kind, body);
        self.channel().poll_send(cx, send)
    }

    /// Sends a message if there is room for it in the send buffer now.
    ///
    /// # Errors
    /// [`TrySendError::Full`], or as [`MuxChannel::send`].
    pub fn try_send(&self, kind: u64, body: impl AsRef<[u8]>) -> Result<(), TrySendError> {
        let handle = self.handle();
        self.channel()
            .try_send(|connection| connection.send_raw(handle, kind, body.as_ref()))
    }

    /// Sends messages, each with its type, as one protomux batch: one record, unless they fill more.
    ///
    /// # Errors
    /// As [`MuxChannel::send`], for the first that cannot be sent; those before it were.
    pub async fn send_batch(&self, messages: &[(u64, Buffer)]) -> Result<(), Error> {
        let handle = self.handle();
        let send = |connection: &mut Connection| connection.send_batch_raw(handle, messages);
        poll_fn(|cx| self.channel().poll_send(cx, send)).await
    }

    /// The next message; `None` when the channel is closed and the queue is empty.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<MuxMessage> {
        self.recv().await
    }

    /// As [`MuxChannel::next`], from a shared handle.
    pub async fn recv(&self) -> Option<MuxMessage> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub(super) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<MuxMessage>> {
        self.channel().poll_mux_message(cx)
    }

    /// Who closed the channel; `None` while it is open. A closed channel sends nothing more, but messages that arrived before
    /// can still be read.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.channel().close_reason()
    }

    /// Whether the channel is closed.
    pub fn is_closed(&self) -> bool {
        self.close_reason().is_some()
    }

    /// Waits until the channel is closed, and says who closed it.
    pub async fn closed(&self) -> CloseReason {
        poll_fn(|cx| self.channel().poll_closed(cx)).await
    }

    /// Closes the channel. Messages accepted before are still sent, and queued ones can still be read. Does nothing if it is
    /// closed.
    pub fn close(&self) {
        self.channel().close();
    }
}

/// Received messages, until the channel is closed.
impl futures_core::Stream for MuxChannel {
    type Item = MuxMessage;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<MuxMessage>> {
        self.poll_recv(cx)
    }
}
