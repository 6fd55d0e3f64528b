//! Outgoing messages of a peer. A peer that does not read costs no more than these bounds: only our latest state is
//! kept, runs of blocks are merged, and the answer to a `want` is made when there is room for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use crate::wire::{self, Message, Sync, Unwant, Want};

use super::super::core::Core;

/// Blocks of one `want`, as hypercore 11.37.1 asks in (`lib/wants.js`, `BATCH`).
pub(super) const WANT_BATCH: u64 = 2_097_152;

/// Maximum number of separate runs of held blocks, and of dropped blocks. Beyond it one run around all of them is kept.
pub(super) const MAX_RUNS: usize = 256;

/// Bytes that a message without a value or bits counts.
const SMALL: usize = 64;

/// Outgoing messages other than answers to requests.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The state of our core, if it has changed.
    sync: Option<Sync>,
    held: Runs,
    gone: Runs,
    /// Blocks whose current state is announced when there is room.
    stale: Option<Range<u64>>,
    /// Batches of [`WANT_BATCH`] blocks about which we want, or no longer want, announcements.
    want: BTreeSet<u64>,
    unwant: BTreeSet<u64>,
    cancels: BTreeSet<u64>,
    /// Our requests that the core considers in flight.
    requests: BTreeSet<u64>,
    /// A proof of two histories, or a request for one.
    history: Option<Box<Message>>,
    answers: VecDeque<Answer>,
}

