//! What a protocol and its channels share: the connection, and the messages that wait to be read.

use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::buffer::Buffer;
use crate::connection::{ChannelHandle, ChannelOptions, Connection};
use crate::error::Error;
use crate::mux::CloseReason;
use crate::mux_channel::MuxMessage;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::wire::{Message, Unread};

use super::alarms::Alarms;
use super::extensions::Extensions;
use super::queue::{Flow, Queue, remember};

/// Bounds on what waits in memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers {
    /// Sending waits while this much has not left.
    pub(crate) send: usize,
    /// Reading waits while this much was not taken from one channel.
    pub(crate) receive: usize,
}

pub(crate) struct Shared(Mutex<State>);

pub(crate) struct State {
    pub(crate) connection: Connection,
    send_limit: usize,
    pub(crate) flow: Flow,
    cores: FxHashMap<ChannelHandle, Queue<(Message, Unread)>>,
    raw: FxHashMap<ChannelHandle, RawQueue>,
    pub(super) extensions: Extensions,
    /// Bytes that the driver has taken and not written yet.
    pub(crate) in_flight: usize,
    pub(super) senders: Vec<Waker>,
    alarms: Alarms,
}

/// What arrived on a channel of any protocol.
struct RawQueue {
    /// The peer's handshake, once it has opened the channel.
    opened: Option<Buffer>,
    messages: Queue<MuxMessage>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The locked state. Tasks are woken once it is unlocked again, for waking one may run or drop code that locks it.
pub(crate) struct Guard<'a>(Option<MutexGuard<'a, State>>);

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
        let wakers = std::mem::take(&mut state.flow.to_wake);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    pub(crate) fn new(connection: Connection, buffers: Buffers) -> Self {
        Self(Mutex::new(State {
            connection,
            send_limit: buffers.send,
            flow: Flow::new(buffers.receive),
            cores: FxHashMap::default(),
            raw: FxHashMap::default(),
            extensions: Extensions::default(),
            in_flight: 0,
            senders: Vec::new(),
            alarms: Alarms::default(),
        }))
    }

    /// The state is sound after a panic elsewhere: no call leaves it half changed.
    pub(crate) fn lock(&self) -> Guard<'_> {
        Guard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Does something to the connection, which may give the driver work.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state.connection);
        state.flow.wake_driver();
        result
    }

    /// Wakes the task once this much time has passed by the clock of the stream, which has to be polled meanwhile. One
    /// alarm for each channel: a later one replaces it. Closing the channel takes it away.
    #[cfg(feature = "replication")]
    pub(crate) fn wake_after(&self, cx: &Context<'_>, channel: ChannelHandle, after: Duration) {
        let mut state = self.lock();
        state.alarms.set(cx, channel, after);
        state.flow.wake_driver();
    }

    /// Sends on a channel once there is room.
    pub(crate) fn poll_send(
        &self,
        cx: &Context<'_>,
        channel: ChannelHandle,
        send: impl FnOnce(&mut Connection) -> Result<(), Error>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        if state.is_open(channel) && !state.has_room() {
            remember(&mut state.senders, cx);
            return Poll::Pending;
        }
        let sent = send(&mut state.connection);
        state.flow.wake_driver();
        Poll::Ready(sent)
    }

    /// Sends on a channel if there is room now.
    pub(crate) fn try_send(
        &self,
        channel: ChannelHandle,
        send: impl FnOnce(&mut Connection) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut state = self.lock();
        if state.is_open(channel) && !state.has_room() {
            return Ok(false);
        }
        send(&mut state.connection)?;
        state.flow.wake_driver();
        Ok(true)
    }

    /// The next message of a core's channel, or none when it is closed and everything was read.
    pub(crate) fn poll_message(
        &self,
        cx: &Context<'_>,
        channel: ChannelHandle,
    ) -> Poll<Option<(Message, Unread)>> {
        let state = &mut *self.lock();
        match state.cores.get_mut(&channel) {
            Some(queue) => state.flow.poll_take(cx, queue),
            None => Poll::Ready(None),
        }
    }

    /// As [`Shared::poll_message`], of a channel of any protocol.
    pub(crate) fn poll_raw(
        &self,
        cx: &Context<'_>,
        channel: ChannelHandle,
    ) -> Poll<Option<MuxMessage>> {
        let state = &mut *self.lock();
        match state.raw.get_mut(&channel) {
            Some(raw) => state.flow.poll_take(cx, &mut raw.messages),
            None => Poll::Ready(None),
        }
    }

    /// Ready once the remote has opened the channel too, with its handshake, or the channel is closed.
    pub(crate) fn poll_opened(
        &self,
        cx: &Context<'_>,
        channel: ChannelHandle,
    ) -> Poll<Result<Buffer, CloseReason>> {
        let mut state = self.lock();
        let Some(raw) = state.raw.get_mut(&channel) else {
            return Poll::Ready(Err(CloseReason::Local));
        };
        if let Some(handshake) = &raw.opened {
            return Poll::Ready(Ok(handshake.clone()));
        }
        if let Some(reason) = raw.messages.closed() {
            return Poll::Ready(Err(reason));
        }
        raw.messages.watch(cx);
        Poll::Pending
    }

    /// Ready once the channel is closed.
    pub(crate) fn poll_closed(
        &self,
        cx: &Context<'_>,
        channel: ChannelHandle,
    ) -> Poll<CloseReason> {
        let mut state = self.lock();
        if let Some(queue) = state.cores.get_mut(&channel) {
            queue.poll_closed(cx)
        } else if let Some(raw) = state.raw.get_mut(&channel) {
            raw.messages.poll_closed(cx)
        } else {
            Poll::Ready(CloseReason::Local)
        }
    }

    pub(crate) fn close_reason(&self, channel: ChannelHandle) -> Option<CloseReason> {
        self.lock().closed(channel)?
    }

    /// Opens a channel of any protocol, and makes its queue.
    pub(crate) fn open_raw(&self, options: &ChannelOptions) -> Result<ChannelHandle, Error> {
        let mut state = self.lock();
        let channel = state.connection.open_channel(options)?;
        let messages = state.flow.queue();
        let raw = RawQueue {
            opened: None,
            messages,
        };
        state.raw.insert(channel, raw);
        state.flow.wake_driver();
        Ok(channel)
    }

    /// Closes a channel. What is queued can still be taken; what the remote has sent beyond that is dropped.
    pub(crate) fn close(&self, channel: ChannelHandle) -> Result<(), Error> {
        let mut state = self.lock();
        state.connection.close(channel)?;
        // At once, for the driver may be waiting for this very queue to be read.
        state.mark_closed(channel, CloseReason::Local);
        state.flow.wake_driver();
        Ok(())
    }

    /// The last handle of a channel is gone.
    pub(crate) fn release(&self, channel: ChannelHandle) {
        let mut state = self.lock();
        state.alarms.remove(channel);
        if let Some(queue) = state.cores.remove(&channel) {
            state.flow.discard(queue);
        }
        if let Some(raw) = state.raw.remove(&channel) {
            state.flow.discard(raw.messages);
        }
        // It may be closed already, and nobody is left to be told.
        let _ = state.connection.close(channel);
        state.flow.wake_driver();
    }
}

