//! A [`Session`]: a protocol stream on which any number of cores are replicated.
//!
//! `handle` has the requests and events of other tasks; `core` is the state of one core in a session.

mod core;
mod handle;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::FuturesUnordered;

use crate::buffer::ShortHex;
use crate::connection::{ChannelHandle, RemoteOpen};
use crate::driver::Extension;
use crate::error::Error;
use crate::keys::DiscoveryKey;
use crate::mux::CloseReason;
use crate::runtime::{Io, Timer};
use crate::transport::{End, HandshakeInfo};
use crate::{Channel, Event, Protocol};

use super::{Attached, Expected, PeerError, Replicator};

use self::core::Replicated;
use self::handle::{Order, Owner};

pub use self::handle::{SessionEvents, SessionHandle};

/// Maximum number of remote opens of other protocols that wait for the application; more are rejected.
const MAX_REMOTE_OPENS: usize = 1024;

/// Why a session stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The stream failed: a time-out, a reset, or a protocol violation by the remote.
    #[error(transparent)]
    Stream(#[from] Error),
    /// A peer was dropped. When the session is run again, the other cores are served on.
    #[error("{error}")]
    #[non_exhaustive]
    Peer {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The reason.
        error: PeerError,
    },
    /// The remote does not have the core, or does not serve it on this stream.
    #[error("the remote rejects the core of the discovery key {:?}", ShortHex(.discovery_key))]
    #[non_exhaustive]
    Rejected {
        /// The core.
        discovery_key: DiscoveryKey,
    },
    /// The remote neither opened nor rejected the core in time: see [`SessionOptions::open_timeout`].
    #[error(
        "the remote has not answered for {timeout:?} whether it has the core of the discovery key {:?}",
        ShortHex(.discovery_key)
    )]
    #[non_exhaustive]
    Unanswered {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The time-out.
        timeout: Duration,
    },
    /// The remote ended the stream before the handshake was complete. It may not be a hypercore peer, expect another
    /// handshake pattern, refuse our key, or accept no connections now.
    #[error("the remote ended the stream before the handshake was complete")]
    EndedBeforeHandshake,
    /// The remote ended the stream before the future was ready.
    #[error("the stream ended")]
    Ended,
}

/// Options of replication on a stream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Time-out for the remote to open or reject a core that was opened here, counted from the handshake. After that,
    /// updates no longer wait for it, and [`SessionEvent::Unanswered`] reports it; the remote may still open the core.
    /// It is also the time after which an unanswered [`SessionEvent::RemoteOpen`] is rejected. Default 15 s; `None`
    /// waits for ever.
    pub open_timeout: Option<Duration>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            open_timeout: Some(Duration::from_secs(15)),
        }
    }
}

/// An event of a session: see [`Session::events`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The handshake is complete.
    Handshake(HandshakeInfo),
    /// Both sides have opened a core, and the remote proved that it knows the key.
    #[non_exhaustive]
    Opened {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The remote among the core's peers.
        peer: super::PeerId,
    },
    /// An extension registered by [`Session::register_extension`], on the core's channel that is now open. Keep it:
    /// dropping it cancels the registration until the channel opens again.
    #[non_exhaustive]
    Extension {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The extension.
        extension: Extension,
    },
    /// The remote rejects a core: it does not have it, or does not serve it on this stream.
    #[non_exhaustive]
    Rejected {
        /// The core.
        discovery_key: DiscoveryKey,
    },
    /// The remote neither opened nor rejected a core in time.
    #[non_exhaustive]
    Unanswered {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The time-out.
        timeout: Duration,
    },
    /// The channel of a core was closed without a fault.
    #[non_exhaustive]
    Closed {
        /// The core.
        discovery_key: DiscoveryKey,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The remote was dropped as a peer of a core, or the core could not be opened. The core is not replicated on this
    /// stream until [`Session::resume`].
    #[non_exhaustive]
    Failed {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The reason.
        error: PeerError,
    },
    /// The remote asked for a core that was not added, and was rejected. [`Session::add`] still opens the core then,
    /// and a remote that still wants it opens it again.
    #[non_exhaustive]
    Wanted {
        /// The core.
        discovery_key: DiscoveryKey,
    },
    /// The remote keeps opening a core. The answer is delayed.
    #[non_exhaustive]
    Reopens {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The delay.
        wait: Duration,
    },
    /// The remote opened a channel of a protocol that was paired by
    /// [`ProtocolHandle::pair`](crate::ProtocolHandle::pair). Answer with
    /// [`ProtocolHandle::open_channel`](crate::ProtocolHandle::open_channel) or
    /// [`ProtocolHandle::reject_channel`](crate::ProtocolHandle::reject_channel). It is rejected after
    /// [`SessionOptions::open_timeout`], and at once if there is no reader of events.
    RemoteOpen(RemoteOpen),
    /// The stream is over. Always the last.
    #[non_exhaustive]
    Ended {
        /// The error, unless the remote ended the stream or the session was closed or dropped here.
        error: Option<SessionError>,
    },
    /// The number of events dropped because they were not read.
    Lagged(u64),
}

