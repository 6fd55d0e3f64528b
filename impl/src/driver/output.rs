//! The outgoing direction of a driver: writes the connection's bytes to the socket.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::error::Error;
use crate::runtime::Io;

use super::shared::Shared;

/// The capacity that an emptied write buffer may keep.
const KEPT_WRITE_BUFFER: usize = 1024 * 1024;

/// Bytes taken from the connection, and the state of writing them.
pub(super) struct Output {
    state: OutputState,
    /// Bytes taken from the connection, written up to `written`.
    bytes: Vec<u8>,
    written: usize,
    /// Since when the socket takes nothing of what is to be written.
    refused_since: Option<Duration>,
    last_written: Option<Duration>,
}

enum OutputState {
    /// Bytes are written.
    Open {
        /// Written bytes may not have been flushed yet.
        unflushed: bool,
    },
    /// Our direction is shut down. Later answers of the connection are dropped, as nothing may follow the end.
    Ended,
    /// Writing failed. The error is kept until everything that the remote sent before is read.
    Failed(Option<Error>),
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            state: OutputState::Open { unflushed: false },
            bytes: Vec::new(),
            written: 0,
            refused_since: None,
            last_written: None,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, OutputState::Ended)
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state, OutputState::Failed(_))
    }

    /// Since when the socket takes nothing of what is to be written.
    pub(super) fn refused_since(&self) -> Option<Duration> {
        self.refused_since
    }

    /// When the socket last accepted bytes.
    pub(super) fn last_written(&self) -> Option<Duration> {
        self.last_written
    }

    /// Records the error that prevents further writing.
    pub(super) fn fail(&mut self, error: Error) {
        self.state = OutputState::Failed(Some(error));
    }

    /// Stops writing, as the connection is lost.
    pub(super) fn abandon(&mut self) {
        if !self.is_ended() {
            self.state = OutputState::Failed(None);
        }
    }

    /// The error that prevents further writing; returned once.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        match &mut self.state {
            OutputState::Failed(error) => error.take(),
            _ => None,
        }
    }

    /// Writes all bytes that are ready. Pending when the socket is full, or writing has ended.
    pub(super) fn poll_write<S: Io>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut S,
        shared: &Shared,
        now: Duration,
    ) -> Poll<Result<(), Error>> {
        if self.has_failed() {
            return Poll::Pending;
        }
        loop {
            if self.written == self.bytes.len() && !self.take_bytes(shared, now) {
                return self.poll_flush(cx, io, now);
            }
            match io.poll_write(cx, &self.bytes[self.written..]) {
                Poll::Pending => {
                    self.refused_since.get_or_insert(now);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => {
                    let error = std::io::Error::from(std::io::ErrorKind::WriteZero);
                    return Poll::Ready(Err(error.into()));
                }
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.state = OutputState::Open { unflushed: true };
                    self.refused_since = None;
                    self.last_written = Some(now);
                    let mut state = shared.lock();
                    state.in_flight = self.bytes.len() - self.written;
                    state.wake_senders_if_room();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Takes the bytes that the connection has ready, if any.
    fn take_bytes(&mut self, shared: &Shared, now: Duration) -> bool {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_WRITE_BUFFER);
        self.written = 0;
        let mut state = shared.lock();
        if state.connection.transmit().is_empty() {
            return false;
        }
        state.connection.swap_transmit(&mut self.bytes, now);
        if self.is_ended() {
            self.bytes.clear();
            return false;
        }
        state.in_flight = self.bytes.len();
        true
    }

    fn poll_flush<S: Io>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut S,
        now: Duration,
    ) -> Poll<Result<(), Error>> {
        if let OutputState::Open { unflushed: true } = self.state {
            match io.poll_flush(cx) {
                Poll::Pending => {
                    self.refused_since.get_or_insert(now);
                    return Poll::Pending;
                }
                Poll::Ready(result) => result?,
            }
            self.state = OutputState::Open { unflushed: false };
            self.refused_since = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the remaining bytes and shuts down our direction.
    pub(super) fn poll_end<S: Io>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut S,
        shared: &Shared,
        now: Duration,
    ) -> Poll<Result<(), Error>> {
        ready!(self.poll_write(cx, io, shared, now))?;
        if !self.is_ended() {
            let result = ready!(io.poll_shutdown(cx));
            self.state = OutputState::Ended;
            result?;
        }
        Poll::Ready(Ok(()))
    }
}
