//! A core among its peers, without IO: their messages go in, ours and events come out.
//!
//! Read from hypercore 11.37.1, `lib/replicator.js`. What it decides at random is decided in order here, so that the same
//! messages give the same answers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::ops::Range;

use crate::buffer::Buffer;
use crate::wire::{
    self, Cancel, Data, Message, NoData, Request, RequestBlock, RequestSeek, RequestUpgrade, Sync,
};

use super::super::core::{Appended, ConflictCheck, Core, Truncated, Upgraded};
use super::super::error::{CoreError, ProofError, RequestError};
use super::super::proof::Seek;
use super::super::reorg::Reorg;
use super::peer::{InFlight, Peer, Purpose};
use super::{PeerError, PeerId, ReplicatorEvent, ReplicatorOptions, WaiterId};

/// Blocks at the end of a core that every peer is told of, wanted or not (`LAST_BLOCKS`).
const LAST_BLOCKS: u64 = 256;

/// Requests that make no sense, after which a peer is let go (`MAX_INVALID_REQUESTS`).
const MAX_INVALID_REQUESTS: usize = 64;

/// Peers that are asked for one block at a time (`lib/hotswap-queue.js`).
const MAX_PEERS_PER_BLOCK: usize = 3;

/// What somebody waits for.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Block(u64),
    /// Blocks from the first to before the last; without a last one, all that there are and will be.
    Blocks(u64, Option<u64>),
    /// A longer core, or another fork, than this one, or that no peer has any.
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

/// What came of it.
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
    /// As it was asked for, for another fork starts over.
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

/// The search for where another fork begins.
#[derive(Debug)]
struct PendingReorg {
    fork: u64,
    /// Its signed tree, once a peer has proven it.
    tree: Option<Box<Reorg>>,
    in_flight: Option<(PeerId, u64)>,
}

pub(super) struct Machine {
    pub(super) core: Core,
    options: ReplicatorOptions,
    peers: BTreeMap<PeerId, Peer>,
    last_peer: PeerId,
    /// Streams on which the core was opened here and not yet there.
    pending_peers: usize,

    waiters: HashMap<WaiterId, Kind>,
    /// Those of `waiters` that wait for a length.
    followers: BTreeSet<WaiterId>,
    last_waiter: WaiterId,
    blocks: BTreeMap<u64, WantedBlock>,
    /// Those of `blocks` that nobody was asked for.
    queue: BTreeSet<u64>,
    ranges: Vec<WantedRange>,
    seeks: Vec<WantedSeek>,
    upgrade_in_flight: Option<(PeerId, u64)>,
    manifest_in_flight: Option<(PeerId, u64)>,
    reorg: Option<PendingReorg>,
    /// The peer that is asked first next time.
    turn: PeerId,

    /// What has ended, for those who wait.
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
            pending_peers: 0,
            waiters: HashMap::new(),
            followers: BTreeSet::new(),
            last_waiter: WaiterId(0),
            blocks: BTreeMap::new(),
            queue: BTreeSet::new(),
            ranges: Vec::new(),
            seeks: Vec::new(),
            upgrade_in_flight: None,
            manifest_in_flight: None,
            reorg: None,
            turn: PeerId(0),
            finished: Vec::new(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers.iter().map(|(id, peer)| (*id, peer))
    }

    // Peers

    pub(super) fn expect_peer(&mut self) {
        self.pending_peers += 1;
    }

    pub(super) fn unexpect_peer(&mut self) {
        self.pending_peers -= 1;
        self.check_updates();
    }

    pub(super) fn add_peer(&mut self, supports_seeks: bool) -> PeerId {
        self.last_peer.0 += 1;
        let id = self.last_peer;
        let mut peer = Peer {
            supports_seeks,
            ..Peer::default()
        };
        // Until it says anything, the peer is taken to have nothing.
        peer.can_upgrade = self.core.fork() == 0;
        let contiguous = self.core.contiguous_length();
        self.peers.insert(id, peer);
        self.tell(id);
        if contiguous > 0 && self.options.upload {
            self.tell_range(id, 0..contiguous, false);
        }
        self.events.push_back(ReplicatorEvent::PeerAdded(id));
        id
    }

