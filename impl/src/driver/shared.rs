//! The state shared by a protocol and its channels: the connection and the receive queues.

use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::buffer::Buffer;
use crate::connection::{ChannelHandle, Connection, RemoteOpen};
use crate::error::Error;
use crate::mux::CloseReason;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::wire::{Message, Unread};

use super::alarms::Alarms;
use super::queue::{Flow, Queue};
use super::registry::Registry;

/// Bounds of the buffers, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers {
    /// Sending waits while this much is unsent.
    pub(crate) send: usize,
    /// Reading stops while one channel's queue holds this much.
    pub(crate) receive: usize,
}

/// A message on a [`MuxChannel`](crate::MuxChannel).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MuxMessage {
    /// The message's type: in Node its position in the list of the channel's `messages`, from 0.
    pub kind: u64,
    /// The message, in the protocol's encoding.
    pub body: Buffer,
}

pub(crate) struct Shared(Mutex<State>);

pub(super) struct State {
    pub(super) connection: Connection,
    send_limit: usize,
    pub(super) flow: Flow,
    pub(super) inboxes: FxHashMap<ChannelHandle, Inbox>,
    pub(super) extensions: Registry,
    /// Bytes that the driver has taken and not written yet.
    pub(super) in_flight: usize,
    pub(super) alarms: Alarms,
}

/// The receive queue of a channel that the application holds.
pub(super) enum Inbox {
    Core(Queue<(Message, Unread)>),
    Other {
        /// The remote's handshake, once it has opened the channel.
        handshake: Option<Buffer>,
        messages: Queue<MuxMessage>,
    },
}

impl Inbox {
    pub(super) fn closed(&self) -> Option<CloseReason> {
        match self {
            Self::Core(messages) => messages.closed(),
            Self::Other { messages, .. } => messages.closed(),
        }
    }

    pub(super) fn poll_closed(&mut self, cx: &Context<'_>) -> Poll<CloseReason> {
        match self {
            Self::Core(messages) => messages.poll_closed(cx),
            Self::Other { messages, .. } => messages.poll_closed(cx),
        }
    }

    fn close(&mut self, reason: CloseReason, flow: &mut Flow) {
        match self {
            Self::Core(messages) => flow.close(messages, reason),
            Self::Other { messages, .. } => flow.close(messages, reason),
        }
    }

    pub(super) fn discard(self, flow: &mut Flow) {
        match self {
            Self::Core(messages) => flow.discard(messages),
            Self::Other { messages, .. } => flow.discard(messages),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The locked state. Tasks are woken after it is unlocked, since waking one may run or drop code that locks it: a deadlock.
pub(super) struct Guard<'a>(Option<MutexGuard<'a, State>>);

impl Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        match &self.0 {
            Some(state) => state,
            None => unreachable!("the guard is taken only when it is dropped"),
        }
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        match &mut self.0 {
            Some(state) => state,
            None => unreachable!("the guard is taken only when it is dropped"),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.0.take() else {
            return;
        };
        let woken = state.flow.take_woken();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    pub(super) fn new(connection: Connection, buffers: Buffers) -> Self {
        Self(Mutex::new(State {
            connection,
            send_limit: buffers.send,
            flow: Flow::new(buffers.receive),
            inboxes: FxHashMap::default(),
            extensions: Registry::default(),
            in_flight: 0,
            alarms: Alarms::default(),
        }))
    }

    /// Ignores poisoning: no call leaves the state half changed.
    pub(super) fn lock(&self) -> Guard<'_> {
        Guard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Runs `act` on the connection and wakes the driver, which may have work then.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state.connection);
        state.flow.wake_driver();
        result
    }

