//! The socket of the live operations: TCP, which can be made to fail as the operating system lets a socket fail.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a socket does that can fail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// A TCP stream, and how it fails from now on.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    errors: [Option<io::ErrorKind>; 2],
    /// Who waits to read, and to write.
    waiting: [Option<Waker>; 2],
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            faults: Mutex::default(),
        }
    }

    pub(super) fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// The next try fails, and each after it; who waits is woken, as by the operating system.
    pub(super) fn fail(&self, direction: Direction, error: io::ErrorKind) {
        let mut faults = self.faults();
        faults.errors[direction as usize] = Some(error);
        if let Some(waker) = faults.waiting[direction as usize].take() {
            waker.wake();
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, direction: Direction, cx: &Context<'_>) -> io::Result<()> {
        let mut faults = self.faults();
        faults.waiting[direction as usize] = Some(cx.waker().clone());
        match faults.errors[direction as usize] {
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
        self.check(Direction::Read, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(Direction::Write, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
