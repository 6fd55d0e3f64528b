//! A [`Replicator`]: serves a core to peers, and fills it from them.
//!
//! Read from hypercore 11.37.1, `lib/replicator.js`.

mod clock;
mod machine;
mod outbox;
mod peer;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Bound, Range, RangeBounds};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use crate::Channel;
use crate::buffer::Buffer;
use crate::class::ErrorClass;
use crate::error::Error;
use crate::keys::{DiscoveryKey, Key};
use crate::mux::CloseReason;
use crate::runtime::Timer;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::wire::{Message, Request};

use super::core::{Appended, Conflict, Core, CoreInfo, Truncated, Upgraded};
use super::error::{CoreError, ProofError, RequestError};

use machine::{Kind, Machine, Outcome};
use peer::Ending;

pub use clock::Clock;
pub use session::{
    Session, SessionError, SessionEvent, SessionEvents, SessionHandle, SessionOptions,
};

/// Bytes of answers made for a peer at a time.
const ANSWERS: usize = 64 * 1024;

/// Messages received before anything is sent.
const RECEIVED_AT_ONCE: usize = 64;

/// Identifies a peer of a core. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct WaiterId(u64);

/// Options of replication.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReplicatorOptions {
    /// Whether peers' requests are answered. Default true.
    pub upload: bool,
    /// Whether requests are made to peers. Default true. A channel on which neither side makes requests is closed.
    pub download: bool,
    /// Whether to request a longer core as soon as a peer has one, instead of only when a caller waits for it. Default
    /// true.
    pub eager_upgrade: bool,
    /// Whether a later fork replaces the held history. Default true.
    pub reorgs: bool,
    /// Maximum number of requests in flight to one peer, at least 1. Default 64. For a peer that does not answer in
    /// time the number is reduced.
    pub max_in_flight: usize,
    /// Maximum number of unanswered requests from one peer, at least 1; beyond it nothing is read from the peer until
    /// some are answered. Default 1,024, which take at most 400 KiB.
    pub max_requests: usize,
    /// Memory for one peer's claims of which blocks it has, in bytes, at least 4,096. Claims beyond it are dropped.
    /// Default 16 MiB, which is enough for 134 million blocks with gaps; a peer of a core of 2 million blocks or less
    /// takes 528 KiB at most. A core without gaps takes none.
    pub max_claims: usize,
    /// Maximum number of events buffered per reader, at least 1; the oldest are replaced by
    /// [`ReplicatorEvent::Lagged`]. Default 4,096.
    pub max_events: usize,
    /// Time-out of a request, at least a millisecond. Default 15 seconds. It counts from the last answer to an earlier
    /// request, so that a slow link may take as long as it needs while it makes progress. After it the request is
    /// cancelled and made to another peer; after four times as long that also happens while the link makes progress. A
    /// late answer is still accepted.
    ///
    /// A peer that answered nothing in that time is paused, at first for the same time, then twice as long, and so on:
    /// see [`ReplicatorOptions::max_pauses`]. An update waits at most this long for a peer that claims to have
    /// something that cannot be requested from it.
    pub request_timeout: Duration,
    /// How often a peer may refuse data that it claims to have before it is paused, at least 1; each answer cancels one
    /// refusal. Default 32 (hypercore 11.37.1, `lib/replicator.js`, `MAX_BACKOFFS`, after which Node makes no more
    /// requests to the peer).
    pub max_refusals: usize,
    /// How often a peer is paused before it is dropped. Default 3. Every 32 answers cancel one pause.
    pub max_pauses: u32,
    /// The clock. Default the platform's; with the feature `tokio` that of tokio, which a test can pause.
    pub clock: std::sync::Arc<dyn Clock>,
}

impl Default for ReplicatorOptions {
    fn default() -> Self {
        Self {
            upload: true,
            download: true,
            eager_upgrade: true,
            reorgs: true,
            max_in_flight: 64,
            max_requests: 1024,
            max_claims: 16 * 1024 * 1024,
            max_events: 4096,
            request_timeout: Duration::from_secs(15),
            max_refusals: 32,
            max_pauses: 3,
            clock: clock::default_clock(),
        }
    }
}