/// A `want` of the peer, without the part that was already answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// The rest of the want.
    want: Want,
    is_begun: bool,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.sync.is_none()
            && self.held.0.is_empty()
            && self.gone.0.is_empty()
            && self.stale.is_none()
            && self.want.is_empty()
            && self.unwant.is_empty()
            && self.cancels.is_empty()
            && self.requests.is_empty()
            && self.history.is_none()
            && self.answers.is_empty()
    }

    pub(super) fn sync(&mut self, sync: Sync) {
        self.sync = Some(sync);
    }

    /// Announces blocks that are now held, or no longer.
    pub(super) fn blocks(&mut self, blocks: Range<u64>, held: bool) {
        if blocks.is_empty() {
            return;
        }
        if let Some(stale) = &mut self.stale {
            *stale = stale.start.min(blocks.start)..stale.end.max(blocks.end);
            return;
        }
        // Drops are sent first, so a block that was dropped and is held again stays in both: a reader of 10.20 that
        // misses the drop does not request the blocks of the new history.
        if held {
            self.held.insert(blocks);
        } else {
            self.held.remove(&blocks);
            self.gone.insert(blocks);
        }
        if self.held.0.len() > MAX_RUNS || self.gone.0.len() > MAX_RUNS {
            let all = self.held.hull().into_iter().chain(self.gone.hull());
            self.stale =
                all.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end));
            self.held.0.clear();
            self.gone.0.clear();
        }
    }

    pub(super) fn want(&mut self, batch: u64) {
        // If asked twice, the peer answers twice, and its answer may have changed since.
        self.unwant.remove(&batch);
        self.want.insert(batch);
    }

    pub(super) fn unwant(&mut self, batch: u64) {
        if !self.want.remove(&batch) {
            self.unwant.insert(batch);
        }
    }

    pub(super) fn request(&mut self, id: u64) {
        self.requests.insert(id);
    }

    /// Cancels a request. One that was not sent yet needs no message.
    pub(super) fn cancel(&mut self, id: u64) {
        if !self.requests.remove(&id) {
            self.cancels.insert(id);
        }
    }

    /// The request was answered or is no longer needed.
    pub(super) fn forget(&mut self, id: u64) {
        self.requests.remove(&id);
    }

    pub(super) fn history(&mut self, message: impl Into<Message>) {
        self.history = Some(Box::new(message.into()));
    }

    /// Queues a `want` for an answer. Equal wants are answered once.
    pub(super) fn answer(&mut self, want: &Want) {
        let answer = Answer {
            want: *want,
            is_begun: false,
        };
        if self.answers.back() != Some(&answer) && !self.answers.contains(&answer) {
            self.answers.push_back(answer);
        }
    }

    /// Number of unanswered wants of the peer.
    pub(super) fn waiting(&self) -> usize {
        self.answers.len()
    }

    /// Takes all messages that go before requests; of stale blocks about `room` bytes, which it returns.
    pub(super) fn take(&mut self, core: &Core, room: usize, messages: &mut Vec<Message>) -> usize {
        let range = |drop| {
            move |(start, end)| {
                let length = end - start;
                Message::Range(wire::Range {
                    drop,
                    start,
                    length,
                })
            }
        };
        messages.extend(
            std::mem::take(&mut self.gone.0)
                .into_iter()
                .map(range(true)),
        );
        messages.extend(self.sync.take().map(Message::Sync));
        messages.extend(
            std::mem::take(&mut self.held.0)
                .into_iter()
                .map(range(false)),
        );
        messages.extend(self.history.take().map(|message| *message));
        let unwant = std::mem::take(&mut self.unwant);
        messages.extend(unwant.into_iter().map(|batch| {
            Message::Unwant(Unwant {
                start: batch * WANT_BATCH,
                length: WANT_BATCH,
                any: false,
            })
        }));
        let cancels = std::mem::take(&mut self.cancels).into_iter();
        messages.extend(cancels.map(|request| Message::Cancel(wire::Cancel { request })));
        let mut bytes = 0;
        while bytes < room {
            let Some(stale) = self.stale.take() else {
                break;
            };
            let (message, rest) = state_of(core, stale);
            self.stale = rest;
            messages.push(Message::Range(message));
            bytes += SMALL;
        }
        // A peer that assumes that a block is here does not announce its own.
        if self.stale.is_none() {
            let want = std::mem::take(&mut self.want);
            messages.extend(want.into_iter().map(|batch| {
                Message::Want(Want {
                    start: batch * WANT_BATCH,
                    length: WANT_BATCH,
                    any: false,
                })
            }));
        }
        bytes
    }

    /// Takes the ids of the unsent requests.
    pub(super) fn take_requests(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.requests)
    }

    /// Answers wants, up to about `room` bytes, which it returns.
    pub(super) fn take_answers(
        &mut self,
        core: &Core,
        room: usize,
        messages: &mut Vec<Message>,
    ) -> usize {
        let mut bytes = 0;
        while bytes < room {
            let Some(mut answer) = self.answers.pop_front() else {
                break;
            };
            let Some(message) = answer.next(core) else {
                continue;
            };
            bytes += SMALL;
            if let Message::Bitfield(bitfield) = &message {
                bytes += 4 * bitfield.bitfield.len();
                self.answers.push_front(answer);
            }
            messages.push(message);
        }
        bytes
    }
}

impl Answer {
    /// The next message. Only after a bitfield there may be more.
    fn next(&mut self, core: &Core) -> Option<Message> {
        let (length, contiguous) = (core.length(), core.contiguous_length());
        let want = &mut self.want;
        let end = want.start.saturating_add(want.length);
        let run = |start, length| {
            Some(Message::Range(wire::Range {
                drop: false,
                start,
                length,
            }))
        };
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        if is_first {
            if end < contiguous || length == contiguous || (want.any && want.start < contiguous) {
                return run(0, contiguous);
            }
            if want.any {
                let first = core.bitfield().next_set(want.start);
                return run(first.filter(|first| *first < end)?, 1);
            }
        } else if want.any {
            return None;
        }
        let held = core.bitfield();
        // Only the first answer begins at the want's start, and may end there, too: as in Node, a want of no blocks
        // gets the word that it begins in.
        let start = if is_first {
            want.start
        } else {
            // A want may end within a word: the rest of the word was not wanted, and the word was already sent.
            let first = held.next_set(want.start).filter(|first| *first < end)?;
            first - first % 32
        };
        let (bitfield, next) = held.want_from(start, end.saturating_sub(start)).next()?;
        want.start = next;
        want.length = end.saturating_sub(next);
        Some(Message::Bitfield(bitfield))
    }
}

