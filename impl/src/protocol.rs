//! The driver: a [`Protocol`] runs a [`Connection`] over a socket, and is a stream of [`Event`]s.
//!
//! Polling the protocol is what moves everything: it reads, writes, answers, keeps the stream alive and hands messages
//! to the [`Channel`]s. Nothing is spawned, so **a protocol that is not polled stands still**, and a task that waits for
//! [`Channel::send`] while it alone polls the protocol waits for ever once the buffers are full. Give channels to other
//! tasks, or use [`Protocol::drive`].
//!
//! # Memory
//! A slow peer slows senders down, and a slow reader slows the peer down. In memory there are at most:
//! - to send: the send buffer (256 KiB by default), and one message beyond it, in two buffers that grow by doubling: at
//!   worst four times that; while corked a batch of 8 MiB besides;
//! - received: for each open channel and each extension the receive buffer (256 KiB by default), and one message beyond
//!   it. A message counts for all that it takes in memory, its place in the queue and what it keeps of its record
//!   included, so that no kind of message makes a queue larger than another: at worst twice the receive buffer;
//! - 64 KiB for reading, shared by all protocols that a thread polls; one unfinished record, of at most 1 MiB before a
//!   channel is open on both sides and of at most 16 MiB then; and what else [`Limits`](crate::mux::Limits) says.
//!
//! A peer that knows no key of a core and opens no channel that the application has open takes 8 MiB at most.
//! `tests/memory.rs` measures it over sockets, with Rust and with Node at the other end, and `tests/hostile.rs` with peers
//! that do their worst.
//!
//! Channels share one stream: while the queue of one is full, nothing is read for the others either, as in Node.
//!
//! # Time
//! Every wait for the remote ends: [`ProtocolBuilder`](crate::ProtocolBuilder) has a time-out for the handshake, for a
//! record that has begun, for silence, for a remote that takes nothing of what is sent to it, and for the end of the
//! stream; and one for an application that takes nothing of what arrived. The error says which it was, and how long.

mod alarms;
mod extensions;
mod queue;
mod shared;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crate::channel::Channel;
use crate::commands::{Commands, Cork};
use crate::connection::{
    ChannelHandle, ChannelInfo, ChannelOptions, Connection, ConnectionConfig, ConnectionError,
    ConnectionEvent, RemoteOpen,
};
use crate::datagram::Datagrams;
use crate::error::Error;
use crate::extension::Extension;
use crate::keys::{DiscoveryKey, Key};
use crate::mux::CloseReason;
use crate::mux_channel::{MuxChannel, MuxMessage};
use crate::runtime::{Io, Timer};
use crate::transport::End;
use crate::wire::Message;

pub(crate) use extensions::Registration;
use shared::State;
pub(crate) use shared::{Buffers, Shared};

/// Bytes read at once.
const READ_BUFFER: usize = 64 * 1024;

/// An emptied write buffer keeps no more than this.
const KEPT_WRITE_BUFFER: usize = 1024 * 1024;

/// How often a poll reads before others have their turn.
const READS_PER_POLL: usize = 16;

/// How many packets are read before others have their turn: a record of 16 MB may have five million.
const PACKETS_PER_POLL: u32 = 4096;

/// How many events [`Protocol::drive`] keeps before it reads no more.
const BACKLOG: usize = 64;

/// How long the driver waits for the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// While the socket takes nothing of what is to be sent.
    pub(crate) write: Option<Duration>,
    /// While the stream is being closed.
    pub(crate) close: Duration,
}

/// What happened on a protocol.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is complete. Carries the remote's static public key, 32 bytes; all zeros for a pattern without
    /// static keys. Always the first.
    Handshake([u8; 32]),
    /// The remote opened a channel by this discovery key, and it is not open here. Answer by [`Protocol::open`] with its
    /// key or by [`Protocol::reject`]; until then it waits.
    DiscoveryKey(DiscoveryKey),
    /// Both sides opened a channel, and the remote proved to know its key.
    Channel(Channel),
    /// A channel closed. What it received before can still be read from it.
    #[non_exhaustive]
    Close {
        /// The channel, as [`Protocol::open`] returned it.
        channel: ChannelHandle,
        /// The channel's discovery key.
        discovery_key: DiscoveryKey,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The remote opened a channel of a protocol that was paired by [`Protocol::pair`]. Answer by
    /// [`Protocol::open_channel`] or by [`Protocol::reject_channel`]; until then it waits, and so does what the remote
    /// sends on it. When that is more than [`Limits`](crate::mux::Limits) says, nothing is read until it is answered.
    RemoteOpen(RemoteOpen),
    /// The remote ended the stream between two records.
    End(End),
}

