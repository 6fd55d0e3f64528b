//! What the driver needs of a runtime: something to read and write, and a clock. No spawn, no channels.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A byte stream in both directions.
pub(super) trait Stream {
    /// Reads into `buffer`; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes some of `bytes`.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Sends on what was written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends the outgoing direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A clock and one timer.
pub(super) trait Clock {
    /// The time since a fixed moment.
    fn now(&self) -> Duration;
    /// Ready once the time is `deadline`, never for none.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> Poll<()>;
}

/// tokio's traits.
#[derive(Debug)]
pub(super) struct TokioStream<T>(pub(super) T);

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for TokioStream<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// tokio's clock, which a test can pause.
#[derive(Debug)]
pub(super) struct TokioClock {
    start: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer fires. It is left alone when the deadline moves away, as it does with each write.
    armed: Option<Duration>,
}

impl TokioClock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            timer: None,
            armed: None,
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Duration>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        loop {
            if self.now() >= deadline {
                return Poll::Ready(());
            }
            if self.armed.is_none_or(|armed| armed > deadline) {
                // A deadline beyond what the clock can express never comes.
                let Some(at) = self.start.checked_add(deadline) else {
                    return Poll::Pending;
                };
                match &mut self.timer {
                    Some(timer) => timer.as_mut().reset(at),
                    None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
                }
                self.armed = Some(deadline);
            }
            match &mut self.timer {
                Some(timer) => ready!(timer.as_mut().poll(cx)),
                None => return Poll::Pending,
            }
            self.armed = None;
        }
    }
}
