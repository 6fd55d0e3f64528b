//! Requests to peers.

use std::ops::Range;

use crate::wire::{Request, RequestBlock, RequestSeek, RequestUpgrade};

use super::super::super::error::CoreError;
use super::super::super::proof::Seek;
use super::super::PeerId;
use super::super::outbox::WANT_BATCH;
use super::super::peer::{InFlight, MAX_WANTS, Peer, Purpose};
use super::{Machine, PendingReorg, WantedBlock, WantedSeek};

/// Number of peers asked for one block at a time (`lib/hotswap-queue.js`).
const MAX_PEERS_PER_BLOCK: usize = 3;

impl Machine {
    /// As [`Machine::schedule`], where an error of the store can only be reported to the waiters.
    pub(super) fn schedule_or_fail(&mut self) {
        if let Err(error) = self.schedule() {
            self.store_failed(&error);
        }
    }

    /// Requests wanted data from peers, in turns, as far as each has room.
    pub(super) fn schedule(&mut self) -> Result<(), CoreError> {
        self.for_all = false;
        if self.may_ask() {
            let turn = self.turn;
            let mut ids: Vec<(bool, bool, PeerId)> = self
                .peers
                .iter()
                // Paused peers come last.
                .map(|(id, peer)| (peer.pauses > 0, *id <= turn, *id))
                .collect();
            ids.sort_unstable();
            let mut last = None;
            loop {
                let mut asked = false;
                for (_, _, id) in &ids {
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

    /// As [`Machine::schedule`], after an event of one peer alone, unless it turns out to affect others: so that the
    /// cost of one peer's message does not grow with the number of peers.
    pub(super) fn schedule_peer(&mut self, id: PeerId) -> Result<(), CoreError> {
        if self.for_all {
            return self.schedule();
        }
        if self.may_ask() {
            while self.ask(id)? {}
        }
        Ok(())
    }

    fn may_ask(&self) -> bool {
        self.options.download && !self.core.is_frozen()
    }

    /// Makes one request to a peer. Returns whether there was any.
    pub(super) fn ask(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let (fork, length) = (self.core.fork(), self.core.length());
        let knows_manifest = self.core.manifest().is_some();
        let Some(peer) = self.peers.get(&id) else {
            return Ok(false);
        };
        if !peer.is_ready() {
            return Ok(false);
        }
        let remote = peer.remote;
        // A manifest of another fork comes with its proof.
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

    /// Whether the peer can prove a longer core now, and no other request for one is in flight.
    pub(super) fn can_be_upgraded_by(&self, peer: &Peer) -> bool {
        let length = self.core.length();
        self.upgrade_in_flight.is_none()
            && peer.remote.fork == self.core.fork()
            && peer.remote.can_upgrade
            && peer.remote.length > length
            && peer.length_acked == length
            && !peer.cannot_upgrade()
    }

    /// A request to a peer, with whatever accompanies every request. `None` if it has to bring a longer core and the
    /// peer cannot.
    pub(super) fn request(&self, peer: &Peer, needs_upgrade: bool) -> Option<Request> {
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

    pub(super) fn wants_upgrade(&self) -> bool {
        self.options.eager_upgrade || !self.followers.is_empty()
    }

    /// The block below which the peer can be asked: as far as its tree is known to be part of ours.
    fn valid_end(&self, peer: &Peer) -> u64 {
        let (upgradable, fork) = peer.upgradable;
        let end = if peer.can_upgrade || peer.remote.length >= self.core.length() {
            u64::MAX
        } else if fork == self.core.fork() {
            upgradable
        } else {
            0
        };
        end.min(peer.remote.length)
    }

    pub(super) fn ask_queued(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let length = self.core.length();
        let Some(peer) = self.peers.get(&id).filter(|_| !self.queue.is_empty()) else {
            return Ok(false);
        };
        let mut end = self.valid_end(peer);
        if end > length && !self.can_be_upgraded_by(peer) {
            end = length;
        }
        let [again, rest] = peer.queue.runs(end);
        let found_again = self.next_queued(id, peer, again);
        let found = found_again.or_else(|| self.next_queued(id, peer, rest));
        let request = found.and_then(|block| {
            let mut request = self.request(peer, block >= length)?;
            request.block = Some(RequestBlock {
                index: block,
                nodes: 0,
            });
            Some(request)
        });
        let unknown = match request {
            Some(_) => Vec::new(),
            None => self.unknown_batches(peer),
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(false);
        };
        match found_again {
            Some(block) => peer.queue.found_again(block),
            None => peer.queue.found(found.unwrap_or(end), end),
        }
        let Some(request) = request else {
            for block in unknown {
                peer.want(block);
            }
            peer.unknown.found(u64::MAX, u64::MAX);
            if !peer.out.is_empty() {
                self.touch(id);
            }
            return Ok(false);
        };
        self.send(id, request, Purpose::Blocks)?;
        Ok(true)
    }

    /// The first block of the queue that the peer has, and was not asked for.
    fn next_queued(&self, id: PeerId, peer: &Peer, blocks: Range<u64>) -> Option<u64> {
        let mut at = blocks.start;
        while at < blocks.end {
            let block = *self.queue.range(at..blocks.end).next()?;
            let theirs = peer.has.next(block)?;
            if theirs > block {
                at = theirs;
                continue;
            }
            let is_asked = |wanted: &WantedBlock| wanted.asked.contains(&id);
            if !peer.denied.contains(&block) && !self.blocks.get(&block).is_some_and(is_asked) {
                return Some(block);
            }
            at = block + 1;
        }
        None
    }

    /// Batches of the queue's blocks that the peer is not known to have and can be asked about, one block of each.
    fn unknown_batches(&self, peer: &Peer) -> Vec<u64> {
        let mut unknown = Vec::new();
        for blocks in peer.unknown.runs(u64::MAX) {
            let mut at = blocks.start;
            while at < blocks.end && unknown.len() < MAX_WANTS {
                let Some(block) = self.queue.range(at..blocks.end).next().copied() else {
                    break;
                };
                if peer.has_block(block) {
                    at = block + 1;
                } else {
                    unknown.push(block);
                    at = (block / WANT_BATCH + 1) * WANT_BATCH;
                }
            }
        }
        unknown
    }

    pub(super) fn ask_range(&mut self, id: PeerId, length: u64) -> Result<bool, CoreError> {
        let Some(peer) = self.peers.get(&id).filter(|_| !self.ranges.is_empty()) else {
            return Ok(false);
        };
        let valid = self.valid_end(peer).min(length);
        let among = |blocks: Range<u64>| {
            let found = self.ranges.iter().filter_map(|range| {
                let end = range.end.unwrap_or(u64::MAX).min(blocks.end);
                self.next_missing(peer, range.start.max(blocks.start)..end)
            });
            found.min()
        };
        let [again, rest] = peer.ranges.runs(valid);
        let found_again = among(again);
        let found = found_again.or_else(|| among(rest));
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
        match found_again {
            Some(block) => peer.ranges.found_again(block),
            None => peer.ranges.found(found.unwrap_or(valid), valid),
        }
        for start in starts {
            peer.want(start);
        }
        let Some(request) = request else {
            if !peer.out.is_empty() {
                self.touch(id);
            }
            return Ok(false);
        };
        self.send(id, request, Purpose::Blocks)?;
        Ok(true)
    }

    /// The first block of a range that is missing here, not requested from any peer, and held by the peer.
    pub(super) fn next_missing(&self, peer: &Peer, blocks: Range<u64>) -> Option<u64> {
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

    pub(super) fn ask_upgrade(&mut self, id: PeerId) -> Result<bool, CoreError> {
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

    /// Gives an otherwise idle peer requests that other peers have not answered yet.
    pub(super) fn ask_twice(&mut self, id: PeerId) -> Result<bool, CoreError> {
        if self.peers.len() < 2 {
            return Ok(false);
        }
        let Some(peer) = self.peers.get(&id) else {
            return Ok(false);
        };
        if !peer.in_flight.is_empty() {
            return Ok(false);
        }
        let end = self.valid_end(peer).min(self.core.length());
        let candidate = self.blocks.range(..end).take(1024).find(|(block, wanted)| {
            !wanted.asked.is_empty()
                && wanted.asked.len() < MAX_PEERS_PER_BLOCK
                && !wanted.asked.contains(&id)
                && peer.has_block(**block)
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

    pub(super) fn ask_seek(&mut self, id: PeerId) -> Result<bool, CoreError> {
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
                let blocks = range.start..range.end.min(self.valid_end(peer));
                let mut blocks = blocks.take(4096);
                let block = blocks.find(|block| peer.has_block(*block) && !self.core.has(*block));
                // For two leaves, only one of the blocks gives the sizes.
                let is_pair = range.end - range.start == 2;
                let is_asked = |block: u64| {
                    let wanted = self.blocks.get(&block);
                    wanted.is_some_and(|wanted| wanted.asked.contains(&id))
                };
                if is_pair && range.clone().any(is_asked) {
                    continue;
                }
                if let Some(block) = block {
                    request = self.request(peer, false);
                    if let Some(request) = &mut request {
                        let below = |index, nodes| Some(RequestBlock { index, nodes });
                        if is_pair {
                            request.block = below(block, 0);
                        } else {
                            // The node above these blocks need not be held: its sibling may be known alone, if nothing
                            // binds its own size.
                            let above = range.start + range.end - 1;
                            let levels = u64::from(above.trailing_ones());
                            let missing = self.core.missing_nodes(above)?;
                            request.hash = below(2 * block, levels + missing);
                        }
                    }
                }
            }
            let Some(mut request) = request else {
                if let Some(peer) = self.peers.get_mut(&id).filter(|_| range.start < length) {
                    peer.want(range.start);
                    self.touch(id);
                }
                continue;
            };
            request.seek = seek.filter(|_| request.block.is_none());
            let asked = self.send(id, request, Purpose::Seek(waiter))?;
            self.seeks[at].in_flight = Some((id, asked));
            return Ok(true);
        }
        Ok(false)
    }

    pub(super) fn ask_reorg(&mut self, id: PeerId) -> Result<bool, CoreError> {
        let fork = self.core.fork();
        let Some(peer) = self.peers.get(&id) else {
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
        // A proven fork overtakes the earlier ones; a claimed one does not.
        let is_alive = |fork: u64| {
            let mut peers = self.peers.values();
            peers.any(|peer| peer.remote.fork == fork && peer.is_active())
        };
        let is_overtaken = self
            .reorgs
            .range(remote.fork + 1..)
            .any(|(fork, it)| it.tree.is_some() && is_alive(*fork));
        if is_overtaken {
            return Ok(false);
        }
        let pending = self.reorgs.entry(remote.fork).or_insert(PendingReorg {
            tree: None,
            in_flight: None,
        });
        if pending.in_flight.is_some() {
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
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.want(want.start);
                        self.touch(id);
                    }
                    return Ok(false);
                };
                request.hash = Some(RequestBlock {
                    index: 2 * block,
                    nodes: want.nodes,
                });
            }
        }
        let asked = self.send(id, request, Purpose::Reorg)?;
        if let Some(pending) = self.reorgs.get_mut(&remote.fork) {
            pending.in_flight = Some((id, asked));
        }
        Ok(true)
    }

    /// Sends a request, and returns its id.
    pub(super) fn send(
        &mut self,
        id: PeerId,
        request: Request,
        purpose: Purpose,
    ) -> Result<u64, CoreError> {
        let mut request = request;
        let peer = self.peers.get(&id);
        let last = peer
            .filter(|peer| peer.binds_last_root)
            .and(request.upgrade)
            .and_then(|upgrade| (upgrade.start + upgrade.length).checked_sub(1))
            .map(|index| RequestBlock { index, nodes: 0 });
        if last.is_some() {
            // A proof has room for only one of these; request the rest once the core is longer.
            (request.hash, request.seek) = (None, None);
            request.block = last;
        }
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
        // A block of another fork cannot be stored before that fork is applied: it only proves the size.
        if let Some(block) = request.block.filter(|_| purpose != Purpose::Reorg) {
            // A peer that has not delivered does not prevent requests to others.
            if peer.pauses == 0 {
                self.queue.remove(&block.index);
            }
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
        let in_flight = InFlight {
            request,
            purpose,
            sent: self.now,
        };
        peer.ask(in_flight, self.now);
        self.touch(id);
        self.arm(id);
        Ok(asked)
    }
}