/// A hypercore protocol stream over the byte stream `S`, made by [`ProtocolBuilder`](crate::ProtocolBuilder).
///
/// It is a [`Stream`](futures_core::Stream) of [`Event`]s. The stream ends with [`Event::End`] when the remote ended it
/// cleanly, with an error when it broke off within a record ([`ErrorClass::Truncated`](crate::ErrorClass::Truncated)),
/// was reset ([`Error::Io`]) or broke a rule; the channels' [`Event::Close`] follow, and then nothing.
///
/// Dropping it sends what was accepted for sending as far as the socket takes it at once, and drops the socket. Use
/// [`Protocol::close`] to wait until all of it is sent, and until the remote has read it.
pub struct Protocol<S: Io> {
    driver: Driver<S>,
}

impl<S: Io> fmt::Debug for Protocol<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.driver.shared.lock();
        f.debug_struct("Protocol")
            .field("connection", &state.connection)
            .finish_non_exhaustive()
    }
}

impl<S: Io> Protocol<S> {
    pub(crate) fn new(
        io: S,
        config: ConnectionConfig,
        buffers: Buffers,
        timeouts: Timeouts,
    ) -> Self {
        let clock = io.timer();
        let connection = Connection::new(config, clock.now());
        Self {
            driver: Driver {
                io,
                clock,
                shared: Arc::new(Shared::new(connection, buffers)),
                write: Vec::new(),
                written: 0,
                unflushed: false,
                shut_down: false,
                write_error: None,
                failed: false,
                finished: false,
                backlog: VecDeque::new(),
                budget: PACKETS_PER_POLL,
                timeouts,
                refused_since: None,
                close_deadline: None,
                closing: false,
            },
        }
    }

