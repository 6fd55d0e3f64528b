//! A [`Session`]: a protocol stream on which any number of cores are replicated.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::stream::FuturesUnordered;

use crate::connection::ChannelHandle;
use crate::error::Error;
use crate::keys::DiscoveryKey;
use crate::mux::CloseReason;
use crate::runtime::Io;
use crate::{Event, Protocol};

use super::{Expected, PeerError, Replicator};

/// Why a session stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] Error),
    /// A peer was let go. The other cores of the stream are served on when the session is run again.
    #[error("{error}")]
    #[non_exhaustive]
    Peer {
        /// The core.
        discovery_key: DiscoveryKey,
        /// Why.
        #[source]
        error: PeerError,
    },
    /// The stream is over, and what was waited for had not happened.
    #[error("the stream ended")]
    Ended,
}

struct Replicated {
    replicator: Replicator,
    /// Until the remote has opened the channel or refused to.
    expected: Option<Expected>,
    channel: Option<ChannelHandle>,
}

type Running = Pin<Box<dyn Future<Output = (DiscoveryKey, Result<CloseReason, PeerError>)> + Send>>;

/// A protocol stream on which any number of cores are replicated.
///
/// Running it is what moves everything: [`Session::run`] until the stream is over, or [`Session::drive`] while something
/// is awaited. Both can be dropped and called again. Channels of cores that were not added are refused.
pub struct Session<S: Io> {
    protocol: Protocol<S>,
    cores: HashMap<DiscoveryKey, Replicated>,
    running: FuturesUnordered<Running>,
    is_over: bool,
}

impl<S: Io> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("protocol", &self.protocol)
            .field("cores", &self.cores.len())
            .finish_non_exhaustive()
    }
}

impl<S: Io> Session<S> {
    /// Replicates on a protocol of which no event was taken, or only those before any channel.
    pub fn new(protocol: Protocol<S>) -> Self {
        Self {
            protocol,
            cores: HashMap::new(),
            running: FuturesUnordered::new(),
            is_over: false,
        }
    }

    /// Replicates a core with the remote, as soon as it wants that, too. Once for each core.
    ///
    /// # Errors
    /// As [`Protocol::open`].
    pub async fn add(&mut self, replicator: &Replicator) -> Result<(), Error> {
        let channel = self.protocol.open(replicator.key()).await?;
        let core = Replicated {
            expected: Some(replicator.expect_peer()),
            replicator: replicator.clone(),
            channel: Some(channel),
        };
        self.cores.insert(replicator.discovery_key(), core);
        Ok(())
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol<S> {
        &self.protocol
    }

    /// Runs until the remote ends the stream.
    ///
    /// # Errors
    /// When the stream breaks; or when a peer is let go, after which it can be called again to go on, or
    /// [`Session::close`] to say what is left to be said.
    pub async fn run(&mut self) -> Result<(), SessionError> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Runs until `future` is ready.
    ///
    /// # Errors
    /// As [`Session::run`], and when the stream ends before.
    pub async fn drive<F: Future>(&mut self, future: F) -> Result<F::Output, SessionError> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let stopped = self.poll(cx);
            // What just arrived may be what the future waits for.
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            stopped.map(|result| Err(result.err().unwrap_or(SessionError::Ended)))
        })
        .await
    }

    /// Closes all channels and ends the stream: see [`Protocol::close`].
    ///
    /// # Errors
    /// As there.
    pub async fn close(self) -> Result<(), Error> {
        let Self {
            protocol,
            cores,
            running,
            ..
        } = self;
        drop((cores, running));
        protocol.close().await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        loop {
            let mut progress = false;
            if !self.is_over {
                match Pin::new(&mut self.protocol).poll_next(cx) {
                    Poll::Ready(Some(Ok(event))) => {
                        self.on_event(event)?;
                        progress = true;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.is_over = true;
                        self.cores.clear();
                        return Poll::Ready(Err(error.into()));
                    }
                    Poll::Ready(None) => self.is_over = true,
                    Poll::Pending => {}
                }
            }
            match Pin::new(&mut self.running).poll_next(cx) {
                Poll::Ready(Some((discovery_key, Err(error)))) => {
                    return Poll::Ready(Err(SessionError::Peer {
                        discovery_key,
                        error,
                    }));
                }
                Poll::Ready(Some(_)) => progress = true,
                Poll::Ready(None) | Poll::Pending => {}
            }
            if self.is_over && self.running.is_empty() {
                self.cores.clear();
                return Poll::Ready(Ok(()));
            }
            if !progress {
                return Poll::Pending;
            }
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Channel(channel) => {
                let Some(core) = self.cores.get_mut(channel.discovery_key()) else {
                    return Ok(());
                };
                let discovery_key = *channel.discovery_key();
                let peer = core.replicator.replicate(channel);
                // Only now, so that an update finds one or the other.
                core.expected = None;
                self.running
                    .push(Box::pin(async move { (discovery_key, peer.await) }));
            }
            Event::Close {
                channel,
                discovery_key,
                ..
            } => {
                let core = self.cores.get_mut(&discovery_key);
                if let Some(core) = core.filter(|core| core.channel == Some(channel)) {
                    core.channel = None;
                    core.expected = None;
                }
            }
            // The remote wants a core again that was closed, or one that was not added.
            Event::DiscoveryKey(discovery_key) => {
                let core = self.cores.get_mut(&discovery_key);
                match core.filter(|core| core.channel.is_none()) {
                    Some(core) => {
                        let key = core.replicator.key();
                        core.channel = Some(self.protocol.commands().open_now(key)?);
                    }
                    None => self.protocol.commands().reject_now(&discovery_key)?,
                }
            }
            _ => {}
        }
        Ok(())
    }
}
