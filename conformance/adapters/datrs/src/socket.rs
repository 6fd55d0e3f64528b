//! A TCP stream that can be made to fail, as the operating system lets a socket fail.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[derive(Default)]
struct State {
    /// What reading fails with, and what writing fails with.
    errors: [Option<io::ErrorKind>; 2],
    waiting: [Option<Waker>; 2],
}

/// How a socket fails from now on.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<State>>);

impl Faults {
    pub(crate) fn set(&self, writing: bool, error: io::ErrorKind) {
        let mut state = self.0.lock().expect("no panic is caught");
        state.errors[usize::from(writing)] = Some(error);
        if let Some(waker) = state.waiting[usize::from(writing)].take() {
            waker.wake();
        }
    }

    fn check(&self, writing: bool, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.0.lock().expect("no panic is caught");
        state.waiting[usize::from(writing)] = Some(cx.waker().clone());
        match state.errors[usize::from(writing)] {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

pub(crate) struct Socket {
    stream: TcpStream,
    faults: Faults,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> (Self, Faults) {
        let faults = Faults::default();
        (
            Self {
                stream,
                faults: faults.clone(),
            },
            faults,
        )
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.faults.check(false, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.faults.check(true, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