impl ReplicatorOptions {
    /// Raises every limit to its minimum.
    fn checked(self) -> Self {
        Self {
            max_in_flight: self.max_in_flight.max(1),
            max_requests: self.max_requests.max(1),
            max_claims: self.max_claims.max(4096),
            max_events: self.max_events.max(1),
            request_timeout: self.request_timeout.max(Duration::from_millis(1)),
            max_refusals: self.max_refusals.max(1),
            ..self
        }
    }
}

/// An event of a core or its peers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReplicatorEvent {
    /// A peer has opened the core's channel.
    PeerAdded(PeerId),
    /// A peer has sent its first sync.
    #[non_exhaustive]
    PeerSynced {
        /// The peer.
        peer: PeerId,
        /// The length of its core, in blocks.
        length: u64,
        /// The fork of its core.
        fork: u64,
    },
    /// The channel of a peer is closed.
    PeerRemoved(PeerId),
    /// The manifest has become known.
    Manifest,
    /// The core has become longer.
    Upgraded(Upgraded),
    /// The core has lost blocks.
    Truncated(Truncated),
    /// A block has arrived.
    #[non_exhaustive]
    Downloaded {
        /// The block.
        block: u64,
        /// Its size, in bytes.
        bytes: usize,
        /// The sender.
        peer: PeerId,
    },
    /// A block was sent to a peer.
    #[non_exhaustive]
    Uploaded {
        /// The block.
        block: u64,
        /// Its size, in bytes.
        bytes: usize,
        /// The receiver.
        peer: PeerId,
    },
    /// A peer's proof is invalid. The peer is dropped, after it was asked to prove its history.
    #[non_exhaustive]
    Refused {
        /// The peer.
        peer: PeerId,
        /// Why the proof is invalid.
        error: ProofError,
    },
    /// A peer sent an invalid request.
    #[non_exhaustive]
    InvalidRequest {
        /// The peer.
        peer: PeerId,
        /// Why it is invalid.
        error: RequestError,
    },
    /// The core's writer has signed two histories. The core takes no more changes, and all peers are dropped.
    Conflict(Box<Conflict>),
    /// A peer did not answer a request in time. The request was cancelled, and may be made to others.
    #[non_exhaustive]
    RequestTimedOut {
        /// The peer.
        peer: PeerId,
        /// The request.
        request: Box<Request>,
    },
    /// A peer does not deliver, and gets no requests for a while. It is still served.
    #[non_exhaustive]
    PeerPaused {
        /// The peer.
        peer: PeerId,
        /// The duration of the pause.
        pause: Duration,
        /// How it failed to deliver.
        reason: PauseReason,
    },
    /// A peer was dropped. [`ReplicatorEvent::PeerRemoved`] follows.
    #[non_exhaustive]
    PeerLetGo {
        /// The peer.
        peer: PeerId,
        /// The reason.
        error: PeerError,
    },
    /// The store failed. All waits have ended with this error; new ones try again. If a peer requested something that
    /// is damaged in the store, only that peer is affected: it gets `noData`.
    StoreFailed(CoreError),
    /// The number of events dropped because they were not read.
    Lagged(u64),
}

/// How a peer failed to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseReason {
    /// It answered no request in time.
    Silent,
    /// It kept refusing data that it claims to have, or sent something else.
    Refuses,
}

/// Why a peer was dropped.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Its data does not prove what it claims.
    #[error("the peer's data was refused: {0}")]
    Proof(ProofError),
    /// It kept sending invalid requests.
    #[error("too many invalid requests, the last of which: {0}")]
    InvalidRequests(RequestError),
    /// It repeatedly answered no request in time: see [`ReplicatorOptions::request_timeout`].
    #[error("the peer does not answer requests")]
    Unresponsive,
    /// It kept refusing data that it claims to have: see [`ReplicatorOptions::max_refusals`].
    #[error("the peer does not give what it says to have")]
    Refuses,
    /// The channel is of another core.
    #[error("the channel is of another core")]
    OtherCore,
    /// The core's writer has signed two histories.
    #[error("the core's writer has signed two histories")]
    Conflict,
    /// The core failed.
    #[error(transparent)]
    Core(CoreError),
    /// Sending failed.
    #[error(transparent)]
    Channel(Error),
}

