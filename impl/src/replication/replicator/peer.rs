//! The state of one peer of a core, and the messages waiting to be sent to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops;
use std::time::Duration;

use crate::wire::{Bitfield as BitfieldMessage, Range, Request, Sync, Unwant, Want};

use super::super::bitfield::{Bitfield, pages_of};
use super::super::error::ProofError;
use super::outbox::{Outbox, WANT_BATCH};
use super::{PeerError, WaiterId};

/// Maximum number of wants that a peer remembers of us, and we of it (`lib/wants.js`, `MAX`).
pub(super) const MAX_WANTS: usize = 512;

/// Maximum number of remembered blocks that a peer denied. Beyond it, the first are requested again.
const MAX_DENIED: usize = 4096;

/// Maximum number of timed-out requests whose answer is still accepted.
const MAX_LATE: usize = 64;

/// A request whose predecessors keep being answered times out after this many time-outs.
const LONGEST: u32 = 4;

/// Number of answers that cancel a pause.
const FORGIVEN: usize = 32;

/// The purpose of a request, beyond its contents.
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
    /// When it was made, or given to the channel.
    pub(super) sent: Duration,
}

/// Why a request timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The peer answers nothing.
    Silent,
    /// The peer answers later requests instead.
    Withheld,
    /// The peer is so slow that another should be asked.
    Slow,
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Messages to send before any answer to a request.
    pub(super) out: Outbox,
    pub(super) asked: Asked,
    /// Number of invalid requests from the peer.
    pub(super) invalid_requests: usize,
    /// Whether it is in the list of peers that may have work.
    pub(super) is_touched: bool,

    /// Our requests, by id.
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    /// Timed-out requests that may still be answered.
    late: BTreeMap<u64, InFlight>,
    pub(super) last_id: u64,
    /// Current maximum of requests in flight, at most that of the options.
    pub(super) window: usize,
    /// When the oldest unanswered request became the oldest.
    first_since: Duration,
    /// Time of the last answer, and the highest id answered.
    answered: Option<(Duration, u64)>,
    /// How long an update waits for the peer's first announcement.
    pub(super) promised: Duration,
    /// Number of refusals, less the number of answers.
    pub(super) refused: usize,
    /// Whether its history has changed since a request of the previous one was last counted as a refusal.
    pub(super) has_rewritten: bool,
    /// Answers since a pause was last cancelled.
    answers: usize,
    /// Number of pauses.
    pub(super) pauses: u32,
    /// End of the current pause.
    pub(super) paused: Option<Duration>,
    /// When to check it next.
    pub(super) alarm: Option<Duration>,

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
    /// Whether we can prove an upgrade from the peer's length.
    pub(super) can_upgrade: bool,
    /// The greatest length of the peer from which we could, and its fork: blocks below it can be requested from it.
    pub(super) upgradable: (u64, u64),
    /// The length of a core without gaps that we have announced.
    pub(super) told_contiguous: u64,
    wanted: Wanted,

    /// Blocks that the peer claimed to have and refused.
    pub(super) denied: BTreeSet<u64>,
    /// The fork and length that it could not prove: requested again only after another sync.
    pub(super) denied_upgrade: Option<(u64, u64)>,
    /// Whether upgrades are requested together with their last block, because an upgrade alone did not bind the size of
    /// the last root.
    pub(super) binds_last_root: bool,
    /// The part of the queue to search for this peer.
    pub(super) queue: Search,
    /// The part of the ranges to search.
    pub(super) ranges: Search,
    /// The part of the queue to search for blocks that the peer is not known to have.
    pub(super) unknown: Search,

    /// A proof of the peer was invalid, and since when it is being asked to prove its history.
    pub(super) suspect: Option<(ProofError, Duration)>,
    /// Why the channel is to be closed.
    pub(super) ending: Option<Ending>,
}

/// Why and how to close the channel of a peer.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    /// Neither side has requests.
    Idle,
    /// Waiting messages are sent, as far as there is room.
    Failed(PeerError),
}

