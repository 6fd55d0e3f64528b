//! A core among its peers, without IO: their messages go in, our messages and events come out.
//!
//! Read from hypercore 11.37.1, `lib/replicator.js`. Node's random choices are made in a fixed order here, so that the
//! same messages give the same answers.

mod answers;
mod asking;
mod deadlines;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::wire::{Message, NoData, Sync};

use super::super::core::{Appended, Core, Truncated, Upgraded};
use super::super::error::{CoreError, RequestError};
use super::super::reorg::Reorg;
use super::super::storage::StorageErrorKind;
use super::peer::{Ending, Peer};
use super::{PeerError, PeerId, ReplicatorEvent, ReplicatorOptions, WaiterId};

/// Blocks at the end of a core that are announced to every peer, wanted or not (`LAST_BLOCKS`).
const LAST_BLOCKS: u64 = 256;

/// Bytes that an answer counts in addition to the value of a block.
const ANSWER_BYTES: usize = 512;

/// Bytes of a page of a bitfield.
const PAGE_BYTES: u64 = 4096;

/// Maximum number of unanswered wants of a peer; beyond it nothing is read from it. It may have as many wants (`MAX` of
/// `lib/wants.js`).
pub(super) const MAX_UNANSWERED_WANTS: usize = 512;

/// Number of invalid requests after which a peer is dropped (`MAX_INVALID_REQUESTS`).
const MAX_INVALID_REQUESTS: usize = 64;

/// What a caller waits for.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Block(u64),
    /// Blocks from the first to before the last; without a last one, all present and future ones.
    Blocks(u64, Option<u64>),
    /// A longer core or another fork than this one, or until no peer has any.
    Update {
        length: u64,
        fork: u64,
    },
    Length(u64),
    Seek {
        bytes: u64,
        padding: u64,
    },
}

/// The result of a wait.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Block(Buffer),
    Done,
    Updated(bool),
    Found(u64, u64),
}

#[derive(Debug, Default)]
struct WantedBlock {
    waiters: Vec<WaiterId>,
    asked: Vec<PeerId>,
}

#[derive(Debug)]
struct WantedRange {
    waiter: WaiterId,
    /// The requested start, since another fork starts over.
    user_start: u64,
    start: u64,
    end: Option<u64>,
}

#[derive(Debug)]
struct WantedSeek {
    waiter: WaiterId,
    bytes: u64,
    padding: u64,
    in_flight: Option<(PeerId, u64)>,
}

/// The search for the block at which another fork begins.
#[derive(Debug)]
struct PendingReorg {
    /// Its signed tree, once a peer has proven it.
    tree: Option<Box<Reorg>>,
    in_flight: Option<(PeerId, u64)>,
}

pub(super) struct Machine {
    pub(super) core: Core,
    options: ReplicatorOptions,
    peers: BTreeMap<PeerId, Peer>,
    last_peer: PeerId,
    /// Deadlines of updates that wait for streams on which the core was opened here and not yet by the remote.
    expected: BTreeMap<u64, Duration>,
    last_expected: u64,

    now: Duration,
    /// When to check each peer.
    alarms: BTreeSet<(Duration, PeerId)>,
    /// Peers that may have work since they were last processed.
    touched: Vec<PeerId>,
    /// Whether there may be something to request from more than one peer since the last schedule.
    for_all: bool,

    waiters: HashMap<WaiterId, Kind>,
    /// The waiters for a length.
    followers: BTreeSet<WaiterId>,
    last_waiter: WaiterId,
    blocks: BTreeMap<u64, WantedBlock>,
    /// The blocks that are not requested from any peer.
    queue: BTreeSet<u64>,
    ranges: Vec<WantedRange>,
    seeks: Vec<WantedSeek>,
    upgrade_in_flight: Option<(PeerId, u64)>,
    manifest_in_flight: Option<(PeerId, u64)>,
    /// By fork. A fork that a peer only claims does not prevent the search of an earlier one.
    reorgs: BTreeMap<u64, PendingReorg>,
    /// The peer that gets the first request next time.
    turn: PeerId,

