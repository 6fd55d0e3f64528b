//! A [`Replicator`]: a core that is served to peers and filled by them.
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

/// Bytes of answers that are made at once for a peer.
const ANSWERS: usize = 64 * 1024;

/// Messages taken in before anything is sent.
const RECEIVED_AT_ONCE: usize = 64;

/// Tells one peer of a core from every other, earlier ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct WaiterId(u64);

/// How a core is replicated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReplicatorOptions {
    /// Whether peers' requests are answered. Default true.
    pub upload: bool,
    /// Whether anything is asked of peers. Default true. A channel on which neither side asks is closed.
    pub download: bool,
    /// Whether a longer core is asked for as soon as a peer has one, rather than when somebody waits for it. Default
    /// true.
    pub eager_upgrade: bool,
    /// Whether a later fork replaces the history that is held. Default true.
    pub reorgs: bool,
    /// How many requests to one peer may wait for their answer, at least 1. Default 64. A peer that does not answer in time
    /// is asked less.
    pub max_in_flight: usize,
    /// How many requests of one peer may wait for their answer, at least 1; beyond it nothing is read from the peer until
    /// some are answered. Default 1,024, which take at most 400 KiB.
    pub max_requests: usize,
    /// Bytes of memory that one peer may take for what it says of which blocks it has, at least 4,096. Claims beyond it
    /// are forgotten. Default 16 MiB, which is enough for 134 million blocks with gaps; a peer of a core of 2 million blocks
    /// or less takes 528 KiB at most. A core without gaps takes none.
    pub max_claims: usize,
    /// How many events are kept for one reader of them, at least 1; the oldest are dropped for
    /// [`ReplicatorEvent::Lagged`]. Default 4,096.
    pub max_events: usize,
    /// How long a peer may leave a request without an answer, at least a millisecond. Default 15 seconds. Time counts from
    /// the last answer to an earlier request: a slow link may take as long as it needs, as long as it moves. After it the
    /// request is taken back and asked of another peer; after four times as long it is so on a link that moves, too. An
    /// answer that comes too late is still taken.
    ///
    /// A peer that answered nothing at all meanwhile is left alone, at first for as long, then twice as long, and so on:
    /// see [`ReplicatorOptions::max_pauses`]. An update waits no longer than this for a peer that says to have something
    /// and can't be asked for it.
    pub request_timeout: Duration,
    /// How often a peer may fail to give what it says to have before it is left alone for a while, at least 1; each answer
    /// makes up for one. Default 32 (hypercore 11.37.1, `lib/replicator.js`, `MAX_BACKOFFS`, after which Node asks the peer
    /// nothing any more).
    pub max_refusals: usize,
    /// How often a peer is left alone before it is let go. Default 3. Every 32 answers make up for one.
    pub max_pauses: u32,
    /// What tells the time. Default the platform's clock; with the feature `tokio` that of tokio, which a test can pause.
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
    /// With every limit at least as large as it must be for anything to happen.
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

/// What happened to a core and its peers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReplicatorEvent {
    /// A peer has opened the core's channel.
    PeerAdded(PeerId),
    /// A peer has said for the first time what it has.
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
    /// The manifest is known now.
    Manifest,
    /// The core is longer.
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
        /// Where from.
        peer: PeerId,
    },
    /// A block was sent.
    #[non_exhaustive]
    Uploaded {
        /// The block.
        block: u64,
        /// Its size, in bytes.
        bytes: usize,
        /// Where to.
        peer: PeerId,
    },
    /// What a peer sent as proof is none. It is let go, once it was asked whether its history is another.
    #[non_exhaustive]
    Refused {
        /// The peer.
        peer: PeerId,
        /// Which part is wrong.
        error: ProofError,
    },
    /// A peer asked for what makes no sense.
    #[non_exhaustive]
    InvalidRequest {
        /// The peer.
        peer: PeerId,
        /// What is wrong.
        error: RequestError,
    },
    /// The core's writer has signed two histories. The core takes no more changes, and all peers are let go.
    Conflict(Box<Conflict>),
    /// A peer did not answer a request in time. It was taken back, and others may be asked.
    #[non_exhaustive]
    RequestTimedOut {
        /// The peer.
        peer: PeerId,
        /// What it was asked.
        request: Box<Request>,
    },
    /// A peer does not deliver, and nothing is asked of it for a while. It is still served.
    #[non_exhaustive]
    PeerPaused {
        /// The peer.
        peer: PeerId,
        /// For how long.
        pause: Duration,
        /// In which way it does not deliver.
        reason: PauseReason,
    },
    /// A peer was let go. [`ReplicatorEvent::PeerRemoved`] follows.
    #[non_exhaustive]
    PeerLetGo {
        /// The peer.
        peer: PeerId,
        /// Why.
        error: PeerError,
    },
    /// The store failed. What waited for anything has ended with this error; what is asked for from now on is tried again.
    /// Where a peer asked for something that is damaged in the store, only that peer is answered that it is not there.
    StoreFailed(CoreError),
    /// So many events were dropped, for they were not taken.
    Lagged(u64),
}

