//! Waiting callers.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use crate::encoding::MAX_SAFE_INTEGER;

use super::super::super::error::CoreError;
use super::super::super::proof::Seek;
use super::super::peer::{InFlight, Peer};
use super::super::{PeerId, WaiterId};
use super::{Kind, Machine, Outcome, WantedBlock, WantedRange, WantedSeek};

impl Machine {
    pub(in super::super) fn wait(&mut self, kind: Kind) -> WaiterId {
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

    pub(super) fn start(
        &mut self,
        id: WaiterId,
        kind: &Kind,
    ) -> Result<Option<Outcome>, CoreError> {
        check(kind)?;
        match *kind {
            Kind::Block(block) => {
                if let Some(value) = self.core.get(block)? {
                    return Ok(Some(Outcome::Block(value)));
                }
                self.core_is_alive()?;
                let wanted = self.blocks.entry(block).or_default();
                wanted.waiters.push(id);
                if wanted.asked.is_empty() {
                    self.queue.insert(block);
                }
                for peer in self.peers.values_mut() {
                    peer.queue.mark(block..block + 1);
                    peer.unknown.mark(block..block + 1);
                }
            }
            Kind::Blocks(start, end) => {
                let from = self.core.bitfield().next_unset(start);
                if end.is_some_and(|end| from >= end) {
                    return Ok(Some(Outcome::Done));
                }
                self.core_is_alive()?;
                self.ranges.push(WantedRange {
                    waiter: id,
                    user_start: start,
                    start: from,
                    end,
                });
                for peer in self.peers.values_mut() {
                    peer.ranges.mark(from..end.unwrap_or(u64::MAX));
                }
            }
            Kind::Update { .. } => {
                self.core_is_alive()?;
                self.followers.insert(id);
            }
            Kind::Length(length) => {
                if self.core.length() >= length {
                    return Ok(Some(Outcome::Done));
                }
                self.core_is_alive()?;
                self.followers.insert(id);
            }
            Kind::Seek { bytes, padding } => {
                if let Seek::Found { block, offset } = self.core.seek(bytes, padding)? {
                    return Ok(Some(Outcome::Found(block, offset)));
                }
                self.core_is_alive()?;
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

    fn core_is_alive(&self) -> Result<(), CoreError> {
        if self.core.is_frozen() {
            return Err(CoreError::Frozen);
        }
        Ok(())
    }

    /// The waiter is gone.
    pub(in super::super) fn cancel(&mut self, id: WaiterId) {
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
            Kind::Blocks(start, end) => {
                self.ranges.retain(|range| range.waiter != id);
                self.cancel_unwanted(start..end.unwrap_or(u64::MAX));
            }
            Kind::Seek { .. } => self.seeks.retain(|seek| seek.waiter != id),
            Kind::Update { .. } | Kind::Length(_) => {
                self.followers.remove(&id);
            }
        }
        self.schedule_or_fail();
    }

    /// Cancels the requests for blocks that neither a waiter nor a range needs.
    pub(super) fn cancel_unwanted(&mut self, among: Range<u64>) {
        if among.is_empty() {
            return;
        }
        let (blocks, ranges) = (&self.blocks, &self.ranges);
        let unwanted = |(block, wanted): (&u64, &WantedBlock)| {
            let in_range = ranges
                .iter()
                .any(|range| range.start <= *block && range.end.is_none_or(|end| *block < end));
            (wanted.waiters.is_empty() && !in_range).then_some(*block)
        };
        let unwanted: Vec<u64> = blocks.range(among).filter_map(unwanted).collect();
        for block in unwanted {
            let wanted = self.blocks.remove(&block);
            self.queue.remove(&block);
            for peer in wanted.map(|wanted| wanted.asked).unwrap_or_default() {
                self.cancel_block(peer, block);
            }
        }
    }

    /// Cancels the request for a block to a peer, unless it is also for an upgrade.
    pub(super) fn cancel_block(&mut self, id: PeerId, block: u64) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_it = |in_flight: &InFlight| {
            let request = &in_flight.request;
            request.block.is_some_and(|asked| asked.index == block) && request.upgrade.is_none()
        };
        let request = peer.in_flight.iter().find(|(_, it)| is_it(it));
        if let Some(request) = request.map(|(request, _)| *request) {
            peer.cancel(request, self.now);
            self.touch(id);
        }
    }

    pub(super) fn finish(&mut self, id: WaiterId, outcome: Result<Outcome, CoreError>) {
        if self.waiters.remove(&id).is_some() {
            self.followers.remove(&id);
            self.finished.push((id, outcome));
        }
    }

    /// Ends the waits that the core's present state fulfils.
    pub(super) fn look_for_finished(&mut self) -> Result<(), CoreError> {
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

    /// Ends the waits for a length or another fork.
    pub(super) fn length_changed(&mut self) {
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

    /// Ends the updates for which no peer has anything new.
    pub(super) fn check_updates(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        self.length_changed();
        let is_update = |id: &WaiterId| matches!(self.waiters.get(id), Some(Kind::Update { .. }));
        let updates: Vec<WaiterId> = self.followers.iter().copied().filter(is_update).collect();
        let (fork, length) = (self.core.fork(), self.core.length());
        let may_bring = |peer: &Peer| {
            let remote = &peer.remote;
            if peer.ending.is_some() || peer.suspect.is_some() || peer.paused.is_some() {
                return false;
            }
            // A mere claim could keep an update waiting for ever.
            let is_in_time = self.now < peer.promised;
            if !peer.is_synced {
                return is_in_time;
            }
            if !remote.uploading || peer.cannot_upgrade() {
                return false;
            }
            let longer = remote.fork == fork && remote.length > length;
            let later = remote.fork > fork && remote.length > 0 && self.options.reorgs;
            let may_be_asked = self.can_be_upgraded_by(peer);
            let is_promised =
                later || (longer && (remote.can_upgrade || peer.length_acked != length));
            is_promised && (is_in_time || may_be_asked)
        };
        let is_expected = |until: &Duration| self.now < *until;
        let is_waiting = self.expected.values().any(is_expected)
            || self.upgrade_in_flight.is_some()
            || self.reorgs.values().any(|it| it.in_flight.is_some())
            || (self.options.download && self.peers.values().any(may_bring));
        if !is_waiting {
            for id in updates {
                self.finish(id, Ok(Outcome::Updated(false)));
            }
        }
    }
}

/// The maximum length of a core: the highest node of its tree has to fit a message.
const MAX_LENGTH: u64 = MAX_SAFE_INTEGER.div_ceil(2);

/// Whether it can be requested at all: a message that cannot be encoded would close the peer's channel.
fn check(kind: &Kind) -> Result<(), CoreError> {
    let limited = |what, value: u64, limit| {
        if value > limit {
            return Err(CoreError::TooLarge { what, value, limit });
        }
        Ok(())
    };
    match *kind {
        Kind::Block(block) => limited("block", block, MAX_LENGTH - 1),
        Kind::Blocks(start, end) => {
            limited("start", start, MAX_LENGTH)?;
            limited("end", end.unwrap_or(0), MAX_LENGTH)
        }
        Kind::Update { .. } => Ok(()),
        Kind::Length(length) => limited("length", length, MAX_LENGTH),
        Kind::Seek { bytes, padding } => {
            limited("byte", bytes, MAX_SAFE_INTEGER)?;
            limited("padding", padding, MAX_SAFE_INTEGER)
        }
    }
}
