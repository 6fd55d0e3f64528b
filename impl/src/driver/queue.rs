//! Receive queues, and the flow control by which a full one stops reading.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::mux::CloseReason;

/// The bytes that an item in a queue of `T` counts for besides the memory that it refers to: its slot, twice because a
/// queue grows by doubling, and the headers of its allocations.
const fn overhead<T>() -> usize {
    2 * size_of::<(T, usize)>() + 64
}

/// Received items for one reader.
pub(super) struct Queue<T> {
    serial: u64,
    items: VecDeque<(T, usize)>,
    bytes: usize,
    readers: Vec<Waker>,
    closed: Option<CloseReason>,
}

impl<T> Queue<T> {
    /// Who closed it, if it is closed.
    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Ready once it is closed.
    pub(super) fn poll_closed(&mut self, cx: &Context<'_>) -> Poll<CloseReason> {
        if let Some(reason) = self.closed {
            return Poll::Ready(reason);
        }
        self.watch(cx);
        Poll::Pending
    }

    /// Wakes the readers after a change.
    pub(super) fn wake(&mut self, flow: &mut Flow) {
        flow.to_wake.append(&mut self.readers);
    }

    /// Wakes the task when something changes.
    pub(super) fn watch(&mut self, cx: &Context<'_>) {
        remember(&mut self.readers, cx);
    }
}

/// Adds the task's waker, once.
fn remember(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

/// Flow control: whether to read, and which tasks to wake.
pub(super) struct Flow {
    /// Reading stops while a queue holds this many bytes.
    limit: usize,
    serial: u64,
    /// The full queue that stops reading.
    stalled: Option<u64>,
    driver: Option<Waker>,
    /// Tasks that wait for room in the send buffer, for a channel to open or close, or for a flush.
    senders: Vec<Waker>,
    /// Wakers to call when the state is unlocked.
    to_wake: Vec<Waker>,
}

impl Flow {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            serial: 0,
            stalled: None,
            driver: None,
            senders: Vec::new(),
            to_wake: Vec::new(),
        }
    }

    pub(super) fn queue<T>(&mut self) -> Queue<T> {
        self.serial += 1;
        Queue {
            serial: self.serial,
            items: VecDeque::new(),
            bytes: 0,
            readers: Vec::new(),
            closed: None,
        }
    }

    /// Queues an item that refers to `held` bytes of memory. If that fills the queue, reading stops until items are taken. A
    /// closed queue ignores the item.
    pub(super) fn push<T>(&mut self, queue: &mut Queue<T>, item: T, held: usize) {
        if queue.closed.is_some() {
            return;
        }
        let cost = held + overhead::<T>();
        queue.items.push_back((item, cost));
        queue.bytes += cost;
        if queue.bytes >= self.limit {
            self.stalled = Some(queue.serial);
        }
        self.to_wake.append(&mut queue.readers);
    }

    /// The next item, or `None` when the queue is closed and empty.
    pub(super) fn poll_take<T>(
        &mut self,
        cx: &Context<'_>,
        queue: &mut Queue<T>,
    ) -> Poll<Option<T>> {
        let Some((item, cost)) = queue.items.pop_front() else {
            if queue.closed.is_some() {
                return Poll::Ready(None);
            }
            queue.watch(cx);
            return Poll::Pending;
        };
        queue.bytes -= cost;
        if queue.bytes <= self.limit / 2 {
            self.relieve(queue);
        }
        Poll::Ready(Some(item))
    }

    /// Closes the queue. Queued items can still be taken, but no longer stop reading, since the queue cannot grow.
    pub(super) fn close<T>(&mut self, queue: &mut Queue<T>, reason: CloseReason) {
        queue.closed.get_or_insert(reason);
        self.to_wake.append(&mut queue.readers);
        self.relieve(queue);
    }

    fn relieve<T>(&mut self, queue: &Queue<T>) {
        if self.stalled == Some(queue.serial) {
            self.stalled = None;
            self.wake_driver();
        }
    }

    /// Drops the queue and its items.
    pub(super) fn discard<T>(&mut self, mut queue: Queue<T>) {
        self.to_wake.append(&mut queue.readers);
        self.relieve(&queue);
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }

    pub(super) fn set_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(driver) => driver.clone_from(waker),
            None => self.driver = Some(waker.clone()),
        }
    }

    pub(super) fn wake_driver(&mut self) {
        self.to_wake.extend(self.driver.take());
    }

    /// Wakes the task at the next [`Flow::wake_senders`].
    pub(super) fn watch_sending(&mut self, cx: &Context<'_>) {
        remember(&mut self.senders, cx);
    }

    pub(super) fn has_senders(&self) -> bool {
        !self.senders.is_empty()
    }

    pub(super) fn wake_senders(&mut self) {
        self.to_wake.append(&mut self.senders);
    }

    /// Wakers of tasks whose alarm rang.
    pub(super) fn wake_all(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.to_wake.extend(wakers);
    }

    /// Takes the wakers to call now that the state is unlocked.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.to_wake)
    }
}