/// In which way a peer does not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseReason {
    /// It answered no request in time.
    Silent,
    /// It kept refusing what it says to have, or answered something else.
    Refuses,
}

/// Why a peer was let go.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// What it sent does not prove what it claims.
    #[error("the peer's data was refused: {0}")]
    Proof(ProofError),
    /// It kept asking for what makes no sense.
    #[error("too many invalid requests, the last of which: {0}")]
    InvalidRequests(RequestError),
    /// It answered no request in time, again and again: see [`ReplicatorOptions::request_timeout`].
    #[error("the peer does not answer requests")]
    Unresponsive,
    /// It kept refusing what it says to have: see [`ReplicatorOptions::max_refusals`].
    #[error("the peer does not give what it says to have")]
    Refuses,
    /// The channel is of another core than the replicator.
    #[error("the channel is of another core")]
    OtherCore,
    /// The core's writer has signed two histories.
    #[error("the core's writer has signed two histories")]
    Conflict,
    /// The core failed.
    #[error(transparent)]
    Core(CoreError),
    /// Nothing could be sent.
    #[error(transparent)]
    Channel(Error),
}

/// A peer as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Which one.
    pub id: PeerId,
    /// The length of its core, in blocks, as it says.
    pub length: u64,
    /// The fork of its core, as it says.
    pub fork: u64,
    /// How many blocks from the first on it has, as it says.
    pub contiguous_length: u64,
    /// Whether it answers requests.
    pub uploading: bool,
    /// Whether it makes requests.
    pub downloading: bool,
    /// How many requests to it wait for their answer.
    pub in_flight: usize,
}

