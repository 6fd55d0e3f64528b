//! What is asked of peers.

use std::ops::Range;

use crate::wire::{Message, Request, RequestBlock, RequestSeek, RequestUpgrade};

use super::super::super::error::CoreError;
use super::super::super::proof::Seek;
use super::super::PeerId;
use super::super::peer::{InFlight, Peer, Purpose};
use super::{Machine, PendingReorg, WantedSeek};

/// Peers that are asked for one block at a time (`lib/hotswap-queue.js`).
const MAX_PEERS_PER_BLOCK: usize = 3;

impl Machine {
    /// As [`Machine::schedule`], where nobody can be told that the store failed but those who wait.
    pub(super) fn schedule_or_fail(&mut self) {
        // What fails here fails again for whoever asks next.
        let _ = self.schedule();
    }

    /// Asks peers for what is wanted, in turns, as far as each has room.
    pub(super) fn schedule(&mut self) -> Result<(), CoreError> {
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
    pub(super) fn ask(&mut self, id: PeerId) -> Result<bool, CoreError> {
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
    pub(super) fn can_be_upgraded_by(&self, peer: &Peer) -> bool {
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

    /// Whether the peer's tree is known to be part of ours as far as this block needs it.
    pub(super) fn can_ask_for(&self, peer: &Peer, block: u64) -> bool {
        let (length, fork) = peer.upgradable;
        peer.remote.length >= self.core.length()
            || (block < length && fork == self.core.fork())
            || peer.can_upgrade
    }

    pub(super) fn ask_queued(&mut self, id: PeerId) -> Result<bool, CoreError> {
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

    pub(super) fn ask_range(&mut self, id: PeerId, length: u64) -> Result<bool, CoreError> {
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

    /// Asks a peer that has nothing else to do for what others were asked for and did not send yet.
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

    pub(super) fn ask_reorg(&mut self, id: PeerId) -> Result<bool, CoreError> {
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
    pub(super) fn send(
        &mut self,
        id: PeerId,
        request: Request,
        purpose: Purpose,
    ) -> Result<u64, CoreError> {
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
