//! The traits of `futures-io`, shared by smol, async-std and others, with a clock that is independent of any runtime.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_timer::Delay;

use super::{Io, Timer};
use instant::Instant;

/// The clock of the platform. The standard library has none in a browser: its `Instant::now` panics.
mod instant {
    #[cfg(not(all(feature = "wasm", target_family = "wasm", target_os = "unknown")))]
    pub(super) use std::time::Instant;
    #[cfg(all(feature = "wasm", target_family = "wasm", target_os = "unknown"))]
    pub(super) use web_time::Instant;
}

/// The longest delay; after it the clock is checked again. A browser's `setTimeout` overflows at 2^31 ms and fires at
/// once (`futures-timer` 3.0.4, `src/wasm.rs`, passes it unchecked).
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A stream of the traits of `futures-io`. Poll it wherever the stream itself may be polled.
///
/// `poll_close` must end only the outgoing direction, as it does on smol's sockets (async-net 2.0.0, `src/tcp.rs`). On
/// async-std's it does nothing (async-std 1.13.2, `src/net/tcp/stream.rs`), so the remote would not see an end before
/// the socket is dropped, and [`Protocol::close`](crate::Protocol::close) would wait its whole time-out for the
/// remote's end: use [`FuturesIo::with_shutdown`] there.
#[derive(Debug)]
pub struct FuturesIo<T> {
    io: T,
    shutdown: Option<fn(&T) -> io::Result<()>>,
}

impl<T> FuturesIo<T> {
    /// Wraps a stream.
    pub fn new(io: T) -> Self {
        Self { io, shutdown: None }
    }

    /// Wraps a stream whose outgoing direction is ended by `shutdown`, after a flush:
    /// `FuturesIo::with_shutdown(socket, |socket| socket.shutdown(Shutdown::Write))` for async-std. Pass it to
    /// [`ProtocolBuilder::connect_with`](crate::ProtocolBuilder::connect_with).
    pub fn with_shutdown(io: T, shutdown: fn(&T) -> io::Result<()>) -> Self {
        Self {
            io,
            shutdown: Some(shutdown),
        }
    }

    /// The stream.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// The stream, mutably.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Returns the stream.
    pub fn into_inner(self) -> T {
        self.io
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for FuturesIo<T> {
    type Timer = FuturesTimer;

    fn timer(&self) -> FuturesTimer {
        FuturesTimer::new()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(shutdown) = self.shutdown else {
            return Pin::new(&mut self.io).poll_close(cx);
        };
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Poll::Ready(shutdown(&self.io))
    }
}

/// A clock that needs no runtime: `futures-timer`, a single thread per process, started by the first deadline, that
/// sleeps until the next. With the feature `wasm` it uses JavaScript's `performance.now` and `setTimeout`.
#[derive(Debug)]
pub struct FuturesTimer {
    start: Instant,
    /// The running delay, and when it fires. It stays when the deadline moves away, as it does with each write.
    armed: Option<(Delay, Duration)>,
}

impl FuturesTimer {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            armed: None,
        }
    }
}

impl Default for FuturesTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for FuturesTimer {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        loop {
            let now = self.now();
            if now >= deadline {
                return Poll::Ready(());
            }
            let (delay, _) = match &mut self.armed {
                Some(armed) if armed.1 <= deadline => armed,
                armed => {
                    let delay = LONGEST_DELAY.min(deadline - now);
                    armed.insert((Delay::new(delay), now + delay))
                }
            };
            ready!(Pin::new(delay).poll(cx));
            // A delay must not be polled once it has fired.
            self.armed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Wake, Waker};
    use std::thread::{self, Thread};

    use super::*;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    #[test]
    fn a_deadline_beyond_every_clock_is_waited_for() {
        let mut timer = FuturesTimer::new();
        let mut cx = Context::from_waker(Waker::noop());
        for deadline in [Duration::MAX, Duration::from_secs(1 << 40)] {
            assert!(timer.poll_deadline(&mut cx, Some(deadline)).is_pending());
            let (_, fires) = timer.armed.as_ref().unwrap();
            assert!(*fires <= timer.now() + LONGEST_DELAY);
        }
        assert!(timer.poll_deadline(&mut cx, None).is_pending());
        assert!(
            timer
                .poll_deadline(&mut cx, Some(Duration::ZERO))
                .is_ready()
        );
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_and_a_later_one_an_earlier() {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        let mut timer = FuturesTimer::new();
        let hour = Duration::from_secs(3600);
        for milliseconds in [20, 40] {
            assert!(timer.poll_deadline(&mut cx, Some(hour)).is_pending());
            let soon = timer.now() + Duration::from_millis(milliseconds);
            while timer.poll_deadline(&mut cx, Some(soon)).is_pending() {
                let parked = timer.now();
                thread::park_timeout(Duration::from_secs(20));
                assert!(timer.now() < parked + Duration::from_secs(20));
            }
            assert!(timer.now() >= soon);
        }
    }
}
