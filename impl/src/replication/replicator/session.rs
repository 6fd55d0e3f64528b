//! A [`Session`]: a protocol stream on which any number of cores are replicated.
//!
//! `handle` is what others ask of a session and hear of it while it runs; `core` is what a session knows of one core.

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

/// Opens of other protocols by the remote that may wait for the application's answer at once; one more is rejected.
const MAX_REMOTE_OPENS: usize = 1024;

/// Why a session stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The stream broke: a time-out, a reset, or a remote that broke a rule.
    #[error(transparent)]
    Stream(#[from] Error),
    /// A peer was let go. The other cores of the stream are served on when the session is run again.
    #[error("{error}")]
    #[non_exhaustive]
    Peer {
        /// The core.
        discovery_key: DiscoveryKey,
        /// Why.
        error: PeerError,
    },
    /// The remote does not have the core, or does not serve it on this stream.
    #[error("the remote rejects the core of the discovery key {:?}", ShortHex(.discovery_key))]
    #[non_exhaustive]
    Rejected {
        /// The core.
        discovery_key: DiscoveryKey,
    },
    /// The remote has neither opened the core nor rejected it in time: see [`SessionOptions::open_timeout`].
    #[error(
        "the remote has not answered for {timeout:?} whether it has the core of the discovery key {:?}",
        ShortHex(.discovery_key)
    )]
    #[non_exhaustive]
    Unanswered {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The time that it had.
        timeout: Duration,
    },
    /// The remote ended the stream before the handshake was complete. It may be no hypercore peer, expect another
    /// handshake pattern, refuse our key, or serve nobody now.
    #[error("the remote ended the stream before the handshake was complete")]
    EndedBeforeHandshake,
    /// The remote ended the stream, and what was waited for had not happened.
    #[error("the stream ended")]
    Ended,
}

/// How cores are replicated on a stream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionOptions {
    /// How long the remote may take to open or reject a core that was opened here, counted from the handshake on. After
    /// that an update waits for it no longer, and [`SessionEvent::Unanswered`] tells of it; the remote may still open the
    /// core. It is also how long [`SessionEvent::RemoteOpen`] may wait for an answer before it is rejected. Default 15 s;
    /// none waits for ever.
    pub open_timeout: Option<Duration>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            open_timeout: Some(Duration::from_secs(15)),
        }
    }
}

/// What happened on a session: see [`Session::events`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The handshake is complete.
    Handshake(HandshakeInfo),
    /// Both sides have opened a core, and the remote proved to know its key.
    #[non_exhaustive]
    Opened {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The remote among the core's peers.
        peer: super::PeerId,
    },
    /// An extension that was asked for by [`Session::register_extension`], on a channel of its core that is open now. Keep
    /// it: dropping it takes the registration back until the channel opens again.
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
    /// The remote has neither opened nor rejected a core in time.
    #[non_exhaustive]
    Unanswered {
        /// The core.
        discovery_key: DiscoveryKey,
        /// The time that it had.
        timeout: Duration,
    },
    /// The channel of a core was closed, other than by a fault.
    #[non_exhaustive]
    Closed {
        /// The core.
        discovery_key: DiscoveryKey,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The remote was let go as a peer of a core, or the core could not be opened. Until [`Session::resume`] the core is
    /// not replicated on this stream.
    #[non_exhaustive]
    Failed {
        /// The core.
        discovery_key: DiscoveryKey,
        /// Why.
        error: PeerError,
    },
    /// The remote asks for a core that was not added. It was told that there is none; [`Session::add`] of the core opens it
    /// all the same, and the remote, if it still wants the core, opens it again.
    #[non_exhaustive]
    Wanted {
        /// The core.
        discovery_key: DiscoveryKey,
    },
    /// The remote opens a core again and again. It is answered again only after a while.
    #[non_exhaustive]
    Reopens {
        /// The core.
        discovery_key: DiscoveryKey,
        /// How long the core stays closed now.
        wait: Duration,
    },
    /// The remote opened a channel of a protocol that was paired by [`ProtocolHandle::pair`](crate::ProtocolHandle::pair). Answer by
    /// [`ProtocolHandle::open_channel`](crate::ProtocolHandle::open_channel) or
    /// [`ProtocolHandle::reject_channel`](crate::ProtocolHandle::reject_channel). It is rejected after
    /// [`SessionOptions::open_timeout`], and at once when nobody reads events.
    RemoteOpen(RemoteOpen),
    /// The stream is over. Always the last.
    #[non_exhaustive]
    Ended {
        /// Why, unless the remote ended the stream or the session was closed or dropped here.
        error: Option<SessionError>,
    },
    /// So many events were dropped, for they were not taken.
    Lagged(u64),
}

/// How the stream ended.
#[derive(Debug, Clone)]
enum Ending {
    Clean,
    BeforeHandshake,
    Failed(Error),
}

/// What ends [`Session::drive`], and [`Session::run`] when no other core is left.
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

/// How far the end of the stream has come.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// More may arrive.
    Open,
    /// Nothing more arrives, and the cores have taken in all that had. What was sent may still leave.
    Drained,
    /// The stream is over.
    Over,
}