    /// Ends our side: see [`Connection::finish`].
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        Connection::finish(&mut state.connection);
        // Wakes tasks that wait for the remote to open an extension: they cannot send any more.
        state.flow.wake_senders();
        state.flow.wake_driver();
    }

    /// Closes a channel. Queued messages can still be read; later ones from the remote are dropped.
    pub(super) fn close(&self, channel: ChannelHandle) {
        let mut state = self.lock();
        state.connection.close(channel);
        // At once, because the driver may have stopped reading until this queue has room.
        state.mark_closed(channel, CloseReason::Local);
        state.flow.wake_driver();
    }
}

impl State {
    pub(super) fn is_open(&self, channel: ChannelHandle) -> bool {
        let inbox = self.inboxes.get(&channel);
        inbox.is_some_and(|inbox| inbox.closed().is_none())
    }

    /// Accepted bytes that are sent as soon as the socket takes them. Corked bytes are excluded: they wait for the uncork, so
    /// a sender that waited for them to be written would wait for itself. The mux bounds them.
    pub(super) fn unsent(&self) -> usize {
        self.connection.queued_len() + self.in_flight - self.connection.corked_len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.unsent() < self.send_limit
    }

    /// Runs due keep-alives and alarms.
    pub(super) fn tick(&mut self, now: Duration) {
        self.connection.keep_alive_if_due(now);
        self.flow.wake_all(self.alarms.ring(now));
    }

    /// Wakes senders once half of the send buffer is free.
    pub(super) fn wake_senders_if_room(&mut self) {
        if self.flow.has_senders() && self.unsent() <= self.send_limit / 2 {
            self.flow.wake_senders();
        }
    }

    /// Ok(false) when the extension is not open yet.
    pub(super) fn send_extension(&mut self, serial: u64, message: &[u8]) -> Result<bool, Error> {
        let sent = self
            .extensions
            .send(serial, message, &mut self.connection)?;
        self.flow.wake_driver();
        Ok(sent)
    }

    pub(super) fn push_core(
        &mut self,
        channel: ChannelHandle,
        message: (Message, Unread),
        held: usize,
    ) {
        if let Message::Extension(extension) = &message.0 {
            let flow = &mut self.flow;
            if self.extensions.push_on_core(channel, extension, held, flow) {
                return;
            }
        }
        if let Some(Inbox::Core(messages)) = self.inboxes.get_mut(&channel) {
            self.flow.push(messages, message, held);
        }
    }

    /// The remote has opened a channel of any protocol.
    pub(super) fn open_remote(&mut self, channel: ChannelHandle, opened: Buffer) {
        if self.extensions.opened(channel, &mut self.flow) {
            return;
        }
        let inbox = self.inboxes.get_mut(&channel);
        if let Some(Inbox::Other {
            handshake,
            messages,
        }) = inbox
        {
            *handshake = Some(opened);
            messages.wake(&mut self.flow);
        }
    }

    pub(super) fn push_other(&mut self, channel: ChannelHandle, message: MuxMessage, held: usize) {
        let MuxMessage { kind, body } = &message;
        let flow = &mut self.flow;
        if self.extensions.push(channel, *kind, body, held, flow) {
            return;
        }
        if let Some(Inbox::Other { messages, .. }) = self.inboxes.get_mut(&channel) {
            self.flow.push(messages, message, held);
        }
    }

    pub(super) fn mark_closed(&mut self, channel: ChannelHandle, reason: CloseReason) {
        if let Some(inbox) = self.inboxes.get_mut(&channel) {
            inbox.close(reason, &mut self.flow);
        }
        let connection = &mut self.connection;
        self.extensions
            .channel_closed(channel, reason, &mut self.flow, connection);
        // Wakes tasks that wait to send on it.
        self.flow.wake_senders();
    }

    /// Closes the extensions that still wait for the remote when the stream ends.
    pub(super) fn end_extensions(&mut self) {
        self.extensions
            .stream_ended(&mut self.flow, &mut self.connection);
    }

    /// Answers the remote's open of a registered extension; returns whether it was one.
    pub(super) fn answer_extension(&mut self, open: &RemoteOpen) -> bool {
        self.extensions.answer(open, &mut self.connection)
    }
}