/// How the stream ended.
#[derive(Debug, Clone)]
enum Ending {
    Clean,
    BeforeHandshake,
    Failed(Error),
}

/// The reason to return from [`Session::drive`], and from [`Session::run`] when no other core is left.
#[derive(Debug)]
enum Stop {
    Peer(DiscoveryKey, PeerError),
    Rejected(DiscoveryKey),
    Unanswered(DiscoveryKey, Duration),
}

impl Stop {
    fn discovery_key(&self) -> &DiscoveryKey {
        match self {
            Self::Peer(key, _) | Self::Rejected(key) | Self::Unanswered(key, _) => key,
        }
    }
}

impl From<Stop> for SessionError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Peer(discovery_key, error) => Self::Peer {
                discovery_key,
                error,
            },
            Stop::Rejected(discovery_key) => Self::Rejected { discovery_key },
            Stop::Unanswered(discovery_key, timeout) => Self::Unanswered {
                discovery_key,
                timeout,
            },
        }
    }
}

/// The progress of the stream's end.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// More may arrive.
    Open,
    /// Nothing more arrives, and the cores have processed everything received. Sent data may still be written.
    Drained,
    /// The stream is over.
    Over,
}

/// A deadline.
#[derive(Debug)]
enum Due {
    /// The remote's answer to an open of ours.
    Open(DiscoveryKey, ChannelHandle),
    /// Another open of a core that the remote had opened too often.
    Reopen(DiscoveryKey),
    /// The application's answer to an open of the remote's.
    RemoteOpen(RemoteOpen),
}

/// A peer whose channel is closed.
struct Left {
    discovery_key: DiscoveryKey,
    channel: ChannelHandle,
    peer: Attached,
    result: Result<CloseReason, PeerError>,
}

type Running = Pin<Box<dyn Future<Output = Left> + Send>>;

/// A protocol stream on which any number of cores are replicated.
///
/// Everything happens while it runs: [`Session::run`] until the stream is over, or [`Session::drive`] while a future is
/// awaited. Both can be dropped and called again. Channels of cores that were not added are rejected.
///
/// Other tasks use [`Session::handle`] while the session runs, to add and remove cores and to read [`SessionEvent`]s.
/// Channels of other protocols, and extensions of the stream, are opened by [`SessionHandle::protocol`] or
/// [`Protocol::handle`]; extensions of a core by [`Session::register_extension`].
///
/// Over TCP set `TCP_NODELAY` on the socket first (`set_nodelay(true)`), or each request may wait 40 ms.
///
/// Once the stream is over, every call returns its error, or, if the remote ended it cleanly, `run` returns `Ok` and
/// `drive` [`SessionError::Ended`].
///
/// # Memory
/// A reader buffers at most 1,024 events. A core that the remote keeps opening is opened 16 times at once, and from
/// then on once a second.
pub struct Session<S: Io> {
    protocol: Protocol<S>,
    options: SessionOptions,
    clock: S::Timer,
    owner: Owner,
    cores: HashMap<DiscoveryKey, Replicated>,
    running: FuturesUnordered<Running>,
    /// Peers of an ended stream, kept until the driver has its result: otherwise an update that waits for them would
    /// return false.
    departed: Vec<Attached>,
    /// Deadlines in order; the number distinguishes equal times. Their subjects may be gone by then.
    due: BTreeMap<(Duration, u64), Due>,
    last_due: u64,
    remote_opens: usize,
    stops: VecDeque<Stop>,
    has_handshake: bool,
    /// Why nothing more arrives.
    ending: Option<Ending>,
    /// The protocol has nothing left to do.
    is_finished: bool,
    /// Whether the driver has its result, or must not get another one.
    is_released: bool,
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
    /// Replicates on a protocol from which no event was taken, or only those before any channel.
    pub fn new(protocol: Protocol<S>) -> Self {
        Self::with_options(protocol, SessionOptions::default())
    }