/// The current state of a run at the start of `blocks`, and the rest of them.
fn state_of(core: &Core, blocks: Range<u64>) -> (wire::Range, Option<Range<u64>>) {
    let Range { start, end } = blocks;
    let (held, contiguous) = (core.bitfield(), core.contiguous_length());
    // Do not visit a long core without gaps block by block.
    let (is_held, to) = if start < contiguous {
        (true, contiguous)
    } else {
        match held.next_set(start) {
            Some(first) if first == start => (true, held.next_unset(start)),
            Some(first) => (false, first),
            None => (false, end),
        }
    };
    let to = to.min(end);
    let message = wire::Range {
        drop: !is_held,
        start,
        length: to - start,
    };
    (message, (to < end).then_some(to..end))
}

/// Runs that neither touch nor overlap, by start.
#[derive(Debug, Default)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    fn insert(&mut self, blocks: Range<u64>) {
        let Range { mut start, mut end } = blocks;
        while let Some((&at, &to)) = self.0.range(..=end).next_back() {
            if to < start {
                break;
            }
            self.0.remove(&at);
            (start, end) = (start.min(at), end.max(to));
        }
        self.0.insert(start, end);
    }

    fn remove(&mut self, blocks: &Range<u64>) {
        while let Some((&at, &to)) = self.0.range(..blocks.end).next_back() {
            if to <= blocks.start {
                break;
            }
            self.0.remove(&at);
            if to > blocks.end {
                self.0.insert(blocks.end, to);
            }
            if at < blocks.start {
                self.0.insert(at, blocks.start);
                break;
            }
        }
    }

    fn hull(&self) -> Option<Range<u64>> {
        let (first, _) = self.0.first_key_value()?;
        let (_, last) = self.0.last_key_value()?;
        Some(*first..*last)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::bitfield::Bitfield;
    use super::super::super::core::CoreOptions;
    use super::super::super::storage::Memory;
    use super::*;

    fn core(blocks: usize) -> Core {
        let mut core = Core::open(Memory::new(), CoreOptions::default()).unwrap();
        core.append(&vec!["x"; blocks]).unwrap();
        core
    }

    fn taken(outbox: &mut Outbox, core: &Core, room: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        outbox.take(core, room, &mut messages);
        messages
    }

    fn run(drop: bool, start: u64, length: u64) -> Message {
        Message::Range(wire::Range {
            drop,
            start,
            length,
        })
    }

    #[test]
    fn what_was_not_sent_is_overtaken_by_what_is_true_now() {
        let core = core(4);
        let mut outbox = Outbox::default();
        for length in 1..=3 {
            let sync = Sync {
                length,
                ..Sync::default()
            };
            outbox.sync(sync);
            outbox.blocks(length - 1..length, true);
        }
        outbox.blocks(1..2, false);
        let last = Sync {
            length: 3,
            ..Sync::default()
        };
        let messages = taken(&mut outbox, &core, 0);
        let expected = [
            run(true, 1, 1),
            Message::Sync(last),
            run(false, 0, 1),
            run(false, 2, 1),
        ];
        assert_eq!(messages, expected);
        assert!(outbox.is_empty());
        // An unsent request needs no cancel, and an unsent want no unwant.
        outbox.request(1);
        outbox.cancel(1);
        outbox.want(3);
        outbox.unwant(3);
        assert!(outbox.is_empty());
        outbox.cancel(1);
        assert_eq!(taken(&mut outbox, &core, 0).len(), 1);
    }

    #[test]
    fn a_drop_is_told_though_the_blocks_are_held_again() {
        let core = core(6);
        let mut outbox = Outbox::default();
        outbox.blocks(3..6, false);
        outbox.blocks(0..5, true);
        let told = taken(&mut outbox, &core, 1 << 16);
        assert_eq!(told, [run(true, 3, 3), run(false, 0, 5)]);
        // A block that is dropped in the end is not announced as held.
        outbox.blocks(0..5, true);
        outbox.blocks(3..6, false);
        let told = taken(&mut outbox, &core, 1 << 16);
        assert_eq!(told, [run(true, 3, 3), run(false, 0, 3)]);
    }

    #[test]
    fn more_runs_than_are_kept_are_told_as_they_are() {
        let mut core = core(2_000);
        for block in (1..2_000).step_by(3) {
            core.clear(block..block + 1).unwrap();
        }
        let bound = MAX_RUNS as u64;
        for count in [bound - 1, bound, bound + 1, 600] {
            let mut outbox = Outbox::default();
            for at in 0..count {
                outbox.blocks(3 * at..3 * at + 1, true);
            }
            let kept = outbox.held.0.len() + usize::from(outbox.stale.is_some());
            assert!(kept <= MAX_RUNS, "{kept}");
            let mut told = Bitfield::new();
            let mut all = 0;
            while !outbox.is_empty() {
                for message in taken(&mut outbox, &core, 1_000) {
                    let Message::Range(range) = message else {
                        panic!("{message:?}");
                    };
                    told.set_range(range.start..range.start + range.length, !range.drop);
                    all += 1;
                }
            }
            assert!(all <= 3 * count, "{all}");
            for at in 0..count {
                assert!(told.get(3 * at));
            }
            for block in 0..3 * count {
                assert!(!told.get(block) || core.has(block), "{block}");
            }
        }
    }

    #[test]
    fn a_want_is_answered_in_pieces_as_there_is_room() {
        let mut core = core(10);
        core.clear(4..5).unwrap();
        let mut outbox = Outbox::default();
        let want = |start, length| Want {
            start,
            length,
            any: false,
        };
        for _ in 0..3 {
            outbox.answer(&want(0, 10));
            outbox.answer(&want(0, 32));
        }
        assert_eq!(outbox.waiting(), 2);
        let mut messages = Vec::new();
        assert!(outbox.take_answers(&core, 1, &mut messages) > 0);
        assert_eq!(messages.len(), 1);
        while outbox.waiting() > 0 {
            outbox.take_answers(&core, 1, &mut messages);
        }
        let bits: Vec<Message> = [(0, 10), (0, 32)]
            .iter()
            .flat_map(|(start, length)| core.bitfield().want(*start, *length))
            .map(Message::Bitfield)
            .collect();
        assert_eq!(messages, bits);
    }

    #[test]
    fn a_want_is_answered_once_wherever_it_begins_and_ends() {
        for blocks in [20, 70] {
            let mut core = core(blocks);
            core.clear(1..2).unwrap();
            core.clear(blocks as u64 - 5..blocks as u64 - 2).unwrap();
            for (start, length) in
                (0..80).flat_map(|start| (0..80).map(move |length| (start, length)))
            {
                if start + length < core.contiguous_length() {
                    continue;
                }
                let mut outbox = Outbox::default();
                outbox.answer(&Want {
                    start,
                    length,
                    any: false,
                });
                let mut messages = Vec::new();
                outbox.take_answers(&core, 1000, &mut messages);
                let bits = core.bitfield().want(start, length).into_iter();
                let bits: Vec<_> = bits.map(Message::Bitfield).collect();
                assert_eq!(messages, bits, "{length} from {start} of {blocks}");
                assert_eq!(outbox.waiting(), 0);
            }
        }
    }

    #[test]
    fn runs_are_a_set_of_blocks() {
        let mut runs = Runs::default();
        for blocks in [5..7, 1..2, 2..3, 9..12, 6..9, 20..30] {
            runs.insert(blocks);
        }
        let list = |runs: &Runs| runs.0.clone().into_iter().collect::<Vec<_>>();
        assert_eq!(list(&runs), [(1, 3), (5, 12), (20, 30)]);
        runs.remove(&(2..6));
        runs.remove(&(22..25));
        assert_eq!(list(&runs), [(1, 2), (6, 12), (20, 22), (25, 30)]);
        assert_eq!(runs.hull(), Some(1..30));
        runs.remove(&(0..100));
        assert_eq!(runs.hull(), None);
    }
}