/// The current state of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its id.
    pub id: PeerId,
    /// The length of its core as it claims, in blocks.
    pub length: u64,
    /// The fork of its core as it claims.
    pub fork: u64,
    /// The number of leading blocks that it claims to have.
    pub contiguous_length: u64,
    /// Whether it answers requests.
    pub uploading: bool,
    /// Whether it makes requests.
    pub downloading: bool,
    /// The number of requests in flight to it.
    pub in_flight: usize,
}

/// Serves a core to peers, and fills it from them. Clones are handles of the same core.
///
/// It has any number of peers, each on its own channel, run by [`Session::run`] or [`Replicator::replicate`]; nothing
/// is spawned, and any runtime will do. The longest signed length of every peer is learned at once. Blocks are only
/// fetched on request, by [`Replicator::get`] or [`Replicator::download`].
///
/// Nothing happens in the background: requests wait until a session of the core is run or driven and a peer answers. A
/// `get` of a core that no peer has waits for ever, unless [`Get::within`] limits it; [`SessionEvent`] reports which
/// remotes reject the core.
///
/// # Peers that do not deliver
/// A request that is not answered in time is cancelled and made to another peer; a peer that does not answer, or keeps
/// refusing data that it claims to have, gets fewer requests, is then paused, and finally dropped. Events report this:
/// [`ReplicatorEvent::RequestTimedOut`], [`ReplicatorEvent::PeerPaused`], [`ReplicatorEvent::PeerLetGo`].
/// [`ReplicatorOptions`] has the times and limits. Any peer's task, while polled, keeps the time for all of them.
///
/// # Memory
/// With the default options and a core of up to 2 million blocks, a peer takes at most 8 MiB, in addition to its
/// stream: 400 KiB for unanswered requests, 528 KiB for its claims ([`ReplicatorOptions::max_claims`] for a longer
/// core), 64 KiB and one block for outgoing answers, and the rest for its channel's message queue. Only the latest
/// state is kept for announcement to the peer, however often it changed, and a `want` is answered only once there is
/// room: a peer that does not read is not read from, either. `tests/memory.rs` measures it.
///
/// # Time
/// Methods that access the store block the thread meanwhile, up to a few milliseconds for durable changes such as
/// [`Replicator::append`] to a `Disk`: append many blocks at once, or, on a shared runtime, in
/// `tokio::task::spawn_blocking(move || core.append(&blocks))`.
///
#[cfg_attr(feature = "tokio", doc = "```")]
#[cfg_attr(not(feature = "tokio"), doc = "```ignore")]
/// use hypercore_protocol::ProtocolBuilder;
/// use hypercore_protocol::replication::{Core, CoreOptions, Memory, Replicator, Session};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::io::duplex(1024);
///
/// let writer = Replicator::new(Core::open(Memory::new(), CoreOptions::default())?);
/// writer.append(&["hi", "ola"])?;
/// let mut server = Session::new(ProtocolBuilder::new(false).connect(theirs));
/// server.add(&writer)?;
/// tokio::spawn(async move { server.run().await });
///
/// let reader = Replicator::new(Core::open(Memory::new(), CoreOptions::reader(writer.key()))?);
/// let mut client = Session::new(ProtocolBuilder::new(true).connect(ours));
/// client.add(&reader)?;
/// let block = client.drive(reader.get(1)).await??;
/// assert_eq!(block, b"ola");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Replicator {
    shared: Arc<Shared>,
}

impl fmt::Debug for Replicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Replicator")
            .field("core", &state.machine.core)
            .finish_non_exhaustive()
    }
}

impl Replicator {
    /// Replicates a core with the default options.
    pub fn new(core: Core) -> Self {
        Self::with_options(core, ReplicatorOptions::default())
    }

    /// Replicates a core with other options.
    pub fn with_options(core: Core, options: ReplicatorOptions) -> Self {
        let options = options.checked();
        let (clock, max_events) = (options.clock.clone(), options.max_events);
        let (key, discovery_key) = (*core.key(), *core.discovery_key());
        Self {
            shared: Arc::new(Shared {
                key,
                discovery_key,
                clock,
                state: Mutex::new(State {
                    machine: Machine::new(core, options),
                    peers: HashMap::new(),
                    waiters: HashMap::new(),
                    readers: Vec::new(),
                    max_events,
                    last_reader: 0,
                }),
            }),
        }
    }

