//! Poly1305 in two 64-bit words and a rest, for processors with fast 64-bit multiplication.
//!
//! There is no set-up beyond the key, and no vector register is used: it runs beside a cipher that needs them all.
//! Additions and multiplications take constant time.

use super::MAC_BYTES;

/// The bits of r that are always 0, in its two words.
const CLAMP: [u64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];

/// Not zeroized when dropped, since that would keep it in memory instead of registers; the key is used for one record
/// only.
pub(super) struct Mac {
    /// The sum so far modulo 2^130 - 5, not fully reduced.
    sum: [u64; 3],
    r: [u64; 2],
    /// The upper word of r times 5/4: its factor beyond 2^130. Clamping makes that an integer.
    folded: u64,
    pad: [u64; 2],
}

#[inline(always)]
fn word(bytes: &[u8; 16], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
    u64::from_le_bytes(word)
}

#[inline(always)]
fn times(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

impl Mac {
    #[inline(always)]
    pub(super) fn new(r: &[u8; 16], pad: &[u8; 16]) -> Self {
        let r = [word(r, 0) & CLAMP[0], word(r, 1) & CLAMP[1]];
        Self {
            sum: [0; 3],
            r,
            folded: r[1] + (r[1] >> 2),
            pad: [word(pad, 0), word(pad, 1)],
        }
    }

    /// Processes 16 bytes, with a 1 appended.
    #[inline(always)]
    pub(super) fn block(&mut self, block: &[u8; 16]) {
        self.add(block, 1);
    }

    /// Processes all whole blocks of `bytes`, and returns the rest.
    #[inline(always)]
    pub(super) fn blocks<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some((block, rest)) = bytes.split_first_chunk() {
            self.block(block);
            bytes = rest;
        }
        bytes
    }

    #[inline(always)]
    fn add(&mut self, block: &[u8; 16], top: u64) {
        let [low, middle, high] = self.sum;
        let low = u128::from(low) + u128::from(word(block, 0));
        let middle = u128::from(middle) + u128::from(word(block, 1)) + (low >> 64);
        let high = high + top + (middle >> 64) as u64;
        let (low, middle) = (low as u64, middle as u64);

        // The sum times r; the part beyond 2^128 from the upper word of r is already folded in. `high` is below 8, so
        // its products fit a word.
        let [r0, r1] = self.r;
        let d0 = times(low, r0) + times(middle, self.folded);
        let d1 = times(low, r1) + times(middle, r0) + u128::from(high * self.folded) + (d0 >> 64);
        let d2 = high * r0 + (d1 >> 64) as u64;

        // The part above 2^130 counts five times: four as it is, and one two bits lower.
        let five = (d2 & !3) + (d2 >> 2);
        let low = u128::from(d0 as u64) + u128::from(five);
        let middle = u128::from(d1 as u64) + (low >> 64);
        let high = (d2 & 3) + (middle >> 64) as u64;
        self.sum = [low as u64, middle as u64, high];
    }

    /// Processes the last bytes, of any number, and returns the MAC.
    #[inline(always)]
    pub(super) fn finish(mut self, last: &[u8]) -> [u8; MAC_BYTES] {
        let rest = self.blocks(last);
        if !rest.is_empty() {
            let mut block = [0; 16];
            block[..rest.len()].copy_from_slice(rest);
            block[rest.len()] = 1;
            self.add(&block, 0);
        }

        // The sum is below twice 2^130 - 5: it needs a subtraction if adding 5 reaches 2^130.
        let [low, middle, high] = self.sum;
        let reduced_low = u128::from(low) + 5;
        let reduced_middle = u128::from(middle) + (reduced_low >> 64);
        let reduced_high = high + (reduced_middle >> 64) as u64;
        let choose = 0_u64.wrapping_sub(reduced_high >> 2);
        let low = (low & !choose) | (reduced_low as u64 & choose);
        let middle = (middle & !choose) | (reduced_middle as u64 & choose);

        let low = u128::from(low) + u128::from(self.pad[0]);
        let middle = u128::from(middle) + u128::from(self.pad[1]) + (low >> 64);
        let mut mac = [0; MAC_BYTES];
        mac[..8].copy_from_slice(&(low as u64).to_le_bytes());
        mac[8..].copy_from_slice(&(middle as u64).to_le_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poly1305::Poly1305;
    use poly1305::universal_hash::KeyInit;
    use proptest::prelude::*;

    fn same_as_the_crate(key: &[u8; 32], message: &[u8]) {
        let (r, pad) = (key.first_chunk().unwrap(), key.last_chunk().unwrap());
        let theirs: [u8; 16] = Poly1305::new(&(*key).into())
            .compute_unpadded(message)
            .into();
        assert_eq!(
            Mac::new(r, pad).finish(message),
            theirs,
            "{key:02x?} {message:02x?}"
        );
    }

    #[test]
    fn every_length_gives_the_macs_of_the_crate() {
        for len in 0..=300 {
            let key = std::array::from_fn(|at| (at * 5 + len) as u8);
            let message: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            same_as_the_crate(&key, &message);
        }
    }

    /// Sums just below and above 2^130 - 5 and its multiples, and carries through every word.
    #[test]
    fn extreme_words_give_the_macs_of_the_crate() {
        let blocks = [
            [0; 16],
            [0xff; 16],
            [&[0xfa][..], &[0xff; 15]].concat().try_into().unwrap(),
            [&[0xfb][..], &[0xff; 15]].concat().try_into().unwrap(),
            [&[0xfc][..], &[0xff; 15]].concat().try_into().unwrap(),
            [&[0xfb][..], &[0xfe; 15]].concat().try_into().unwrap(),
            [&[0xff; 8][..], &[0; 8]].concat().try_into().unwrap(),
            [&[0; 8][..], &[0xff; 8]].concat().try_into().unwrap(),
            [&[1][..], &[0; 15]].concat().try_into().unwrap(),
            [&[5][..], &[0; 15]].concat().try_into().unwrap(),
        ];
        let mut keys = vec![[0xff; 32], [0; 32]];
        for r in [1, 2, 4] {
            keys.push([&[r][..], &[0; 31]].concat().try_into().unwrap());
            keys.push(
                [&[r][..], &[0; 15], &[0xff; 16]]
                    .concat()
                    .try_into()
                    .unwrap(),
            );
        }
        for key in &keys {
            for a in blocks {
                for b in blocks {
                    for c in blocks {
                        let message = [a, b, c].concat();
                        for len in [16, 32, 40, 47, 48] {
                            same_as_the_crate(key, &message[..len]);
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn random_messages_give_the_macs_of_the_crate(
            key: [u8; 32],
            message in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            same_as_the_crate(&key, &message);
        }
    }
}
