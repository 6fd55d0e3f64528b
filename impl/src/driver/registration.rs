//! An extension's registration, through which an [`Extension`](crate::Extension) sends and receives.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::connection::ChannelOptions;
use crate::error::{Error, TrySendError};
use crate::mux::{CloseReason, MuxError};

use super::open_channel::OpenChannel;
use super::registry::Carrier;
use super::shared::{Inbox, Shared, State};

/// Keeps an extension registered as long as it lives.
pub(super) struct Registration {
    shared: Arc<Shared>,
    serial: u64,
    name: String,
    /// Keeps the core's channel open for the extension.
    _channel: Option<Arc<OpenChannel>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let state = &mut *self.shared.lock();
        let State {
            extensions,
            flow,
            connection,
            ..
        } = state;
        extensions.unregister(self.serial, flow, connection);
    }
}

impl Registration {
    /// Registers an extension of the stream.
    pub(super) fn on_stream(shared: &Arc<Shared>, name: &str) -> Result<Self, Error> {
        let state = &mut *shared.lock();
        let extensions = &mut state.extensions;
        let serial = match extensions.register_again(Carrier::Stream, name) {
            Some(serial) => serial,
            None => {
                let channel = state.connection.open_channel(&ChannelOptions::new(name))?;
                state.connection.pair_extension(name);
                state.flow.wake_driver();
                let serial = extensions.register(Carrier::Stream, name, &mut state.flow);
                extensions.open(serial, channel);
                serial
            }
        };
        Ok(Self {
            shared: Arc::clone(shared),
            serial,
            name: name.to_owned(),
            _channel: None,
        })
    }

    /// Registers an extension on a core's channel.
    pub(super) fn on_core(channel: &Arc<OpenChannel>, name: &str) -> Self {
        let state = &mut *channel.shared.lock();
        let carrier = Carrier::Core(channel.handle());
        let again = state.extensions.register_again(carrier, name);
        let serial = again.unwrap_or_else(|| {
            let State {
                extensions,
                flow,
                connection,
                inboxes,
                ..
            } = state;
            let serial = extensions.register(carrier, name, flow);
            if let Some(reason) = inboxes.get(&channel.handle()).and_then(Inbox::closed) {
                extensions.close(serial, reason, flow, connection);
            }
            serial
        });
        Self {
            shared: Arc::clone(&channel.shared),
            serial,
            name: name.to_owned(),
            _channel: Some(Arc::clone(channel)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn poll_opened(&self, cx: &Context<'_>) -> Poll<Result<(), CloseReason>> {
        match self.shared.lock().extensions.get_mut(self.serial) {
            None => Poll::Ready(Err(CloseReason::Local)),
            Some(entry) if entry.opened => Poll::Ready(Ok(())),
            Some(entry) => entry.messages.poll_closed(cx).map(Err),
        }
    }

    pub(super) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<Buffer>> {
        let state = &mut *self.shared.lock();
        match state.extensions.get_mut(self.serial) {
            Some(entry) => state.flow.poll_take(cx, &mut entry.messages),
            None => Poll::Ready(None),
        }
    }

    /// Ready once the extension is open on both sides and there is room, or it is closed.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.shared.lock();
        let entry = state.extensions.get(self.serial);
        let is_opened = entry.is_some_and(|entry| entry.opened);
        if self.is_open(state) && !(is_opened && state.has_room()) {
            state.flow.watch_sending(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Sends even if the send buffer is full, if the extension is open on both sides.
    pub(super) fn send_now(&self, message: &[u8]) -> Result<(), Error> {
        match self.shared.lock().send_extension(self.serial, message) {
            Ok(true) => Ok(()),
            Ok(false) => Err(MuxError::Closed.into()),
            Err(error) => Err(error),
        }
    }

    /// Sends once the extension is open on both sides and there is room.
    pub(super) fn poll_send(&self, cx: &Context<'_>, message: &[u8]) -> Poll<Result<(), Error>> {
        let state = &mut *self.shared.lock();
        match self.send_if_possible(state, message) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(TrySendError::Rejected(error)) => Poll::Ready(Err(error)),
            Err(TrySendError::Full) => {
                state.flow.watch_sending(cx);
                Poll::Pending
            }
        }
    }

    /// Sends if that is possible now.
    pub(super) fn try_send(&self, message: &[u8]) -> Result<(), TrySendError> {
        self.send_if_possible(&mut self.shared.lock(), message)
    }

    fn send_if_possible(&self, state: &mut State, message: &[u8]) -> Result<(), TrySendError> {
        if self.is_open(state) && !state.has_room() {
            return Err(TrySendError::Full);
        }
        match state.send_extension(self.serial, message)? {
            true => Ok(()),
            false => Err(TrySendError::Full),
        }
    }

    /// Whether messages can be sent, now or once the remote has registered it.
    fn is_open(&self, state: &State) -> bool {
        let entry = state.extensions.get(self.serial);
        entry.is_some_and(|entry| entry.messages.closed().is_none())
            && !state.connection.is_finishing()
    }

    /// Ready once all accepted data is written, or the extension is closed.
    pub(super) fn poll_flush(&self, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.shared.lock();
        let entry = state.extensions.get(self.serial);
        let is_closed = entry.is_none_or(|entry| entry.messages.closed().is_some());
        if !is_closed && state.unsent() > 0 {
            state.flow.watch_sending(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        let state = self.shared.lock();
        state.extensions.get(self.serial)?.messages.closed()
    }

    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<CloseReason> {
        match self.shared.lock().extensions.get_mut(self.serial) {
            Some(entry) => entry.messages.poll_closed(cx),
            None => Poll::Ready(CloseReason::Local),
        }
    }

    pub(super) fn close(&self) {
        let state = &mut *self.shared.lock();
        let State {
            extensions,
            flow,
            connection,
            ..
        } = state;
        extensions.close(self.serial, CloseReason::Local, flow, connection);
    }
}