impl Peer {
    /// Searches everything for this peer again.
    pub(super) fn look_again(&mut self) {
        self.queue.restart();
        self.ranges.restart();
        self.unknown.restart();
    }

    /// Whether the peer could not prove the length that it claims.
    pub(super) fn cannot_upgrade(&self) -> bool {
        self.denied_upgrade == Some((self.remote.fork, self.remote.length))
    }

    /// Whether the peer claims to have a block, and did not refuse it.
    pub(super) fn has_block(&self, block: u64) -> bool {
        self.has.get(block) && !self.denied.contains(&block)
    }

    /// Whether it may get requests now.
    pub(super) fn is_ready(&self) -> bool {
        self.is_active() && self.in_flight.len() < self.window
    }

    /// Whether it may get requests, now or once it has answered enough.
    pub(super) fn is_active(&self) -> bool {
        self.is_synced
            && self.remote.uploading
            && self.ending.is_none()
            && self.suspect.is_none()
            && self.paused.is_none()
    }

    /// Asks for announcements of blocks around one, unless already done.
    pub(super) fn want(&mut self, block: u64) {
        let batch = block / WANT_BATCH;
        if block < self.has.contiguous {
            return;
        }
        let (is_new, oldest) = self.wanted.add(batch);
        if let Some(oldest) = oldest {
            self.out.unwant(oldest);
        }
        if is_new {
            self.out.want(batch);
        }
    }

    /// The peer assumed these blocks to be here, and did not announce its own: ask it once more if they are needed.
    pub(super) fn want_again(&mut self, blocks: ops::Range<u64>) {
        let batches = blocks.start / WANT_BATCH..blocks.end.div_ceil(WANT_BATCH);
        self.wanted.forget(batches);
    }

    /// Applies the peer's announcement of blocks.
    pub(super) fn on_range(&mut self, range: &Range, known_length: u64) {
        let blocks = range.start..range.start.saturating_add(range.length);
        self.has.set(blocks.clone(), !range.drop, known_length);
        if range.drop {
            self.unknown.mark(blocks);
        } else {
            self.allow(blocks);
        }
    }

    pub(super) fn on_bitfield(&mut self, message: &BitfieldMessage, known_length: u64) {
        self.has.insert(message, known_length);
        let bits = message.bitfield.len() as u64 * 32;
        // A run before it may now end there.
        self.unknown.mark(message.start..u64::MAX);
        self.allow(message.start..message.start.saturating_add(bits));
    }

    fn allow(&mut self, blocks: ops::Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        while let Some(block) = self.denied.range(blocks.clone()).next().copied() {
            self.denied.remove(&block);
        }
        self.queue.mark(blocks.clone());
        self.ranges.mark(blocks);
    }

    pub(super) fn deny(&mut self, block: u64) {
        if self.denied.len() >= MAX_DENIED {
            self.denied.pop_first();
        }
        self.denied.insert(block);
    }

    // Our requests

    pub(super) fn ask(&mut self, in_flight: InFlight, now: Duration) {
        let id = in_flight.request.id;
        if self.in_flight.is_empty() {
            self.first_since = now;
        }
        self.in_flight.insert(id, in_flight);
        self.out.request(id);
    }

    /// Removes one of our requests.
    pub(super) fn remove(&mut self, id: u64, now: Duration) -> Option<InFlight> {
        let is_first = self.in_flight.first_key_value().map(|(first, _)| *first) == Some(id);
        let in_flight = self.in_flight.remove(&id)?;
        if is_first {
            self.first_since = now;
        }
        self.out.forget(id);
        Some(in_flight)
    }

    /// The request that is answered, and whether it had timed out.
    pub(super) fn answered(&mut self, id: u64, now: Duration) -> Option<(InFlight, bool)> {
        let in_time = self.remove(id, now).map(|it| (it, false));
        let found = in_time.or_else(|| Some((self.late.remove(&id)?, true)))?;
        let highest = self.answered.map_or(id, |(_, highest)| highest.max(id));
        self.answered = Some((now, highest));
        Some(found)
    }

