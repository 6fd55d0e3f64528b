//! Records in one pass, on processors with AVX2: ChaCha20 in the vector units, interleaved with Poly1305 in the
//! otherwise idle integer units.
//!
//! Eight blocks of keystream are computed at once, one in each lane, or four if no more are needed. Between two of
//! their twenty rounds the MAC processes three blocks of the previous ciphertext, as many as it can without slowing the
//! cipher; the processor runs both in parallel, so that the MAC costs almost nothing.
//!
//! The intrinsics are pulp's, which provides them as safe functions after detecting the processor's features. An
//! intrinsic becomes an instruction only if everything around it is inlined into the function that pulp compiles for
//! AVX2; iterators with closures are not always inlined, so this code uses plain loops.

use std::arch::x86_64::__m256i;

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast, u32x8};
use zeroize::Zeroize;

use super::mac::Mac;
use super::{BLOCK_BYTES, KEY_BYTES, MAC_BYTES, Tail};

/// Blocks of keystream computed at once: the lanes of a vector.
const LANES: usize = 8;
/// Bytes of a batch.
const BATCH_BYTES: usize = LANES * BLOCK_BYTES;
/// Bytes of half a batch.
const HALF_BATCH_BYTES: usize = BATCH_BYTES / 2;
/// Bytes of the two blocks before the text.
const HEAD_BYTES: usize = 2 * BLOCK_BYTES;
/// Vectors of the two blocks before the text: one keys the MAC, the other encrypts the tag.
const HEAD_VECTORS: usize = 4;
/// Blocks that the MAC processes between two rounds.
const MAC_STEP: usize = 3;

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Proof that the processor has the required features.
#[derive(Clone, Copy)]
pub(super) struct Fused(V3);

impl Fused {
    pub(super) fn detect() -> Option<Self> {
        V3::try_new().map(Self)
    }

    /// Encrypts `text` in place; returns the encrypted tag and the MAC.
    pub(super) fn seal(
        self,
        key: &[u8; KEY_BYTES],
        nonce: &[u8; 12],
        tag: u8,
        text: &mut [u8],
    ) -> (u8, [u8; MAC_BYTES]) {
        let simd = self.0;
        simd.vectorize(Seal(Record {
            simd,
            key,
            nonce,
            tag,
            text,
        }))
    }

    /// Decrypts `text` in place; returns the tag and the MAC of the ciphertext.
    pub(super) fn open(
        self,
        key: &[u8; KEY_BYTES],
        nonce: &[u8; 12],
        tag: u8,
        text: &mut [u8],
    ) -> (u8, [u8; MAC_BYTES]) {
        let simd = self.0;
        simd.vectorize(Open(Record {
            simd,
            key,
            nonce,
            tag,
            text,
        }))
    }
}

struct Record<'a> {
    simd: V3,
    key: &'a [u8; KEY_BYTES],
    nonce: &'a [u8; 12],
    tag: u8,
    text: &'a mut [u8],
}

/// A function that pulp compiles for AVX2; everything that it calls must be inlined into it to be compiled for AVX2,
/// too.
struct Seal<'a>(Record<'a>);

impl NullaryFnOnce for Seal<'_> {
    type Output = (u8, [u8; MAC_BYTES]);

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Record { text, tag, .. } = self.0;
        let len = text.len();
        let mut cipher = Cipher::new(self.0.simd, self.0.key, self.0.nonce);
        let first = cipher.first(len);
        let (mut mac, mut tag_block) = start(&first);
        tag_block[0] ^= tag;
        mac.blocks(&tag_block);

        let (mut done, mut rest) = split(text, BATCH_BYTES - HEAD_BYTES);
        cipher.apply(&first[HEAD_VECTORS..], done);
        while rest.len() > HALF_BATCH_BYTES {
            let keystream = cipher.eight_blocks(Beside(Some((&mut mac, done))));
            (done, rest) = split(rest, BATCH_BYTES);
            cipher.apply(&keystream, done);
        }
        if !rest.is_empty() {
            let keystream = cipher.four_blocks(Beside(Some((&mut mac, done))));
            cipher.apply(&keystream, rest);
            done = rest;
        }
        let last = mac.blocks(done);
        (tag_block[0], mac.finish(Tail::new(len, last).bytes()))
    }
}

/// As [`Seal`].
struct Open<'a>(Record<'a>);