    /// Replicates with other options.
    pub fn with_options(protocol: Protocol<S>, options: SessionOptions) -> Self {
        Self {
            owner: Owner::new(protocol.handle()),
            clock: protocol.io().timer(),
            protocol,
            options,
            cores: HashMap::new(),
            running: FuturesUnordered::new(),
            departed: Vec::new(),
            due: BTreeMap::new(),
            last_due: 0,
            remote_opens: 0,
            stops: VecDeque::new(),
            has_handshake: false,
            ending: None,
            is_finished: false,
            is_released: false,
        }
    }

    /// Replicates a core with the remote as soon as the remote opens it as well. Once per core.
    ///
    /// # Errors
    /// As [`ProtocolHandle::open`](crate::ProtocolHandle::open).
    pub fn add(&mut self, replicator: &Replicator) -> Result<(), Error> {
        self.add_expected(replicator, replicator.expect_peer())
    }

    /// Ends the replication of a core on this stream, and closes its channel. Later opens by the remote are rejected.
    /// Returns whether the core was there.
    pub fn remove(&mut self, discovery_key: &DiscoveryKey) -> bool {
        let Some(core) = self.cores.remove(discovery_key) else {
            return false;
        };
        self.close_channel(core.channel);
        true
    }

    /// As [`Session::remove`], until [`Session::resume`]. Registrations for the core are kept.
    pub fn pause(&mut self, discovery_key: &DiscoveryKey) -> bool {
        let Some(core) = self.cores.get_mut(discovery_key) else {
            return false;
        };
        core.is_paused = true;
        core.expected = None;
        let channel = core.channel;
        self.close_channel(channel);
        true
    }

    /// Reopens a core that was paused or closed, or whose peer was dropped. Returns whether the core was there.
    ///
    /// # Errors
    /// As [`ProtocolHandle::open`](crate::ProtocolHandle::open).
    pub fn resume(&mut self, discovery_key: &DiscoveryKey) -> Result<bool, Error> {
        let Some(core) = self.cores.get_mut(discovery_key) else {
            return Ok(false);
        };
        if core.is_open_here() {
            return Ok(true);
        }
        let replicator = core.replicator.clone();
        self.add_expected(&replicator, replicator.expect_peer())?;
        Ok(true)
    }

    /// Registers an extension on the channel of an added core, like Node's `core.registerExtension(name)`: now, if the
    /// channel is open, and whenever it opens. Each time, [`SessionEvent::Extension`] delivers it before any message of
    /// the remote's is lost. Returns whether the core was there.
    pub fn register_extension(&mut self, discovery_key: &DiscoveryKey, name: &str) -> bool {
        let Some(core) = self.cores.get_mut(discovery_key) else {
            return false;
        };
        if let Some(extension) = core.register_extension(name) {
            self.owner.tell(SessionEvent::Extension {
                discovery_key: *discovery_key,
                extension,
            });
        }
        true
    }

    /// A handle for other tasks, to use while the session runs.
    pub fn handle(&self) -> SessionHandle {
        self.owner.handle()
    }

