//! The socket of the live operations: TCP, with injectable failures like those of the operating system. The adapter for
//! datrs's crate includes this file.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// An operation of a socket that can fail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

impl Direction {
    /// Parses the name used by `peer.fail`.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            _ => None,
        }
    }
}

/// The error kind for a cause, as named by `peer.fail`.
pub(super) fn cause(name: &str) -> Option<io::ErrorKind> {
    match name {
        "timed-out" => Some(io::ErrorKind::TimedOut),
        "unreachable" => Some(io::ErrorKind::HostUnreachable),
        "broken-pipe" => Some(io::ErrorKind::BrokenPipe),
        _ => None,
    }
}

/// A TCP stream with injectable failures.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    faults: Faults,
}

/// The injected failures.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    errors: [Option<io::ErrorKind>; 2],
    /// The tasks waiting to read, and to write.
    waiting: [Option<Waker>; 2],
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            faults: Faults::default(),
        }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn get_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl Faults {
    /// The next attempt fails, and each after it; a waiting task is woken, as by the operating system.
    pub(super) fn fail(&self, direction: Direction, error: io::ErrorKind) {
        let mut state = self.state();
        state.errors[direction as usize] = Some(error);
        if let Some(waker) = state.waiting[direction as usize].take() {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, direction: Direction, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.state();
        state.waiting[direction as usize] = Some(cx.waker().clone());
        match state.errors[direction as usize] {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.faults.check(Direction::Read, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.faults.check(Direction::Write, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
