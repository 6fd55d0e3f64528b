//! The runtime interface of a [`Protocol`](crate::Protocol): a byte stream, [`Io`], and a clock, [`Timer`].
//!
//! It needs nothing else: nothing is spawned, and no channel, lock or reactor of a runtime is used.
//!
//! | stream | adapter | feature | made by |
//! |---|---|---|---|
//! | `tokio::io::{AsyncRead, AsyncWrite}` | `Tokio` | `tokio`, on by default | `ProtocolBuilder::connect` |
//! | `futures_io::{AsyncRead, AsyncWrite}`: smol, async-std, … | `FuturesIo` | `futures-io` | `ProtocolBuilder::connect_futures` |
//! | a reader and a writer of either | `Duplex` | either | the same |
//! | any other | your own [`Io`] | none | [`ProtocolBuilder::connect_with`](crate::ProtocolBuilder::connect_with) |
//!
//! In a browser, and elsewhere on `wasm32-unknown-unknown` with JavaScript, enable the feature `wasm` and disable the
//! default ones: randomness, clock and timers then come from JavaScript, and `ProtocolBuilder::connect_futures` takes
//! any stream of futures-io's traits. tokio's clock panics there.

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

/// A byte stream in both directions, with its clock.
///
/// The methods follow the usual contract of asynchronous IO: one that is pending has arranged for the task of `cx` to
/// be woken when it is worth another attempt. Reading and writing wake their tasks independently.
pub trait Io: Unpin {
    /// The clock.
    type Timer: Timer;

    /// Makes a clock. Called when the protocol starts, and once more by a `Session` for its own time-outs.
    fn timer(&self) -> Self::Timer;

    /// Reads into `buffer`, which is never empty, and returns the number of bytes; 0 is the end.
    ///
    /// # Errors
    /// The stream's.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `bytes`, which is never empty, and returns the number; 0 counts as an error.
    ///
    /// # Errors
    /// The stream's.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Flushes written bytes.
    ///
    /// # Errors
    /// The stream's.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the outgoing direction, so that the remote reads the end; reading remains possible.
    ///
    /// # Errors
    /// The stream's.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A clock with one alarm.
pub trait Timer: Unpin {
    /// The time since a fixed moment. It never goes back.
    fn now(&self) -> Duration;

    /// Ready once the time reaches `deadline`, or never for `None`. A deadline replaces that of an earlier call; the
    /// task may be woken too early, but not too late.
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