/// A core that is served to peers and filled by them. Clones are handles of the same core.
///
/// It has any number of peers, each on a channel of its own, that are run by [`Session::run`] or
/// [`Replicator::replicate`]; nothing is spawned, and any runtime will do. With every peer the longest signed length is
/// learned at once. Blocks come only when they are asked for, by [`Replicator::get`] or [`Replicator::download`].
///
/// Nothing happens by itself: what is asked for waits until a session of the core is run or driven and a peer answers. A
/// `get` of a core that no peer has waits for ever, unless it is given a limit by [`Get::within`]; [`SessionEvent`] tells which remotes reject it.
///
/// # Peers that do not deliver
/// A request that is not answered in time is taken back and asked of another peer; a peer that answers nothing, or keeps
/// refusing what it says to have, is asked less, then left alone for a while, and then let go. Events say so:
/// [`ReplicatorEvent::RequestTimedOut`], [`ReplicatorEvent::PeerPaused`], [`ReplicatorEvent::PeerLetGo`].
/// [`ReplicatorOptions`] has the times and limits. The task of any peer that is polled watches the time of all of them.
///
/// # Memory
/// A peer takes at most 8 MiB with the default options, where the core has no more than 2 million blocks, beside what its
/// stream takes: 400 KiB for requests that wait for their answer, 528 KiB for what it says to have
/// ([`ReplicatorOptions::max_claims`] for a longer core), 64 KiB and one block for answers on their way, and the rest for
/// its channel's queue of messages. What the peer is to be told is kept as it is now, however often it changed, and a `want`
/// is answered only once there is room: a peer that does not read is not read from, either. `tests/memory.rs` measures it.
///
/// # Time
/// Methods that touch the store block the thread for as long as it takes, up to a few milliseconds for what must be durable,
/// such as [`Replicator::append`] to a `Disk`: append many blocks at once, or, on a runtime that serves others meanwhile, in
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
    /// Replicates a core.
    pub fn new(core: Core) -> Self {
        Self::with_options(core, ReplicatorOptions::default())
    }

    /// Replicates a core in another way than the usual.
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

    /// What peers ask for the core by, 32 bytes.
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.shared.discovery_key
    }

    /// The core's length, in blocks, held or not.
    pub fn length(&self) -> u64 {
        self.with_core(Core::length)
    }

    /// The state of the core at a glance.
    ///
    /// # Errors
    /// As [`Core::info`].
    pub fn info(&self) -> Result<CoreInfo, CoreError> {
        self.with_core(Core::info)
    }

    /// Looks at the core. Peers wait meanwhile, and calling this replicator from within waits for ever.
    pub fn with_core<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.shared.lock().machine.core)
    }

    /// Makes durable what was appended and what was downloaded. A store that is dropped does so by itself.
    ///
    /// # Errors
    /// When the store cannot.
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

    /// What happens from now on. One reader keeps at most [`ReplicatorOptions::max_events`]; the oldest are dropped for
    /// [`ReplicatorEvent::Lagged`].
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

    /// Adds blocks, and tells the peers.
    ///
    /// # Errors
    /// As [`Core::append`].
    pub fn append<B: AsRef<[u8]>>(&self, blocks: &[B]) -> Result<Appended, CoreError> {
        self.shared.with(|machine| machine.append(blocks))
    }

    /// Adds blocks that were signed elsewhere, and tells the peers.
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

    /// Cuts the core to `length` blocks, as the next fork or the one given, and tells the peers.
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

    /// Forgets the values of blocks, and tells the peers.
    ///
    /// # Errors
    /// As [`Core::clear`].
    pub fn clear(&self, blocks: Range<u64>) -> Result<(), CoreError> {
        self.shared.with(|machine| machine.clear(blocks))
    }

    /// A block, from the store or else from the first peer that has it, be that after it was appended. Asked for at
    /// once; dropping the future takes the request back. [`Get::within`] limits the time.
    ///
    /// The future ends with [`CoreError::TooLarge`] for a block that no core can have (2^52 and above), and with the error
    /// of the store, or [`CoreError::Frozen`], as soon as one of them keeps blocks from being taken in. So do all futures of
    /// a replicator.
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

    /// Asks peers for all blocks of a range, as long as the returned future is kept; it is ready when all are held. A
    /// range without an end is never ready: the core is filled, and stays so as it grows.
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

    /// Keeps the whole core here, as long as the returned future is kept, which is never ready.
    pub fn download_all(&self) -> Download {
        self.download(..)
    }

    /// Waits until the core is longer or of a later fork, and says true; or false as soon as every peer that there is,
    /// or that is about to be, has said that it has nothing new.
    pub fn update(&self) -> Update {
        let mut state = self.shared.lock_in_time();
        let (length, fork) = (state.machine.core.length(), state.machine.core.fork());
        let id = state.wait(Kind::Update { length, fork });
        Update(self.waiting(id))
    }

    /// Waits until the core has so many blocks, held or not.
    pub fn has_length(&self, length: u64) -> HasLength {
        HasLength(self.wait(Kind::Length(length)))
    }

    /// Looks for a byte of the core, counted from its start: the block that it is in, and how many bytes of that block are
    /// before it. The byte after the last is in the block after the last; one beyond waits for the core to grow.
    ///
    /// No peer's word is taken for the size of a block: where nothing is known of two neighbours but their hashes, one of
    /// them is fetched.
    pub fn seek(&self, bytes: u64) -> SeekBlock {
        self.seek_padded(bytes, 0)
    }

    /// As [`Replicator::seek`], with so many bytes at the front of each block that do not count, as those of an encrypted
    /// core.
    pub fn seek_padded(&self, bytes: u64, padding: u64) -> SeekBlock {
        SeekBlock(self.wait(Kind::Seek { bytes, padding }))
    }

    /// Replicates on a channel of this core until it is closed, and says who closed it. Polling the returned future is
    /// what serves and asks the peer; dropping it closes the channel. See [`Session`] for what opens channels, too.
    ///
    /// # Errors
    /// Why the peer was let go; [`PeerError::OtherCore`] at once when the channel is of another core.
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

    /// The remote of a channel of this core becomes a peer, until what is returned is dropped.
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

    /// A peer is about to come: an update waits for it.
    fn expect_peer(&self) -> Expected {
        let expected = self.shared.with(Machine::expect_peer);
        Expected(Arc::clone(&self.shared), expected)
    }
}

