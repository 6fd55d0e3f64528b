//! tokio's traits and clock.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Io, Timer};

/// A stream of tokio's traits. Poll it in a tokio runtime with time enabled.
#[derive(Debug)]
pub struct Tokio<T>(T);

impl<T> Tokio<T> {
    /// Wraps a stream.
    pub fn new(io: T) -> Self {
        Self(io)
    }

    /// The stream.
    pub fn get_ref(&self) -> &T {
        &self.0
    }

    /// The stream, mutably.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }

    /// Returns the stream.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for Tokio<T> {
    type Timer = TokioTimer;

    fn timer(&self) -> TokioTimer {
        TokioTimer::new()
    }

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
pub struct TokioTimer {
    start: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer fires. It stays when the deadline moves away, as it does with each write.
    armed: Option<Duration>,
}

impl TokioTimer {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            timer: None,
            armed: None,
        }
    }
}

impl Default for TokioTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for TokioTimer {
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
                // A deadline that the clock cannot represent never comes.
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