    /// The core's key, 32 bytes.
    pub fn key(&self) -> Key {
        self.shared.key
    }

    /// The key by which peers ask for the core, 32 bytes.
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.shared.discovery_key
    }

    /// The core's length, in blocks, held or not.
    pub fn length(&self) -> u64 {
        self.with_core(Core::length)
    }

    /// A summary of the core's state.
    ///
    /// # Errors
    /// As [`Core::info`].
    pub fn info(&self) -> Result<CoreInfo, CoreError> {
        self.with_core(Core::info)
    }

    /// Reads the core. Peers wait meanwhile, and calling this replicator inside `look` deadlocks.
    pub fn with_core<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.shared.lock().machine.core)
    }

    /// Makes appended and downloaded blocks durable. A dropped store does so by itself.
    ///
    /// # Errors
    /// When the store fails.
    pub fn flush(&self) -> Result<(), CoreError> {
        self.shared.lock().machine.core.flush()
    }

    /// The peers.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let state = self.shared.lock();
        let peers = state.machine.peers().map(|(id, peer)| PeerInfo {
            id,
            length: peer.remote.length,
            fork: peer.remote.fork,
            contiguous_length: peer.has.contiguous,
            uploading: peer.remote.uploading,
            downloading: peer.remote.downloading,
            in_flight: peer.in_flight.len(),
        });
        peers.collect()
    }

    /// A stream of events from now on. A reader buffers at most [`ReplicatorOptions::max_events`]; the oldest are
    /// replaced by [`ReplicatorEvent::Lagged`].
    pub fn events(&self) -> Events {
        let mut state = self.shared.lock();
        state.last_reader += 1;
        let id = state.last_reader;
        state.readers.push(Reader {
            id,
            events: VecDeque::new(),
            lost: 0,
            waker: None,
        });
        Events {
            shared: Arc::clone(&self.shared),
            id,
        }
    }

    /// Adds blocks, and announces them to the peers.
    ///
    /// # Errors
    /// As [`Core::append`].
    pub fn append<B: AsRef<[u8]>>(&self, blocks: &[B]) -> Result<Appended, CoreError> {
        self.shared.with(|machine| machine.append(blocks))
    }

    /// Adds blocks that were signed elsewhere, and announces them to the peers.
    ///
    /// # Errors
    /// As [`Core::append_signed`].
    pub fn append_signed<B: AsRef<[u8]>>(
        &self,
        blocks: &[B],
        signature: Buffer,
    ) -> Result<Appended, CoreError> {
        self.shared
            .with(|machine| machine.append_signed(blocks, signature))
    }

    /// Truncates the core to `length` blocks, as the next fork or the given one, and announces it to the peers.
    ///
    /// # Errors
    /// As [`Core::truncate`].
    pub fn truncate(&self, length: u64, fork: Option<u64>) -> Result<Truncated, CoreError> {
        self.shared.with(|machine| machine.truncate(length, fork))
    }

    /// As [`Replicator::truncate`], signed elsewhere.
    ///
    /// # Errors
    /// As [`Core::truncate_signed`].
    pub fn truncate_signed(
        &self,
        length: u64,
        fork: u64,
        signature: Buffer,
    ) -> Result<Truncated, CoreError> {
        self.shared
            .with(|machine| machine.truncate_signed(length, fork, signature))
    }

    /// Deletes the values of blocks, and announces it to the peers.
    ///
    /// # Errors
    /// As [`Core::clear`].
    pub fn clear(&self, blocks: Range<u64>) -> Result<(), CoreError> {
        self.shared.with(|machine| machine.clear(blocks))
    }

    /// A block, from the store or else from the first peer that has it, which may be after it was appended. It is
    /// requested at once; dropping the future cancels the request. [`Get::within`] sets a time-out.
    ///
    /// The future ends with [`CoreError::TooLarge`] for a block that no core can have (2^52 and above), and with the
    /// store's error or [`CoreError::Frozen`] as soon as blocks cannot be stored any more. So do all futures of a
    /// replicator.
    pub fn get(&self, block: u64) -> Get {
        Get(self.wait(Kind::Block(block)))
    }

    /// A block, if it is held here.
    ///
    /// # Errors
    /// As [`Core::get`].
    pub fn get_held(&self, block: u64) -> Result<Option<Buffer>, CoreError> {
        self.with_core(|core| core.get(block))
    }

    /// Requests all blocks of a range from peers while the returned future is kept; it is ready when all are held. A
    /// range without an end is never ready: the core is filled, and new blocks are fetched as it grows.
    pub fn download(&self, blocks: impl RangeBounds<u64>) -> Download {
        let start = match blocks.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match blocks.end_bound() {
            Bound::Included(end) => Some(end.saturating_add(1)),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => None,
        };
        Download(self.wait(Kind::Blocks(start, end)))
    }

    /// Fetches the whole core, and new blocks, while the returned future is kept. It is never ready.
    pub fn download_all(&self) -> Download {
        self.download(..)
    }

    /// Waits until the core is longer or of a later fork, and returns true; or false as soon as every connected peer,
    /// and every peer about to connect, has reported nothing new.
    pub fn update(&self) -> Update {
        let mut state = self.shared.lock_in_time();
        let (length, fork) = (state.machine.core.length(), state.machine.core.fork());
        let id = state.wait(Kind::Update { length, fork });
        Update(self.waiting(id))
    }

    /// Waits until the core has `length` blocks, held or not.
    pub fn has_length(&self, length: u64) -> HasLength {
        HasLength(self.wait(Kind::Length(length)))
    }

    /// Finds the block with a byte of the core, counted from its start, and the byte's offset in that block. The byte
    /// after the last is in the block after the last; one beyond that waits for the core to grow.
    ///
    /// A peer's claim about the size of a block is never trusted: if only the hashes of two neighbours are known, one
    /// of them is fetched.
    pub fn seek(&self, bytes: u64) -> SeekBlock {
        self.seek_padded(bytes, 0)
    }

    /// As [`Replicator::seek`], not counting `padding` bytes at the front of each block, as in an encrypted core.
    pub fn seek_padded(&self, bytes: u64, padding: u64) -> SeekBlock {
        SeekBlock(self.wait(Kind::Seek { bytes, padding }))
    }

    /// Replicates on a channel of this core until it is closed, and returns who closed it. The peer is served and asked
    /// only while the returned future is polled; dropping it closes the channel. [`Session`] also opens the channels.
    ///
    /// # Errors
    /// Why the peer was dropped; [`PeerError::OtherCore`] at once when the channel is of another core.
    pub fn replicate(
        &self,
        channel: Channel,
    ) -> impl Future<Output = Result<CloseReason, PeerError>> + Send + use<> {
        let is_ours = channel.discovery_key() == &self.discovery_key();
        let peer = is_ours.then(|| self.attach(&channel));
        async move {
            match peer {
                Some(mut peer) => peer.run(&channel).await,
                None => Err(PeerError::OtherCore),
            }
        }
    }

    /// Makes the remote of a channel a peer until the result is dropped.
    fn attach(&self, channel: &Channel) -> Attached {
        let seeks = channel.remote_handshake().seeks;
        Attached {
            id: self.shared.with(|machine| machine.add_peer(seeks)),
            shared: Arc::clone(&self.shared),
            alarm: None,
        }
    }

    fn wait(&self, kind: Kind) -> Waiting {
        let id = self.shared.lock_in_time().wait(kind);
        self.waiting(id)
    }

    fn waiting(&self, id: WaiterId) -> Waiting {
        Waiting {
            shared: Arc::clone(&self.shared),
            id,
        }
    }

    /// Registers a peer that is about to connect: updates wait for it.
    fn expect_peer(&self) -> Expected {
        let expected = self.shared.with(Machine::expect_peer);
        Expected(Arc::clone(&self.shared), expected)
    }
}

