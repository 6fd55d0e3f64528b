//! The driver: a [`Protocol`] runs a [`Connection`] over a socket, and is a stream of [`Event`]s.
//!
//! All work happens when the protocol is polled: it reads, writes, answers, sends keep-alives and delivers messages to
//! the [`Channel`]s. Nothing is spawned, so **a protocol that is not polled makes no progress**, and a task that awaits
//! [`Channel::send`] while it alone polls the protocol deadlocks once the buffers are full. Move channels to other tasks,
//! or use [`Protocol::drive`].
//!
//! # Memory
//! Backpressure works in both directions: a slow peer delays senders, and a slow reader delays the peer. Memory is
//! bounded by:
//! - to send: the send buffer (256 KiB by default) plus one message, in two buffers that grow by doubling: at worst four
//!   times that; while corked, also a batch of 8 MiB;
//! - received: for each open channel and each extension the receive buffer (256 KiB by default) plus one message. A
//!   message counts with all the memory that it occupies, including its slot in the queue and the part of its record that
//!   it keeps alive, so that every kind of message has the same bound: at worst twice the receive buffer;
//! - 64 KiB for reading, shared by all protocols that a thread polls; one unfinished record, of at most 1 MiB before a
//!   channel is open on both sides and at most 16 MiB afterwards; and the other [`Limits`](crate::mux::Limits).
//!
//! A peer that knows no core's key and opens no channel that the application has open takes 8 MiB at most.
//! `tests/memory.rs` measures this over sockets, against Rust and Node, and `tests/hostile.rs` against hostile peers.
//!
//! Channels share one stream: while one channel's queue is full, nothing is read for the others either, as in Node.
//!
//! # Time
//! Every wait for the remote has a time-out, set by [`ProtocolBuilder`]: for the handshake, for a record that has begun,
//! for a silent remote, for a remote that does not read, and for the end of the stream. One more is for an application
//! that does not read. The error names the time-out and its length.

mod alarms;
mod builder;
mod channel;
mod event;
mod extension;
mod handle;
mod io;
mod mux_channel;
mod open_channel;
mod output;
mod queue;
mod registration;
mod registry;
mod run;
mod shared;
mod sink;

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use crate::connection::ConnectionConfig;
#[cfg(doc)]
use crate::connection::ConnectionError;
use crate::error::Error;
use crate::runtime::Io;

pub use builder::ProtocolBuilder;
pub use channel::Channel;
pub use event::Event;
pub use extension::Extension;
pub use handle::{Cork, ProtocolHandle};
#[cfg(any(feature = "tokio", feature = "futures-io"))]
pub use io::ChannelIo;
pub use mux_channel::MuxChannel;
pub use shared::MuxMessage;

use run::{Driver, Timeouts};
use shared::Buffers;

/// A hypercore protocol stream over the byte stream `S`, made by [`ProtocolBuilder`].
///
/// It is a [`Stream`](futures_core::Stream) of [`Event`]s. The stream ends with [`Event::End`] when the remote ended it
/// cleanly, with an error when it broke off within a record ([`ErrorClass::Truncated`](crate::ErrorClass::Truncated)),
/// was reset ([`Error::Io`]) or broke a rule; the channels' [`Event::Close`] follow, and then nothing.
///
/// It dereferences to its [`ProtocolHandle`], which has the other methods: `protocol.open(key)` opens a channel, here and
/// on clones of the handle in other tasks.
///
/// Dropping it writes as much accepted data as the socket takes without waiting, and drops the socket. Use
/// [`Protocol::close`] to wait until all of it is sent and the remote has read it.
pub struct Protocol<S: Io> {
    handle: ProtocolHandle,
    driver: Driver<S>,
}

impl<S: Io> fmt::Debug for Protocol<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.driver.shared().lock();
        f.debug_struct("Protocol")
            .field("connection", &state.connection)
            .finish_non_exhaustive()
    }
}

impl<S: Io> Deref for Protocol<S> {
    type Target = ProtocolHandle;

    fn deref(&self) -> &ProtocolHandle {
        &self.handle
    }
}

impl<S: Io> Protocol<S> {
    fn new(io: S, config: ConnectionConfig, buffers: Buffers, timeouts: Timeouts) -> Self {
        let driver = Driver::new(io, config, buffers, timeouts);
        Self {
            handle: ProtocolHandle::new(driver.shared()),
            driver,
        }
    }

    /// The next event; `None` when the stream is over.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|cx| self.driver.poll_next(cx)).await
    }

    /// Runs `future` while the protocol continues to read and write. Events that occur meanwhile are returned by
    /// [`Protocol::next`] afterwards; after 64 of them reading stops until then.
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
            // The future may wait for what was just read or written.
            future.as_mut().poll(cx)
        })
        .await
    }

    /// A handle to use this protocol from other tasks.
    pub fn handle(&self) -> ProtocolHandle {
        self.handle.clone()
    }

    /// Closes every channel, sends all accepted data, even if it is corked or waits for the handshake, and ends the stream.
    /// Waits for the remote to end its side too, so that a reset loses no data.
    ///
    /// # Errors
    /// The socket's, or [`ConnectionError::CloseTimeout`] when the remote reads nothing for the builder's close time-out. A
    /// remote that reads everything but does not end its side within that time is no error.
    pub async fn close(mut self) -> Result<(), Error> {
        poll_fn(|cx| self.driver.poll_close(cx)).await
    }

    /// The byte stream, in its adapter: with tokio, `protocol.io().get_ref()` is the socket.
    pub fn io(&self) -> &S {
        &self.driver.io
    }

    /// Sends a record of this plaintext, so that a test can send invalid input.
    #[doc(hidden)]
    pub fn send_plaintext_for_testing_only(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        self.driver
            .shared()
            .with(|connection| connection.send_plaintext_for_testing_only(plaintext))
    }

    /// Puts bytes on the wire as they are, so that a test can send invalid input.
    #[doc(hidden)]
    pub fn send_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.driver
            .shared()
            .with(|connection| connection.send_raw_for_testing_only(bytes));
    }
}

impl<S: Io> futures_core::Stream for Protocol<S> {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.driver.poll_next(cx)
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests;