    /// Cancels a request.
    pub(super) fn cancel(&mut self, id: u64, now: Duration) -> Option<InFlight> {
        let is_first = self.in_flight.first_key_value().map(|(first, _)| *first) == Some(id);
        let in_flight = self.in_flight.remove(&id)?;
        if is_first {
            self.first_since = now;
        }
        self.out.cancel(id);
        Some(in_flight)
    }

    /// Keeps a timed-out request, so that its answer is still accepted.
    pub(super) fn keep_late(&mut self, in_flight: InFlight) {
        if self.late.len() >= MAX_LATE {
            self.late.pop_first();
        }
        self.late.insert(in_flight.request.id, in_flight);
    }

    /// The requests that have timed out.
    pub(super) fn overdue(&self, now: Duration, timeout: Duration) -> Vec<(u64, Overdue)> {
        let Some((first, _)) = self.in_flight.first_key_value() else {
            return Vec::new();
        };
        let is_due = self.first_deadline(timeout).is_some_and(|at| at <= now);
        let is_silent = !self.is_answering(now, timeout);
        let highest = self.answered.map_or(0, |(_, highest)| highest);
        let overdue = self.in_flight.iter().filter_map(|(id, it)| {
            let waits = now.saturating_sub(it.sent);
            let why = if is_due && waits >= timeout && is_silent {
                Overdue::Silent
            } else if is_due && waits >= timeout && (*id < highest || id == first) {
                Overdue::Withheld
            } else if waits >= timeout.saturating_mul(LONGEST) {
                Overdue::Slow
            } else {
                return None;
            };
            Some((*id, why))
        });
        overdue.collect()
    }

    /// Whether the peer has answered anything recently.
    pub(super) fn is_answering(&self, now: Duration, timeout: Duration) -> bool {
        self.answered
            .is_some_and(|(at, _)| at.saturating_add(timeout) > now)
    }

    fn first_deadline(&self, timeout: Duration) -> Option<Duration> {
        let (_, first) = self.in_flight.first_key_value()?;
        Some(self.first_since.max(first.sent).saturating_add(timeout))
    }

