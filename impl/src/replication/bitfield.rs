//! Which blocks are held, one bit a block.
//!
//! Read from hypercore 11.37.1, `lib/bitfield.js`: pages of 32,768 bits, bit `i` of a word of 32 being its `i`-th lowest.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::encoding::MAX_SAFE_INTEGER;
use crate::wire;

/// Bits in a page.
pub const PAGE_BITS: u64 = 32_768;

/// Words of 32 bits in a page.
const PAGE_WORDS: usize = (PAGE_BITS / 32) as usize;

/// Bytes of a page, as it is stored.
pub(crate) const PAGE_BYTES: usize = PAGE_WORDS * 4;

/// Bits in one `bitfield` message of Node's, 256 KiB of them.
const SEGMENT_BITS: u64 = 2_097_152;

type Page = Box<[u32; PAGE_WORDS]>;

/// The blocks that a core (or a peer) holds. Pages without a bit take no memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bitfield {
    pages: BTreeMap<u64, Page>,
}

impl Bitfield {
    /// An empty bitfield.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `block` is held.
    pub fn get(&self, block: u64) -> bool {
        self.word(block / 32) >> (block % 32) & 1 == 1
    }

    /// The word of 32 bits with blocks `32 * word..32 * word + 32`.
    pub fn word(&self, word: u64) -> u32 {
        let (page, at) = (word / PAGE_WORDS as u64, word as usize % PAGE_WORDS);
        self.pages.get(&page).map_or(0, |page| page[at])
    }

    /// Marks one block, and returns whether that changed anything.
    pub fn set(&mut self, block: u64, held: bool) -> bool {
        let changes = self.get(block) != held;
        if changes {
            self.set_range(block..block + 1, held);
        }
        changes
    }

    /// Marks a run of blocks.
    ///
    /// Setting a run allocates memory for each page that it touches, so never pass a length that a peer merely claims.
    pub fn set_range(&mut self, blocks: Range<u64>, held: bool) {
        if blocks.is_empty() {
            return;
        }
        let pages = blocks.start / PAGE_BITS..=(blocks.end - 1) / PAGE_BITS;
        if held {
            for page in pages {
                let words = self
                    .pages
                    .entry(page)
                    .or_insert_with(|| Box::new([0; PAGE_WORDS]));
                fill(words, within(&blocks, page), true);
            }
        } else {
            let mut empty = Vec::new();
            for (page, words) in self.pages.range_mut(pages) {
                fill(words, within(&blocks, *page), false);
                if words.iter().all(|word| *word == 0) {
                    empty.push(*page);
                }
            }
            for page in empty {
                self.pages.remove(&page);
            }
        }
    }

    /// The first held block at or after `from`.
    pub fn next_set(&self, from: u64) -> Option<u64> {
        let page = from / PAGE_BITS;
        self.pages.range(page..).find_map(|(page, words)| {
            let start = from.saturating_sub(page * PAGE_BITS);
            Some(page * PAGE_BITS + find(words, start, |word| word)?)
        })
    }

    /// The first block at or after `from` that is not held. There always is one.
    pub fn next_unset(&self, from: u64) -> u64 {
        let mut from = from;
        loop {
            let page = from / PAGE_BITS;
            let Some(words) = self.pages.get(&page) else {
                return from;
            };
            if let Some(at) = find(words, from % PAGE_BITS, |word| !word) {
                return page * PAGE_BITS + at;
            }
            from = (page + 1) * PAGE_BITS;
        }
    }

    /// Runs of held blocks within `blocks`, from the left.
    pub fn runs(&self, blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = blocks.start;
        std::iter::from_fn(move || {
            let start = self.next_set(at).filter(|start| *start < blocks.end)?;
            let end = self.next_unset(start).min(blocks.end);
            at = end;
            Some(start..end)
        })
    }

    /// Runs of blocks within `blocks` that are not held, from the left.
    pub fn gaps(&self, blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = blocks.start;
        std::iter::from_fn(move || {
            let start = self.next_unset(at);
            if start >= blocks.end {
                return None;
            }
            let end = self
                .next_set(start)
                .map_or(blocks.end, |end| end.min(blocks.end));
            at = end;
            Some(start..end)
        })
    }

    /// How many of `blocks` are held.
    pub fn count(&self, blocks: Range<u64>) -> u64 {
        self.runs(blocks).map(|run| run.end - run.start).sum()
    }

    /// Whether any of `blocks` is held.
    pub fn any(&self, blocks: Range<u64>) -> bool {
        self.runs(blocks).next().is_some()
    }