    /// A stream of events from now on. A reader buffers at most 1,024 events; the oldest are replaced by
    /// [`SessionEvent::Lagged`].
    pub fn events(&self) -> SessionEvents {
        self.handle().events()
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol<S> {
        &self.protocol
    }

    /// Runs until the remote ends the stream. A dropped peer ends only its own core; [`Session::events`] reports it.
    ///
    /// # Errors When the stream fails; or when a peer is dropped and nothing else is open on the stream. After the
    /// latter, call it again to continue, or [`Session::close`] to send the remaining data. Once the stream is over,
    /// always the same error.
    pub async fn run(&mut self) -> Result<(), SessionError> {
        poll_fn(|cx| {
            let phase = self.poll(cx);
            while let Some(stop) = self.stops.pop_front() {
                if matches!(stop, Stop::Peer(..)) && !self.has_live_channel() {
                    return Poll::Ready(Err(stop.into()));
                }
            }
            if phase == Phase::Open {
                return Poll::Pending;
            }
            self.release();
            if phase == Phase::Drained {
                return Poll::Pending;
            }
            Poll::Ready(match self.failure() {
                Some(SessionError::Ended) | None => Ok(()),
                Some(error) => Err(error),
            })
        })
        .await
    }

    /// Runs until `future` is ready. Pass it by reference (`std::pin::pin!`) to continue with it after an error.
    ///
    /// # Errors When the stream fails or ends first, whatever the effect on the future, and always once the stream is
    /// over. Also when a peer is dropped, since the future may be waiting for it, and when the remote rejects a core or
    /// does not answer in time while nothing else is open on the stream; the next call continues.
    pub async fn drive<F: Future>(&mut self, future: F) -> Result<F::Output, SessionError> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if !self.is_released {
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
            }
            let phase = self.poll(cx);
            if !self.is_released {
                // The future may be waiting for the last messages. Lost peers are still attached here, so that nothing
                // becomes ready merely because of their loss.
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
            }
            while let Some(stop) = self.stops.pop_front() {
                if matches!(stop, Stop::Peer(..)) || !self.has_live_channel() {
                    return Poll::Ready(Err(stop.into()));
                }
            }
            if phase == Phase::Open {
                return Poll::Pending;
            }
            self.release();
            if phase == Phase::Drained {
                return Poll::Pending;
            }
            Poll::Ready(Err(self.failure().unwrap_or(SessionError::Ended)))
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
            departed,
            owner,
            ..
        } = self;
        drop((cores, running, departed, owner));
        protocol.close().await
    }

    fn add_expected(&mut self, replicator: &Replicator, expected: Expected) -> Result<(), Error> {
        let discovery_key = replicator.discovery_key();
        let channel = self.protocol.open(replicator.key())?;
        let core = self.cores.entry(discovery_key);
        let core = core.or_insert_with(|| Replicated::new(replicator.clone()));
        core.replicator = replicator.clone();
        core.open(channel, expected);
        if self.has_handshake || self.protocol.handshake_hash().is_some() {
            self.expect_answer(discovery_key, channel);
        }
        Ok(())
    }

    /// Starts the time-out of the remote's answer to an open.
    fn expect_answer(&mut self, discovery_key: DiscoveryKey, channel: ChannelHandle) {
        if let Some(timeout) = self.options.open_timeout {
            self.put_off(timeout, Due::Open(discovery_key, channel));
        }
    }

    fn put_off(&mut self, wait: Duration, due: Due) {
        self.last_due += 1;
        let at = self.clock.now().saturating_add(wait);
        self.due.insert((at, self.last_due), due);
    }

    fn close_channel(&self, channel: Option<ChannelHandle>) {
        if let Some(channel) = channel {
            // An already closed channel is left alone.
            self.protocol.close_channel(channel);
        }
    }

    /// Whether anything on the stream is open, or may still be opened by the remote.
    fn has_live_channel(&self) -> bool {
        let is_live = |core: &Replicated| core.is_live();
        self.cores.values().any(is_live)
            || self.protocol.channels().iter().any(|channel| {
                // A core's channel was considered above.
                channel.discovery_key.is_none()
            })
    }

    /// Why the stream is over, if by an error.
    fn failure(&self) -> Option<SessionError> {
        Some(match self.ending.as_ref()? {
            Ending::Clean => SessionError::Ended,
            Ending::BeforeHandshake => SessionError::EndedBeforeHandshake,
            Ending::Failed(error) => SessionError::Stream(error.clone()),
        })
    }

    /// The stream is lost: detaches its peers from the cores.
    fn release(&mut self) {
        if self.is_released {
            return;
        }
        self.is_released = true;
        self.due.clear();
        self.cores.clear();
        self.departed.clear();
        let error = self.failure();
        let error = error.filter(|error| !matches!(error, SessionError::Ended));
        self.owner.end(error);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Phase {
        loop {
            let mut progress = false;
            for order in self.owner.take_orders(cx) {
                self.obey(order);
                progress = true;
            }
            progress |= self.poll_due(cx);
            if !self.is_finished {
                match Pin::new(&mut self.protocol).poll_next(cx) {
                    Poll::Ready(Some(Ok(event))) => {
                        self.on_event(event);
                        progress = true;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.ending = Some(Ending::Failed(error));
                        progress = true;
                    }
                    Poll::Ready(None) => {
                        self.ending.get_or_insert(Ending::Clean);
                        self.is_finished = true;
                    }
                    Poll::Pending => {}
                }
            }
            if let Poll::Ready(Some(left)) = Pin::new(&mut self.running).poll_next(cx) {
                self.on_left(left);
                progress = true;
            }
            if !progress {
                break;
            }
        }
        match self.ending {
            Some(_) if self.running.is_empty() && self.is_finished => Phase::Over,
            Some(_) if self.running.is_empty() => Phase::Drained,
            _ => Phase::Open,
        }
    }

    fn obey(&mut self, order: Order) {
        if self.ending.is_some() {
            return;
        }
        match order {
            Order::Add(replicator, expected) => {
                let discovery_key = replicator.discovery_key();
                if let Err(error) = self.add_expected(&replicator, expected) {
                    self.owner.tell(SessionEvent::Failed {
                        discovery_key,
                        error: PeerError::Channel(error),
                    });
                }
            }
            Order::Remove(discovery_key) => {
                self.remove(&discovery_key);
            }
            Order::Pause(discovery_key) => {
                self.pause(&discovery_key);
            }
            Order::Resume(discovery_key) => {
                if let Err(error) = self.resume(&discovery_key) {
                    self.owner.tell(SessionEvent::Failed {
                        discovery_key,
                        error: PeerError::Channel(error),
                    });
                }
            }
            Order::RegisterExtension(discovery_key, name) => {
                self.register_extension(&discovery_key, &name);
            }
        }
    }

    /// Handles expired deadlines, and returns whether there were any.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(&(at, _)) = self.due.keys().next() else {
            return false;
        };
        if self.clock.poll_deadline(cx, Some(at)).is_pending() {
            return false;
        }
        let Some((_, due)) = self.due.pop_first() else {
            return false;
        };
        match due {
            Due::Open(discovery_key, channel) => {
                let core = self.cores.get_mut(&discovery_key);
                let core = core.filter(|core| core.channel == Some(channel));
                let timeout = self.options.open_timeout.unwrap_or_default();
                if core.is_some_and(|core| core.expected.take().is_some()) {
                    self.owner.tell(SessionEvent::Unanswered {
                        discovery_key,
                        timeout,
                    });
                    self.stop(Stop::Unanswered(discovery_key, timeout));
                }
            }
            Due::Reopen(discovery_key) => {
                let now = self.clock.now();
                if let Some(core) = self.cores.get_mut(&discovery_key) {
                    core.reopen_waits = false;
                    if core.may_reopen() && core.wait_before_reopening(now).is_none() {
                        self.reopen(&discovery_key);
                    }
                }
            }
            Due::RemoteOpen(open) => {
                self.remote_opens -= 1;
                self.reject_channel(&open);
            }
        }
        true
    }

    /// Rejects an open of the remote's, if still unanswered.
    fn reject_channel(&self, open: &RemoteOpen) {
        let handle = self.protocol.handle();
        // A stream that is ending answers nothing any more.
        handle.reject_channel(&open.protocol, open.id.as_deref());
    }

    fn reject(&self, discovery_key: &DiscoveryKey) {
        // As above.
        self.protocol.reject(discovery_key);
    }

    fn stop(&mut self, stop: Stop) {
        // One per core, so that they take no more room than the cores.
        let key = *stop.discovery_key();
        self.stops.retain(|earlier| *earlier.discovery_key() != key);
        self.stops.push_back(stop);
    }

    /// A peer's channel is closed, and everything received on it was processed.
    fn on_left(&mut self, left: Left) {
        let Left {
            discovery_key,
            channel,
            peer,
            result,
        } = left;
        if self.ending.is_some() {
            self.departed.push(peer);
        } else {
            drop(peer);
        }
        if let Some(core) = self.cores.get_mut(&discovery_key) {
            core.left(channel, result.is_err());
        }
        if let Err(error) = result {
            self.owner.tell(SessionEvent::Failed {
                discovery_key,
                error: error.clone(),
            });
            self.stop(Stop::Peer(discovery_key, error));
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Handshake(info) => {
                self.has_handshake = true;
                self.owner.tell(SessionEvent::Handshake(info));
                let waiting = self.cores.iter();
                let waiting = waiting.filter(|(_, core)| core.expected.is_some());
                let waiting: Vec<_> = waiting
                    .filter_map(|(key, core)| Some((*key, core.channel?)))
                    .collect();
                for (discovery_key, channel) in waiting {
                    self.expect_answer(discovery_key, channel);
                }
            }
            Event::Channel(channel) => self.on_channel(channel),
            Event::Close {
                channel,
                discovery_key,
                reason,
            } => self.on_close(channel, discovery_key, reason),
            Event::DiscoveryKey(discovery_key) => self.on_wanted(discovery_key),
            Event::RemoteOpen(open) => {
                let may_wait = self.remote_opens < MAX_REMOTE_OPENS && self.owner.has_readers();
                if !may_wait {
                    self.reject_channel(&open);
                    return;
                }
                if let Some(timeout) = self.options.open_timeout {
                    self.remote_opens += 1;
                    self.put_off(timeout, Due::RemoteOpen(open.clone()));
                }
                self.owner.tell(SessionEvent::RemoteOpen(open));
            }
            Event::End(end) => {
                self.ending = Some(match end {
                    End::BeforeHandshake => Ending::BeforeHandshake,
                    End::Clean => Ending::Clean,
                });
            }
        }
    }

    fn on_channel(&mut self, channel: Channel) {
        let discovery_key = *channel.discovery_key();
        let Some(core) = self.cores.get_mut(&discovery_key) else {
            return;
        };
        let mut peer = core.replicator.attach(&channel);
        let id = peer.id;
        // Not earlier, so that an update always finds either this or the peer.
        core.expected = None;
        let extensions = core.opened(&channel);
        self.running.push(Box::pin(async move {
            let result = peer.run(&channel).await;
            Left {
                discovery_key,
                channel: channel.handle(),
                peer,
                result,
            }
        }));
        self.owner.tell(SessionEvent::Opened {
            discovery_key,
            peer: id,
        });
        for extension in extensions {
            self.owner.tell(SessionEvent::Extension {
                discovery_key,
                extension,
            });
        }
    }

    fn on_close(
        &mut self,
        channel: ChannelHandle,
        discovery_key: DiscoveryKey,
        reason: CloseReason,
    ) {
        let core = self.cores.get_mut(&discovery_key);
        let Some(core) = core.filter(|core| core.channel == Some(channel)) else {
            return;
        };
        core.closed();
        if reason == CloseReason::Stream {
            // Tasks that wait for the core get the stream's error.
            return;
        }
        core.expected = None;
        if core.has_failed {
            return;
        }
        if reason == CloseReason::Rejected {
            self.owner.tell(SessionEvent::Rejected { discovery_key });
            self.stop(Stop::Rejected(discovery_key));
        } else {
            self.owner.tell(SessionEvent::Closed {
                discovery_key,
                reason,
            });
        }
    }

    /// The remote opens a core again that was closed, or one that was not added.
    fn on_wanted(&mut self, discovery_key: DiscoveryKey) {
        let now = self.clock.now();
        let Some(core) = self.cores.get_mut(&discovery_key) else {
            self.reject(&discovery_key);
            self.owner.tell(SessionEvent::Wanted { discovery_key });
            return;
        };
        if !core.may_reopen() || core.reopen_waits {
            self.reject(&discovery_key);
            return;
        }
        let Some(wait) = core.wait_before_reopening(now) else {
            self.reopen(&discovery_key);
            return;
        };
        core.reopen_waits = true;
        self.reject(&discovery_key);
        self.put_off(wait, Due::Reopen(discovery_key));
        self.owner.tell(SessionEvent::Reopens {
            discovery_key,
            wait,
        });
    }

    fn reopen(&mut self, discovery_key: &DiscoveryKey) {
        let Some(core) = self.cores.get_mut(discovery_key) else {
            return;
        };
        match self.protocol.open(core.replicator.key()) {
            Ok(channel) => core.channel = Some(channel),
            // The application has opened it itself, or the stream is ending.
            Err(_) => self.reject(discovery_key),
        }
    }
}