    /// When to check the peer next, if nothing happens until then.
    pub(super) fn deadline(&self, now: Duration, timeout: Duration) -> Option<Duration> {
        if self.ending.is_some() {
            return None;
        }
        let first = self.in_flight.first_key_value();
        let longest = first.map(|(_, it)| it.sent.saturating_add(timeout.saturating_mul(LONGEST)));
        let proof = self.suspect.as_ref();
        [
            self.first_deadline(timeout),
            longest,
            self.paused,
            Some(self.promised).filter(|promised| *promised > now),
            proof.map(|(_, since)| since.saturating_add(timeout)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The peer has delivered: it may get more requests again.
    pub(super) fn delivered(&mut self, most: usize, was_late: bool) {
        self.window = (self.window + 1).min(most);
        self.refused = self.refused.saturating_sub(1);
        self.answers += 1;
        if was_late {
            // It is slow, not silent.
            self.paused = None;
            self.pauses = self.pauses.saturating_sub(1);
        } else if self.answers >= FORGIVEN {
            self.answers = 0;
            self.pauses = self.pauses.saturating_sub(1);
        }
    }
}

/// Unanswered requests of a peer, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Asked {
    requests: BTreeMap<u64, Request>,
    places: HashMap<u64, u64>,
    last: u64,
}

impl Asked {
    /// A reused id replaces the earlier request.
    pub(super) fn push(&mut self, request: Request) {
        self.last += 1;
        if let Some(earlier) = self.places.insert(request.id, self.last) {
            self.requests.remove(&earlier);
        }
        self.requests.insert(self.last, request);
    }

    pub(super) fn cancel(&mut self, id: u64) {
        if let Some(place) = self.places.remove(&id) {
            self.requests.remove(&place);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Request> {
        let (_, request) = self.requests.pop_first()?;
        self.places.remove(&request.id);
        Some(request)
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

/// The batches that we have wanted, in order.
#[derive(Debug, Default)]
struct Wanted {
    places: BTreeMap<u64, u64>,
    batches: BTreeMap<u64, u64>,
    last: u64,
}

impl Wanted {
    /// Whether the batch is new, and which one it replaces.
    fn add(&mut self, batch: u64) -> (bool, Option<u64>) {
        if self.places.contains_key(&batch) {
            return (false, None);
        }
        let mut oldest = None;
        if self.places.len() >= MAX_WANTS {
            oldest = self.batches.pop_first().map(|(_, batch)| batch);
        }
        if let Some(oldest) = &oldest {
            self.places.remove(oldest);
        }
        self.last += 1;
        self.places.insert(batch, self.last);
        self.batches.insert(self.last, batch);
        (true, oldest)
    }

    fn forget(&mut self, batches: ops::Range<u64>) {
        let forgotten = self
            .places
            .range(batches)
            .map(|(batch, place)| (*batch, *place));
        for (batch, place) in forgotten.collect::<Vec<_>>() {
            self.places.remove(&batch);
            self.batches.remove(&place);
        }
    }
}

/// Where to search for the next block to request from a peer: after any announcement, only the part that it may have
/// changed is searched again.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// There is nothing to request below it,
    from: u64,
    /// except in this run, which has changed since.
    again: ops::Range<u64>,
}

impl Search {
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// These blocks may have something to request.
    pub(super) fn mark(&mut self, blocks: ops::Range<u64>) {
        let blocks = blocks.start..blocks.end.min(self.from);
        if blocks.is_empty() {
            return;
        }
        self.again = if self.again.is_empty() {
            blocks
        } else {
            self.again.start.min(blocks.start)..self.again.end.max(blocks.end)
        };
    }

    /// The runs to search, below `end`.
    pub(super) fn runs(&self, end: u64) -> [ops::Range<u64>; 2] {
        let again = self.again.start..self.again.end.min(end);
        [again, self.from..end]
    }

    /// There is nothing to request in the first run before `block`.
    pub(super) fn found_again(&mut self, block: u64) {
        self.again.start = block;
    }

    /// Nor in either run.
    pub(super) fn found(&mut self, block: u64, end: u64) {
        // The part beyond the end is still to be searched.
        self.again = self.again.start.max(end)..self.again.end;
        self.from = self.from.max(block);
    }
}

/// The blocks that a peer claims to have. Claims take no more memory than `max_pages`.
#[derive(Debug, Default)]
pub(super) struct RemoteBlocks {
    /// Maximum number of pages of 4 KiB for its claims.
    pub(super) max_pages: u64,
    /// It has all blocks before this one.
    pub(super) contiguous: u64,
    bits: Bitfield,
}

impl RemoteBlocks {
    pub(super) fn get(&self, block: u64) -> bool {
        block < self.contiguous || self.bits.get(block)
    }

    /// The first block at or after `from`.
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

    /// Whether it has all blocks of a run.
    pub(super) fn has_all(&self, blocks: ops::Range<u64>) -> bool {
        let from = blocks.start.max(self.contiguous);
        from >= blocks.end || self.bits.next_unset(from) >= blocks.end
    }

    /// Whether a page may be allocated for a claim about this block: lengths far beyond the core's are not plausible.
    fn may_hold(&self, blocks: &ops::Range<u64>, known_length: u64) -> bool {
        let limit = known_length.saturating_add(WANT_BATCH);
        let more = pages_of(blocks).end - pages_of(blocks).start;
        blocks.end <= limit && self.bits.page_count() as u64 + more <= self.max_pages
    }

    fn set(&mut self, blocks: ops::Range<u64>, held: bool, known_length: u64) {
        if blocks.is_empty() {
            return;
        }
        if !held {
            if blocks.start < self.contiguous {
                // Blocks beyond the hole are kept as bits, up to the known length of the core.
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
        // A bitfield is authoritative for its range, so the run before it ends there at the latest.
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

/// The announcements that a peer wants.
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
            // A peer that wants that much gets all announcements.
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
