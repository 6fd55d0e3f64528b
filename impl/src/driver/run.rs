//! The driver: moves bytes between a socket and a [`Connection`], and time into it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crate::connection::{Connection, ConnectionConfig, ConnectionError, ConnectionEvent};
use crate::error::Error;
use crate::runtime::{Io, Timer};

use super::channel::Channel;
use super::event::Event;
use super::open_channel::OpenChannel;
use super::output::Output;
use super::shared::{Buffers, MuxMessage, Shared, State};

/// Bytes read at once.
const READ_BUFFER: usize = 64 * 1024;

/// The number of reads in one poll before it yields to other tasks.
const READS_PER_POLL: usize = 16;

/// The number of packets read in one poll before it yields to other tasks: a record of 16 MB may have five million.
pub(super) const PACKETS_PER_POLL: u32 = 4096;

/// The number of events that [`Protocol::drive`](crate::Protocol::drive) keeps before it stops reading.
const BACKLOG: usize = 64;

/// How long the driver waits for the socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// While the socket accepts no outgoing bytes.
    pub(super) write: Option<Duration>,
    /// While the stream is being closed.
    pub(super) close: Duration,
}

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A read buffer shared by all protocols that a thread polls. It holds only encrypted data, and only during a read.
struct ReadBuffer(Vec<u8>);

impl ReadBuffer {
    /// A stream that polls another protocol inside its read gets a new one.
    fn take() -> Self {
        let mut buffer = READ.try_with(Cell::take).unwrap_or_default();
        buffer.resize(READ_BUFFER, 0);
        Self(buffer)
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // The thread-local is gone while the thread exits.
        let _ = READ.try_with(|kept| kept.set(buffer));
    }
}

/// The driver's phase. `since` is when it began: the close time-out runs from then, or from the last byte that the socket
/// accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reads, writes and hands out events.
    Running,
    /// The remote has ended, or [`Protocol::close`](crate::Protocol::close) was called: accepted data is still sent, after
    /// the handshake if that is not complete.
    Draining { since: Duration },
    /// [`Protocol::close`](crate::Protocol::close) has ended the connection: input is discarded until the remote ends its
    /// side too.
    Closing { since: Duration },
    /// The connection is lost, and the caller has the error. Events of its channels are still pending.
    Lost,
    /// No more events follow.
    Finished,
}

/// Runs a connection over any byte stream and clock.
pub(super) struct Driver<S: Io> {
    pub(super) io: S,
    clock: S::Timer,
    shared: Arc<Shared>,
    phase: Phase,
    output: Output,
    /// Events to return before polling the connection for more.
    backlog: VecDeque<Result<Event, Error>>,
    /// Packets that may be read before yielding to other tasks.
    budget: u32,
    timeouts: Timeouts,
}

impl<S: Io> Drop for Driver<S> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.connection.end();
        close_channels(&mut state);
        drop(state);
        // A stream that panicked must not be polled again.
        if !self.is_over() && !std::thread::panicking() {
            // Best effort: writes what the socket takes now. Errors cannot be reported from `drop`.
            let _ = self.poll_write(&mut Context::from_waker(Waker::noop()), self.clock.now());
        }
    }
}

/// Closes every channel after the stream was lost; returns their events.
fn close_channels(state: &mut State) -> Vec<Result<Event, Error>> {
    let mut events = Vec::new();
    while let Ok(Some(event)) = state.connection.poll_event() {
        match event {
            ConnectionEvent::ChannelClosed {
                channel,
                discovery_key,
                reason,
            } => {
                state.mark_closed(channel, reason);
                events.push(Ok(Event::Close {
                    channel,
                    discovery_key,
                    reason,
                }));
            }
            ConnectionEvent::MuxChannelClosed { channel, reason } => {
                state.mark_closed(channel, reason);
            }
            _ => {}
        }
    }
    state.end_extensions();
    events
}

impl<S: Io> Driver<S> {
    pub(super) fn new(
        io: S,
        config: ConnectionConfig,
        buffers: Buffers,
        timeouts: Timeouts,
    ) -> Self {
        let clock = io.timer();
        let connection = Connection::new(config, clock.now());
        Self {
            io,
            clock,
            shared: Arc::new(Shared::new(connection, buffers)),
            phase: Phase::Running,
            output: Output::new(),
            backlog: VecDeque::new(),
            budget: PACKETS_PER_POLL,
            timeouts,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Lost | Phase::Finished)
    }

