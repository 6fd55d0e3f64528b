//! What a protocol and its channels share: the connection, and the messages that wait to be read.

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

/// Bounds on what waits in memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers {
    /// Sending waits while this much has not left.
    pub(crate) send: usize,
    /// Reading waits while this much was not taken from one channel.
    pub(crate) receive: usize,
}

/// A message on a [`MuxChannel`](crate::MuxChannel).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MuxMessage {
    /// The message's type: in Node its position in the list of the channel's `messages`, from 0.
    pub kind: u64,
    /// The message, as its encoding in the protocol lays it out.
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

/// What arrived on a channel that somebody holds.
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

/// The locked state. Tasks are woken once it is unlocked again, for waking one may run or drop code that locks it.
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

    /// The state is sound after a panic elsewhere: no call leaves it half changed.
    pub(super) fn lock(&self) -> Guard<'_> {
        Guard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Does something to the connection, which may give the driver work.
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
        // Those that wait for the remote to open an extension learn that they cannot send any more.
        state.flow.wake_senders();
        state.flow.wake_driver();
    }

    /// Closes a channel. What is queued can still be taken; what the remote has sent beyond that is dropped.
    pub(super) fn close(&self, channel: ChannelHandle) {
        let mut state = self.lock();
        state.connection.close(channel);
        // At once, for the driver may be waiting for this very queue to be read.
        state.mark_closed(channel, CloseReason::Local);
        state.flow.wake_driver();
    }
}

impl State {
    pub(super) fn is_open(&self, channel: ChannelHandle) -> bool {
        let inbox = self.inboxes.get(&channel);
        inbox.is_some_and(|inbox| inbox.closed().is_none())
    }

    /// Bytes accepted for sending that leave as soon as the socket takes them. Those that are corked are left out, for
    /// they leave only once somebody has sent all that is to go with them; the mux bounds them by itself.
    pub(super) fn unsent(&self) -> usize {
        self.connection.queued_len() + self.in_flight - self.connection.corked_len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.unsent() < self.send_limit
    }

    /// Does what is due: keep-alives and alarms.
    pub(super) fn tick(&mut self, now: Duration) {
        self.connection.keep_alive_if_due(now);
        self.flow.wake_all(self.alarms.ring(now));
    }

    /// Lets senders go on once half of the room is free again.
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
        // Those that wait to send on it learn that it is closed.
        self.flow.wake_senders();
    }

    /// The stream ended: extensions that still wait for the remote wait in vain.
    pub(super) fn end_extensions(&mut self) {
        self.extensions
            .stream_ended(&mut self.flow, &mut self.connection);
    }

    /// Whether the remote opened an extension that is registered here. It is answered then.
    pub(super) fn answer_extension(&mut self, open: &RemoteOpen) -> bool {
        self.extensions.answer(open, &mut self.connection)
    }
}
