//! The common part of [`Channel`](crate::Channel) and [`MuxChannel`](crate::MuxChannel).

use std::sync::Arc;
use std::task::{Context, Poll};
#[cfg(feature = "replication")]
use std::time::Duration;

use crate::buffer::Buffer;
use crate::connection::{ChannelHandle, ChannelOptions, Connection};
use crate::error::{Error, TrySendError};
use crate::mux::CloseReason;
use crate::wire::{Message, Unread};

use super::shared::{Inbox, MuxMessage, Shared, State};

/// A locally opened channel, which stays open as long as this value lives.
pub(super) struct OpenChannel {
    pub(super) shared: Arc<Shared>,
    handle: ChannelHandle,
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.alarms.remove(self.handle);
        if let Some(inbox) = state.inboxes.remove(&self.handle) {
            inbox.discard(&mut state.flow);
        }
        state.connection.close(self.handle);
        state.flow.wake_driver();
    }
}

impl OpenChannel {
    /// The channel of a core, which both sides have opened.
    pub(super) fn of_core(shared: &Arc<Shared>, state: &mut State, handle: ChannelHandle) -> Self {
        let messages = state.flow.queue();
        state.inboxes.insert(handle, Inbox::Core(messages));
        Self {
            shared: Arc::clone(shared),
            handle,
        }
    }

    /// Opens a channel of any protocol.
    pub(super) fn open(shared: &Arc<Shared>, options: &ChannelOptions) -> Result<Self, Error> {
        let mut state = shared.lock();
        let handle = state.connection.open_channel(options)?;
        let inbox = Inbox::Other {
            handshake: None,
            messages: state.flow.queue(),
        };
        state.inboxes.insert(handle, inbox);
        state.flow.wake_driver();
        Ok(Self {
            shared: Arc::clone(shared),
            handle,
        })
    }

    pub(super) fn handle(&self) -> ChannelHandle {
        self.handle
    }

    /// Ready once there is room in the send buffer, or the channel is closed.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.is_open(self.handle) && !state.has_room() {
            state.flow.watch_sending(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Sends even if the send buffer is full.
    pub(super) fn send_now(
        &self,
        send: impl FnOnce(&mut Connection) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.shared.with(send)
    }

    /// Sends once there is room.
    pub(super) fn poll_send(
        &self,
        cx: &Context<'_>,
        send: impl FnOnce(&mut Connection) -> Result<(), Error>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.shared.lock();
        if state.is_open(self.handle) && !state.has_room() {
            state.flow.watch_sending(cx);
            return Poll::Pending;
        }
        let sent = send(&mut state.connection);
        state.flow.wake_driver();
        Poll::Ready(sent)
    }

    /// Sends if there is room now.
    pub(super) fn try_send(
        &self,
        send: impl FnOnce(&mut Connection) -> Result<(), Error>,
    ) -> Result<(), TrySendError> {
        let mut state = self.shared.lock();
        if state.is_open(self.handle) && !state.has_room() {
            return Err(TrySendError::Full);
        }
        send(&mut state.connection)?;
        state.flow.wake_driver();
        Ok(())
    }

    /// Ready once all accepted data, of this channel and the others, is written, or the channel is closed.
    pub(super) fn poll_flush(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.is_open(self.handle) && state.unsent() > 0 {
            state.flow.watch_sending(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The next message of a core's channel, or `None` when it is closed and the queue is empty.
    pub(super) fn poll_message(&self, cx: &Context<'_>) -> Poll<Option<(Message, Unread)>> {
        let state = &mut *self.shared.lock();
        match state.inboxes.get_mut(&self.handle) {
            Some(Inbox::Core(messages)) => state.flow.poll_take(cx, messages),
            _ => Poll::Ready(None),
        }
    }

    /// As [`OpenChannel::poll_message`], for a channel of any protocol.
    pub(super) fn poll_mux_message(&self, cx: &Context<'_>) -> Poll<Option<MuxMessage>> {
        let state = &mut *self.shared.lock();
        match state.inboxes.get_mut(&self.handle) {
            Some(Inbox::Other { messages, .. }) => state.flow.poll_take(cx, messages),
            _ => Poll::Ready(None),
        }
    }

    /// Ready once the remote has opened the channel too, with its handshake, or the channel is closed.
    pub(super) fn poll_opened(&self, cx: &Context<'_>) -> Poll<Result<Buffer, CloseReason>> {
        let mut state = self.shared.lock();
        let inbox = state.inboxes.get_mut(&self.handle);
        let Some(Inbox::Other {
            handshake,
            messages,
        }) = inbox
        else {
            return Poll::Ready(Err(CloseReason::Local));
        };
        if let Some(handshake) = handshake {
            return Poll::Ready(Ok(handshake.clone()));
        }
        messages.poll_closed(cx).map(Err)
    }

    /// Ready once the channel is closed.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<CloseReason> {
        match self.shared.lock().inboxes.get_mut(&self.handle) {
            Some(inbox) => inbox.poll_closed(cx),
            None => Poll::Ready(CloseReason::Local),
        }
    }

    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.shared.lock().inboxes.get(&self.handle)?.closed()
    }

    pub(super) fn close(&self) {
        self.shared.close(self.handle);
    }

    /// Wakes the task once this much time has passed by the clock of the stream, which must be polled meanwhile. A channel
    /// has one alarm: a later call replaces it, and closing the channel removes it.
    #[cfg(feature = "replication")]
    pub(super) fn wake_after(&self, cx: &Context<'_>, after: Duration) {
        let mut state = self.shared.lock();
        state.alarms.set(cx, self.handle, after);
        state.flow.wake_driver();
    }
}