/// A peer that is about to connect.
struct Expected(Arc<Shared>, u64);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.with(|machine| machine.unexpect_peer(self.1));
    }
}

/// The state shared by the handles of a replicator and its peers.
struct Shared {
    key: Key,
    discovery_key: DiscoveryKey,
    clock: std::sync::Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    /// The tasks that run peers.
    peers: HashMap<PeerId, Task>,
    waiters: HashMap<WaiterId, Waiter>,
    readers: Vec<Reader>,
    /// Maximum for each reader.
    max_events: usize,
    last_reader: u64,
}

/// The task that runs a peer.
struct Task {
    waker: Waker,
    /// It waits for room to send, and can only end.
    is_stuck: bool,
}

#[derive(Default)]
struct Waiter {
    outcome: Option<Result<Outcome, CoreError>>,
    waker: Option<Waker>,
}

struct Reader {
    id: u64,
    events: VecDeque<ReplicatorEvent>,
    lost: u64,
    waker: Option<Waker>,
}

/// The locked state. Unlocking it wakes all tasks that the change concerns.
struct Guard<'a>(Option<MutexGuard<'a, State>>);

impl std::ops::Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        match &self.0 {
            Some(state) => state,
            None => unreachable!("the guard is taken only when it is dropped"),
        }
    }
}

