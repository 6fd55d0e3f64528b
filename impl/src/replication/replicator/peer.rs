//! What is known of one peer of a core, and what waits to be sent to it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops;

use crate::wire::{Bitfield as BitfieldMessage, Message, Range, Request, Sync, Unwant, Want};

use super::super::bitfield::{Bitfield, pages_of};
use super::super::error::ProofError;
use super::WaiterId;

/// Blocks of one `want`, as hypercore 11.37.1 asks in (`lib/wants.js`, `BATCH`).
pub(super) const WANT_BATCH: u64 = 2_097_152;

/// How many wants a peer remembers of us, and we of it (`lib/wants.js`, `MAX`).
const MAX_WANTS: usize = 512;

/// Pages of 4 KiB that a peer's claims may take, for 134 million blocks.
const MAX_PAGES: u64 = 4096;

/// What an answer is for, beyond what its request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Blocks,
    Seek(WaiterId),
    Reorg,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) request: Request,
    pub(super) purpose: Purpose,
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// What is to be sent, in this order; before any answer to a request.
    pub(super) out: VecDeque<Message>,
    /// Requests of the peer that wait for their answer.
    pub(super) asked: VecDeque<Request>,
    /// How many requests of the peer made no sense.
    pub(super) invalid_requests: usize,

    /// Requests of ours, by id.
    pub(super) in_flight: HashMap<u64, InFlight>,
    pub(super) last_id: u64,

    /// The peer's last sync.
    pub(super) remote: Sync,
    pub(super) is_synced: bool,
    pub(super) supports_seeks: bool,
    pub(super) has: RemoteBlocks,
    pub(super) wants: RemoteWants,
    /// The length of our core that the peer has seen.
    pub(super) length_acked: u64,

    /// Our last sync.
    pub(super) told: Option<Sync>,
    /// Whether we can prove the peer an upgrade from its length.
    pub(super) can_upgrade: bool,
    /// The longest length of the peer from which we could, and on which fork: its blocks can be asked for below it.
    pub(super) upgradable: (u64, u64),
    /// How long a core without gaps we have told of.
    pub(super) told_contiguous: u64,
    /// The `want`s sent, by batch.
    pub(super) wanted: Vec<u64>,

    /// Blocks that the peer said to have and then could not give.
    pub(super) denied: BTreeSet<u64>,
    /// The fork and the length that it could not prove: asked for again only after another sync.
    pub(super) denied_upgrade: Option<(u64, u64)>,
    /// Nothing in the queue of blocks can be asked of this peer, as far as is known.
    pub(super) queue_dry: bool,
    /// Nor in the ranges.
    pub(super) ranges_dry: bool,
    /// Where the search for the next block of a range goes on.
    pub(super) cursor: u64,

    /// A proof of the peer was wrong, and it was asked whether its history is another.
    pub(super) suspect: Option<ProofError>,
    /// The channel is to be closed once `out` is sent.
    pub(super) closing: bool,
    /// The core's writer has signed two histories.
    pub(super) conflict: bool,
}

impl Peer {
    /// There may be something to ask of the peer again.
    pub(super) fn look_again(&mut self) {
        self.queue_dry = false;
        self.ranges_dry = false;
    }

    /// Whether the peer could not prove the length that it says to have.
    pub(super) fn cannot_upgrade(&self) -> bool {
        self.denied_upgrade == Some((self.remote.fork, self.remote.length))
    }

    /// Whether the peer says to have a block, and did not take it back.
    pub(super) fn has_block(&self, block: u64) -> bool {
        self.has.get(block) && !self.denied.contains(&block)
    }

    /// Asks to be told of blocks around one, unless that was done.
    pub(super) fn want(&mut self, block: u64) {
        let batch = block / WANT_BATCH;
        if block < self.has.contiguous || self.wanted.contains(&batch) {
            return;
        }
        if self.wanted.len() == MAX_WANTS {
            let oldest = self.wanted.remove(0);
            self.out.push_back(Message::Unwant(Unwant {
                start: oldest * WANT_BATCH,
                length: WANT_BATCH,
                any: false,
            }));
        }
        self.wanted.push(batch);
        self.out.push_back(Message::Want(Want {
            start: batch * WANT_BATCH,
            length: WANT_BATCH,
            any: false,
        }));
    }

    /// Takes in what the peer says of its blocks.
    pub(super) fn on_range(&mut self, range: &Range, known_length: u64) {
        let end = range.start.saturating_add(range.length);
        self.has.set(range.start..end, !range.drop, known_length);
        if !range.drop {
            self.allow(range.start..end);
        }
    }

