//! A [`Duplex`]: two halves as one stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A byte stream made of a reader and a writer, such as the output and the input of another process. It implements
/// tokio's `AsyncRead` and `AsyncWrite` with the feature `tokio`, and those of futures-io with the feature `futures-io`.
///
#[cfg_attr(feature = "tokio", doc = "```")]
#[cfg_attr(not(feature = "tokio"), doc = "```ignore")]
/// # async fn example() -> std::io::Result<()> {
/// use hypercore_protocol::ProtocolBuilder;
/// use hypercore_protocol::runtime::Duplex;
///
/// // The peer is whoever started this process.
/// let io = Duplex::new(tokio::io::stdin(), tokio::io::stdout());
/// let protocol = ProtocolBuilder::new(false).connect(io);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Duplex<R, W> {
    reader: R,
    writer: W,
}

impl<R, W> Duplex<R, W> {
    /// A stream that reads from `reader` and writes to `writer`.
    pub fn new(reader: R, writer: W) -> Self {
        Self { reader, writer }
    }

    /// Its halves.
    pub fn get_ref(&self) -> (&R, &W) {
        (&self.reader, &self.writer)
    }

    /// Its halves, mutably.
    pub fn get_mut(&mut self) -> (&mut R, &mut W) {
        (&mut self.reader, &mut self.writer)
    }

    /// Returns its halves.
    pub fn into_inner(self) -> (R, W) {
        (self.reader, self.writer)
    }
}

#[cfg(feature = "tokio")]
impl<R, W> tokio::io::AsyncRead for Duplex<R, W>
where
    R: tokio::io::AsyncRead + Unpin,
    W: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

#[cfg(feature = "tokio")]
impl<R, W> tokio::io::AsyncWrite for Duplex<R, W>
where
    R: Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

#[cfg(feature = "futures-io")]
impl<R, W> futures_io::AsyncRead for Duplex<R, W>
where
    R: futures_io::AsyncRead + Unpin,
    W: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

#[cfg(feature = "futures-io")]
impl<R, W> futures_io::AsyncWrite for Duplex<R, W>
where
    R: Unpin,
    W: futures_io::AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}