    /// Whether no block is held.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// One past the highest held block, 0 when there is none.
    pub fn end(&self) -> u64 {
        self.pages.last_key_value().map_or(0, |(page, words)| {
            let last = words.iter().rposition(|word| *word != 0);
            let word = last.expect("pages without a bit are dropped");
            page * PAGE_BITS + word as u64 * 32 + 32 - u64::from(words[word].leading_zeros())
        })
    }

    /// The `bitfield` messages that answer a `want` of `length` blocks from `start`: each begins at a multiple of 32,
    /// has at most 2,097,152 bits and ends at its last set bit; there are none if nothing is held.
    ///
    /// A large claimed length costs nothing: only pages with set bits are visited.
    pub fn want(&self, start: u64, length: u64) -> Vec<wire::Bitfield> {
        self.want_from(start, length)
            .map(|(told, _)| told)
            .collect()
    }

    /// As [`Bitfield::want`], one message at a time, each with the block at which to continue.
    pub(crate) fn want_from(
        &self,
        start: u64,
        length: u64,
    ) -> impl Iterator<Item = (wire::Bitfield, u64)> + '_ {
        let end = start.saturating_add(length).min(self.end());
        let start = start - start % 32;
        let mut at = start;
        std::iter::from_fn(move || {
            let first = self.next_set(at).filter(|first| *first < end)?;
            let from = if at == start && first < start + SEGMENT_BITS {
                start
            } else {
                first - first % 32
            };
            let to = (from + SEGMENT_BITS).min(end);
            let mut words: Vec<u32> = (from / 32..to.div_ceil(32))
                .map(|word| self.word(word))
                .collect();
            while words.last() == Some(&0) {
                words.pop();
            }
            at = to;
            let told = wire::Bitfield {
                start: from,
                bitfield: words,
            };
            Some((told, to))
        })
    }

    /// Applies the words of a peer's `bitfield` message over the current ones. Returns false for a message that does
    /// not start at a word boundary, which Node ignores as well.
    pub fn insert(&mut self, message: &wire::Bitfield) -> bool {
        if message.start % 32 != 0 {
            return false;
        }
        let first = message.start / 32;
        for (at, word) in message.bitfield.iter().enumerate() {
            let word_at = first.saturating_add(at as u64);
            let (page, at) = (word_at / PAGE_WORDS as u64, word_at as usize % PAGE_WORDS);
            if *word != 0 || self.pages.contains_key(&page) {
                let words = self
                    .pages
                    .entry(page)
                    .or_insert_with(|| Box::new([0; PAGE_WORDS]));
                words[at] = *word;
            }
        }
        self.pages
            .retain(|_, words| words.iter().any(|word| *word != 0));
        true
    }

    /// Saves the pages of a run, for [`Bitfield::restore`].
    pub(crate) fn save(&self, pages: Range<u64>) -> SavedPages {
        let kept = self.pages.range(pages.clone());
        SavedPages {
            kept: kept.map(|(page, words)| (*page, words.clone())).collect(),
            pages,
        }
    }

    pub(crate) fn restore(&mut self, saved: SavedPages) {
        self.pages.retain(|page, _| !saved.pages.contains(page));
        self.pages.extend(saved.kept);
    }

    /// The numbers of those pages of a run that have a bit.
    pub(crate) fn pages_within(&self, pages: Range<u64>) -> Vec<u64> {
        self.pages.range(pages).map(|(page, _)| *page).collect()
    }

    /// Allocated pages, 4 KiB each.
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// A page in its stored form: words of 32 bits, little-endian. `None` if no bit is set.
    pub(crate) fn page(&self, page: u64) -> Option<Vec<u8>> {
        let words = self.pages.get(&page)?;
        Some(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    /// Loads a stored page. Refuses one of a wrong length, and one beyond block 2^53-1: its block numbers would
    /// overflow.
    pub(crate) fn load_page(&mut self, page: u64, bytes: &[u8]) -> Option<()> {
        if bytes.len() != PAGE_BYTES || page > MAX_SAFE_INTEGER / PAGE_BITS {
            return None;
        }
        let mut words = Box::new([0; PAGE_WORDS]);
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().expect("chunks of 4"));
        }
        if words.iter().any(|word| *word != 0) {
            self.pages.insert(page, words);
        }
        Some(())
    }
}

/// Pages of a bitfield before a change.
pub(crate) struct SavedPages {
    pages: Range<u64>,
    kept: Vec<(u64, Page)>,
}