impl NullaryFnOnce for Open<'_> {
    type Output = (u8, [u8; MAC_BYTES]);

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Record { text, tag, .. } = self.0;
        let len = text.len();
        let mut cipher = Cipher::new(self.0.simd, self.0.key, self.0.nonce);
        let first = cipher.first(len);
        let (mut mac, mut tag_block) = start(&first);
        let plain_tag = tag_block[0] ^ tag;
        tag_block[0] = tag;
        mac.blocks(&tag_block);

        // The last partial block is saved before it is decrypted, since the MAC needs it last.
        let (now, mut rest) = split(text, BATCH_BYTES - HEAD_BYTES);
        let mut tail = Tail::new(len, mac.blocks(now));
        cipher.apply(&first[HEAD_VECTORS..], now);
        while rest.len() > HALF_BATCH_BYTES {
            let now;
            (now, rest) = split(rest, BATCH_BYTES);
            let (whole, last) = whole_blocks(now);
            tail = Tail::new(len, last);
            let keystream = cipher.eight_blocks(Beside(Some((&mut mac, whole))));
            cipher.apply(&keystream, now);
        }
        if !rest.is_empty() {
            let (whole, last) = whole_blocks(rest);
            tail = Tail::new(len, last);
            let keystream = cipher.four_blocks(Beside(Some((&mut mac, whole))));
            cipher.apply(&keystream, rest);
        }
        (plain_tag, mac.finish(tail.bytes()))
    }
}

#[inline(always)]
fn split(text: &mut [u8], at: usize) -> (&mut [u8], &mut [u8]) {
    text.split_at_mut(at.min(text.len()))
}

#[inline(always)]
fn whole_blocks(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len() - bytes.len() % 16)
}

/// The MAC, keyed with the first block, and the second block.
#[inline(always)]
fn start(first: &Keystream) -> (Mac, [u8; BLOCK_BYTES]) {
    let mut key: [[u8; 16]; 2] = cast(first[0]);
    let mac = Mac::new(&key[0], &key[1]);
    key.zeroize();
    (mac, cast([first[2], first[3]]))
}

#[inline(always)]
fn splat(simd: V3, word: u32) -> u32x8 {
    cast(simd.avx._mm256_set1_epi32(word as i32))
}

/// The little-endian word of these four bytes, in every lane.
#[inline(always)]
fn splat_bytes(simd: V3, bytes: &[u8]) -> u32x8 {
    let mut word = [0; 4];
    word.copy_from_slice(bytes);
    splat(simd, u32::from_le_bytes(word))
}

/// Eight blocks in byte order.
type Keystream = [u32x8; 16];

/// The MAC, and whole blocks for it to process while keystream is computed.
struct Beside<'a>(Option<(&'a mut Mac, &'a [u8])>);

impl Beside<'_> {
    /// Processes as many as fit between two rounds.
    #[inline(always)]
    fn step(&mut self) {
        if let Some((mac, bytes)) = &mut self.0 {
            if let Some((step, rest)) = bytes.split_at_checked(16 * MAC_STEP) {
                mac.blocks(step);
                *bytes = rest;
            }
        }
    }

    /// Processes the rest.
    #[inline(always)]
    fn finish(self) {
        if let Some((mac, bytes)) = self.0 {
            mac.blocks(bytes);
        }
    }
}

/// ChaCha20, eight blocks at a time.
struct Cipher {
    simd: V3,
    /// One block's state in each lane.
    state: [u32x8; 16],
}

impl Cipher {
    #[inline(always)]
    fn new(simd: V3, key: &[u8; KEY_BYTES], nonce: &[u8; 12]) -> Self {
        let mut state = [u32x8(0, 1, 2, 3, 4, 5, 6, 7); 16];
        for (vector, word) in state[..4].iter_mut().zip(CONSTANTS) {
            *vector = splat(simd, word);
        }
        for (vector, word) in state[4..12].iter_mut().zip(key.chunks_exact(4)) {
            *vector = splat_bytes(simd, word);
        }
        for (vector, word) in state[13..].iter_mut().zip(nonce.chunks_exact(4)) {
            *vector = splat_bytes(simd, word);
        }
        Self { simd, state }
    }

    /// The head blocks of a text of this length, and the keystream for its start from the same batch.
    #[inline(always)]
    fn first(&mut self, len: usize) -> Keystream {
        if HEAD_BYTES + len > HALF_BATCH_BYTES {
            return self.eight_blocks(Beside(None));
        }
        let [a, b, c, d, e, f, g, h] = self.four_blocks(Beside(None));
        let none = u32x8(0, 0, 0, 0, 0, 0, 0, 0);
        [
            a, b, c, d, e, f, g, h, none, none, none, none, none, none, none, none,
        ]
    }

