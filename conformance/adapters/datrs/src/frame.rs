//! Frames, by `Uint24LELengthPrefixedFraming` over a socket that lives in memory.
//!
//! The socket behaves as one of tokio does: bytes that arrive wake whoever was told `Pending` last. The framing is polled
//! when it was woken, and not otherwise: a future that returns `Pending` after a read that gave it bytes sleeps for ever.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures::{AsyncRead, AsyncWrite, Sink, Stream};
use serde_json::{Value, json};
use uint24le_framing::Uint24LELengthPrefixedFraming;

use crate::codec::bytes;
use crate::{Answer, bad_input, refused};

#[derive(Default)]
struct Inner {
    arrived: VecDeque<u8>,
    ended: bool,
    waiting: Option<Waker>,
    written: Vec<u8>,
}

/// One end of a socket; the clones are the same.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Inner>>);

impl Socket {
    fn arrive(&self, bytes: &[u8], end: bool) {
        let mut inner = self.0.lock().expect("no panic is caught");
        inner.arrived.extend(bytes);
        inner.ended = end;
        if let Some(waiting) = inner.waiting.take() {
            waiting.wake();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock().expect("no panic is caught");
        if inner.arrived.is_empty() && !inner.ended {
            inner.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = into.len().min(inner.arrived.len());
        for (to, byte) in into.iter_mut().zip(inner.arrived.drain(..n)) {
            *to = byte;
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0
            .lock()
            .expect("no panic is caught")
            .written
            .extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether the task was woken since it last ran.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// `frame.decode`.
pub(crate) fn decode(input: &Value) -> Answer {
    let chunks = input["chunks"]
        .as_array()
        .ok_or_else(|| bad_input("chunks is not an array"))?;
    let socket = Socket::default();
    let mut framing = Uint24LELengthPrefixedFraming::new(socket.clone());
    let flag = Flag::new();
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    let (mut frames, mut held) = (Vec::new(), 0);

    let mut run = |held: &mut usize| -> Result<bool, Value> {
        while flag.take() {
            loop {
                match Pin::new(&mut framing).poll_next(&mut cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        *held -= 3 + frame.len();
                        frames.push(hex::encode(frame));
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Err(refused("frame", "bad-input", error));
                    }
                    Poll::Ready(None) => return Ok(true),
                    Poll::Pending => break,
                }
            }
        }
        Ok(false)
    };
    run(&mut held)?;
    for chunk in chunks {
        let chunk = bytes(&json!({ "chunk": chunk }), "chunk")?;
        held += chunk.len();
        socket.arrive(&chunk, false);
        run(&mut held)?;
    }
    if input["end"] == true {
        socket.arrive(&[], true);
        if run(&mut held)? && held > 0 {
            let mut error = refused("frame", "truncated", "the stream ends within a frame");
            error["frames"] = json!(frames.len());
            return Err(error);
        }
    }
    Ok(json!({ "frames": frames, "pending": held }))
}

/// `frame.encode`.
pub(crate) fn encode(input: &Value) -> Answer {
    let socket = Socket::default();
    let mut framing = Uint24LELengthPrefixedFraming::new(socket.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut sink = Pin::new(&mut framing);
    sink.as_mut()
        .start_send(bytes(input, "body")?)
        .map_err(|error| refused("frame", "too-large", error))?;
    let _ = sink.poll_flush(&mut cx);
    let written = &socket.0.lock().expect("no panic is caught").written;
    Ok(json!({ "bytes": hex::encode(written) }))
}
