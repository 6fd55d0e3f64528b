//! A WebSocket as a byte stream, for browsers and for whatever else has the class `WebSocket`.
//!
//! Written here because of what the crates for it leave out: to wait while the socket has more to send than it should,
//! a bound on what has arrived, and to tell a connection that was lost from one that was closed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use futures_timer::Delay;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{BinaryType, CloseEvent, MessageEvent};

/// A browser takes all that it is given; with more than this unsent, writing waits.
const MAX_UNSENT: u32 = 1 << 20;

/// The polling interval of the unsent bytes: no event reports that bytes were sent.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The limit of received, unread bytes: a WebSocket has no backpressure.
const MAX_UNREAD: usize = 64 << 20;

/// The codes of the WebSocket protocol (RFC 6455, section 7.4.1) that mean a wanted end: normal, going away, none given.
const WANTED_END: [u16; 3] = [1000, 1001, 1005];

thread_local! {
    /// For errors, which a close event follows that says as much. Node's package throws one that nobody listens for, even
    /// when the socket is of no more use here.
    static IGNORE: Closure<dyn FnMut()> = Closure::new(|| {});
}

/// An open WebSocket. Its messages are one stream of bytes: where one ends means nothing.
///
/// It has no half-closed state: once it is closed for writing, what still arrives is dropped by the browser.
pub(crate) struct WebSocket {
    socket: web_sys::WebSocket,
    state: Rc<RefCell<State>>,
    look_again: Option<Delay>,
    // The socket calls these until it is dropped.
    _on_open: Closure<dyn FnMut()>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

#[derive(Default)]
struct State {
    open: bool,
    /// What arrived, and how much of the first was read.
    incoming: VecDeque<Vec<u8>>,
    read: usize,
    unread: usize,
    /// How the stream ended: cleanly, or with these words.
    ended: Option<Result<(), String>>,
    waker: Option<Waker>,
}

impl State {
    fn end(&mut self, how: Result<(), String>) {
        self.ended.get_or_insert(how);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn receive(&mut self, data: &JsValue) {
        if self.ended.is_some() {
            return;
        }
        let Some(bytes) = data.dyn_ref::<ArrayBuffer>() else {
            return self.end(Err("the server sent text, not bytes".to_owned()));
        };
        let bytes = Uint8Array::new(bytes).to_vec();
        self.unread += bytes.len();
        if self.unread > MAX_UNREAD {
            return self.end(Err(format!(
                "more than {MAX_UNREAD} bytes arrived that nobody reads"
            )));
        }
        // The end of a stream is told by no bytes, so an empty message must not look like it.
        if !bytes.is_empty() {
            self.incoming.push_back(bytes);
            self.wake();
        }
    }
}

impl WebSocket {
    /// Connects.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for what is no address of a WebSocket, [`io::ErrorKind::ConnectionRefused`] where
    /// there is none. A browser does not say more.
    pub(crate) async fn connect(url: &str) -> io::Result<Self> {
        let mut socket = Self::new(url).map_err(|error| {
            let why = js_sys::Error::from(error).message();
            io::Error::new(io::ErrorKind::InvalidInput, String::from(why))
        })?;
        poll_fn(|cx| socket.poll_open(cx)).await?;
        Ok(socket)
    }

    fn new(url: &str) -> Result<Self, JsValue> {
        let socket = web_sys::WebSocket::new(url)?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let state = Rc::new(RefCell::new(State::default()));
        let on_open = Closure::<dyn FnMut()>::new({
            let state = state.clone();
            move || {
                let mut state = state.borrow_mut();
                state.open = true;
                state.wake();
            }
        });
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new({
            let state = state.clone();
            move |event: MessageEvent| state.borrow_mut().receive(&event.data())
        });
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new({
            let state = state.clone();
            move |event: CloseEvent| {
                let code = event.code();
                let wanted = event.was_clean() && WANTED_END.contains(&code);
                state.borrow_mut().end(if wanted {
                    Ok(())
                } else {
                    Err(format!("the WebSocket was lost, code {code}"))
                });
            }
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        IGNORE.with(|ignore| socket.set_onerror(Some(ignore.as_ref().unchecked_ref())));
        Ok(Self {
            socket,
            state,
            look_again: None,
            _on_open: on_open,
            _on_message: on_message,
            _on_close: on_close,
        })
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        if state.open {
            return Poll::Ready(Ok(()));
        }
        if state.ended.is_some() {
            let url = self.socket.url();
            let why = format!("no WebSocket answers at {url}");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, why)));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lost(&self) -> Option<io::Error> {
        let state = self.state.borrow();
        let why = match state.ended.as_ref()? {
            Ok(()) => "the WebSocket is closed",
            Err(why) => why,
        };
        Some(io::Error::new(io::ErrorKind::ConnectionReset, why))
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        let Some(first) = state.incoming.front() else {
            return match &state.ended {
                Some(Ok(())) => Poll::Ready(Ok(0)),
                Some(Err(why)) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    why.as_str(),
                ))),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let rest = &first[state.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        state.unread -= count;
        state.read += count;
        if state.read == first.len() {
            state.incoming.pop_front();
            state.read = 0;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.lost() {
            return Poll::Ready(Err(error));
        }
        while self.socket.buffered_amount() > MAX_UNSENT {
            let delay = self
                .look_again
                .get_or_insert_with(|| Delay::new(LOOK_AGAIN));
            ready!(Pin::new(delay).poll(cx));
            self.look_again = None;
        }
        // A copy: Node's package `ws` masks what it is given in place and sends it later.
        let copy = Uint8Array::from(bytes);
        match self.socket.send_with_array_buffer(&copy.buffer()) {
            Ok(()) => Poll::Ready(Ok(bytes.len())),
            Err(error) => {
                let why = String::from(js_sys::Error::from(error).message());
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, why)))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The browser sends on its own.
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written before is sent before. The call fails only for codes and reasons, which it has none of.
        let _ = self.socket.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        let _ = self.socket.close();
    }
}