    /// The next eight blocks; meanwhile the MAC processes the bytes, which are whole blocks.
    #[inline(always)]
    fn eight_blocks(&mut self, mut mac: Beside<'_>) -> Keystream {
        let mut v = self.state;
        for _ in 0..10 {
            self.double_round(&mut v);
            mac.step();
        }
        mac.finish();
        for (word, start) in v.iter_mut().zip(self.state) {
            *word = self.add(*word, start);
        }
        self.state[12] = self.add(self.state[12], u32x8(8, 8, 8, 8, 8, 8, 8, 8));
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = v;
        let low = self.transpose([a, b, c, d, e, f, g, h]);
        let high = self.transpose([i, j, k, l, m, n, o, p]);
        std::array::from_fn(|at| {
            if at % 2 == 0 {
                low[at / 2]
            } else {
                high[at / 2]
            }
        })
    }

    /// The last four blocks that are needed; [`Cipher::eight_blocks`] would compute more.
    ///
    /// Two blocks occupy the halves of four vectors, one row of their state in each: half as many instructions as for
    /// eight, though the rows must be rotated against each other between the rounds.
    #[inline(always)]
    fn four_blocks(&self, mut mac: Beside<'_>) -> [u32x8; 8] {
        let starts = [self.rows(0), self.rows(2)];
        let [mut first, mut second] = starts;
        for _ in 0..10 {
            self.double_round_of_rows(&mut first);
            self.double_round_of_rows(&mut second);
            mac.step();
        }
        mac.finish();
        let [a, b, c, d] = self.blocks_of_rows(first, starts[0]);
        let [e, f, g, h] = self.blocks_of_rows(second, starts[1]);
        [a, b, c, d, e, f, g, h]
    }

    /// The state of two blocks, `skipped` blocks ahead.
    #[inline(always)]
    fn rows(&self, skipped: u32) -> [u32x8; 4] {
        let word = |at: usize| self.state[at].0;
        let [a, b, c, d] = CONSTANTS;
        let [e, f, g, h] = [word(4), word(5), word(6), word(7)];
        let [i, j, k, l] = [word(8), word(9), word(10), word(11)];
        let [n, o, p] = [word(13), word(14), word(15)];
        let count = word(12).wrapping_add(skipped);
        [
            u32x8(a, b, c, d, a, b, c, d),
            u32x8(e, f, g, h, e, f, g, h),
            u32x8(i, j, k, l, i, j, k, l),
            u32x8(count, n, o, p, count.wrapping_add(1), n, o, p),
        ]
    }

    #[inline(always)]
    fn double_round_of_rows(&self, v: &mut [u32x8; 4]) {
        self.quarter_round(v, [0, 1, 2, 3]);
        v[1] = self.turn::<0b00_11_10_01>(v[1]);
        v[2] = self.turn::<0b01_00_11_10>(v[2]);
        v[3] = self.turn::<0b10_01_00_11>(v[3]);
        self.quarter_round(v, [0, 1, 2, 3]);
        v[1] = self.turn::<0b10_01_00_11>(v[1]);
        v[2] = self.turn::<0b01_00_11_10>(v[2]);
        v[3] = self.turn::<0b00_11_10_01>(v[3]);
    }

    /// Permutes the four words of each half in the order given by the pairs of bits, the lowest first.
    #[inline(always)]
    fn turn<const ORDER: i32>(&self, row: u32x8) -> u32x8 {
        cast(self.simd.avx2._mm256_shuffle_epi32::<ORDER>(cast(row)))
    }

    #[inline(always)]
    fn blocks_of_rows(&self, rows: [u32x8; 4], start: [u32x8; 4]) -> [u32x8; 4] {
        let avx2 = self.simd.avx2;
        let [a, b, c, d]: [__m256i; 4] = [
            cast(self.add(rows[0], start[0])),
            cast(self.add(rows[1], start[1])),
            cast(self.add(rows[2], start[2])),
            cast(self.add(rows[3], start[3])),
        ];
        [
            cast(avx2._mm256_permute2x128_si256::<0x20>(a, b)),
            cast(avx2._mm256_permute2x128_si256::<0x20>(c, d)),
            cast(avx2._mm256_permute2x128_si256::<0x31>(a, b)),
            cast(avx2._mm256_permute2x128_si256::<0x31>(c, d)),
        ]
    }

    #[inline(always)]
    fn double_round(&self, v: &mut [u32x8; 16]) {
        for at in 0..4 {
            self.quarter_round(v, [at, 4 + at, 8 + at, 12 + at]);
        }
        for at in 0..4 {
            let (b, c, d) = (4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4);
            self.quarter_round(v, [at, b, c, d]);
        }
    }

