//! Answers of peers.

use crate::buffer::Buffer;
use crate::wire::{Data, NoData, Request, RequestUpgrade};

use super::super::super::core::ConflictCheck;
use super::super::super::error::{CoreError, ProofError, SignatureError};
use super::super::super::proof::Seek;
use super::super::peer::{Ending, InFlight, Purpose};
use super::super::{PeerError, PeerId, ReplicatorEvent};
use super::{Machine, Outcome, PendingReorg};

impl Machine {
    pub(super) fn on_no_data(&mut self, id: PeerId, answer: &NoData) -> Result<(), PeerError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        if answer.request == 0 {
            // The peer refuses to prove its history.
            if let Some((error, _)) = peer.suspect.take() {
                return Err(PeerError::Proof(error));
            }
            return Ok(());
        }
        if let Some((in_flight, _)) = peer.answered(answer.request, self.now) {
            self.refused(id, &in_flight);
            self.give_up(id, &in_flight);
        }
        Ok(())
    }

    /// Records that the peer does not have this, until it announces something new.
    pub(super) fn deny(&mut self, id: PeerId, in_flight: &InFlight) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let request = &in_flight.request;
        if request.fork != peer.remote.fork {
            // It has rewritten its history meanwhile.
            return;
        }
        if let Some(block) = request.block {
            peer.deny(block.index);
        }
        if let Some(hash) = request.hash {
            peer.deny(hash.index / 2);
        }
        if let Some(upgrade) = request.upgrade {
            let length = upgrade.start.saturating_add(upgrade.length);
            peer.denied_upgrade = Some((request.fork, length));
        } else if request.manifest {
            peer.denied_upgrade = Some((request.fork, peer.remote.length));
        }
    }

    /// A request was not answered, or answered wrongly.
    pub(super) fn give_up(&mut self, id: PeerId, in_flight: &InFlight) {
        let request = &in_flight.request;
        let of_this_fork = in_flight.purpose != Purpose::Reorg;
        if let Some(block) = request.block.filter(|_| of_this_fork) {
            let block = block.index;
            if let Some(wanted) = self.blocks.get_mut(&block) {
                wanted.asked.retain(|asked| *asked != id);
                if wanted.asked.is_empty() {
                    if wanted.waiters.is_empty() {
                        self.blocks.remove(&block);
                        self.queue.remove(&block);
                    } else {
                        self.queue.insert(block);
                    }
                }
            }
            for peer in self.peers.values_mut() {
                peer.queue.mark(block..block + 1);
                peer.ranges.mark(block..block + 1);
            }
        }
        self.for_all = true;
        self.settle(id, in_flight);
    }

    /// A request is over: everything it was for besides a block may be requested again.
    pub(super) fn settle(&mut self, id: PeerId, in_flight: &InFlight) {
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
                let reorg = self.reorgs.get_mut(&request.fork);
                if let Some(reorg) = reorg.filter(|reorg| reorg.in_flight == asked) {
                    reorg.in_flight = None;
                }
                // One that no peer has proven is started again by a peer that may prove it.
                self.reorgs
                    .retain(|_, reorg| reorg.tree.is_some() || reorg.in_flight.is_some());
            }
        }
    }

    pub(super) fn on_data(&mut self, id: PeerId, data: &Data) -> Result<(), PeerError> {
        let length = self.core.length();
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        if data.request == 0 {
            return self.on_conflict_proof(id, data);
        }
        let Some((in_flight, was_late)) = peer.answered(data.request, self.now) else {
            // Never requested, or cancelled.
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
            self.refused(id, &in_flight);
            self.give_up(id, &in_flight);
            return Ok(());
        }
        let is_late = data.fork != self.core.fork()
            || request.upgrade.is_some_and(|asked| asked.start != length);
        if is_late {
            self.give_up(id, &in_flight);
            return Ok(());
        }
        let sought = self.sought(&in_flight)?;
        let applied = match self.core.verify_and_apply(data) {
            Ok(applied) => applied,
            Err(CoreError::Proof(error))
                if self.asks_with_last_block(id, &in_flight, data, &error) =>
            {
                return Ok(());
            }
            Err(CoreError::Proof(error)) => return self.refuse(id, &in_flight, data, error),
            Err(error) => {
                self.give_up(id, &in_flight);
                return Err(PeerError::Core(error));
            }
        };
        // Without any other request, it would be requested again and again.
        let is_alone = request.upgrade.is_none() && request.block.is_none();
        if is_alone && data.manifest.is_some() && self.core.manifest().is_none() {
            return self.refuse(id, &in_flight, data, ProofError::WrongManifest);
        }
        // A partial answer.
        let asks_manifest_alone = request.manifest
            && request.block.is_none()
            && request.hash.is_none()
            && request.upgrade.is_none();
        let is_short = (request.block.is_some() && data.block.is_none())
            || (request.hash.is_some() && data.hash.is_none())
            || (request.upgrade.is_some() && data.upgrade.is_none())
            || (asks_manifest_alone && data.manifest.is_none())
            || (sought.is_some()
                && applied.upgraded.is_none()
                && sought == self.sought(&in_flight)?);
        if is_short {
            self.refused(id, &in_flight);
            self.give_up(id, &in_flight);
        } else {
            self.settle(id, &in_flight);
            let most = self.options.max_in_flight;
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.delivered(most, was_late);
            }
            if was_late {
                // It was requested again meanwhile, perhaps from the same peer.
                if let Some(block) = &data.block {
                    self.cancel_block(id, block.index);
                }
            }
        }
        if let Some(block) = &data.block {
            self.block_arrived(block.index, &block.value, Some(id));
        }
        if applied.manifest {
            self.events.push_back(ReplicatorEvent::Manifest);
            self.for_all = true;
        }
        if let Some(upgraded) = applied.upgraded {
            self.events.push_back(ReplicatorEvent::Upgraded(upgraded));
            self.for_all = true;
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
        let mut told = Ok(());
        if applied.upgraded.is_some() || applied.manifest {
            told = self.tell_all();
        }
        if let Some(block) = applied.block {
            self.tell_range_to_all(&(block..block + 1), false);
            told = told.and(self.find_upgradable());
        }
        told.and(self.look_for_finished())?;
        Ok(())
    }

    /// Gives a block to its waiters, and cancels the other requests for it.
    pub(super) fn block_arrived(&mut self, block: u64, value: &Buffer, from: Option<PeerId>) {
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
                self.for_all = true;
            }
        }
    }

    /// Whether to request a proof once more, with the last block of the upgrade.
    ///
    /// If every signer of a core has signed more than is proven, an honest upgrade does not bind the size of the last
    /// root (TREE-8), and the block below it does. Without this, no honest peer could ever deliver such a core.
    fn asks_with_last_block(
        &mut self,
        id: PeerId,
        in_flight: &InFlight,
        data: &Data,
        error: &ProofError,
    ) -> bool {
        let is_open = matches!(
            error,
            ProofError::Signature(SignatureError::UnboundSize { .. })
        );
        let Some(peer) = self.peers.get_mut(&id).filter(|_| is_open) else {
            return false;
        };
        if std::mem::replace(&mut peer.binds_last_root, true) {
            // The peer's core may have grown since. But do not ask for ever if it always says so.
            let upgrade = data.upgrade.as_ref();
            let has_grown = upgrade.is_some_and(|it| !it.additional_nodes.is_empty());
            if !has_grown {
                return false;
            }
            self.refused(id, in_flight);
        }
        self.give_up(id, in_flight);
        true
    }

    /// A peer's proof is invalid.
    pub(super) fn refuse(
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
        // The writer may have signed two histories: ask the peer to prove its own.
        peer.suspect = Some((error, self.now));
        peer.out.history(Request {
            fork,
            upgrade: Some(RequestUpgrade { start: 0, length }),
            ..Request::default()
        });
        self.touch(id);
        self.arm(id);
        Ok(())
    }

    pub(super) fn on_conflict_proof(&mut self, id: PeerId, data: &Data) -> Result<(), PeerError> {
        let suspect = self.peers.get_mut(&id).and_then(|peer| peer.suspect.take());
        let suspect = suspect.map(|(error, _)| error);
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
        // Show our history to all peers, and drop them.
        let (fork, length) = (self.core.fork(), self.core.length());
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.touch(id);
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            let length = length.min(peer.remote.length);
            if peer.remote.fork == fork && length > 0 {
                let request = Request {
                    fork,
                    upgrade: Some(RequestUpgrade { start: 0, length }),
                    ..Request::default()
                };
                // At a length other than ours, not all of the proof need be held.
                if let Ok(Some(proof)) = self.core.create_proof(&request) {
                    peer.out.history(proof);
                }
            }
            peer.ending = Some(Ending::Failed(PeerError::Conflict));
        }
        self.events.push_back(ReplicatorEvent::Conflict(conflict));
        self.end_all(&CoreError::Frozen);
        Ok(())
    }

    pub(super) fn on_reorg_data(
        &mut self,
        id: PeerId,
        in_flight: &InFlight,
        data: &Data,
    ) -> Result<(), PeerError> {
        let asked = Some((id, in_flight.request.id));
        let fork = in_flight.request.fork;
        let pending = self.reorgs.get_mut(&fork);
        let Some(pending) = pending.filter(|it| it.in_flight == asked) else {
            // The answer to a question about a fork that is already settled.
            return Ok(());
        };
        pending.in_flight = None;
        let is_answer = data.fork == fork && data.fork > self.core.fork();
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
            Ok(true) => {
                let most = self.options.max_in_flight;
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.delivered(most, false);
                }
            }
            Ok(false) => {
                self.refused(id, in_flight);
                self.give_up(id, in_flight);
                return Ok(());
            }
            Err(CoreError::Proof(error))
                if self.asks_with_last_block(id, in_flight, data, &error) =>
            {
                return Ok(());
            }
            Err(CoreError::Proof(error)) => {
                self.deny(id, in_flight);
                self.give_up(id, in_flight);
                self.events.push_back(ReplicatorEvent::Refused {
                    peer: id,
                    error: error.clone(),
                });
                return Err(PeerError::Proof(error));
            }
            Err(error) => return Err(PeerError::Core(error)),
        }
        self.for_all = true;
        let is_complete = |pending: &PendingReorg| {
            let tree = pending.tree.as_ref();
            tree.is_some_and(|tree| tree.want().is_none())
        };
        if !self.reorgs.get(&fork).is_some_and(is_complete) {
            return Ok(());
        }
        let Some(tree) = self.reorgs.remove(&fork).and_then(|pending| pending.tree) else {
            return Ok(());
        };
        match self.core.apply_reorg(*tree) {
            Ok(truncated) => {
                let told = self.on_truncated(truncated);
                self.length_changed();
                Ok(told?)
            }
            // It will be requested again.
            Err(CoreError::Stale) => Ok(()),
            Err(error) => Err(PeerError::Core(error)),
        }
    }
}

impl Machine {
    /// The position of the byte that a request looks for, as far as known.
    fn sought(&self, in_flight: &InFlight) -> Result<Option<Seek>, CoreError> {
        let Some(seek) = &in_flight.request.seek else {
            return Ok(None);
        };
        Ok(Some(self.core.seek(seek.bytes, seek.padding)?))
    }
}

/// Whether data has only requested parts.
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