impl std::ops::DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        match &mut self.0 {
            Some(state) => state,
            None => unreachable!("the guard is taken only when it is dropped"),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.0.take() else {
            return;
        };
        let wakers = state.settle();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    /// A panic elsewhere leaves the state as sound as its store.
    fn lock(&self) -> Guard<'_> {
        let state = self.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        Guard(Some(state))
    }

    /// As [`Shared::lock`], but first advances the clock.
    fn lock_in_time(&self) -> Guard<'_> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.machine.tick(now);
        state
    }

    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.lock_in_time().machine)
    }
}

impl State {
    fn wait(&mut self, kind: Kind) -> WaiterId {
        let id = self.machine.wait(kind);
        self.waiters.insert(id, Waiter::default());
        id
    }

    /// Distributes events and results. Returns the wakers to call.
    fn settle(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for (id, outcome) in self.machine.finished.drain(..) {
            if let Some(waiter) = self.waiters.get_mut(&id) {
                waiter.outcome = Some(outcome);
                wakers.extend(waiter.waker.take());
            }
        }
        for event in self.machine.events.drain(..) {
            for reader in &mut self.readers {
                if reader.events.len() >= self.max_events {
                    reader.events.pop_front();
                    reader.lost += 1;
                }
                reader.events.push_back(event.clone());
                wakers.extend(reader.waker.take());
            }
        }
        for id in self.machine.take_touched() {
            let Some(task) = self.peers.get(&id) else {
                continue;
            };
            let is_due = if task.is_stuck {
                self.machine.is_ending(id)
            } else {
                self.machine.has_work(id)
            };
            if is_due {
                wakers.extend(self.peers.remove(&id).map(|task| task.waker));
            }
        }
        wakers
    }
}

/// An attached peer; dropping it detaches the peer.
struct Attached {
    shared: Arc<Shared>,
    id: PeerId,
    /// When the stream's timer wakes the task, and its waker.
    alarm: Option<(Duration, Waker)>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.peers.remove(&self.id);
        state.machine.remove_peer(self.id);
    }
}

/// Why the task of a peer continues.
enum Turn {
    Received(Vec<Message>),
    Closed,
    Sent(Result<(), Error>),
    Work,
}

impl Attached {
    async fn run(&mut self, channel: &Channel) -> Result<CloseReason, PeerError> {
        let result = self.exchange(channel).await;
        if let Err(error) = &result {
            // It may already be closed.
            channel.close();
            let event = ReplicatorEvent::PeerLetGo {
                peer: self.id,
                error: error.clone(),
            };
            self.shared.lock().machine.events.push_back(event);
        }
        result
    }