    pub(super) fn on_bitfield(&mut self, message: &BitfieldMessage, known_length: u64) {
        self.has.insert(message, known_length);
        let bits = message.bitfield.len() as u64 * 32;
        self.allow(message.start..message.start.saturating_add(bits));
    }

    fn allow(&mut self, blocks: ops::Range<u64>) {
        if !self.denied.is_empty() && !blocks.is_empty() {
            self.denied.retain(|block| !blocks.contains(block));
        }
        self.look_again();
    }
}

/// The blocks that a peer says to have. What it claims costs no memory beyond [`MAX_PAGES`].
#[derive(Debug, Default)]
pub(super) struct RemoteBlocks {
    /// All before this one.
    pub(super) contiguous: u64,
    bits: Bitfield,
}

impl RemoteBlocks {
    pub(super) fn get(&self, block: u64) -> bool {
        block < self.contiguous || self.bits.get(block)
    }

    /// The first at or after `from`.
    pub(super) fn next(&self, from: u64) -> Option<u64> {
        if from < self.contiguous {
            return Some(from);
        }
        self.bits.next_set(from)
    }

    #[cfg(test)]
    pub(super) fn page_count(&self) -> usize {
        self.bits.page_count()
    }

    /// Whether all of a run are there.
    pub(super) fn has_all(&self, blocks: ops::Range<u64>) -> bool {
        let from = blocks.start.max(self.contiguous);
        from >= blocks.end || self.bits.next_unset(from) >= blocks.end
    }

    /// Whether a page may be taken for a claim about this block: nothing is known of lengths far beyond the core's.
    fn may_hold(&self, blocks: &ops::Range<u64>, known_length: u64) -> bool {
        let limit = known_length.saturating_add(WANT_BATCH);
        let more = pages_of(blocks).end - pages_of(blocks).start;
        blocks.end <= limit && self.bits.page_count() as u64 + more <= MAX_PAGES
    }

    fn set(&mut self, blocks: ops::Range<u64>, held: bool, known_length: u64) {
        if blocks.is_empty() {
            return;
        }
        if !held {
            if blocks.start < self.contiguous {
                // What lies beyond the hole is kept as bits, as far as the core is known to reach.
                let rest = blocks.end..self.contiguous.min(known_length);
                self.contiguous = blocks.start;
                if !rest.is_empty() && self.may_hold(&rest, known_length) {
                    self.bits.set_range(rest, true);
                }
            }
            self.bits.set_range(blocks, false);
            return;
        }
        if blocks.start <= self.contiguous {
            self.contiguous = self.contiguous.max(blocks.end);
            return;
        }
        let end = blocks.end.min(known_length.saturating_add(WANT_BATCH));
        let blocks = blocks.start..end;
        if !blocks.is_empty() && self.may_hold(&blocks, known_length) {
            self.bits.set_range(blocks, true);
        }
    }

    fn insert(&mut self, message: &BitfieldMessage, known_length: u64) {
        // A bitfield is the truth for what it covers, so that the run before it ends there at the latest.
        self.contiguous = self.contiguous.min(message.start);
        let limit = known_length.saturating_add(WANT_BATCH);
        let words = limit.saturating_sub(message.start).div_ceil(32);
        let words = usize::try_from(words).unwrap_or(usize::MAX);
        let words = words.min(message.bitfield.len());
        let end = message.start.saturating_add(words as u64 * 32);
        if words == 0 || !self.may_hold(&(message.start..end.min(limit)), known_length) {
            return;
        }
        if words == message.bitfield.len() {
            self.bits.insert(message);
        } else {
            self.bits.insert(&BitfieldMessage {
                start: message.start,
                bitfield: message.bitfield[..words].to_vec(),
            });
        }
    }
}

/// What a peer asked to be told of.
#[derive(Debug, Default)]
pub(super) struct RemoteWants {
    ranges: Vec<ops::Range<u64>>,
    all: bool,
}

impl RemoteWants {
    pub(super) fn add(&mut self, want: &Want) {
        let range = want.start..want.start.saturating_add(want.length);
        if self.ranges.contains(&range) {
            return;
        }
        if self.ranges.len() == MAX_WANTS {
            // Whoever wants that much is told of all.
            self.all = true;
            return;
        }
        self.ranges.push(range);
    }

    pub(super) fn remove(&mut self, unwant: &Unwant) {
        let range = unwant.start..unwant.start.saturating_add(unwant.length);
        self.ranges.retain(|wanted| *wanted != range);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(super) fn any(&self, blocks: &ops::Range<u64>) -> bool {
        self.all
            || self
                .ranges
                .iter()
                .any(|wanted| wanted.start < blocks.end && blocks.start < wanted.end)
    }
}