    /// Finished waits and their results.
    pub(super) finished: Vec<(WaiterId, Result<Outcome, CoreError>)>,
    pub(super) events: VecDeque<ReplicatorEvent>,
}

impl Machine {
    pub(super) fn new(core: Core, options: ReplicatorOptions) -> Self {
        Self {
            core,
            options,
            peers: BTreeMap::new(),
            last_peer: PeerId(0),
            expected: BTreeMap::new(),
            last_expected: 0,
            now: Duration::ZERO,
            alarms: BTreeSet::new(),
            touched: Vec::new(),
            for_all: false,
            waiters: HashMap::new(),
            followers: BTreeSet::new(),
            last_waiter: WaiterId(0),
            blocks: BTreeMap::new(),
            queue: BTreeSet::new(),
            ranges: Vec::new(),
            seeks: Vec::new(),
            upgrade_in_flight: None,
            manifest_in_flight: None,
            reorgs: BTreeMap::new(),
            turn: PeerId(0),
            finished: Vec::new(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers.iter().map(|(id, peer)| (*id, peer))
    }

    // Peers

    /// A peer is about to connect. Updates wait for it, at most for the request time-out.
    pub(super) fn expect_peer(&mut self) -> u64 {
        self.last_expected += 1;
        let until = self.now.saturating_add(self.options.request_timeout);
        self.expected.insert(self.last_expected, until);
        self.last_expected
    }

    pub(super) fn unexpect_peer(&mut self, expected: u64) {
        self.expected.remove(&expected);
        self.check_updates();
    }

    pub(super) fn add_peer(&mut self, supports_seeks: bool) -> PeerId {
        self.last_peer.0 += 1;
        let id = self.last_peer;
        let mut peer = Peer::default();
        peer.supports_seeks = supports_seeks;
        peer.window = self.options.max_in_flight;
        peer.has.max_pages = self.options.max_claims as u64 / PAGE_BYTES;
        // Until it says anything, the peer is assumed to have nothing.
        peer.can_upgrade = self.core.fork() == 0;
        let contiguous = self.core.contiguous_length();
        self.peers.insert(id, peer);
        self.tell(id);
        if contiguous > 0 && self.options.upload {
            self.tell_range(id, 0..contiguous, false);
        }
        self.arm(id);
        self.events.push_back(ReplicatorEvent::PeerAdded(id));
        id
    }

    pub(super) fn remove_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        if let Some(at) = peer.alarm {
            self.alarms.remove(&(at, id));
        }
        for in_flight in peer.in_flight.into_values() {
            self.give_up(id, &in_flight);
        }
        self.upgrade_in_flight = self.upgrade_in_flight.filter(|(asked, _)| *asked != id);
        self.events.push_back(ReplicatorEvent::PeerRemoved(id));
        self.schedule_or_fail();
    }

    /// Closes the peer's channel with this error. It gets no more requests.
    pub(super) fn let_go(&mut self, id: PeerId, error: PeerError) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.ending.is_none()) else {
            return;
        };
        peer.ending = Some(Ending::Failed(error));
        for in_flight in std::mem::take(&mut peer.in_flight).into_values() {
            self.give_up(id, &in_flight);
        }
        self.touch(id);
    }

    /// Marks the peer as having work.
    fn touch(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            if !peer.is_touched {
                peer.is_touched = true;
                self.touched.push(id);
            }
        }
    }

    /// The peers that may have work since the last call.
    pub(super) fn take_touched(&mut self) -> Vec<PeerId> {
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.is_touched = false;
            }
        }
        touched
    }

    /// Whether there is anything to send to the peer, or its channel has to be closed.
    pub(super) fn has_work(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            !peer.out.is_empty() || !peer.asked.is_empty() || peer.ending.is_some()
        })
    }

    /// Whether to read nothing more from the peer until it was answered.
    pub(super) fn is_full(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            peer.asked.len() >= self.options.max_requests
                || peer.out.waiting() >= MAX_UNANSWERED_WANTS
        })
    }

    /// Why the channel is to be closed, if so.
    pub(super) fn ending(&self, id: PeerId) -> Option<Ending> {
        self.peers.get(&id)?.ending.clone()
    }

    /// The messages to send to the peer: everything except answers to its requests and wants, and about `room` bytes of
    /// those.
    pub(super) fn transmit(&mut self, id: PeerId, room: usize) -> Result<Vec<Message>, PeerError> {
        let sent = self.transmit_to(id, room);
        if let Err(PeerError::Core(error)) = &sent {
            self.events
                .push_back(ReplicatorEvent::StoreFailed(error.clone()));
        }
        sent
    }

    fn transmit_to(&mut self, id: PeerId, room: usize) -> Result<Vec<Message>, PeerError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(Vec::new());
        };
        let mut messages = Vec::new();
        let mut bytes = peer.out.take(&self.core, room, &mut messages);
        for request in peer.out.take_requests() {
            if let Some(in_flight) = peer.in_flight.get_mut(&request) {
                in_flight.sent = self.now;
                messages.push(Message::Request(in_flight.request.clone()));
            }
        }
        if peer.ending.is_some() {
            return Ok(messages);
        }
        bytes += peer
            .out
            .take_answers(&self.core, room.saturating_sub(bytes), &mut messages);
        while bytes < room {
            let Some(request) = peer.asked.pop() else {
                break;
            };
            let refuse = |reason| {
                let request = request.id;
                Message::NoData(NoData { request, reason })
            };
            let answer = if self.options.upload {
                self.core.create_proof(&request)
            } else {
                Ok(None)
            };
            bytes += ANSWER_BYTES;
            messages.push(match answer {
                Ok(Some(data)) => {
                    if let Some(block) = &data.block {
                        bytes += block.value.len();
                        self.events.push_back(ReplicatorEvent::Uploaded {
                            block: block.index,
                            bytes: block.value.len(),
                            peer: id,
                        });
                    }
                    Message::Data(data)
                }
                Ok(None) => refuse(NoData::NOT_AVAILABLE),
                Err(CoreError::Request(error)) => {
                    peer.invalid_requests += 1;
                    if peer.invalid_requests >= MAX_INVALID_REQUESTS {
                        return Err(PeerError::InvalidRequests(error));
                    }
                    self.events
                        .push_back(ReplicatorEvent::InvalidRequest { peer: id, error });
                    refuse(NoData::INVALID_REQUEST)
                }
                Err(CoreError::Encode(_)) => refuse(NoData::INVALID_REQUEST),
                // Another peer may have the damaged data, and the rest can still be served.
                Err(CoreError::Storage(error)) if error.kind() == StorageErrorKind::Damaged => {
                    let error = CoreError::Storage(error);
                    self.events.push_back(ReplicatorEvent::StoreFailed(error));
                    refuse(NoData::NOT_AVAILABLE)
                }
                Err(error) => return Err(PeerError::Core(error)),
            });
        }
        Ok(messages)
    }

    /// Handles a peer's message.
    pub(super) fn receive(&mut self, id: PeerId, message: Message) -> Result<(), PeerError> {
        let taken = self.take_in(id, message);
        if let Err(PeerError::Core(error)) = &taken {
            self.store_failed(error);
        }
        taken
    }

    fn take_in(&mut self, id: PeerId, message: Message) -> Result<(), PeerError> {
        let length = self.core.length();
        let peer = self.peers.get_mut(&id);
        let Some(peer) = peer.filter(|peer| peer.ending.is_none()) else {
            return Ok(());
        };
        match message {
            Message::Sync(sync) => {
                self.on_sync(id, sync)?;
                self.schedule_peer(id)?;
                self.check_updates();
            }
            Message::Request(request) => {
                peer.asked.push(request);
                self.touch(id);
            }
            Message::Cancel(cancel) => peer.asked.cancel(cancel.request),
            Message::Data(data) => {
                self.on_data(id, &data)?;
                self.schedule_peer(id)?;
                self.check_updates();
            }
            Message::NoData(answer) => {
                self.on_no_data(id, &answer)?;
                self.schedule_peer(id)?;
                self.check_updates();
            }
            Message::Want(want) => {
                peer.wants.add(&want);
                if self.options.upload {
                    peer.out.answer(&want);
                    self.touch(id);
                }
            }
            Message::Unwant(unwant) => peer.wants.remove(&unwant),
            Message::Bitfield(bitfield) => {
                peer.on_bitfield(&bitfield, length);
                self.schedule_peer(id)?;
            }
            Message::Range(range) => {
                let known = length.max(peer.remote.length.min(length + LAST_BLOCKS));
                peer.on_range(&range, known);
                if !range.drop {
                    self.schedule_peer(id)?;
                }
            }
            // The channel handles extensions.
            _ => {}
        }
        Ok(())
    }

    /// The store failed: ends all waits with the error.
    pub(super) fn store_failed(&mut self, error: &CoreError) {
        self.events
            .push_back(ReplicatorEvent::StoreFailed(error.clone()));
        self.end_all(error);
    }

    /// Ends all waits.
    fn end_all(&mut self, error: &CoreError) {
        let waiters: Vec<WaiterId> = self.waiters.keys().copied().collect();
        for waiter in waiters {
            self.finish(waiter, Err(error.clone()));
        }
        self.queue.clear();
        self.ranges.clear();
        self.seeks.clear();
        for (block, wanted) in std::mem::take(&mut self.blocks) {
            for peer in wanted.asked {
                self.cancel_block(peer, block);
            }
        }
    }

    // The peer's announcements

    fn on_sync(&mut self, id: PeerId, sync: Sync) -> Result<(), CoreError> {
        let (fork, length) = (self.core.fork(), self.core.length());
        let is_downloading = self.options.download;
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let first = !peer.is_synced;
        peer.is_synced = true;
        peer.has_rewritten |= peer.remote.fork != sync.fork;
        if sync.fork != fork && (sync.fork, sync.length) != (peer.remote.fork, peer.remote.length) {
            // It does not know yet that we announced blocks of another history to it.
            peer.want_again(0..u64::MAX);
        }
        peer.remote = sync;
        peer.denied_upgrade = None;
        peer.look_again();
        if !sync.downloading && !is_downloading && peer.in_flight.is_empty() {
            // Neither side has anything to request.
            peer.ending = Some(Ending::Idle);
            self.touch(id);
            return Ok(());
        }
        let same_fork = sync.fork == fork;
        peer.length_acked = if same_fork { sync.remote_length } else { 0 };
        self.find_can_upgrade(id)?;
        if same_fork && length > sync.length {
            self.tell(id);
        }
        if first {
            self.events.push_back(ReplicatorEvent::PeerSynced {
                peer: id,
                length: sync.length,
                fork: sync.fork,
            });
        }
        Ok(())
    }

    fn find_can_upgrade(&mut self, id: PeerId) -> Result<(), CoreError> {
        let (fork, length) = (self.core.fork(), self.core.length());
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let remote = peer.remote;
        peer.can_upgrade = remote.fork == fork
            && (remote.length == 0
                || (remote.length < length
                    && match self.core.can_upgrade_from(remote.length) {
                        // Another peer may have the damaged data.
                        Err(CoreError::Storage(error))
                            if error.kind() == StorageErrorKind::Damaged =>
                        {
                            let error = CoreError::Storage(error);
                            self.events.push_back(ReplicatorEvent::StoreFailed(error));
                            false
                        }
                        found => found?,
                    }));
        if peer.can_upgrade {
            peer.upgradable = (remote.length, fork);
        }
        Ok(())
    }

    /// Checks again the shorter peers to which no upgrade could be proven: hashes received with a block may make it
    /// possible. Otherwise such a peer would wait until the core grows again.
    fn find_upgradable(&mut self) -> Result<(), CoreError> {
        let (fork, length) = (self.core.fork(), self.core.length());
        let is_stuck = |peer: &Peer| {
            peer.is_synced
                && !peer.can_upgrade
                && peer.remote.fork == fork
                && peer.remote.length < length
        };
        let stuck = self.peers.iter().filter(|(_, peer)| is_stuck(peer));
        let stuck: Vec<PeerId> = stuck.map(|(id, _)| *id).collect();
        let mut told = Ok(());
        for id in stuck {
            if let Err(error) = self.find_can_upgrade(id) {
                self.let_go(id, PeerError::Core(error.clone()));
                told = told.and(Err(error));
            } else if self.peers.get(&id).is_some_and(|peer| peer.can_upgrade) {
                self.tell(id);
            }
        }
        told
    }

    // Announcements to the peer

    /// Sends the peer the state of the core if it has changed.
    fn tell(&mut self, id: PeerId) {
        let (fork, length) = (self.core.fork(), self.core.length());
        let has_manifest = self.core.manifest().is_some() && !self.core.is_compat();
        let peer = self.peers.get_mut(&id);
        let Some(peer) = peer.filter(|peer| peer.ending.is_none()) else {
            return;
        };
        let same_fork = fork == peer.remote.fork;
        let sync = Sync {
            fork,
            length,
            remote_length: if same_fork { peer.remote.length } else { 0 },
            can_upgrade: peer.can_upgrade && same_fork,
            uploading: self.options.upload,
            downloading: self.options.download,
            has_manifest,
            allow_push: false,
        };
        if peer.told != Some(sync) {
            let is_new = peer
                .told
                .is_none_or(|told| (told.fork, told.length) != (fork, length));
            if is_new {
                // Regardless of the peer's later messages: otherwise it could postpone the deadline for ever.
                peer.promised = self.now.saturating_add(self.options.request_timeout);
            }
            peer.told = Some(sync);
            peer.out.sync(sync);
            self.touch(id);
            if is_new {
                self.arm(id);
            }
        }
    }

    /// Announces a change of the core to all peers. A peer is dropped if the store fails to tell whether it can be
    /// upgraded, as it would never learn of the change: it learns of it when it connects again. Returns the first such
    /// error.
    fn tell_all(&mut self) -> Result<(), CoreError> {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        let mut told = Ok(());
        for id in ids {
            if let Err(error) = self.find_can_upgrade(id) {
                self.let_go(id, PeerError::Core(error.clone()));
                told = told.and(Err(error));
                continue;
            }
            self.tell(id);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.look_again();
            }
        }
        told
    }

    /// Announces blocks that are now held, or no longer, to a peer that needs to know.
    fn tell_range(&mut self, id: PeerId, blocks: Range<u64>, drop: bool) {
        let (length, contiguous) = (self.core.length(), self.core.contiguous_length());
        let peer = self.peers.get_mut(&id);
        let Some(peer) = peer.filter(|peer| peer.ending.is_none()) else {
            return;
        };
        let mut blocks = blocks;
        if drop {
            peer.told_contiguous = peer.told_contiguous.min(blocks.start);
            peer.want_again(blocks.clone());
        } else {
            let is_whole = contiguous == length;
            let is_old = blocks.start + LAST_BLOCKS < length;
            if is_old && !is_whole && !peer.wants.any(&blocks) && peer.is_synced {
                return;
            }
            let mut must = false;
            if is_whole {
                blocks = 0..length;
                must = peer.told_contiguous < length;
                peer.told_contiguous = length;
            }
            if !must && peer.has.has_all(blocks.clone()) {
                return;
            }
        }
        peer.out.blocks(blocks, !drop);
        self.touch(id);
    }

    fn tell_range_to_all(&mut self, blocks: &Range<u64>, drop: bool) {
        if blocks.is_empty() || !self.options.upload {
            return;
        }
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.tell_range(id, blocks.clone(), drop);
        }
    }

    // Local changes

    pub(super) fn append<B: AsRef<[u8]>>(&mut self, blocks: &[B]) -> Result<Appended, CoreError> {
        let appended = self.core.append(blocks)?;
        let told = self.on_appended(&appended);
        self.after_change(told);
        Ok(appended)
    }

    pub(super) fn append_signed<B: AsRef<[u8]>>(
        &mut self,
        blocks: &[B],
        signature: Buffer,
    ) -> Result<Appended, CoreError> {
        let appended = self.core.append_signed(blocks, signature)?;
        let told = self.on_appended(&appended);
        self.after_change(told);
        Ok(appended)
    }

    fn on_appended(&mut self, appended: &Appended) -> Result<(), CoreError> {
        let blocks = appended.start..appended.length;
        if blocks.is_empty() {
            return Ok(());
        }
        self.events.push_back(ReplicatorEvent::Upgraded(Upgraded {
            from: blocks.start,
            to: blocks.end,
        }));
        // If this fails for one peer, all others are still notified.
        let mut told = self.tell_all();
        self.tell_range_to_all(&blocks, false);
        let held: Vec<u64> = self.blocks.range(blocks).map(|(block, _)| *block).collect();
        for block in held {
            match self.core.get(block) {
                Ok(Some(value)) => self.block_arrived(block, &value, None),
                Ok(None) => {}
                Err(error) => told = told.and(Err(error)),
            }
        }
        told.and(self.look_for_finished()).and(self.schedule())
    }

    pub(super) fn clear(&mut self, blocks: Range<u64>) -> Result<(), CoreError> {
        self.core.clear(blocks.clone())?;
        self.tell_range_to_all(&blocks, true);
        for range in &mut self.ranges {
            range.start = range.start.min(blocks.start.max(range.user_start));
        }
        for peer in self.peers.values_mut() {
            peer.look_again();
        }
        let told = self.schedule();
        self.after_change(told);
        Ok(())
    }

    /// The core has made the change. A store that fails only afterwards, during announcements, is not an error of the
    /// call: the caller would append the same blocks again. All waits end with the error.
    fn after_change(&mut self, told: Result<(), CoreError>) {
        if let Err(error) = told {
            self.store_failed(&error);
        }
    }

    pub(super) fn truncate(
        &mut self,
        length: u64,
        fork: Option<u64>,
    ) -> Result<Truncated, CoreError> {
        let truncated = self.core.truncate(length, fork)?;
        let told = self.on_truncated(truncated);
        self.after_change(told);
        Ok(truncated)
    }

    pub(super) fn truncate_signed(
        &mut self,
        length: u64,
        fork: u64,
        signature: Buffer,
    ) -> Result<Truncated, CoreError> {
        let truncated = self.core.truncate_signed(length, fork, signature)?;
        let told = self.on_truncated(truncated);
        self.after_change(told);
        Ok(truncated)
    }

    fn on_truncated(&mut self, truncated: Truncated) -> Result<(), CoreError> {
        self.events.push_back(ReplicatorEvent::Truncated(truncated));
        self.tell_range_to_all(&(truncated.ancestors..truncated.from), true);
        // All requests are of the old fork.
        let fork = self.core.fork();
        self.reorgs.retain(|later, _| *later > fork);
        for range in &mut self.ranges {
            range.start = range.user_start;
        }
        for peer in self.peers.values_mut() {
            peer.denied.clear();
        }
        let told = self.tell_all();
        told.and(self.look_for_finished()).and(self.schedule())
    }
}

impl From<CoreError> for PeerError {
    fn from(error: CoreError) -> Self {
        Self::Core(error)
    }
}

impl From<RequestError> for PeerError {
    fn from(error: RequestError) -> Self {
        Self::InvalidRequests(error)
    }
}