    async fn exchange(&mut self, channel: &Channel) -> Result<CloseReason, PeerError> {
        let mut incoming = channel.clone();
        let mut outgoing = Vec::new();
        loop {
            let ending;
            (outgoing, ending) = self.shared.with(|machine| {
                let messages = if outgoing.is_empty() {
                    machine.transmit(self.id, ANSWERS)?
                } else {
                    outgoing
                };
                Ok::<_, PeerError>((messages, machine.ending(self.id)))
            })?;
            if let Some(ending) = ending {
                return say_goodbye(channel, &outgoing, ending).await;
            }
            let turn = if outgoing.is_empty() {
                poll_fn(|cx| {
                    if let Poll::Ready(turn) = self.poll_receive(cx, &mut incoming) {
                        return Poll::Ready(turn);
                    }
                    self.poll_work(cx, channel, false)
                })
                .await
            } else {
                let mut sending = std::pin::pin!(channel.send_batch(&outgoing));
                // Receive while there is no room to send: otherwise two peers that send to each other would deadlock.
                poll_fn(|cx| {
                    if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                        return Poll::Ready(Turn::Sent(sent));
                    }
                    if let Poll::Ready(turn) = self.poll_receive(cx, &mut incoming) {
                        return Poll::Ready(turn);
                    }
                    self.poll_work(cx, channel, true)
                })
                .await
            };
            match turn {
                Turn::Received(messages) => {
                    let mut state = self.shared.lock_in_time();
                    for message in messages {
                        state.machine.receive(self.id, message)?;
                    }
                }
                Turn::Sent(sent) => {
                    outgoing.clear();
                    match sent {
                        Ok(()) => {}
                        // Process messages received before the end.
                        Err(error) if error.class() == ErrorClass::Closed => {
                            return self.take_in_the_rest(&mut incoming).await;
                        }
                        Err(error) => return Err(PeerError::Channel(error)),
                    }
                }
                Turn::Work => {}
                Turn::Closed => return Ok(channel.close_reason().unwrap_or(CloseReason::Local)),
            }
        }
    }

    /// Sending is no longer possible: the channel is closed, or will be as soon as the remaining messages are read.
    async fn take_in_the_rest(&self, incoming: &mut Channel) -> Result<CloseReason, PeerError> {
        while let Some(message) = incoming.next().await {
            self.shared
                .with(|machine| machine.receive(self.id, message))?;
        }
        Ok(incoming.close_reason().unwrap_or(CloseReason::Local))
    }

    /// The next message, unless too many requests are unanswered.
    fn poll_receive(&self, cx: &mut Context<'_>, incoming: &mut Channel) -> Poll<Turn> {
        if self.shared.lock().machine.is_full(self.id) {
            return Poll::Pending;
        }
        let mut messages = Vec::new();
        while messages.len() < RECEIVED_AT_ONCE {
            match Pin::new(&mut *incoming).poll_next(cx) {
                Poll::Ready(Some(message)) => messages.push(message),
                Poll::Ready(None) if messages.is_empty() => return Poll::Ready(Turn::Closed),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if messages.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Turn::Received(messages))
    }

    /// Ready when there is something to send; or, for a task that is stuck in sending, when its peer was dropped. Until
    /// then the task keeps the time for all peers: another peer's task may never be polled.
    fn poll_work(&mut self, cx: &mut Context<'_>, channel: &Channel, is_stuck: bool) -> Poll<Turn> {
        let mut state = self.shared.lock_in_time();
        let is_due = if is_stuck {
            state.machine.is_ending(self.id)
        } else {
            state.machine.has_work(self.id)
        };
        if is_due {
            return Poll::Ready(Turn::Work);
        }
        let task = Task {
            waker: cx.waker().clone(),
            is_stuck,
        };
        state.peers.insert(self.id, task);
        let (now, deadline) = (state.machine.now(), state.machine.next_deadline());
        drop(state);
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        // An early alarm is harmless: it is then set again.
        let is_set = self
            .alarm
            .as_ref()
            .is_some_and(|(at, waker)| now < *at && *at <= deadline && waker.will_wake(cx.waker()));
        if !is_set {
            self.alarm = Some((deadline, cx.waker().clone()));
            channel.wake_after(cx, deadline.saturating_sub(now));
        }
        Poll::Pending
    }
}

