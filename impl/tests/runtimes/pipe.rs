//! An in-memory byte stream that takes a few bytes at a time, so that every poll is a separate moment.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hypercore_protocol::runtime::{FuturesTimer, Io};

/// One direction.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end. Dropping it ends both directions.
pub(crate) struct Pipe {
    incoming: Arc<Mutex<Way>>,
    outgoing: Arc<Mutex<Way>>,
    capacity: usize,
}

pub(crate) fn pipe(capacity: usize) -> (Pipe, Pipe) {
    let (one, two) = <(Arc<Mutex<Way>>, Arc<Mutex<Way>>)>::default();
    let end = |incoming: &Arc<_>, outgoing: &Arc<_>| Pipe {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        capacity,
    };
    (end(&one, &two), end(&two, &one))
}

impl Way {
    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for way in [&self.incoming, &self.outgoing] {
            let mut way = way.lock().expect("no poll panics");
            way.ended = true;
            way.wake();
        }
    }
}

impl Io for Pipe {
    type Timer = FuturesTimer;

    fn timer(&self) -> FuturesTimer {
        FuturesTimer::new()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut way = self.incoming.lock().expect("no poll panics");
        if way.bytes.is_empty() && !way.ended {
            way.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = way.bytes.len().min(buffer.len());
        for (byte, read) in buffer.iter_mut().zip(way.bytes.drain(..count)) {
            *byte = read;
        }
        way.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut way = self.outgoing.lock().expect("no poll panics");
        if way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(self.capacity - way.bytes.len());
        if count == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        way.bytes.extend(&bytes[..count]);
        way.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = self.outgoing.lock().expect("no poll panics");
        way.ended = true;
        way.wake();
        Poll::Ready(Ok(()))
    }
}