/// The pages that a run of blocks touches.
pub(crate) fn pages_of(blocks: &Range<u64>) -> Range<u64> {
    if blocks.is_empty() {
        return 0..0;
    }
    blocks.start / PAGE_BITS..(blocks.end - 1) / PAGE_BITS + 1
}

/// The part of a run that lies in a page, counted from the page's first bit.
fn within(blocks: &Range<u64>, page: u64) -> Range<usize> {
    let first = page * PAGE_BITS;
    let start = blocks.start.saturating_sub(first);
    let end = (blocks.end - first).min(PAGE_BITS);
    start as usize..end as usize
}

fn fill(words: &mut [u32; PAGE_WORDS], bits: Range<usize>, value: bool) {
    let mut at = bits.start;
    while at < bits.end {
        let (word, bit) = (at / 32, at % 32);
        let count = (32 - bit).min(bits.end - at);
        let mask = (u32::MAX >> (32 - count)) << bit;
        if value {
            words[word] |= mask;
        } else {
            words[word] &= !mask;
        }
        at += count;
    }
}

/// The first set bit at or after `from` in the words mapped by `map`.
fn find(words: &[u32; PAGE_WORDS], from: u64, map: impl Fn(u32) -> u32) -> Option<u64> {
    let (first, bit) = (from as usize / 32, from % 32);
    words[first..].iter().enumerate().find_map(|(at, word)| {
        let mut word = map(*word);
        if at == 0 {
            word &= u32::MAX << bit;
        }
        (word != 0).then(|| ((first + at) * 32) as u64 + u64::from(word.trailing_zeros()))
    })
}

/// Shows the number of held blocks instead of all bits.
impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Bitfield({} of {})",
            self.count(0..self.end()),
            self.end()
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_blocks(
            changes in vec((0u64..200_000, 0u64..70_000, any::<bool>()), 1..12),
            window in (0u64..250_000, 0u64..250_000),
        ) {
            let mut bits = Bitfield::new();
            let mut model = vec![false; 270_000];
            for (start, length, held) in changes {
                bits.set_range(start..start + length, held);
                model[start as usize..(start + length) as usize].fill(held);
            }
            let held = |range: Range<u64>| (range.start..range.end).filter(|at| model[*at as usize]);
            let window = window.0.min(window.1)..window.0.max(window.1);
            let in_runs: Vec<u64> = bits.runs(window.clone()).flatten().collect();
            prop_assert_eq!(&in_runs, &held(window.clone()).collect::<Vec<_>>());
            let in_gaps: u64 = bits.gaps(window.clone()).map(|gap| gap.end - gap.start).sum();
            prop_assert_eq!(in_gaps + in_runs.len() as u64, window.end - window.start);
            prop_assert_eq!(bits.count(window.clone()), in_runs.len() as u64);
            prop_assert_eq!(bits.end(), model.iter().rposition(|held| *held).map_or(0, |at| at as u64 + 1));

            let mut stored = Bitfield::new();
            for page in 0..10 {
                if let Some(bytes) = bits.page(page) {
                    stored.load_page(page, &bytes).unwrap();
                }
            }
            prop_assert_eq!(&stored, &bits);

            let mut told = Bitfield::new();
            for message in bits.want(window.start, window.end - window.start) {
                prop_assert_eq!(message.start % 32, 0);
                told.insert(&message);
            }
            let told: Vec<u64> = told.runs(window.clone()).flatten().collect();
            prop_assert_eq!(told, in_runs);
        }
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        let mut bits = Bitfield::new();
        bits.set(5, true);
        let told = bits.want(0, u64::MAX);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].bitfield, [32]);
        assert!(bits.want(64, 0).is_empty());
        bits.set_range(0..u64::MAX, false);
        assert!(bits.is_empty());
        assert!(!bits.insert(&wire::Bitfield {
            start: 1,
            bitfield: vec![1]
        }));
    }

    #[test]
    fn a_stored_page_beyond_all_blocks_is_refused() {
        let last = MAX_SAFE_INTEGER / PAGE_BITS;
        for (page, loads) in [(last, true), (last + 1, false), (u64::MAX, false)] {
            let mut bits = Bitfield::new();
            assert_eq!(bits.load_page(page, &[0xff; PAGE_BYTES]).is_some(), loads);
            assert_eq!(
                bits.next_set(0),
                loads.then_some(page.wrapping_mul(PAGE_BITS))
            );
            assert_eq!(bits.is_empty(), !loads);
        }
    }
}