/// Best effort: sends what there is room for, as the peer may not read, and closes the channel.
async fn say_goodbye(
    channel: &Channel,
    last: &[Message],
    ending: Ending,
) -> Result<CloseReason, PeerError> {
    // Either may fail because the channel is closed, which is the goal.
    let mut sending = std::pin::pin!(channel.send_batch(last));
    poll_fn(|cx| {
        let _ = sending.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    channel.close();
    match ending {
        Ending::Idle => Ok(CloseReason::Local),
        Ending::Failed(error) => Err(error),
    }
}

/// A registered wait; dropping it cancels the wait.
struct Waiting {
    shared: Arc<Shared>,
    id: WaiterId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.waiters.remove(&self.id);
        state.machine.cancel(self.id);
    }
}

impl Waiting {
    fn poll(&self, cx: &Context<'_>) -> Poll<Result<Outcome, CoreError>> {
        let mut state = self.shared.lock();
        let Some(waiter) = state.waiters.get_mut(&self.id) else {
            return Poll::Pending;
        };
        match waiter.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                waiter.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

async fn within<T>(
    waiting: impl Future<Output = Result<T, CoreError>> + Unpin,
    mut timer: impl Timer,
    limit: Duration,
) -> Result<T, CoreError> {
    let mut waiting = waiting;
    let deadline = timer.now().saturating_add(limit);
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut waiting).poll(cx) {
            return Poll::Ready(result);
        }
        let passed = timer.poll_deadline(cx, Some(deadline));
        passed.map(|()| Err(CoreError::TimedOut(limit)))
    })
    .await
}

macro_rules! waiting {
    ($(#[$doc:meta])* $name:ident, $output:ty, $take:pat => $value:expr) => {
        $(#[$doc])*
        ///
        /// Ready once; dropping it cancels the request.
        #[must_use = "what was asked for is taken back when this is dropped"]
        pub struct $name(Waiting);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl $name {
            /// Limits the wait to `limit` by the clock of `timer`, such as `TokioTimer::new()` or `FuturesTimer::new()`
            /// of [`runtime`](crate::runtime).
            ///
            /// # Errors
            /// [`CoreError::TimedOut`] after that.
            pub async fn within(
                self,
                timer: impl Timer,
                limit: Duration,
            ) -> Result<$output, CoreError> {
                within(self, timer, limit).await
            }
        }

        impl Future for $name {
            type Output = Result<$output, CoreError>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.0.poll(cx).map(|outcome| match outcome? {
                    $take => Ok($value),
                    other => unreachable!("another outcome: {other:?}"),
                })
            }
        }
    };
}

waiting! {
    /// The future of [`Replicator::get`]. Resolves to `Result<Buffer, CoreError>`, the block's value.
    Get, Buffer, Outcome::Block(value) => value
}

waiting! {
    /// The future of [`Replicator::download`]. Resolves to `Result<(), CoreError>` once all blocks are held.
    Download, (), Outcome::Done => ()
}

waiting! {
    /// The future of [`Replicator::update`]. Resolves to `Result<bool, CoreError>`: whether the core is longer or of a
    /// later fork than at the time of the call.
    Update, bool, Outcome::Updated(updated) => updated
}

waiting! {
    /// The future of [`Replicator::has_length`]. Resolves to `Result<(), CoreError>` once the length is reached.
    HasLength, (), Outcome::Done => ()
}

waiting! {
    /// The future of [`Replicator::seek`]. Resolves to `Result<(u64, u64), CoreError>`: the block, and the byte's
    /// offset in it.
    SeekBlock, (u64, u64), Outcome::Found(block, offset) => (block, offset)
}

/// Events of a core and its peers, from [`Replicator::events`]. A [`Stream`] without an end.
pub struct Events {
    shared: Arc<Shared>,
    id: u64,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// The next event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> ReplicatorEvent {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The next event that has already happened.
    pub fn try_next(&mut self) -> Option<ReplicatorEvent> {
        let mut state = self.shared.lock();
        let reader = state.readers.iter_mut().find(|it| it.id == self.id)?;
        reader.take()
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<ReplicatorEvent> {
        let mut state = self.shared.lock();
        let Some(reader) = state.readers.iter_mut().find(|it| it.id == self.id) else {
            return Poll::Pending;
        };
        match reader.take() {
            Some(event) => Poll::Ready(event),
            None => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Reader {
    fn take(&mut self) -> Option<ReplicatorEvent> {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            return Some(ReplicatorEvent::Lagged(lost));
        }
        self.events.pop_front()
    }
}

impl Stream for Events {
    type Item = ReplicatorEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ReplicatorEvent>> {
        self.poll(cx).map(Some)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let id = self.id;
        self.shared.lock().readers.retain(|reader| reader.id != id);
    }
}
