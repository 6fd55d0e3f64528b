//! What a [`Protocol`](crate::Protocol) needs of its surroundings: a byte stream, [`Io`], and a clock, [`Timer`].
//!
//! That is all: nothing is spawned, and no channel, lock or reactor of a runtime is used.
//!
//! | stream | adapter | feature | made by |
//! |---|---|---|---|
//! | `tokio::io::{AsyncRead, AsyncWrite}` | `Tokio` | `tokio`, on by default | `ProtocolBuilder::connect` |
//! | `futures_io::{AsyncRead, AsyncWrite}`: smol, async-std, … | `FuturesIo` | `futures-io` | `ProtocolBuilder::connect_futures` |
//! | a reader and a writer of either | `Duplex` | either | the same |
//! | any other | your own [`Io`] | none | [`ProtocolBuilder::connect_with`](crate::ProtocolBuilder::connect_with) |
//!
//! In a browser, and wherever else `wasm32-unknown-unknown` runs beside JavaScript, take the feature `wasm` and leave the
//! default ones out: randomness, clock and timers come from JavaScript then, and
//! `ProtocolBuilder::connect_futures` takes any stream of futures-io's traits. tokio's clock panics there.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(any(feature = "tokio", feature = "futures-io"))]
mod duplex;
#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(any(feature = "tokio", feature = "futures-io"))]
pub use self::duplex::Duplex;
#[cfg(feature = "futures-io")]
pub use self::futures_io::{FuturesIo, FuturesTimer};
#[cfg(feature = "tokio")]
pub use self::tokio::{Tokio, TokioTimer};

/// A byte stream in both directions, and the clock that goes with it.
///
/// The methods are those of any asynchronous IO: where one is pending it has arranged for the task of `cx` to be woken
/// once it is worth another try. Reading and writing wake their tasks independently.
pub trait Io: Unpin {
    /// The clock.
    type Timer: Timer;

    /// Makes a clock. Called when the protocol starts, and once more by a `Session` for its own waits.
    fn timer(&self) -> Self::Timer;

    /// Reads into `buffer`, which is never empty, and returns how many bytes; 0 is the end.
    ///
    /// # Errors
    /// The stream's.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `bytes`, which are never none, and returns how many; 0 counts as an error.
    ///
    /// # Errors
    /// The stream's.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends on what was written.
    ///
    /// # Errors
    /// The stream's.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the outgoing direction, so that the remote reads the end; what it still sends can be read.
    ///
    /// # Errors
    /// The stream's.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A clock with one alarm.
pub trait Timer: Unpin {
    /// The time since a fixed moment. It never goes back.
    fn now(&self) -> Duration;

    /// Ready once the time is `deadline`, never for none. A deadline replaces the one of an earlier call; the task may
    /// be woken too early, but not too late.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> Poll<()>;
}

impl<S: Io + ?Sized> Io for Box<S> {
    type Timer = S::Timer;

    fn timer(&self) -> S::Timer {
        (**self).timer()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        (**self).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_shutdown(cx)
    }
}