    /// The deadline for the end of the stream, once it is ending.
    fn close_deadline(&self) -> Option<Duration> {
        let (Phase::Draining { since } | Phase::Closing { since }) = self.phase else {
            return None;
        };
        let since = self.output.last_written().map_or(since, |at| at.max(since));
        Some(since.saturating_add(self.timeouts.close))
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        match self.backlog.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.poll_event(cx),
        }
    }

    /// Makes progress without returning events.
    pub(super) fn poll_backlog(&mut self, cx: &mut Context<'_>) {
        while self.backlog.len() < BACKLOG {
            match self.poll_event(cx) {
                Poll::Ready(Some(event)) => self.backlog.push_back(event),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        // Reading stops, but writing continues, and the stall time-out limits the wait.
        let now = self.clock.now();
        let mut state = self.shared.lock();
        state.flow.set_driver(cx.waker());
        state.connection.pause_reading(now);
        state.tick(now);
        drop(state);
        if let Poll::Ready(Err(error)) = self.poll_write(cx, now) {
            self.output.fail(error);
        }
        if let Some(error) = self.timed_out(now) {
            let event = self.fail(error);
            self.backlog.push_back(event);
        } else if !self.is_over() {
            let deadline = self.next_deadline();
            if self.clock.poll_deadline(cx, deadline).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let event = self.poll_some(cx);
        if event.is_pending() {
            self.budget = PACKETS_PER_POLL;
        }
        event
    }

    /// As [`Driver::poll_event`], until it must yield to other tasks.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        if self.phase == Phase::Finished {
            return Poll::Ready(None);
        }
        for _ in 0..READS_PER_POLL {
            let now = self.clock.now();
            let mut state = self.shared.lock();
            state.flow.set_driver(cx.waker());
            state.tick(now);
            drop(state);

            let blocked = match self.poll_write(cx, now) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    // Data that the remote sent before it went away is read first.
                    self.output.fail(error);
                    true
                }
            };
            if let Some(event) = self.take_event() {
                return Poll::Ready(Some(event));
            }
            if self.budget == 0 {
                break;
            }

            let mut state = self.shared.lock();
            if state.connection.is_ended() {
                drop(state);
                return self.poll_finish(cx, now).map(|()| None);
            }
            if !blocked && !state.connection.transmit().is_empty() {
                continue;
            }
            // Data accepted before the handshake is still to be sent.
            let held = state.connection.held_len() > 0;
            let finishing = state.connection.is_finishing() && !held && !blocked;
            let reading = !state.flow.is_stalled() && state.connection.wants_input();
            if reading {
                state.connection.resume_reading(now);
            } else {
                state.connection.pause_reading(now);
            }
            drop(state);

            if finishing && !self.output.is_ended() {
                if let Poll::Ready(Err(error)) = self.poll_end_output(cx, now) {
                    self.output.fail(error);
                }
            }
            if reading {
                match self.poll_read(cx, now) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(self.fail(error))),
                    Poll::Pending => {
                        if let Some(error) = self.output.take_error() {
                            return Poll::Ready(Some(self.fail(error)));
                        }
                    }
                }
            }

            // Checked only when nothing is left to read: data that arrived in time counts, however late this is polled.
            if let Some(error) = self.timed_out(now) {
                return Poll::Ready(Some(self.fail(error)));
            }
            let deadline = self.next_deadline();
            if self.clock.poll_deadline(cx, deadline).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes received bytes to the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<Result<(), Error>> {
        let mut buffer = ReadBuffer::take();
        let count = ready!(self.io.poll_read(cx, &mut buffer.0))?;
        let mut state = self.shared.lock();
        match count {
            0 => state.connection.receive_end(),
            count => state.connection.receive(&buffer.0[..count], now),
        }
        Poll::Ready(Ok(()))
    }

    /// The error of an expired time-out, if any.
    fn timed_out(&self, now: Duration) -> Option<Error> {
        let state = self.shared.lock();
        let error = state.connection.timed_out(now);
        let write = self.write_deadline().filter(|&at| now >= at);
        let write = write.and(self.timeouts.write);
        let error = write.map(ConnectionError::WriteTimeout).or(error);
        error.map(Error::from)
    }

    fn write_deadline(&self) -> Option<Duration> {
        // A stream that is ending has the close time-out instead.
        let since = self.output.refused_since();
        let since = since.filter(|_| self.close_deadline().is_none());
        Some(since?.saturating_add(self.timeouts.write?))
    }

    fn next_deadline(&self) -> Option<Duration> {
        let state = self.shared.lock();
        let deadlines = state.connection.next_deadline().into_iter();
        let deadlines = deadlines.chain(state.alarms.next());
        deadlines.chain(self.write_deadline()).min()
    }

    /// Delivers messages to their channels until an event is for the application, or none is left.
    fn take_event(&mut self) -> Option<Result<Event, Error>> {
        let mut state = self.shared.lock();
        while !state.flow.is_stalled() {
            let event = match state.connection.poll_event_within(&mut self.budget) {
                Ok(event) => event?,
                Err(error) => {
                    drop(state);
                    return Some(self.fail(error));
                }
            };
            if let Some(event) = hand_on(&self.shared, &mut state, event) {
                return Some(Ok(event));
            }
        }
        None
    }

    /// Handles the loss of the connection: channels close at once, and their events follow the error.
    fn fail(&mut self, error: Error) -> Result<Event, Error> {
        let mut state = self.shared.lock();
        state.connection.end();
        let closed = close_channels(&mut state);
        drop(state);
        self.backlog.extend(closed);
        self.output.abandon();
        self.phase = Phase::Lost;
        Err(error)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<Result<(), Error>> {
        self.output.poll_write(cx, &mut self.io, &self.shared, now)
    }

    fn poll_end_output(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<Result<(), Error>> {
        self.output.poll_end(cx, &mut self.io, &self.shared, now)
    }

    /// After the remote has ended or is lost: sends the remaining data if possible, and ends our side.
    fn poll_finish(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<()> {
        if self.phase == Phase::Running {
            self.phase = Phase::Draining { since: now };
        }
        if self.output.has_failed() {
            // So that the remote sees the end even if the application keeps the socket; errors do not matter here.
            let _ = self.io.poll_shutdown(cx);
        } else if self.phase != Phase::Lost && self.poll_end_output(cx, now).is_pending() {
            // Errors are ignored from here on: the end was reported already.
            ready!(self.clock.poll_deadline(cx, self.close_deadline()));
        }
        self.phase = Phase::Finished;
        Poll::Ready(())
    }

    /// Completes the handshake if accepted data waits for it.
    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.shared.lock().connection.is_finishing() {
            self.shared.finish();
        }
        while self.shared.lock().connection.held_len() > 0 {
            match self.poll_event(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => break,
                Poll::Pending => {
                    let state = self.shared.lock();
                    let deadline = state.connection.next_deadline().into_iter();
                    drop(state);
                    let deadline = deadline.chain(self.close_deadline()).min();
                    ready!(self.clock.poll_deadline(cx, deadline));
                    if self
                        .close_deadline()
                        .is_some_and(|at| self.clock.now() >= at)
                    {
                        return Poll::Ready(Err(self.close_timeout()));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let now = self.clock.now();
        if self.phase == Phase::Running {
            self.phase = Phase::Draining { since: now };
        }
        if let Phase::Draining { since } = self.phase {
            ready!(self.poll_accepted(cx))?;
            if !self.is_over() {
                self.phase = Phase::Closing { since };
            }
            let mut state = self.shared.lock();
            state.connection.end();
            close_channels(&mut state);
        }
        if self.is_over() {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.output.take_error() {
            self.phase = Phase::Lost;
            return Poll::Ready(Err(error));
        }
        let has_ended = self.discard_input(cx);
        let is_sent = match self.poll_end_output(cx, now) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.phase = Phase::Lost;
                return Poll::Ready(Err(error));
            }
            Poll::Pending => false,
        };
        if !(is_sent && has_ended) {
            ready!(self.clock.poll_deadline(cx, self.close_deadline()));
        }
        let result = match is_sent {
            true => Ok(()),
            false => Err(self.close_timeout()),
        };
        self.phase = Phase::Finished;
        Poll::Ready(result)
    }

    /// Reads and discards input, so that the remote can finish too; returns whether it has.
    fn discard_input(&mut self, cx: &mut Context<'_>) -> bool {
        let mut buffer = ReadBuffer::take();
        for _ in 0..READS_PER_POLL {
            match self.io.poll_read(cx, &mut buffer.0) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
            }
        }
        cx.waker().wake_by_ref();
        false
    }

    fn close_timeout(&self) -> Error {
        ConnectionError::CloseTimeout(self.timeouts.close).into()
    }
}

/// Delivers a message to its channel, or returns the event for the application.
fn hand_on(shared: &Arc<Shared>, state: &mut State, event: ConnectionEvent) -> Option<Event> {
    Some(match event {
        ConnectionEvent::Handshake(info) => Event::Handshake(info),
        ConnectionEvent::DiscoveryKey(discovery_key) => Event::DiscoveryKey(discovery_key),
        ConnectionEvent::ChannelOpened {
            channel,
            key,
            discovery_key,
            handshake,
            unread,
            ..
        } => {
            let channel = OpenChannel::of_core(shared, state, channel);
            Event::Channel(Channel::new(
                channel,
                (key, discovery_key),
                (handshake, unread),
            ))
        }
        ConnectionEvent::Message {
            channel,
            message,
            unread,
            held,
            ..
        } => {
            state.push_core(channel, (message, unread), held);
            return None;
        }
        ConnectionEvent::ChannelClosed {
            channel,
            discovery_key,
            reason,
        } => {
            state.mark_closed(channel, reason);
            Event::Close {
                channel,
                discovery_key,
                reason,
            }
        }
        ConnectionEvent::RemoteOpen(open) => {
            if state.answer_extension(&open) {
                return None;
            }
            Event::RemoteOpen(open)
        }
        ConnectionEvent::MuxChannelOpened {
            channel, handshake, ..
        } => {
            state.open_remote(channel, handshake);
            return None;
        }
        ConnectionEvent::MuxMessage {
            channel,
            kind,
            body,
            held,
        } => {
            state.push_other(channel, MuxMessage { kind, body }, held);
            return None;
        }
        ConnectionEvent::MuxChannelClosed { channel, reason } => {
            state.mark_closed(channel, reason);
            return None;
        }
        ConnectionEvent::End(end) => {
            state.end_extensions();
            Event::End(end)
        }
    })
}
