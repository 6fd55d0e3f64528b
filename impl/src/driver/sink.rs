//! Channels and extensions as sinks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;

use crate::buffer::Buffer;
use crate::error::Error;
use crate::wire::Message;

use super::channel::Channel;
use super::extension::Extension;
use super::mux_channel::MuxChannel;

/// `poll_ready` waits as [`Channel::send`] does. Flushing waits until all accepted data, of all channels, is written to
/// the socket; closing flushes, and closes the channel for all its clones.
impl Sink<Message> for Channel {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel().poll_room(cx).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let handle = self.handle();
        self.channel()
            .send_now(|connection| connection.send(handle, &message))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel().poll_flush(cx).map(Ok)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.channel().poll_flush(cx));
        self.channel().close();
        Poll::Ready(Ok(()))
    }
}

/// Takes the type of each message and its body. Waits, flushes and closes as [`Channel`] does.
impl Sink<(u64, Buffer)> for MuxChannel {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel().poll_room(cx).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, (kind, body): (u64, Buffer)) -> Result<(), Error> {
        let handle = self.handle();
        self.channel()
            .send_now(|connection| connection.send_raw(handle, kind, &body))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel().poll_flush(cx).map(Ok)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.channel().poll_flush(cx));
        self.channel().close();
        Poll::Ready(Ok(()))
    }
}

/// Waits, flushes and closes as [`Channel`] does, and until the remote has registered the extension too.
impl Sink<Buffer> for Extension {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.registration().poll_room(cx).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, message: Buffer) -> Result<(), Error> {
        self.registration().send_now(&message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.registration().poll_flush(cx).map(Ok)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.registration().poll_flush(cx));
        self.close();
        Poll::Ready(Ok(()))
    }
}