    pub(super) fn remove_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        for in_flight in peer.in_flight.into_values() {
            self.give_up(id, &in_flight);
        }
        self.upgrade_in_flight = self.upgrade_in_flight.filter(|(asked, _)| *asked != id);
        if self
            .reorg
            .as_ref()
            .is_some_and(|reorg| reorg.tree.is_none())
        {
            self.reorg = None;
        }
        self.events.push_back(ReplicatorEvent::PeerRemoved(id));
        self.schedule_or_fail();
    }

    /// Whether anything is to be sent to the peer, or its channel to be closed.
    pub(super) fn has_work(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| {
            !peer.out.is_empty() || peer.closing || (!peer.asked.is_empty() && !peer.conflict)
        })
    }

    /// How many requests of the peer wait for their answer.
    pub(super) fn asked(&self, id: PeerId) -> usize {
        self.peers.get(&id).map_or(0, |peer| peer.asked.len())
    }

    /// Whether the channel is to be closed, and whether for a conflict.
    pub(super) fn closing(&self, id: PeerId) -> Option<bool> {
        let peer = self.peers.get(&id)?;
        (peer.closing && peer.out.is_empty()).then_some(peer.conflict)
    }

    /// What is to be sent to the peer: all but the answers to its requests, and of these about `room` bytes.
    pub(super) fn transmit(&mut self, id: PeerId, room: usize) -> Result<Vec<Message>, PeerError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(Vec::new());
        };
        let mut messages: Vec<Message> = mem::take(&mut peer.out).into();
        let mut bytes = 0;
        while bytes < room && !peer.closing {
            let Some(request) = peer.asked.pop_front() else {
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
                    bytes += 512;
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
                Err(error) => return Err(PeerError::Core(error)),
            });
        }
        Ok(messages)
    }

    /// Takes in a peer's message.
    pub(super) fn receive(&mut self, id: PeerId, message: Message) -> Result<(), PeerError> {
        let length = self.core.length();
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.closing) else {
            return Ok(());
        };
        match message {
            Message::Sync(sync) => self.on_sync(id, sync)?,
            Message::Request(request) => {
                // An id that is used again takes the earlier request back.
                peer.asked.retain(|asked| asked.id != request.id);
                peer.asked.push_back(request);
                return Ok(());
            }
            Message::Cancel(cancel) => {
                peer.asked.retain(|asked| asked.id != cancel.request);
                return Ok(());
            }
            Message::Data(data) => self.on_data(id, &data)?,
            Message::NoData(answer) => self.on_no_data(id, &answer)?,
            Message::Want(want) => {
                self.on_want(id, &want);
                return Ok(());
            }
            Message::Unwant(unwant) => {
                peer.wants.remove(&unwant);
                return Ok(());
            }
            Message::Bitfield(bitfield) => peer.on_bitfield(&bitfield, length),
            Message::Range(range) => {
                peer.on_range(
                    &range,
                    length.max(peer.remote.length.min(length + LAST_BLOCKS)),
                );
                if range.drop {
                    return Ok(());
                }
            }
            // Extensions are the channel's business.
            _ => return Ok(()),
        }
        self.schedule()?;
        Ok(())
    }

    // What the peer says of itself

    fn on_sync(&mut self, id: PeerId, sync: Sync) -> Result<(), CoreError> {
        let (fork, length) = (self.core.fork(), self.core.length());
        let is_downloading = self.options.download;
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let first = !peer.is_synced;
        peer.is_synced = true;
        peer.remote = sync;
        peer.denied_upgrade = None;
        peer.look_again();
        if !sync.downloading && !is_downloading && peer.in_flight.is_empty() {
            // Neither has anything to ask of the other.
            peer.closing = true;
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
                || (remote.length < length && self.core.can_upgrade_from(remote.length)?));
        if peer.can_upgrade {
            peer.upgradable = (remote.length, fork);
        }
        Ok(())
    }

    fn on_want(&mut self, id: PeerId, want: &wire::Want) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.wants.add(want);
        if !self.options.upload {
            return;
        }
        let (length, contiguous) = (self.core.length(), self.core.contiguous_length());
        let end = want.start.saturating_add(want.length);
        if end < contiguous || length == contiguous || (want.any && want.start < contiguous) {
            peer.out.push_back(Message::Range(wire::Range {
                drop: false,
                start: 0,
                length: contiguous,
            }));
        } else if want.any {
            let first = self.core.bitfield().next_set(want.start);
            if let Some(start) = first.filter(|first| *first < end) {
                peer.out.push_back(Message::Range(wire::Range {
                    drop: false,
                    start,
                    length: 1,
                }));
            }
        } else {
            let told = self.core.bitfield().want(want.start, want.length);
            peer.out.extend(told.into_iter().map(Message::Bitfield));
        }
    }

    // What the peer is told

    /// Sends the peer the state of the core, if it changed.
    fn tell(&mut self, id: PeerId) {
        let (fork, length) = (self.core.fork(), self.core.length());
        let has_manifest = self.core.manifest().is_some() && !self.core.is_compat();
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.closing) else {
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
            peer.told = Some(sync);
            peer.out.push_back(Message::Sync(sync));
        }
    }

    /// Tells all peers that the core changed.
    fn tell_all(&mut self) -> Result<(), CoreError> {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.find_can_upgrade(id)?;
            self.tell(id);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.look_again();
            }
        }
        Ok(())
    }

    /// Tells a peer of blocks that are held now or no longer, if it has use for that.
    fn tell_range(&mut self, id: PeerId, blocks: Range<u64>, drop: bool) {
        let (length, contiguous) = (self.core.length(), self.core.contiguous_length());
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.closing) else {
            return;
        };
        let mut blocks = blocks;
        if drop {
            peer.told_contiguous = peer.told_contiguous.min(blocks.start);
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
        peer.out.push_back(Message::Range(wire::Range {
            drop,
            start: blocks.start,
            length: blocks.end - blocks.start,
        }));
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

    // Changes made here

    pub(super) fn append<B: AsRef<[u8]>>(&mut self, blocks: &[B]) -> Result<Appended, CoreError> {
        let appended = self.core.append(blocks)?;
        self.on_appended(&appended)?;
        Ok(appended)
    }

    pub(super) fn append_signed<B: AsRef<[u8]>>(
        &mut self,
        blocks: &[B],
        signature: Buffer,
    ) -> Result<Appended, CoreError> {
        let appended = self.core.append_signed(blocks, signature)?;
        self.on_appended(&appended)?;
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
        self.tell_all()?;
        self.tell_range_to_all(&blocks, false);
        let held: Vec<u64> = self.blocks.range(blocks).map(|(block, _)| *block).collect();
        for block in held {
            let value = self.core.get(block)?;
            if let Some(value) = value {
                self.block_arrived(block, &value, None);
            }
        }
        self.look_for_finished()?;
        self.schedule()
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
        self.schedule()
    }

    pub(super) fn truncate(
        &mut self,
        length: u64,
        fork: Option<u64>,
    ) -> Result<Truncated, CoreError> {
        let truncated = self.core.truncate(length, fork)?;
        self.on_truncated(truncated)?;
        Ok(truncated)
    }

    fn on_truncated(&mut self, truncated: Truncated) -> Result<(), CoreError> {
        self.events.push_back(ReplicatorEvent::Truncated(truncated));
        self.tell_range_to_all(&(truncated.ancestors..truncated.from), true);
        // All that was asked for is of the fork before.
        self.reorg = None;
        for range in &mut self.ranges {
            range.start = range.user_start;
        }
        for peer in self.peers.values_mut() {
            peer.denied.clear();
            peer.cursor = 0;
        }
        self.tell_all()?;
        self.look_for_finished()?;
        self.schedule()
    }

    // What somebody waits for

    pub(super) fn wait(&mut self, kind: Kind) -> WaiterId {
        self.last_waiter.0 += 1;
        let id = self.last_waiter;
        let started = self.start(id, &kind);
        self.waiters.insert(id, kind);
        let started = started.and_then(|outcome| {
            if outcome.is_none() {
                self.schedule()?;
            }
            Ok(outcome)
        });
        match started {
            Ok(None) => {}
            Ok(Some(outcome)) => self.finish(id, Ok(outcome)),
            Err(error) => self.finish(id, Err(error)),
        }
        id
    }

    fn start(&mut self, id: WaiterId, kind: &Kind) -> Result<Option<Outcome>, CoreError> {
        match *kind {
            Kind::Block(block) => {
                if let Some(value) = self.core.get(block)? {
                    return Ok(Some(Outcome::Block(value)));
                }
                if self.core.is_frozen() {
                    return Err(CoreError::Frozen);
                }
                let wanted = self.blocks.entry(block).or_default();
                wanted.waiters.push(id);
                if wanted.asked.is_empty() {
                    self.queue.insert(block);
                }
                for peer in self.peers.values_mut() {
                    peer.queue_dry = false;
                }
            }
            Kind::Blocks(start, end) => {
                let from = self.core.bitfield().next_unset(start);
                if end.is_some_and(|end| from >= end) {
                    return Ok(Some(Outcome::Done));
                }
                self.ranges.push(WantedRange {
                    waiter: id,
                    user_start: start,
                    start: from,
                    end,
                });
                for peer in self.peers.values_mut() {
                    peer.ranges_dry = false;
                    peer.cursor = peer.cursor.min(from);
                }
            }
            Kind::Update { .. } => {
                self.followers.insert(id);
            }
            Kind::Length(length) => {
                if self.core.length() >= length {
                    return Ok(Some(Outcome::Done));
                }
                self.followers.insert(id);
            }
            Kind::Seek { bytes, padding } => {
                if let Seek::Found { block, offset } = self.core.seek(bytes, padding)? {
                    return Ok(Some(Outcome::Found(block, offset)));
                }
                self.seeks.push(WantedSeek {
                    waiter: id,
                    bytes,
                    padding,
                    in_flight: None,
                });
            }
        }
        Ok(None)
    }

    /// Nobody waits any more.
    pub(super) fn cancel(&mut self, id: WaiterId) {
        let Some(kind) = self.waiters.remove(&id) else {
            return;
        };
        match kind {
            Kind::Block(block) => {
                if let Some(wanted) = self.blocks.get_mut(&block) {
                    wanted.waiters.retain(|waiter| *waiter != id);
                    let in_range = self.ranges.iter().any(|range| {
                        range.start <= block && range.end.is_none_or(|end| block < end)
                    });
                    if wanted.waiters.is_empty() && !in_range {
                        let asked = mem::take(&mut wanted.asked);
                        self.blocks.remove(&block);
                        self.queue.remove(&block);
                        for peer in asked {
                            self.cancel_block(peer, block);
                        }
                    }
                }
            }
            Kind::Blocks(..) => {
                self.ranges.retain(|range| range.waiter != id);
                self.cancel_unwanted();
            }
            Kind::Seek { .. } => self.seeks.retain(|seek| seek.waiter != id),
            Kind::Update { .. } | Kind::Length(_) => {
                self.followers.remove(&id);
            }
        }
        self.schedule_or_fail();
    }

    /// Takes back the requests for blocks that neither somebody waits for nor a range has.
    fn cancel_unwanted(&mut self) {
        let (blocks, ranges) = (&self.blocks, &self.ranges);
        let unwanted = |(block, wanted): (&u64, &WantedBlock)| {
            let in_range = ranges
                .iter()
                .any(|range| range.start <= *block && range.end.is_none_or(|end| *block < end));
            (wanted.waiters.is_empty() && !in_range).then_some(*block)
        };
        let unwanted: Vec<u64> = blocks.iter().filter_map(unwanted).collect();
        for block in unwanted {
            let wanted = self.blocks.remove(&block);
            for peer in wanted.map(|wanted| wanted.asked).unwrap_or_default() {
                self.cancel_block(peer, block);
            }
        }
    }

    /// Takes back the request for a block that was made to a peer, unless it is for an upgrade, too.
    fn cancel_block(&mut self, id: PeerId, block: u64) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_it = |in_flight: &InFlight| {
            let request = &in_flight.request;
            request.block.is_some_and(|asked| asked.index == block) && request.upgrade.is_none()
        };
        let request = peer.in_flight.iter().find(|(_, it)| is_it(it));
        if let Some(request) = request.map(|(request, _)| *request) {
            peer.in_flight.remove(&request);
            peer.out.push_back(Message::Cancel(Cancel { request }));
        }
    }

    fn finish(&mut self, id: WaiterId, outcome: Result<Outcome, CoreError>) {
        if self.waiters.remove(&id).is_some() {
            self.followers.remove(&id);
            self.finished.push((id, outcome));
        }
    }

    /// Ends what the core's present state answers.
    fn look_for_finished(&mut self) -> Result<(), CoreError> {
        let mut done = Vec::new();
        self.ranges.retain_mut(|range| {
            if self.core.has(range.start) {
                range.start = self.core.bitfield().next_unset(range.start);
            }
            let is_done = range.end.is_some_and(|end| range.start >= end);
            if is_done {
                done.push((range.waiter, Outcome::Done));
            }
            !is_done
        });
        for seek in &self.seeks {
            if let Seek::Found { block, offset } = self.core.seek(seek.bytes, seek.padding)? {
                done.push((seek.waiter, Outcome::Found(block, offset)));
            }
        }
        let found = |seek: &WantedSeek| done.iter().any(|(waiter, _)| *waiter == seek.waiter);
        if !self.seeks.is_empty() {
            let kept: Vec<WantedSeek> = mem::take(&mut self.seeks)
                .into_iter()
                .filter(|seek| !found(seek))
                .collect();
            self.seeks = kept;
        }
        for (id, outcome) in done {
            self.finish(id, Ok(outcome));
        }
        Ok(())
    }

    /// Ends what waits for a length or another fork.
    fn length_changed(&mut self) {
        let (now, now_fork) = (self.core.length(), self.core.fork());
        let reached = |id: &WaiterId| match *self.waiters.get(id)? {
            Kind::Length(length) => (now >= length).then_some((*id, Outcome::Done)),
            Kind::Update { length, fork } => {
                ((now, now_fork) != (length, fork)).then_some((*id, Outcome::Updated(true)))
            }
            _ => None,
        };
        let reached: Vec<_> = self.followers.iter().filter_map(reached).collect();
        for (id, outcome) in reached {
            self.finish(id, Ok(outcome));
        }
    }

    /// Ends the updates for which no peer has anything.
    fn check_updates(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        self.length_changed();
        let is_update = |id: &WaiterId| matches!(self.waiters.get(id), Some(Kind::Update { .. }));
        let updates: Vec<WaiterId> = self.followers.iter().copied().filter(is_update).collect();
        let (fork, length) = (self.core.fork(), self.core.length());
        let may_bring = |peer: &Peer| {
            let remote = &peer.remote;
            if peer.closing || peer.suspect.is_some() {
                return false;
            }
            if !peer.is_synced {
                return true;
            }
            if !remote.uploading || peer.cannot_upgrade() {
                return false;
            }
            let longer = remote.fork == fork && remote.length > length;
            let later = remote.fork > fork && remote.length > 0 && self.options.reorgs;
            later || (longer && (remote.can_upgrade || peer.length_acked != length))
        };
        let is_waiting = self.pending_peers > 0
            || self.upgrade_in_flight.is_some()
            || self.reorg.as_ref().is_some_and(|it| it.in_flight.is_some())
            || (self.options.download && self.peers.values().any(may_bring));
        if !is_waiting {
            for id in updates {
                self.finish(id, Ok(Outcome::Updated(false)));
            }
        }
    }

    // Answers

    fn on_no_data(&mut self, id: PeerId, answer: &NoData) -> Result<(), PeerError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        if answer.request == 0 {
            // The peer will not say whether its history is another.
            if let Some(error) = peer.suspect.take() {
                return Err(PeerError::Proof(error));
            }
            return Ok(());
        }
        if let Some(in_flight) = peer.in_flight.remove(&answer.request) {
            self.deny(id, &in_flight);
            self.give_up(id, &in_flight);
        }
        Ok(())
    }

    /// Does not ask the peer for this again, until it says something new.
    fn deny(&mut self, id: PeerId, in_flight: &InFlight) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let request = &in_flight.request;
        if request.fork != peer.remote.fork {
            // It has rewritten its history meanwhile.
            return;
        }
        if let Some(block) = request.block {
            peer.denied.insert(block.index);
        }
        if let Some(hash) = request.hash {
            peer.denied.insert(hash.index / 2);
        }
        if let Some(upgrade) = request.upgrade {
            let length = upgrade.start.saturating_add(upgrade.length);
            peer.denied_upgrade = Some((request.fork, length));
        } else if request.manifest {
            peer.denied_upgrade = Some((request.fork, peer.remote.length));
        }
    }

    /// A request was not answered, or not as asked.
    fn give_up(&mut self, id: PeerId, in_flight: &InFlight) {
        let request = &in_flight.request;
        if let Some(block) = request.block {
            let block = block.index;
            if let Some(wanted) = self.blocks.get_mut(&block) {
                wanted.asked.retain(|asked| *asked != id);
                if wanted.asked.is_empty() {
                    if wanted.waiters.is_empty() {
                        self.blocks.remove(&block);
                    } else {
                        self.queue.insert(block);
                    }
                }
            }
            for peer in self.peers.values_mut() {
                peer.look_again();
                peer.cursor = peer.cursor.min(block);
            }
        }
        self.settle(id, in_flight);
    }

    /// A request is over: what it was for besides a block may be asked for again.
    fn settle(&mut self, id: PeerId, in_flight: &InFlight) {
        let request = &in_flight.request;
        if self.upgrade_in_flight == Some((id, request.id)) {
            self.upgrade_in_flight = None;
        }
        let asked = Some((id, request.id));
        if self.manifest_in_flight == asked {
            self.manifest_in_flight = None;
        }
        match in_flight.purpose {
            Purpose::Blocks => {}
            Purpose::Seek(waiter) => {
                let mut seeks = self.seeks.iter_mut();
                let seek = seeks.find(|seek| seek.waiter == waiter && seek.in_flight == asked);
                if let Some(seek) = seek {
                    seek.in_flight = None;
                }
            }
            Purpose::Reorg => {
                let reorg = self.reorg.as_mut().filter(|reorg| reorg.in_flight == asked);
                if let Some(reorg) = reorg {
                    reorg.in_flight = None;
                }
            }
        }
    }

    fn on_data(&mut self, id: PeerId, data: &Data) -> Result<(), PeerError> {
        let length = self.core.length();
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        if data.request == 0 {
            return self.on_conflict_proof(id, data);
        }
        let Some(in_flight) = peer.in_flight.remove(&data.request) else {
            // Not asked for, or taken back.
            return Ok(());
        };
        if peer.suspect.is_some() {
            self.give_up(id, &in_flight);
            return Ok(());
        }
        if in_flight.purpose == Purpose::Reorg {
            return self.on_reorg_data(id, &in_flight, data);
        }
        let request = &in_flight.request;
        if !answers(request, data) {
            self.deny(id, &in_flight);
            self.give_up(id, &in_flight);
            return Ok(());
        }
        let is_late = data.fork != self.core.fork()
            || request.upgrade.is_some_and(|asked| asked.start != length);
        if is_late {
            self.give_up(id, &in_flight);
            return Ok(());
        }
        let applied = match self.core.verify_and_apply(data) {
            Ok(applied) => applied,
            Err(CoreError::Proof(error)) => return self.refuse(id, &in_flight, data, error),
            Err(error) => {
                self.give_up(id, &in_flight);
                return Err(PeerError::Core(error));
            }
        };
        // An answer to only a part of what was asked.
        let is_short = (request.block.is_some() && data.block.is_none())
            || (request.hash.is_some() && data.hash.is_none())
            || (request.upgrade.is_some() && data.upgrade.is_none());
        if is_short {
            self.deny(id, &in_flight);
            self.give_up(id, &in_flight);
        } else {
            self.settle(id, &in_flight);
        }
        if let Some(block) = &data.block {
            self.block_arrived(block.index, &block.value, Some(id));
        }
        if applied.manifest {
            self.events.push_back(ReplicatorEvent::Manifest);
        }
        if let Some(upgraded) = applied.upgraded {
            self.events.push_back(ReplicatorEvent::Upgraded(upgraded));
            self.length_changed();
        }
        if let Some(block) = applied.block {
            let bytes = data.block.as_ref().map_or(0, |block| block.value.len());
            self.events.push_back(ReplicatorEvent::Downloaded {
                block,
                bytes,
                peer: id,
            });
        }
        if applied.upgraded.is_some() || applied.manifest {
            self.tell_all()?;
        }
        if let Some(block) = applied.block {
            self.tell_range_to_all(&(block..block + 1), false);
        }
        self.look_for_finished()?;
        Ok(())
    }

    /// Hands a block to those who wait for it, and takes back the other requests for it.
    fn block_arrived(&mut self, block: u64, value: &Buffer, from: Option<PeerId>) {
        self.queue.remove(&block);
        let Some(wanted) = self.blocks.remove(&block) else {
            return;
        };
        for waiter in wanted.waiters {
            self.finish(waiter, Ok(Outcome::Block(value.detach())));
        }
        for peer in wanted.asked {
            if Some(peer) != from {
                self.cancel_block(peer, block);
            }
        }
    }

    /// A peer's proof is wrong.
    fn refuse(
        &mut self,
        id: PeerId,
        in_flight: &InFlight,
        data: &Data,
        error: ProofError,
    ) -> Result<(), PeerError> {
        self.events.push_back(ReplicatorEvent::Refused {
            peer: id,
            error: error.clone(),
        });
        self.deny(id, in_flight);
        self.give_up(id, in_flight);
        let (fork, length) = (self.core.fork(), self.core.length());
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let length = length.min(peer.remote.length);
        let may_differ = error.code() != "INVALID_OPERATION" && data.fork == fork && length > 0;
        if !may_differ {
            return Err(PeerError::Proof(error));
        }
        // The writer may have signed two histories: the peer is asked to prove its own.
        peer.suspect = Some(error);
        peer.out.push_back(Message::Request(Request {
            fork,
            upgrade: Some(RequestUpgrade { start: 0, length }),
            ..Request::default()
        }));
        Ok(())
    }

    fn on_conflict_proof(&mut self, id: PeerId, data: &Data) -> Result<(), PeerError> {
        let suspect = self.peers.get_mut(&id).and_then(|peer| peer.suspect.take());
        if data
            .upgrade
            .as_ref()
            .is_none_or(|upgrade| upgrade.start != 0)
        {
            return suspect.map_or(Ok(()), |error| Err(PeerError::Proof(error)));
        }
        let conflict = match self.core.check_conflict(data) {
            Ok(ConflictCheck::Conflict(conflict)) => conflict,
            Ok(_) | Err(CoreError::Proof(_)) => {
                return suspect.map_or(Ok(()), |error| Err(PeerError::Proof(error)));
            }
            Err(error) => return Err(PeerError::Core(error)),
        };
        // All peers are shown our history, and let go.
        let (fork, length) = (self.core.fork(), self.core.length());
        for peer in self.peers.values_mut() {
            let length = length.min(peer.remote.length);
            if peer.remote.fork == fork && length > 0 {
                let request = Request {
                    fork,
                    upgrade: Some(RequestUpgrade { start: 0, length }),
                    ..Request::default()
                };
                if let Some(proof) = self.core.create_proof(&request)? {
                    peer.out.push_back(Message::Data(proof));
                }
            }
            peer.conflict = true;
            peer.closing = true;
        }
        self.events.push_back(ReplicatorEvent::Conflict(conflict));
        let waiters: Vec<WaiterId> = self.waiters.keys().copied().collect();
        for waiter in waiters {
            self.finish(waiter, Err(CoreError::Frozen));
        }
        self.blocks.clear();
        self.queue.clear();
        self.ranges.clear();
        self.seeks.clear();
        Ok(())
    }

    fn on_reorg_data(
        &mut self,
        id: PeerId,
        in_flight: &InFlight,
        data: &Data,
    ) -> Result<(), PeerError> {
        let asked = Some((id, in_flight.request.id));
        let Some(pending) = self.reorg.as_mut().filter(|it| it.in_flight == asked) else {
            // The answer to a question about a fork that is settled or was overtaken.
            return Ok(());
        };
        pending.in_flight = None;
        let is_answer = data.fork == pending.fork && data.fork > self.core.fork();
        let useful = match &mut pending.tree {
            _ if !is_answer => Ok(false),
            Some(tree) => self.core.update_reorg(tree, data),
            None if data.upgrade.is_some() => self.core.verify_reorg(data).map(|tree| {
                pending.tree = Some(Box::new(tree));
                true
            }),
            None => Ok(false),
        };
        match useful {
            Ok(true) => {}
            Ok(false) => {
                self.deny(id, in_flight);
                return Ok(());
            }
            Err(CoreError::Proof(error)) => {
                self.deny(id, in_flight);
                self.events.push_back(ReplicatorEvent::Refused {
                    peer: id,
                    error: error.clone(),
                });
                if self.reorg.as_ref().is_some_and(|it| it.tree.is_none()) {
                    self.reorg = None;
                }
                return Err(PeerError::Proof(error));
            }
            Err(error) => return Err(PeerError::Core(error)),
        }
        let is_complete = |pending: &PendingReorg| {
            let tree = pending.tree.as_ref();
            tree.is_some_and(|tree| tree.want().is_none())
        };
        if !self.reorg.as_ref().is_some_and(is_complete) {
            return Ok(());
        }
        let Some(tree) = self.reorg.take().and_then(|pending| pending.tree) else {
            return Ok(());
        };
        match self.core.apply_reorg(*tree) {
            Ok(truncated) => {
                self.on_truncated(truncated)?;
                self.length_changed();
                Ok(())
            }
            // It is asked for again.
            Err(CoreError::Stale) => Ok(()),
            Err(error) => Err(PeerError::Core(error)),
        }
    }

    // What is asked of peers

    /// As [`Machine::schedule`], where nobody can be told that the store failed but those who wait.
    fn schedule_or_fail(&mut self) {
        // What fails here fails again for whoever asks next.
        let _ = self.schedule();
    }

    /// Asks peers for what is wanted, in turns, as far as each has room.
    fn schedule(&mut self) -> Result<(), CoreError> {
        if self.options.download && !self.core.is_frozen() {
            let mut ids: Vec<PeerId> = self.peers.keys().copied().collect();
            let turn = self.turn;
            ids.sort_by_key(|id| (*id <= turn, *id));
            let mut last = None;
            loop {
                let mut asked = false;
                for id in &ids {
                    if self.ask(*id)? {
                        last = Some(*id);
                        asked = true;
                    }
                }
                if !asked {
                    break;
                }
            }
            self.turn = last.unwrap_or(turn);
        }
        self.check_updates();
        Ok(())
    }

    /// Asks one thing of a peer. Tells whether there was any.
    fn ask(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let (fork, length) = (self.core.fork(), self.core.length());
        let knows_manifest = self.core.manifest().is_some();
        let Some(peer) = self.peers.get(&id) else {
            return Ok(false);
        };
        let is_ready = peer.is_synced
            && peer.remote.uploading
            && !peer.closing
            && peer.suspect.is_none()
            && peer.in_flight.len() < self.options.max_in_flight;
        if !is_ready {
            return Ok(false);
        }
        let remote = peer.remote;
        // That of another fork comes with its proof.
        let asks_manifest = !knows_manifest
            && remote.fork == fork
            && self.manifest_in_flight.is_none()
            && remote.length == 0
            && remote.has_manifest
            && !peer.cannot_upgrade();
        if asks_manifest {
            let request = Request {
                fork: remote.fork,
                manifest: true,
                ..Request::default()
            };
            let asked = self.send(id, request, Purpose::Blocks)?;
            self.manifest_in_flight = Some((id, asked));
            return Ok(true);
        }
        if remote.fork != fork {
            return self.ask_reorg(id);
        }
        Ok(self.ask_seek(id)?
            || self.ask_queued(id)?
            || self.ask_range(id, length)?
            || self.ask_upgrade(id)?
            || self.ask_twice(id)?)
    }

    /// Whether the peer can prove a longer core to us now, and nobody else is about to.
    fn can_be_upgraded_by(&self, peer: &Peer) -> bool {
        let length = self.core.length();
        self.upgrade_in_flight.is_none()
            && peer.remote.fork == self.core.fork()
            && peer.remote.can_upgrade
            && peer.remote.length > length
            && peer.length_acked == length
            && !peer.cannot_upgrade()
    }

    /// A request to a peer, with what is to be asked for beside anything. `None` if it has to bring a longer core and
    /// the peer cannot.
    fn request(&self, peer: &Peer, needs_upgrade: bool) -> Option<Request> {
        let can_upgrade = self.can_be_upgraded_by(peer);
        if needs_upgrade && !can_upgrade {
            return None;
        }
        let length = self.core.length();
        let wants = needs_upgrade || self.wants_upgrade();
        let upgrade = (wants && can_upgrade).then(|| RequestUpgrade {
            start: length,
            length: peer.remote.length - length,
        });
        Some(Request {
            fork: peer.remote.fork,
            upgrade,
            manifest: self.core.manifest().is_none() && peer.remote.has_manifest,
            ..Request::default()
        })
    }

    fn wants_upgrade(&self) -> bool {
        self.options.eager_upgrade || !self.followers.is_empty()
    }

    /// Whether the peer's tree is known to be part of ours as far as this block needs it.
    fn can_ask_for(&self, peer: &Peer, block: u64) -> bool {
        let (length, fork) = peer.upgradable;
        peer.remote.length >= self.core.length()
            || (block < length && fork == self.core.fork())
            || peer.can_upgrade
    }

    fn ask_queued(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let length = self.core.length();
        let Some(peer) = self.peers.get(&id).filter(|peer| !peer.queue_dry) else {
            return Ok(false);
        };
        let mut found = None;
        let mut wanted = Vec::new();
        for block in &self.queue {
            let block = *block;
            if !peer.has_block(block) {
                wanted.push(block);
                continue;
            }
            if block >= peer.remote.length || !self.can_ask_for(peer, block) {
                continue;
            }
            if let Some(mut request) = self.request(peer, block >= length) {
                request.block = Some(RequestBlock {
                    index: block,
                    nodes: 0,
                });
                found = Some(request);
                break;
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(false);
        };
        for block in wanted {
            peer.want(block);
        }
        peer.queue_dry = found.is_none();
        let Some(request) = found else {
            return Ok(false);
        };
        self.send(id, request, Purpose::Blocks)?;
        Ok(true)
    }

    fn ask_range(&mut self, id: PeerId, length: u64) -> Result<bool, CoreError> {
        let Some(peer) = self.peers.get(&id).filter(|peer| !peer.ranges_dry) else {
            return Ok(false);
        };
        let (upgradable, fork) = peer.upgradable;
        let valid = if peer.can_upgrade || peer.remote.length >= length {
            length
        } else if fork == self.core.fork() {
            upgradable.min(length)
        } else {
            0
        };
        let valid = valid.min(peer.remote.length);
        let mut found = None;
        for range in &self.ranges {
            let end = range.end.unwrap_or(u64::MAX).min(valid);
            let from = peer.cursor.clamp(range.start, end.max(range.start));
            found = self
                .next_missing(peer, from..end)
                .or_else(|| self.next_missing(peer, range.start..from.min(end)));
            if found.is_some() {
                break;
            }
        }
        let request = found.and_then(|block| {
            let mut request = self.request(peer, false)?;
            request.block = Some(RequestBlock {
                index: block,
                nodes: 0,
            });
            Some(request)
        });
        let mut starts = Vec::new();
        if request.is_none() {
            let end = length.min(peer.remote.length);
            starts.extend(self.ranges.iter().filter_map(|range| {
                let end = range.end.unwrap_or(u64::MAX).min(end);
                (range.start < end).then_some(range.start)
            }));
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(false);
        };
        for start in starts {
            peer.want(start);
        }
        peer.ranges_dry = request.is_none();
        let Some(request) = request else {
            return Ok(false);
        };
        peer.cursor = found.map_or(0, |block| block + 1);
        self.send(id, request, Purpose::Blocks)?;
        Ok(true)
    }

    /// The first block of a range that is not here, that nobody was asked for and that the peer has.
    fn next_missing(&self, peer: &Peer, blocks: Range<u64>) -> Option<u64> {
        let mut at = blocks.start;
        while at < blocks.end {
            let missing = self.core.bitfield().next_unset(at);
            let theirs = peer.has.next(missing)?;
            if theirs >= blocks.end {
                return None;
            }
            if theirs != missing {
                at = theirs;
                continue;
            }
            if !self.blocks.contains_key(&missing) && !peer.denied.contains(&missing) {
                return Some(missing);
            }
            at = missing + 1;
        }
        None
    }

    fn ask_upgrade(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let Some(peer) = self.peers.get(&id) else {
            return Ok(false);
        };
        if !self.wants_upgrade() {
            return Ok(false);
        }
        let Some(request) = self.request(peer, true) else {
            return Ok(false);
        };
        self.send(id, request, Purpose::Blocks)?;
        Ok(true)
    }

    /// Asks a peer that has nothing else to do for what others were asked for and did not send yet.
    fn ask_twice(&mut self, id: PeerId) -> Result<bool, CoreError> {
        if self.peers.len() < 2 {
            return Ok(false);
        }
        let Some(peer) = self.peers.get(&id) else {
            return Ok(false);
        };
        if !peer.in_flight.is_empty() {
            return Ok(false);
        }
        let length = self.core.length();
        let candidate = self.blocks.iter().take(1024).find(|(block, wanted)| {
            !wanted.asked.is_empty()
                && wanted.asked.len() < MAX_PEERS_PER_BLOCK
                && !wanted.asked.contains(&id)
                && **block < length
                && peer.has_block(**block)
                && self.can_ask_for(peer, **block)
        });
        let Some(block) = candidate.map(|(block, _)| *block) else {
            return Ok(false);
        };
        let Some(mut request) = self.request(peer, false) else {
            return Ok(false);
        };
        request.block = Some(RequestBlock {
            index: block,
            nodes: 0,
        });
        self.send(id, request, Purpose::Blocks)?;
        Ok(true)
    }

    fn ask_seek(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let length = self.core.length();
        for at in 0..self.seeks.len() {
            let WantedSeek {
                waiter,
                bytes,
                padding,
                in_flight,
            } = self.seeks[at];
            if in_flight.is_some() {
                continue;
            }
            let Seek::Within(range) = self.core.seek(bytes, padding)? else {
                continue;
            };
            let Some(peer) = self.peers.get(&id) else {
                return Ok(false);
            };
            let seek = peer
                .supports_seeks
                .then_some(RequestSeek { bytes, padding });
            let mut request = None;
            if range.start >= length {
                request = self.request(peer, true);
            } else {
                let blocks = range.clone();
                let block = blocks.take(4096).find(|block| {
                    peer.has_block(*block)
                        && !self.core.has(*block)
                        && *block < peer.remote.length
                        && self.can_ask_for(peer, *block)
                });
                if let Some(block) = block {
                    request = self.request(peer, false);
                    if let Some(request) = &mut request {
                        request.hash = Some(RequestBlock {
                            index: 2 * block,
                            nodes: u64::from((range.start + range.end - 1).trailing_ones()),
                        });
                    }
                }
            }
            let Some(mut request) = request else {
                if let Some(peer) = self.peers.get_mut(&id).filter(|_| range.start < length) {
                    peer.want(range.start);
                }
                continue;
            };
            request.seek = seek;
            let asked = self.send(id, request, Purpose::Seek(waiter))?;
            self.seeks[at].in_flight = Some((id, asked));
            return Ok(true);
        }
        Ok(false)
    }

    fn ask_reorg(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let fork = self.core.fork();
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(false);
        };
        let remote = peer.remote;
        let may = self.options.reorgs
            && remote.fork > fork
            && remote.length > 0
            && !peer.cannot_upgrade();
        if !may {
            return Ok(false);
        }
        // The latest fork is the one that counts.
        if self.reorg.as_ref().is_none_or(|it| it.fork < remote.fork) {
            self.reorg = Some(PendingReorg {
                fork: remote.fork,
                tree: None,
                in_flight: None,
            });
        }
        let Some(pending) = &mut self.reorg else {
            return Ok(false);
        };
        if pending.fork != remote.fork || pending.in_flight.is_some() {
            return Ok(false);
        }
        let mut request = Request {
            fork: remote.fork,
            ..Request::default()
        };
        match &pending.tree {
            None => {
                request.upgrade = Some(RequestUpgrade {
                    start: 0,
                    length: remote.length,
                });
                request.manifest = self.core.manifest().is_none();
            }
            Some(tree) => {
                let Some(want) = tree.want() else {
                    return Ok(false);
                };
                let end = want.end.min(remote.length);
                let mut blocks = (want.start..end).take(4096);
                let Some(block) = blocks.find(|block| peer.has_block(*block)) else {
                    peer.want(want.start);
                    return Ok(false);
                };
                request.hash = Some(RequestBlock {
                    index: 2 * block,
                    nodes: want.nodes,
                });
            }
        }
        let asked = self.send(id, request, Purpose::Reorg)?;
        if let Some(pending) = &mut self.reorg {
            pending.in_flight = Some((id, asked));
        }
        Ok(true)
    }

    /// Sends a request, and says under which id.
    fn send(&mut self, id: PeerId, request: Request, purpose: Purpose) -> Result<u64, CoreError> {
        let mut request = request;
        if request.fork == self.core.fork() {
            if let Some(block) = &mut request.block {
                block.nodes = self.core.missing_nodes(2 * block.index)?;
            }
            if let Some(hash) = request.hash.as_mut().filter(|hash| hash.nodes == 0) {
                hash.nodes = self.core.missing_nodes(hash.index)?;
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(0);
        };
        peer.last_id += 1;
        request.id = peer.last_id;
        if let Some(block) = request.block {
            self.queue.remove(&block.index);
            let wanted = self.blocks.entry(block.index).or_default();
            wanted.asked.push(id);
            if !wanted.waiters.is_empty() {
                request.priority = 1;
            }
        }
        if request.upgrade.is_some() && purpose != Purpose::Reorg {
            self.upgrade_in_flight = Some((id, request.id));
        }
        let asked = request.id;
        peer.out.push_back(Message::Request(request.clone()));
        peer.in_flight.insert(asked, InFlight { request, purpose });
        Ok(asked)
    }
}

/// Whether data has no part that was not asked for.
fn answers(request: &Request, data: &Data) -> bool {
    let block = |index| request.block.is_some_and(|asked| asked.index == index);
    let hash = |index| request.hash.is_some_and(|asked| asked.index == index);
    let seek = |bytes| request.seek.is_some_and(|asked| asked.bytes == bytes);
    data.fork == request.fork
        && data.block.as_ref().is_none_or(|it| block(it.index))
        && data.hash.as_ref().is_none_or(|it| hash(it.index))
        && data.seek.as_ref().is_none_or(|it| seek(it.bytes))
        && (data.upgrade.is_none() || request.upgrade.is_some())
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
