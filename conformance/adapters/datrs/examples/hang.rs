//! Frames that `uint24le_framing` 0.2.0 never delivers: REPORT.md, point 2. `cargo run --example hang` shows them.
//!
//! The socket lives in memory and is always ready while it has bytes; it keeps a waker only where it answers `Pending`. So
//! nothing here depends on time: a stream that is pending, of which the socket keeps no waker, is never polled again.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite, Stream};
use uint24le_framing::Uint24LELengthPrefixedFraming;

#[derive(Clone, Default)]
struct Socket(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What each read finds.
    reads: VecDeque<Vec<u8>>,
    waker: Option<Waker>,
    /// Reads into a buffer without room.
    roomless: usize,
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().expect("one thread");
        state.roomless += usize::from(into.is_empty());
        let Some(mut bytes) = state.reads.pop_front() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        if n < bytes.len() {
            state.reads.push_front(bytes.split_off(n));
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls as often as `polls` says, and tells what came of it.
fn try_frame(body: usize, reads: usize, polls: usize) -> String {
    let mut frame = (body as u32).to_le_bytes()[..3].to_vec();
    frame.resize(3 + body, 0x5a);
    let socket = Socket::default();
    let pieces = frame
        .chunks(frame.len().div_ceil(reads))
        .map(<[u8]>::to_vec);
    socket.0.lock().expect("one thread").reads.extend(pieces);
    let mut framing = Uint24LELengthPrefixedFraming::new(socket.clone());
    let mut cx = Context::from_waker(Waker::noop());
    for poll in 1..=polls {
        if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut framing).poll_next(&mut cx) {
            assert_eq!(frame.len(), body);
            return format!("delivered at poll {poll}");
        }
    }
    let state = socket.0.lock().expect("one thread");
    match (&state.waker, state.roomless) {
        (None, 0) => "pending, and no waker is kept: sleeps for ever".into(),
        (_, n) => format!("pending; {n} of {polls} reads had no room"),
    }
}

fn main() {
    println!("{:>6}  {:>5}  {:>5}  outcome", "body", "reads", "polls");
    for (body, reads, polls) in [
        (10, 1, 1),
        // The socket is ready for the second half, but nobody polls.
        (10, 2, 1),
        (10, 2, 2),
        // The frame fills the buffer of 65,536 bytes to the last.
        (65_533, 1, 1),
        // One byte more: even if polled again and again there is no room, for the buffer does not grow.
        (65_534, 1, 1),
        (65_534, 1, 1_000),
        // It grows only if a read leaves exactly one byte free.
        (65_534, 2, 1_000),
    ] {
        let outcome = try_frame(body, reads, polls);
        println!("{body:>6}  {reads:>5}  {polls:>5}  {outcome}");
    }
}