    /// The next event; none when the stream is over.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|cx| self.driver.poll_next(cx)).await
    }

    /// Runs `future` while the protocol goes on reading and writing. Events that happen meanwhile are returned by
    /// [`Protocol::next`] afterwards; after 64 of them no more is read until then.
    ///
    /// This is how one task both polls the protocol and sends more than the buffer holds:
    /// `protocol.drive(channel.send(message)).await`.
    pub async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            self.driver.poll_backlog(cx);
            // What was just read or written may be what the future waits for.
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Asks things of this protocol from other tasks.
    pub fn commands(&self) -> Commands {
        Commands::new(&self.driver.shared)
    }

    /// Opens the channel of a core, or answers the remote's open of it. [`Event::Channel`] follows once both sides have
    /// opened it, [`Event::Close`] if the remote rejects it. Before the handshake the open waits for it. What is
    /// returned names the channel in these events.
    ///
    /// # Errors
    /// [`ChannelError::AlreadyOpen`](crate::connection::ChannelError::AlreadyOpen) or [`ConnectionError::Closed`].
    pub async fn open(&mut self, key: Key) -> Result<ChannelHandle, Error> {
        self.commands().open(key).await
    }

    /// Sends a message on a channel that the remote may not have opened yet, without waiting for room in the send buffer.
    ///
    /// **The remote has not proved to know the core's key then, and reads the message all the same.** See
    /// [`Connection::send_early`].
    ///
    /// # Errors
    /// As [`Connection::send_early`].
    pub async fn send_early(
        &mut self,
        channel: ChannelHandle,
        message: impl Into<Message>,
    ) -> Result<(), Error> {
        self.commands().send_early(channel, message).await
    }

    /// Closes a channel, be it open or not yet answered by the remote. One that is closed is left alone.
    ///
    /// # Errors
    /// None that a caller could avoid.
    pub async fn close_channel(&mut self, channel: ChannelHandle) -> Result<(), Error> {
        self.commands().close_channel(channel).await
    }

    /// Refuses the channel of a core that the remote opened. Without such an open nothing happens.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub async fn reject(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.commands().reject(discovery_key).await
    }

    /// Opens a channel of any protocol, or answers the first of the remote's opens of it that wait. It can be sent on at
    /// once; [`MuxChannel::opened`] says when the remote has opened it too.
    ///
    /// ```
    /// # use hypercore_protocol::{ChannelOptions, Error, Protocol, ProtocolBuilder};
    /// # async fn example(socket: tokio::io::DuplexStream) -> Result<(), Error> {
    /// # let mut protocol = ProtocolBuilder::new(true).connect(socket);
    /// let chat = protocol.open_channel(ChannelOptions::new("chat").id("room 5").handshake("I am Ada"))?;
    /// protocol.drive(chat.send(0, "hello")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MuxError::AlreadyOpen`](crate::mux::MuxError::AlreadyOpen) unless the options say that it is not unique,
    /// [`MuxError::TooLarge`](crate::mux::MuxError::TooLarge), or [`ConnectionError::Closed`].
    pub fn open_channel(&mut self, options: ChannelOptions) -> Result<MuxChannel, Error> {
        self.commands().open_channel(options)
    }

    /// From now on the remote's opens of this protocol and id, or of all its ids if none is given, come as
    /// [`Event::RemoteOpen`], unless the channel is open here already. Without it they are rejected, as in Node; but the
    /// channels of cores always come as [`Event::DiscoveryKey`].
    ///
    /// As in Node (protomux 3.12.1, `pair`), the name is compared with the one that the remote used: pair every alias.
    pub fn pair(&mut self, protocol: &str, id: Option<&[u8]>) {
        self.commands().pair(protocol, id);
    }

    /// Takes a [`Protocol::pair`] of the same protocol and id back. Opens that were reported still wait.
    pub fn unpair(&mut self, protocol: &str, id: Option<&[u8]>) {
        self.commands().unpair(protocol, id);
    }

    /// Refuses the channels of this protocol and id that the remote opened: the answer to [`Event::RemoteOpen`] that is
    /// not [`Protocol::open_channel`]. Without such an open nothing happens.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub fn reject_channel(&mut self, protocol: &str, id: Option<&[u8]>) -> Result<(), Error> {
        self.commands().reject_channel(protocol, id)
    }

    /// Registers an extension of the whole stream; the same one if it is registered already. It opens once the remote has
    /// registered it too, be that before or later. See [`Extension`].
    ///
    /// # Errors
    /// [`MuxError::AlreadyOpen`](crate::mux::MuxError::AlreadyOpen) if there is a channel of this protocol without an id
    /// that is not an extension's, [`MuxError::TooLarge`](crate::mux::MuxError::TooLarge), or [`ConnectionError::Closed`].
    pub fn register_extension(&mut self, name: &str) -> Result<Extension, Error> {
        self.commands().register_extension(name)
    }

    /// The channels that are open here, of cores and others, in the order in which they were opened. Those that only the
    /// remote has opened are not among them.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        self.commands().channels()
    }

    /// Keeps what is sent from now on, on all channels and from all tasks, for one batch, which leaves when the returned
    /// guard is dropped. Of several guards the last one counts. A batch of more than 8 MiB leaves early, as in Node.
    pub fn cork(&self) -> Cork {
        self.commands().cork()
    }

    /// Sends an empty record now. Without it one is sent whenever nothing else was for a while.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub async fn send_keep_alive(&mut self) -> Result<(), Error> {
        self.commands().send_keep_alive().await
    }

    /// Ends our side: nothing more can be opened or sent, and once all that was accepted for sending has left, the remote
    /// is told that this is the end. What the remote still sends is received as ever, until it ends its side too.
    pub async fn end(&mut self) {
        self.commands().end().await;
    }

    /// Closes every channel, sends all that was accepted for sending, corked or waiting for the handshake as it may be, and
    /// ends the stream. Waits for the remote to end its side too, so that nothing is lost to a reset.
    ///
    /// # Errors
    /// The socket's, or [`ConnectionError::CloseTimeout`] when the remote takes nothing for as long as the builder's
    /// close time-out. A remote that takes everything but does not end its side in that time is no error.
    pub async fn close(mut self) -> Result<(), Error> {
        poll_fn(|cx| self.driver.poll_close(cx)).await
    }

    /// The byte stream, in its adapter: with tokio, `protocol.io().get_ref()` is the socket.
    pub fn io(&self) -> &S {
        &self.driver.io
    }

    /// Whether we sent the first handshake message.
    pub fn is_initiator(&self) -> bool {
        self.commands().is_initiator()
    }

    /// Our static public key, 32 bytes.
    pub fn public_key(&self) -> [u8; 32] {
        self.commands().public_key()
    }

    /// The remote's static public key, 32 bytes, once the handshake is complete.
    pub fn remote_public_key(&self) -> Option<[u8; 32]> {
        self.commands().remote_public_key()
    }

    /// The handshake hash, 64 bytes and the same on both sides, once the handshake is complete.
    pub fn handshake_hash(&self) -> Option<[u8; 64]> {
        self.commands().handshake_hash()
    }

    /// Seals and opens the datagrams that go beside the stream, from [`Event::Handshake`] on: byte for byte those of
    /// `send` and `'message'` of Node's secret stream, which it has carried by UDX. Carrying them is the caller's here.
    /// **See [`datagram`](crate::datagram) for how secret they are.** Every call gives the same ones, which count
    /// together.
    ///
    /// # Errors
    /// [`DatagramError`](crate::datagram::DatagramError): before the handshake is complete, without encryption, or when
    /// the system has no randomness.
    pub fn datagrams(&self) -> Result<Datagrams, Error> {
        self.commands().datagrams()
    }

    /// What the remote sent that has no effect, such as messages of later releases.
    pub fn ignored(&self) -> crate::connection::Ignored {
        self.commands().ignored()
    }

    /// Sends a record of this plaintext, so that a test can send what no peer should.
    #[doc(hidden)]
    pub fn send_plaintext_for_testing_only(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        self.driver
            .shared
            .with(|connection| connection.send_plaintext_for_testing_only(plaintext))
    }

    /// Puts bytes on the wire as they are, so that a test can send what no peer should.
    #[doc(hidden)]
    pub fn send_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.driver
            .shared
            .with(|connection| connection.send_raw_for_testing_only(bytes));
    }
}

