//! What a protocol and its channels share: the connection, and the messages that wait to be read.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::connection::{ChannelHandle, Connection};
use crate::error::Error;
use crate::mux::CloseReason;
use crate::wire::Message;

/// What a queued message counts for beyond its bytes.
const MESSAGE_OVERHEAD: usize = 128;

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
    buffers: Buffers,
    queues: HashMap<ChannelHandle, Queue>,
    /// The channel whose queue is full, so that nothing more is read.
    stalled: Option<ChannelHandle>,
    /// Bytes that the driver has taken and not written yet.
    pub(crate) in_flight: usize,
    driver: Option<Waker>,
    senders: Vec<Waker>,
    /// Woken when the state is unlocked.
    to_wake: Vec<Waker>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<(Message, usize)>,
    bytes: usize,
    readers: Vec<Waker>,
    closed: Option<CloseReason>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn remember(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
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
        let wakers = std::mem::take(&mut state.to_wake);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    pub(crate) fn new(connection: Connection, buffers: Buffers) -> Self {
        Self(Mutex::new(State {
            connection,
            buffers,
            queues: HashMap::new(),
            stalled: None,
            in_flight: 0,
            driver: None,
            senders: Vec::new(),
            to_wake: Vec::new(),
        }))
    }

    /// The state is sound after a panic elsewhere: no call leaves it half changed.
    pub(crate) fn lock(&self) -> Guard<'_> {
        Guard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
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
        state.wake_driver();
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
        state.wake_driver();
        Ok(true)
    }

    /// The next message of a channel, or none when it is closed and everything was read.
    pub(crate) fn poll_message(
        &self,
        cx: &Context<'_>,
        channel: ChannelHandle,
    ) -> Poll<Option<Message>> {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(queue) = state.queues.get_mut(&channel) else {
            return Poll::Ready(None);
        };
        let Some((message, cost)) = queue.messages.pop_front() else {
            if queue.closed.is_some() {
                return Poll::Ready(None);
            }
            remember(&mut queue.readers, cx);
            return Poll::Pending;
        };
        queue.bytes -= cost;
        if state.stalled == Some(channel) && queue.bytes <= state.buffers.receive / 2 {
            state.stalled = None;
            state.wake_driver();
        }
        Poll::Ready(Some(message))
    }

    /// Ready once the channel is closed.
    pub(crate) fn poll_closed(
        &self,
        cx: &Context<'_>,
        channel: ChannelHandle,
    ) -> Poll<CloseReason> {
        let mut state = self.lock();
        match state.queues.get_mut(&channel) {
            None => Poll::Ready(CloseReason::Local),
            Some(queue) => match queue.closed {
                Some(reason) => Poll::Ready(reason),
                None => {
                    remember(&mut queue.readers, cx);
                    Poll::Pending
                }
            },
        }
    }

    pub(crate) fn close_reason(&self, channel: ChannelHandle) -> Option<CloseReason> {
        self.lock().queues.get(&channel)?.closed
    }

    /// Closes a channel. Its queue can still be read.
    pub(crate) fn close(&self, channel: ChannelHandle) -> Result<(), Error> {
        let mut state = self.lock();
        let closed = state.connection.close(channel);
        state.wake_driver();
        closed
    }

    /// The last handle of a channel is gone.
    pub(crate) fn release(&self, channel: ChannelHandle) {
        let mut state = self.lock();
        if let Some(queue) = state.queues.remove(&channel) {
            state.to_wake.extend(queue.readers);
        }
        if state.stalled == Some(channel) {
            state.stalled = None;
        }
        // It may be closed already, and nobody is left to be told.
        let _ = state.connection.close(channel);
        state.wake_driver();
    }
}

impl State {
    fn is_open(&self, channel: ChannelHandle) -> bool {
        self.queues
            .get(&channel)
            .is_some_and(|queue| queue.closed.is_none())
    }

    /// Bytes accepted for sending that have not left.
    pub(crate) fn unsent(&self) -> usize {
        self.connection.transmit().len() + self.connection.held_len() + self.in_flight
    }

    fn has_room(&self) -> bool {
        self.unsent() < self.buffers.send
    }

    /// Lets senders go on once half of the room is free again.
    pub(crate) fn wake_senders_if_room(&mut self) {
        if !self.senders.is_empty() && self.unsent() <= self.buffers.send / 2 {
            self.to_wake.append(&mut self.senders);
        }
    }

    pub(crate) fn set_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(driver) => driver.clone_from(waker),
            None => self.driver = Some(waker.clone()),
        }
    }

    pub(crate) fn wake_driver(&mut self) {
        self.to_wake.extend(self.driver.take());
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }

    pub(crate) fn add_queue(&mut self, channel: ChannelHandle) {
        self.queues.insert(channel, Queue::default());
    }

    /// Queues a message. If that fills the queue, nothing more is to be read until some was taken from it.
    pub(crate) fn push(&mut self, channel: ChannelHandle, message: Message, body_len: usize) {
        let Some(queue) = self.queues.get_mut(&channel) else {
            return;
        };
        let cost = body_len + MESSAGE_OVERHEAD;
        queue.messages.push_back((message, cost));
        queue.bytes += cost;
        if queue.bytes >= self.buffers.receive {
            self.stalled = Some(channel);
        }
        self.to_wake.append(&mut queue.readers);
    }

    pub(crate) fn mark_closed(&mut self, channel: ChannelHandle, reason: CloseReason) {
        if let Some(queue) = self.queues.get_mut(&channel) {
            queue.closed = Some(reason);
            self.to_wake.append(&mut queue.readers);
        }
        // Those that wait to send on it learn that it is closed.
        self.to_wake.append(&mut self.senders);
    }
}
