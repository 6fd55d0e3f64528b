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
//! Every wait for the remote ends: [`ProtocolBuilder`] has a time-out for the handshake, for a
//! record that has begun, for silence, for a remote that takes nothing of what is sent to it, and for the end of the
//! stream; and one for an application that takes nothing of what arrived. The error says which it was, and how long.

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
/// What can be asked of a protocol are methods of its [`ProtocolHandle`], to which it dereferences: channels are opened
/// by `protocol.open(key)`, here and by clones of the handle in other tasks.
///
/// Dropping it sends what was accepted for sending as far as the socket takes it at once, and drops the socket. Use
/// [`Protocol::close`] to wait until all of it is sent, and until the remote has read it.
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
    pub fn handle(&self) -> ProtocolHandle {
        self.handle.clone()
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

    /// Sends a record of this plaintext, so that a test can send what no peer should.
    #[doc(hidden)]
    pub fn send_plaintext_for_testing_only(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        self.driver
            .shared()
            .with(|connection| connection.send_plaintext_for_testing_only(plaintext))
    }

    /// Puts bytes on the wire as they are, so that a test can send what no peer should.
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