/// A peer that is about to come.
struct Expected(Arc<Shared>, u64);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.with(|machine| machine.unexpect_peer(self.1));
    }
}

/// What the handles of a replicator and its peers share.
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
    /// Kept for each of them.
    max_events: usize,
    last_reader: u64,
}

/// The task that runs a peer.
struct Task {
    waker: Waker,
    /// It has messages that there is no room for, and can do no more than end.
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

/// The locked state. When it is unlocked, all whom a change concerns are woken.
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
    /// The state is sound after a panic elsewhere as far as its store is.
    fn lock(&self) -> Guard<'_> {
        let state = self.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        Guard(Some(state))
    }

    /// As [`Shared::lock`], where what is done depends on the time.
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

    /// Hands out what has happened. Returns whom to wake.
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

/// One peer, as long as this lives.
struct Attached {
    shared: Arc<Shared>,
    id: PeerId,
    /// When the task is woken by the stream's clock, and which task.
    alarm: Option<(Duration, Waker)>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.peers.remove(&self.id);
        state.machine.remove_peer(self.id);
    }
}

/// What the task of a peer goes on for.
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
            // It may be closed already.
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
                // While there is no room to send, what arrives is taken in all the same: two peers that send to each
                // other would wait for one another.
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
                        // What arrived before the end is still taken in.
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

    /// Nothing can be sent any more: the channel is closed, or will be as soon as what came before the end was read.
    async fn take_in_the_rest(&self, incoming: &mut Channel) -> Result<CloseReason, PeerError> {
        while let Some(message) = incoming.next().await {
            self.shared
                .with(|machine| machine.receive(self.id, message))?;
        }
        Ok(incoming.close_reason().unwrap_or(CloseReason::Local))
    }

    /// What has arrived, unless too many requests wait for their answer.
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

    /// Ready when there is something to send; or, for a task that is stuck in sending, when its peer was let go. Until then
    /// the task sees to it that time goes on, for all peers: another's task may be one that nobody polls.
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
        // An alarm that is too early does no harm: it is set again then.
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

/// Sends what is left as far as there is room, for the peer may be one that does not read, and closes the channel.
async fn say_goodbye(
    channel: &Channel,
    last: &[Message],
    ending: Ending,
) -> Result<CloseReason, PeerError> {
    // Either may fail for the channel being closed, which is what is wanted.
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

/// Something that is waited for, as long as this lives.
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
        /// Ready once; dropping it takes back what was asked for.
        #[must_use = "what was asked for is taken back when this is dropped"]
        pub struct $name(Waiting);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl $name {
            /// As this, for no longer than `limit` by the clock of `timer`, such as `TokioTimer::new()` or
            /// `FuturesTimer::new()` of [`runtime`](crate::runtime).
            ///
            /// # Errors
            /// [`CoreError::TimedOut`] then.
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
    /// A block that is waited for: see [`Replicator::get`]. Resolves to `Result<Buffer, CoreError>`, the block's value.
    Get, Buffer, Outcome::Block(value) => value
}

waiting! {
    /// Blocks that are asked for: see [`Replicator::download`]. Resolves to `Result<(), CoreError>` once all are held.
    Download, (), Outcome::Done => ()
}

waiting! {
    /// A longer core that is waited for: see [`Replicator::update`]. Resolves to `Result<bool, CoreError>`: whether the core
    /// is longer or of a later fork than when it was asked for.
    Update, bool, Outcome::Updated(updated) => updated
}

waiting! {
    /// A length that is waited for: see [`Replicator::has_length`]. Resolves to `Result<(), CoreError>` once it is reached.
    HasLength, (), Outcome::Done => ()
}

waiting! {
    /// A byte that is looked for: see [`Replicator::seek`]. Resolves to `Result<(u64, u64), CoreError>`: the block, and how
    /// many bytes of it are before.
    SeekBlock, (u64, u64), Outcome::Found(block, offset) => (block, offset)
}

/// What happens to a core and its peers, made by [`Replicator::events`]. A [`Stream`] without an end.
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

    /// An event that has happened already.
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