impl<S: Io> futures_core::Stream for Protocol<S> {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.driver.poll_next(cx)
    }
}

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer to read into, one for all protocols that a thread polls. It holds what is encrypted, and nothing for longer
/// than a read.
struct ReadBuffer(Vec<u8>);

impl ReadBuffer {
    /// A stream that itself polls a protocol while it is read gets another one.
    fn take() -> Self {
        let mut buffer = READ.try_with(Cell::take).unwrap_or_default();
        buffer.resize(READ_BUFFER, 0);
        Self(buffer)
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that is at its end keeps none.
        let _ = READ.try_with(|kept| kept.set(buffer));
    }
}

/// Runs a connection over any byte stream and clock.
struct Driver<S: Io> {
    io: S,
    clock: S::Timer,
    shared: Arc<Shared>,
    /// Bytes taken from the connection, written up to `written`.
    write: Vec<u8>,
    written: usize,
    unflushed: bool,
    shut_down: bool,
    write_error: Option<Error>,
    failed: bool,
    finished: bool,
    backlog: VecDeque<Result<Event, Error>>,
    /// Packets that may be read until other tasks have their turn.
    budget: u32,
    timeouts: Timeouts,
    /// Since when the socket takes nothing of what is to be written.
    refused_since: Option<Duration>,
    close_deadline: Option<Duration>,
    /// Whether [`Protocol::close`] has begun to end the stream.
    closing: bool,
}

impl<S: Io> Drop for Driver<S> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.connection.end();
        close_channels(&mut state);
        drop(state);
        // A stream that panicked is not asked again.
        if !self.finished && !self.failed && !std::thread::panicking() {
            // What was accepted leaves as far as that goes without waiting; nobody is left to be told of a failure.
            let _ = self.poll_write(&mut Context::from_waker(Waker::noop()), self.clock.now());
        }
    }
}