/// What is due at a time.
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
/// Running it is what moves everything: [`Session::run`] until the stream is over, or [`Session::drive`] while something
/// is awaited. Both can be dropped and called again. Channels of cores that were not added are refused.
///
/// [`Session::handle`] gives what other tasks need while the session runs: it adds and removes cores, and reads
/// [`SessionEvent`]s. Channels of other protocols, and extensions of the stream, are opened by
/// [`SessionHandle::protocol`] or [`Protocol::handle`]; extensions of a core by [`Session::register_extension`].
///
/// Over TCP set `TCP_NODELAY` on the socket first (`set_nodelay(true)`), for otherwise each request may wait 40 ms.
///
/// Once the stream is over, every call says so: with its error, or, where the remote ended it cleanly, `run` with
/// `Ok` and `drive` with [`SessionError::Ended`].
///
/// # Memory
/// A reader of events keeps at most 1,024. A core that the remote opens again and again is opened 16 times at once, and
/// from then on once a second.
pub struct Session<S: Io> {
    protocol: Protocol<S>,
    options: SessionOptions,
    clock: S::Timer,
    owner: Owner,
    cores: HashMap<DiscoveryKey, Replicated>,
    running: FuturesUnordered<Running>,
    /// Peers whose stream is over, kept until who drives was told: an update that waits for them would end with false.
    departed: Vec<Attached>,
    /// What is due, in order; those of one moment told apart by a number. What they are for may be over by then.
    due: BTreeMap<(Duration, u64), Due>,
    last_due: u64,
    remote_opens: usize,
    stops: VecDeque<Stop>,
    has_handshake: bool,
    /// Nothing more arrives.
    ending: Option<Ending>,
    /// The protocol has nothing left to do.
    is_finished: bool,
    /// Whoever drives was told, or must not be given anything else any more.
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
    /// Replicates on a protocol of which no event was taken, or only those before any channel.
    pub fn new(protocol: Protocol<S>) -> Self {
        Self::with_options(protocol, SessionOptions::default())
    }

    /// Replicates in another way than the usual.
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

    /// Replicates a core with the remote, as soon as it wants that, too. Once for each core.
    ///
    /// # Errors
    /// As [`ProtocolHandle::open`](crate::ProtocolHandle::open).
    pub fn add(&mut self, replicator: &Replicator) -> Result<(), Error> {
        self.add_expected(replicator, replicator.expect_peer())
    }

    /// Ends the replication of a core on this stream, and closes its channel. The remote's later opens of it are refused.
    /// Says whether the core was there.
    pub fn remove(&mut self, discovery_key: &DiscoveryKey) -> bool {
        let Some(core) = self.cores.remove(discovery_key) else {
            return false;
        };
        self.close_channel(core.channel);
        true
    }

    /// As [`Session::remove`], until [`Session::resume`]. What was registered for the core stays.
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

    /// Opens a core again that was paused or closed, or whose peer was let go. Says whether the core was there.
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

    /// Registers an extension on the channel of a core that was added, as Node's `core.registerExtension(name)`: now, if
    /// the channel is open, and whenever it opens. Each time it comes as [`SessionEvent::Extension`], before any message of
    /// the remote's is lost. Says whether the core was there.
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

    /// Asks things of this session from other tasks while it runs.
    pub fn handle(&self) -> SessionHandle {
        self.owner.handle()
    }

    /// What happens from now on. One reader keeps at most 1,024 events; the oldest are dropped for
    /// [`SessionEvent::Lagged`].
    pub fn events(&self) -> SessionEvents {
        self.handle().events()
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol<S> {
        &self.protocol
    }

    /// Runs until the remote ends the stream. A peer that is let go ends its own core alone; [`Session::events`] tells of
    /// it.
    ///
    /// # Errors
    /// When the stream breaks; or when a peer is let go and nothing else is open on the stream, after which it can be
    /// called again to go on, or [`Session::close`] to say what is left to be said. Of a stream that is over always the
    /// same.
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

    /// Runs until `future` is ready. Give it by reference (`std::pin::pin!`) to go on with it after an error.
    ///
    /// # Errors
    /// When the stream breaks or ends before, whatever the future would make of that, and of a stream that is over
    /// always. When a peer is let go, for it may be what the future waits for, and when the remote rejects a core or does
    /// not answer in time while nothing else is open on the stream; the next call goes on then.
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
                // What just arrived may be what the future waits for. Peers that are lost are still there then, so that
                // nothing is ready merely because of their loss.
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

    /// From now on the remote has its time to answer an open.
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
            // One that is closed already is left alone.
            self.protocol.close_channel(channel);
        }
    }

    /// Whether anything on the stream is open, or may yet be opened by the remote.
    fn has_live_channel(&self) -> bool {
        let is_live = |core: &Replicated| core.is_live();
        self.cores.values().any(is_live)
            || self.protocol.channels().iter().any(|channel| {
                // A core's is judged above.
                channel.discovery_key.is_none()
            })
    }

    /// Why the stream is over.
    fn failure(&self) -> Option<SessionError> {
        Some(match self.ending.as_ref()? {
            Ending::Clean => SessionError::Ended,
            Ending::BeforeHandshake => SessionError::EndedBeforeHandshake,
            Ending::Failed(error) => SessionError::Stream(error.clone()),
        })
    }

    /// The stream is lost: its cores go on without its peers.
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

    /// Does what is due, and says whether anything was.
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

    /// Rejects an open of the remote's, if nobody has answered it.
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
        // One for each core, so that they take no more room than the cores.
        let key = *stop.discovery_key();
        self.stops.retain(|earlier| *earlier.discovery_key() != key);
        self.stops.push_back(stop);
    }

    /// A peer's channel is closed, and all that arrived on it was taken in.
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
        // Only now, so that an update finds one or the other.
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
            // What waits for the core's answer is told of the stream.
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

    /// The remote wants a core again that was closed, or one that was not added.
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
            // The application has opened it by itself, or the stream is ending.
            Err(_) => self.reject(discovery_key),
        }
    }
}
