//! A [`Channel`]: one core on a [`Protocol`](crate::Protocol).

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
#[cfg(feature = "replication")]
use std::time::Duration;

use crate::buffer::Buffer;
#[cfg(doc)]
use crate::connection::ChannelError;
use crate::connection::{ChannelHandle, Connection};
use crate::error::{Error, TrySendError};
use crate::keys::{DiscoveryKey, Key};
use crate::mux::CloseReason;
use crate::wire::{
    self, Bitfield, Cancel, Data, Handshake, Message, NoData, Range, Request, Sync, Unread, Unwant,
    Want,
};

use super::extension::Extension;
use super::open_channel::OpenChannel;
use super::registration::Registration;

/// A core's channel that both sides have opened. It is a [`Stream`](futures_core::Stream) of received messages and a
/// [`Sink`](futures_sink::Sink) of messages to send.
///
/// Clones share one queue: each message goes to one of them. They can be used from any task, while another polls the
/// [`Protocol`](crate::Protocol). Dropping the last clone closes the channel; messages accepted before are still sent.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    channel: Arc<OpenChannel>,
    key: Key,
    discovery_key: DiscoveryKey,
    handshake: (Handshake, Unread),
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("handle", &self.handle())
            .field(
                "discovery_key",
                &crate::buffer::ShortHex(&self.inner.discovery_key),
            )
            .finish_non_exhaustive()
    }
}

impl Channel {
    pub(super) fn new(
        channel: OpenChannel,
        (key, discovery_key): (Key, DiscoveryKey),
        handshake: (Handshake, Unread),
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                channel: Arc::new(channel),
                key,
                discovery_key,
                handshake,
            }),
        }
    }

    pub(super) fn channel(&self) -> &OpenChannel {
        &self.inner.channel
    }

    /// The core's key, 32 bytes.
    pub fn key(&self) -> &Key {
        &self.inner.key
    }

    /// The core's discovery key, 32 bytes.
    pub fn discovery_key(&self) -> &DiscoveryKey {
        &self.inner.discovery_key
    }

    /// Identifies this channel among all of its protocol, including earlier ones of the same core.
    pub fn handle(&self) -> ChannelHandle {
        self.channel().handle()
    }

    /// The handshake that the remote sent when it opened the channel.
    pub fn remote_handshake(&self) -> &Handshake {
        &self.inner.handshake.0
    }

    /// The parts of that handshake that this release does not know: flags and fields of later releases.
    pub fn remote_handshake_unread(&self) -> &Unread {
        &self.inner.handshake.1
    }

    /// The next message; `None` when the channel is closed and the queue is empty.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.recv().await
    }

    /// As [`Channel::next`], from a shared handle.
    pub async fn recv(&self) -> Option<Message> {
        Some(self.recv_with_unread().await?.0)
    }

    /// As [`Channel::recv`], with the parts of the message that this release does not know: flags and fields of later
    /// releases, which are ignored as in Node, and counted by [`ProtocolHandle::ignored`](crate::ProtocolHandle::ignored).
    /// For messages of unknown types see [`unknown_messages`](crate::ProtocolBuilder::unknown_messages).
    pub async fn recv_with_unread(&self) -> Option<(Message, Unread)> {
        poll_fn(|cx| self.channel().poll_message(cx)).await
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

    /// Sends a message. Waits while the send buffer is full; the protocol must be polled meanwhile. Once it returns, the
    /// message is sent even if every handle is dropped, unless the stream fails.
    ///
    /// # Errors
    /// [`ChannelError::Closed`], or an error when the message cannot be encoded or is too large for a record.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        let handle = self.handle();
        let send = |connection: &mut Connection| connection.send(handle, &message);
        poll_fn(|cx| self.channel().poll_send(cx, send)).await
    }

    /// Sends a message if there is room for it in the send buffer now.
    ///
    /// # Errors
    /// [`TrySendError::Full`], or as [`Channel::send`].
    pub fn try_send(&self, message: &Message) -> Result<(), TrySendError> {
        let handle = self.handle();
        self.channel()
            .try_send(|connection| connection.send(handle, message))
    }

    /// Sends messages as one protomux batch: one record, unless they fill more.
    ///
    /// # Errors
    /// As [`Channel::send`], for the first that cannot be sent; those before it were.
    pub async fn send_batch(&self, messages: &[Message]) -> Result<(), Error> {
        let handle = self.handle();
        let send = |connection: &mut Connection| connection.send_batch(handle, messages);
        poll_fn(|cx| self.channel().poll_send(cx, send)).await
    }

    /// Wakes the task once this much time has passed by the stream's clock, in place of an earlier alarm of the channel.
    #[cfg(feature = "replication")]
    pub(crate) fn wake_after(&self, cx: &Context<'_>, after: Duration) {
        self.channel().wake_after(cx, after);
    }

    /// Sends the state of our core.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn sync(&self, message: Sync) -> Result<(), Error> {
        self.send(message).await
    }

    /// Asks for a block, a hash, a seek or an upgrade.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn request(&self, message: Request) -> Result<(), Error> {
        self.send(message).await
    }

    /// Cancels a request.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn cancel(&self, message: Cancel) -> Result<(), Error> {
        self.send(message).await
    }

    /// Answers a request.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn data(&self, message: Data) -> Result<(), Error> {
        self.send(message).await
    }

    /// Answers that the requested data is not available.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn no_data(&self, message: NoData) -> Result<(), Error> {
        self.send(message).await
    }

    /// Asks the remote to announce which of these blocks it holds: `channel.want(0..32)`.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn want(&self, message: impl Into<Want>) -> Result<(), Error> {
        self.send(message.into()).await
    }

    /// Cancels a want of the same range.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn unwant(&self, message: impl Into<Unwant>) -> Result<(), Error> {
        self.send(message.into()).await
    }

    /// Announces which blocks are held, as a bitfield.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn bitfield(&self, message: Bitfield) -> Result<(), Error> {
        self.send(message).await
    }

    /// Announces a run of blocks as held, or no longer held.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn range(&self, message: Range) -> Result<(), Error> {
        self.send(message).await
    }

    /// Announces that `length` blocks from `start` are held.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn have(&self, start: u64, length: u64) -> Result<(), Error> {
        self.send(Range {
            drop: false,
            start,
            length,
        })
        .await
    }

    /// Registers an extension on this channel, or returns the registered one. From now on its messages are delivered to it
    /// and no longer to readers of the channel. See [`Extension`].
    pub fn register_extension(&self, name: &str) -> Extension {
        Extension::new(Registration::on_core(&self.inner.channel, name))
    }

    /// Sends a message of the extension `name`, as Node's `registerExtension(name).send`. The name goes on the wire
    /// only when it differs from the last one sent on this channel.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn extension(&self, name: &str, message: impl Into<Buffer>) -> Result<(), Error> {
        self.send(wire::Extension {
            name: name.into(),
            message: message.into(),
        })
        .await
    }
}

/// Received messages, until the channel is closed.
impl futures_core::Stream for Channel {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.channel()
            .poll_message(cx)
            .map(|received| received.map(|(message, _)| message))
    }
}