impl State {
    /// None if nobody holds the channel, else who closed it, if it is closed.
    pub(super) fn closed(&self, channel: ChannelHandle) -> Option<Option<CloseReason>> {
        let core = self.cores.get(&channel).map(Queue::closed);
        core.or_else(|| self.raw.get(&channel).map(|raw| raw.messages.closed()))
    }

    fn is_open(&self, channel: ChannelHandle) -> bool {
        self.closed(channel) == Some(None)
    }

    /// Bytes accepted for sending that leave as soon as the socket takes them. Those that are corked are left out, for
    /// they leave only once somebody has sent all that is to go with them; the mux bounds them by itself.
    fn unsent(&self) -> usize {
        self.connection.queued_len() + self.in_flight - self.connection.corked_len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.unsent() < self.send_limit
    }

    /// Lets senders go on once half of the room is free again.
    pub(crate) fn wake_senders_if_room(&mut self) {
        if !self.senders.is_empty() && self.unsent() <= self.send_limit / 2 {
            self.flow.to_wake.append(&mut self.senders);
        }
    }

    /// Wakes the tasks whose time has come.
    pub(super) fn ring(&mut self, now: Duration) {
        self.alarms.ring(now, &mut self.flow.to_wake);
    }

    /// When the next task is to be woken.
    pub(super) fn next_alarm(&self) -> Option<Duration> {
        self.alarms.next()
    }

    /// A core's channel is open on both sides.
    pub(crate) fn add_core(&mut self, channel: ChannelHandle) {
        let queue = self.flow.queue();
        self.cores.insert(channel, queue);
    }

    pub(crate) fn push_core(
        &mut self,
        channel: ChannelHandle,
        message: (Message, Unread),
        held: usize,
    ) {
        if let Message::Extension(extension) = &message.0 {
            if self.push_extension(channel, extension, held) {
                return;
            }
        }
        if let Some(queue) = self.cores.get_mut(&channel) {
            self.flow.push(queue, message, held);
        }
    }

    /// The remote has opened a channel of any protocol.
    pub(crate) fn open_remote(&mut self, channel: ChannelHandle, handshake: Buffer) {
        if self.open_extension(channel) {
            return;
        }
        if let Some(raw) = self.raw.get_mut(&channel) {
            raw.opened = Some(handshake);
            raw.messages.wake(&mut self.flow);
        }
    }

    pub(crate) fn push_raw(&mut self, channel: ChannelHandle, message: MuxMessage, held: usize) {
        if self.push_own(channel, message.kind, &message.body, held) {
            return;
        }
        if let Some(raw) = self.raw.get_mut(&channel) {
            self.flow.push(&mut raw.messages, message, held);
        }
    }

    pub(crate) fn mark_closed(&mut self, channel: ChannelHandle, reason: CloseReason) {
        if let Some(queue) = self.cores.get_mut(&channel) {
            self.flow.close(queue, reason);
        }
        if let Some(raw) = self.raw.get_mut(&channel) {
            self.flow.close(&mut raw.messages, reason);
        }
        self.close_extensions(channel, reason);
        // Those that wait to send on it learn that it is closed.
        self.flow.to_wake.append(&mut self.senders);
    }
}