    #[inline(always)]
    fn quarter_round<const N: usize>(&self, v: &mut [u32x8; N], [a, b, c, d]: [usize; 4]) {
        v[a] = self.add(v[a], v[b]);
        v[d] = self.rotate::<16, 16>(self.xor(v[d], v[a]));
        v[c] = self.add(v[c], v[d]);
        v[b] = self.rotate::<12, 20>(self.xor(v[b], v[c]));
        v[a] = self.add(v[a], v[b]);
        v[d] = self.rotate::<8, 24>(self.xor(v[d], v[a]));
        v[c] = self.add(v[c], v[d]);
        v[b] = self.rotate::<7, 25>(self.xor(v[b], v[c]));
    }

    #[inline(always)]
    fn add(&self, a: u32x8, b: u32x8) -> u32x8 {
        cast(self.simd.avx2._mm256_add_epi32(cast(a), cast(b)))
    }

    #[inline(always)]
    fn xor(&self, a: u32x8, b: u32x8) -> u32x8 {
        cast(self.simd.avx2._mm256_xor_si256(cast(a), cast(b)))
    }

    /// Rotates each word to the left; the two shifts add up to 32.
    #[inline(always)]
    fn rotate<const LEFT: i32, const RIGHT: i32>(&self, word: u32x8) -> u32x8 {
        let avx2 = self.simd.avx2;
        let (left, right) = (
            avx2._mm256_slli_epi32::<LEFT>(cast(word)),
            avx2._mm256_srli_epi32::<RIGHT>(cast(word)),
        );
        cast(avx2._mm256_or_si256(left, right))
    }

    /// Transposes eight vectors of one word of each block into eight blocks of eight words.
    #[inline(always)]
    fn transpose(&self, words: [u32x8; 8]) -> [u32x8; 8] {
        let pairs = self.interleave_words(words);
        let fours = self.interleave_pairs(pairs);
        self.interleave_halves(fours)
    }

    /// Interleaves the words of each two neighbours: first of the lower halves of their lanes, then of the upper ones.
    #[inline(always)]
    fn interleave_words(&self, v: [u32x8; 8]) -> [u32x8; 8] {
        let avx2 = self.simd.avx2;
        let mut out = v;
        for at in [0, 2, 4, 6] {
            let (a, b): (__m256i, __m256i) = (cast(v[at]), cast(v[at + 1]));
            out[at] = cast(avx2._mm256_unpacklo_epi32(a, b));
            out[at + 1] = cast(avx2._mm256_unpackhi_epi32(a, b));
        }
        out
    }

    /// The same with pairs of words, of vectors at distance two.
    #[inline(always)]
    fn interleave_pairs(&self, v: [u32x8; 8]) -> [u32x8; 8] {
        let avx2 = self.simd.avx2;
        let mut out = v;
        for four in [0, 4] {
            for at in [0, 1] {
                let (a, b): (__m256i, __m256i) = (cast(v[four + at]), cast(v[four + at + 2]));
                out[four + 2 * at] = cast(avx2._mm256_unpacklo_epi64(a, b));
                out[four + 2 * at + 1] = cast(avx2._mm256_unpackhi_epi64(a, b));
            }
        }
        out
    }

    /// Lower halves of vectors at distance four first, then the upper halves.
    #[inline(always)]
    fn interleave_halves(&self, v: [u32x8; 8]) -> [u32x8; 8] {
        let avx2 = self.simd.avx2;
        let mut out = v;
        for at in [0, 1, 2, 3] {
            let (a, b): (__m256i, __m256i) = (cast(v[at]), cast(v[at + 4]));
            out[at] = cast(avx2._mm256_permute2x128_si256::<0x20>(a, b));
            out[at + 4] = cast(avx2._mm256_permute2x128_si256::<0x31>(a, b));
        }
        out
    }

    /// XORs the keystream onto a text that is not longer.
    #[inline(always)]
    fn apply(&self, keystream: &[u32x8], text: &mut [u8]) {
        let mut keystream = keystream.iter();
        let mut pieces = text.chunks_exact_mut(32);
        for (piece, key) in pieces.by_ref().zip(keystream.by_ref()) {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(piece);
            let bytes: [u8; 32] = cast(self.xor(cast(bytes), *key));
            piece.copy_from_slice(&bytes);
        }
        if let Some(key) = keystream.next() {
            let key: [u8; 32] = cast(*key);
            for (byte, key) in pieces.into_remainder().iter_mut().zip(key) {
                *byte ^= key;
            }
        }
    }
}