/// Tells every channel that the stream is gone; returns what to tell the user.
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
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        match self.backlog.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.poll_event(cx),
        }
    }

    /// Moves everything without returning events.
    fn poll_backlog(&mut self, cx: &mut Context<'_>) {
        while self.backlog.len() < BACKLOG {
            match self.poll_event(cx) {
                Poll::Ready(Some(event)) => self.backlog.push_back(event),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        // No more is read, but what is sent still leaves, and the wait is not for ever.
        let now = self.clock.now();
        let mut state = self.shared.lock();
        state.flow.set_driver(cx.waker());
        state.connection.pause_reading(now);
        state.connection.keep_alive_if_due(now);
        state.ring(now);
        drop(state);
        if let Poll::Ready(Err(error)) = self.poll_write(cx, now) {
            self.write_error = Some(error);
        }
        if let Some(error) = self.timed_out(now) {
            let event = self.fail(error);
            self.backlog.push_back(event);
        } else if !self.finished && !self.failed {
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

    /// As [`Driver::poll_event`], until others are to have their turn.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        for _ in 0..READS_PER_POLL {
            let now = self.clock.now();
            let mut state = self.shared.lock();
            state.flow.set_driver(cx.waker());
            state.connection.keep_alive_if_due(now);
            state.ring(now);
            drop(state);

            let blocked = match self.poll_write(cx, now) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    // What the remote sent before it went away is read first.
                    self.write_error = Some(error);
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
            // What was sent before the handshake is still to leave.
            let held = state.connection.held_len() > 0;
            let finishing = state.connection.is_finishing() && !held && !blocked && !self.shut_down;
            let reading = !state.flow.is_stalled() && state.connection.wants_input();
            if reading {
                state.connection.resume_reading(now);
            } else {
                state.connection.pause_reading(now);
            }
            drop(state);

            if finishing {
                match self.poll_end_output(cx, now) {
                    Poll::Ready(Err(error)) => self.write_error = Some(error),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            if reading {
                let mut buffer = ReadBuffer::take();
                match self.io.poll_read(cx, &mut buffer.0) {
                    Poll::Ready(Ok(0)) => {
                        self.shared.lock().connection.receive_end();
                        continue;
                    }
                    Poll::Ready(Ok(count)) => {
                        let mut state = self.shared.lock();
                        state.connection.receive(&buffer.0[..count], now);
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(self.fail(error.into()))),
                    Poll::Pending => {
                        if let Some(error) = self.write_error.take() {
                            return Poll::Ready(Some(self.fail(error)));
                        }
                    }
                }
            }

            // Only now that nothing is left to be read: what arrived in time counts, however late this is polled.
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

    /// What was waited for too long, if anything was.
    fn timed_out(&self, now: Duration) -> Option<Error> {
        let state = self.shared.lock();
        let error = state.connection.timed_out(now);
        let write = self.write_deadline().filter(|&at| now >= at);
        let write = write.and(self.timeouts.write);
        let error = write.map(ConnectionError::WriteTimeout).or(error);
        error.map(Error::from)
    }

    fn write_deadline(&self) -> Option<Duration> {
        // A stream that is being closed has a time-out for that.
        let since = self.refused_since.filter(|_| self.close_deadline.is_none());
        Some(since?.saturating_add(self.timeouts.write?))
    }

    fn next_deadline(&self) -> Option<Duration> {
        let state = self.shared.lock();
        let deadlines = state.connection.next_deadline().into_iter();
        let deadlines = deadlines.chain(state.next_alarm());
        deadlines.chain(self.write_deadline()).min()
    }

    /// Hands messages to their channels until something is for the user, or nothing is left.
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
            let event = match event {
                ConnectionEvent::Handshake(info) => {
                    Event::Handshake(info.remote_public_key.unwrap_or_default())
                }
                ConnectionEvent::DiscoveryKey(discovery_key) => Event::DiscoveryKey(discovery_key),
                ConnectionEvent::ChannelOpened {
                    channel,
                    key,
                    discovery_key,
                    handshake,
                    unread,
                    ..
                } => {
                    state.add_core(channel);
                    let shared = Arc::clone(&self.shared);
                    Event::Channel(Channel::new(
                        shared,
                        channel,
                        key,
                        discovery_key,
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
                    continue;
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
                        continue;
                    }
                    Event::RemoteOpen(open)
                }
                ConnectionEvent::MuxChannelOpened {
                    channel, handshake, ..
                } => {
                    state.open_remote(channel, handshake);
                    continue;
                }
                ConnectionEvent::MuxMessage {
                    channel,
                    kind,
                    body,
                    held,
                } => {
                    state.push_raw(channel, MuxMessage { kind, body }, held);
                    continue;
                }
                ConnectionEvent::MuxChannelClosed { channel, reason } => {
                    state.mark_closed(channel, reason);
                    continue;
                }
                ConnectionEvent::End(end) => {
                    state.end_extensions();
                    Event::End(end)
                }
            };
            return Some(Ok(event));
        }
        None
    }

    /// The connection is lost: the channels learn it at once, the user after the error.
    fn fail(&mut self, error: Error) -> Result<Event, Error> {
        let mut state = self.shared.lock();
        state.connection.end();
        let closed = close_channels(&mut state);
        drop(state);
        self.backlog.extend(closed);
        self.failed = true;
        Err(error)
    }

    /// Writes all that is ready to leave. Pending when the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<Result<(), Error>> {
        if self.write_error.is_some() || self.failed {
            return Poll::Pending;
        }
        loop {
            if self.written == self.write.len() {
                self.write.clear();
                self.write.shrink_to(KEPT_WRITE_BUFFER);
                self.written = 0;
                let mut state = self.shared.lock();
                if state.connection.transmit().is_empty() {
                    break;
                }
                state.connection.swap_transmit(&mut self.write, now);
                if self.shut_down {
                    // An answer to what still arrives, which nobody can be given any more.
                    self.write.clear();
                    break;
                }
                state.in_flight = self.write.len();
            }
            match self.io.poll_write(cx, &self.write[self.written..]) {
                Poll::Pending => {
                    self.refused_since.get_or_insert(now);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => {
                    let error = std::io::Error::from(std::io::ErrorKind::WriteZero);
                    return Poll::Ready(Err(error.into()));
                }
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.unflushed = true;
                    self.refused_since = None;
                    if self.close_deadline.is_some() {
                        self.close_deadline = Some(now.saturating_add(self.timeouts.close));
                    }
                    let mut state = self.shared.lock();
                    state.in_flight = self.write.len() - self.written;
                    state.wake_senders_if_room();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
        if self.unflushed {
            match self.io.poll_flush(cx) {
                Poll::Pending => {
                    self.refused_since.get_or_insert(now);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    self.refused_since = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The remote has ended or is lost: sends what is left if that is still possible, and ends our side.
    fn poll_finish(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<()> {
        if !self.failed && self.write_error.is_none() {
            let deadline = now.saturating_add(self.timeouts.close);
            let deadline = *self.close_deadline.get_or_insert(deadline);
            // Whatever fails now, the user was told of the end already.
            if self.poll_end_output(cx, now).is_pending() {
                let deadline = self.close_deadline.unwrap_or(deadline);
                if self.clock.poll_deadline(cx, Some(deadline)).is_pending() {
                    return Poll::Pending;
                }
            }
        } else if !self.shut_down {
            // The remote learns that it is over even if the socket is kept; whether that works makes no difference here.
            let _ = self.io.poll_shutdown(cx);
        }
        self.finished = true;
        Poll::Ready(())
    }

    /// Writes what is left and ends the outgoing direction.
    fn poll_end_output(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<Result<(), Error>> {
        match self.poll_write(cx, now) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        if !self.shut_down {
            match self.io.poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => {
                    self.shut_down = true;
                    result?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the handshake finish if something was accepted for sending that waits for it.
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
                    let deadline = deadline.chain(self.close_deadline).min();
                    drop(state);
                    ready!(self.clock.poll_deadline(cx, deadline));
                    if self.close_deadline.is_some_and(|at| self.clock.now() >= at) {
                        let timeout = ConnectionError::CloseTimeout(self.timeouts.close);
                        return Poll::Ready(Err(timeout.into()));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.finished || self.failed {
            return Poll::Ready(Ok(()));
        }
        let now = self.clock.now();
        if !self.closing {
            let deadline = now.saturating_add(self.timeouts.close);
            self.close_deadline.get_or_insert(deadline);
            ready!(self.poll_accepted(cx))?;
            self.closing = true;
            let mut state = self.shared.lock();
            state.connection.end();
            close_channels(&mut state);
        }
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.write_error.take() {
            self.failed = true;
            return Poll::Ready(Err(error));
        }
        let mut ended = false;
        let mut buffer = ReadBuffer::take();
        for _ in 0..READS_PER_POLL {
            // What still arrives is read so that the remote, too, can finish.
            match self.io.poll_read(cx, &mut buffer.0) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => {
                    ended = true;
                    break;
                }
                Poll::Ready(Ok(_)) => cx.waker().wake_by_ref(),
            }
        }
        let sent = match self.poll_end_output(cx, now) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.failed = true;
                return Poll::Ready(Err(error));
            }
            Poll::Pending => false,
        };
        if sent && ended {
            self.finished = true;
            return Poll::Ready(Ok(()));
        }
        if self
            .clock
            .poll_deadline(cx, self.close_deadline)
            .is_pending()
        {
            return Poll::Pending;
        }
        self.finished = true;
        Poll::Ready(if sent {
            Ok(())
        } else {
            Err(ConnectionError::CloseTimeout(self.timeouts.close).into())
        })
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests;
