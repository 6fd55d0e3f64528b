//! The secret stream: stream ids, the header record, and the sealed records after it.
//!
//! After the Noise handshake each side sends one header record of [`HEADER_RECORD_BYTES`] bytes, its
//! 32-byte stream id and the 24-byte header of libsodium's `crypto_secretstream_xchacha20poly1305`
//! (@hyperswarm/secret-stream 6.9.2, index.js), and from then on one secretstream message a record.
//!
//! The record layer is implemented here on chacha20 and poly1305, instead of using crypto_secretstream 0.2, because
//! that crate does not rekey after a FINAL tag as libsodium does, changes the caller's buffer when a pull fails, cannot
//! start at a given counter (so the rekey at the counter's wrap cannot be tested), and moves the whole message to make
//! room for the tag. The tests compare both wherever they agree.
//!
//! A record is encrypted and authenticated in one pass on processors with AVX2, and in two passes of these crates
//! elsewhere; the tests compare the two.

#[cfg(target_arch = "x86_64")]
mod fused;
#[cfg(target_arch = "x86_64")]
mod mac;

use std::fmt;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroize;

use crate::class::ErrorClass;
use crate::keys;

/// Bytes of a stream key.
pub const KEY_BYTES: usize = 32;
/// Bytes of the secretstream header that carries the nonce.
pub const HEADER_BYTES: usize = 24;
/// Bytes of a stream id.
pub const ID_BYTES: usize = 32;
/// Bytes of the header record: stream id and header.
pub const HEADER_RECORD_BYTES: usize = ID_BYTES + HEADER_BYTES;
/// Overhead of a record in bytes: the tag's slot before the plaintext, the MAC after it.
pub const ABYTES: usize = TAG_BYTES + MAC_BYTES;
/// Bytes of the tag's slot at the start of a record.
pub const TAG_BYTES: usize = 1;
/// Bytes of the MAC at the end of a record.
pub const MAC_BYTES: usize = 16;

const BLOCK_BYTES: usize = 64;
const INONCE_BYTES: usize = 8;

/// Errors of a header record or an encrypted record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SecretStreamError {
    /// The length of the header record is not [`HEADER_RECORD_BYTES`].
    #[error("the header record has {actual} bytes, not {HEADER_RECORD_BYTES}")]
    HeaderLength {
        /// Bytes that arrived.
        actual: usize,
    },
    /// The header record does not carry the id of the other side's stream.
    #[error("the header record carries {}", if *.reflected { "our own stream id" } else { "a wrong stream id" })]
    WrongStreamId {
        /// It is our own id: the remote sent our header back.
        reflected: bool,
    },
    /// The record is shorter than [`ABYTES`].
    #[error("the record has {actual} bytes, fewer than the {ABYTES} of an empty message")]
    RecordTooShort {
        /// Bytes that arrived.
        actual: usize,
    },
    /// The MAC does not match: the record was changed, reordered, or sealed with another key.
    #[error("the MAC of the record does not match")]
    BadMac,
}

impl SecretStreamError {
    /// The class of the error, shared with other implementations.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::HeaderLength { .. } | Self::RecordTooShort { .. } => ErrorClass::BadLength,
            Self::WrongStreamId { .. } => ErrorClass::WrongStreamId,
            Self::BadMac => ErrorClass::BadMac,
        }
    }
}

/// The tag of a secretstream message, one byte.
///
/// Node's streams send only [`Tag::MESSAGE`], and accept a record with any tag as a message (sodium-secretstream 1.2.0,
/// index.js), so values beyond libsodium's four are passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tag(pub u8);

impl Tag {
    /// An ordinary message.
    pub const MESSAGE: Self = Self(0);
    /// The end of a set of messages.
    pub const PUSH: Self = Self(1);
    /// Both sides derive a new key after this message.
    pub const REKEY: Self = Self(2);
    /// The last message, by convention; libsodium rekeys after it too, and the stream can continue.
    pub const FINAL: Self = Self(3);

    /// Whether libsodium derives a new key after a message with this tag: bit 1 is set.
    #[must_use]
    pub fn rekeys(self) -> bool {
        self.0 & Self::REKEY.0 != 0
    }
}

/// The id of a side's stream: BLAKE2b-256 of the role's namespace, keyed with the handshake hash.
///
/// `is_initiator` is the role of the side that sends on the stream.
#[must_use]
pub fn stream_id(handshake_hash: &[u8; 64], is_initiator: bool) -> [u8; ID_BYTES] {
    keys::blake2b256(
        &[keys::stream_namespace(is_initiator)],
        Some(handshake_hash),
    )
}

/// The header record of the side with this role: stream id, then header.
#[must_use]
pub fn header_record(
    handshake_hash: &[u8; 64],
    is_initiator: bool,
    header: &[u8; HEADER_BYTES],
) -> [u8; HEADER_RECORD_BYTES] {
    let mut record = [0; HEADER_RECORD_BYTES];
    record[..ID_BYTES].copy_from_slice(&stream_id(handshake_hash, is_initiator));
    record[ID_BYTES..].copy_from_slice(header);
    record
}

/// Checks the remote's header record and returns its header. `is_initiator` is the receiver's role.
///
/// # Errors
/// [`SecretStreamError::HeaderLength`] or [`SecretStreamError::WrongStreamId`].
pub fn parse_header_record(
    handshake_hash: &[u8; 64],
    is_initiator: bool,
    record: &[u8],
) -> Result<[u8; HEADER_BYTES], SecretStreamError> {
    let wrong_length = SecretStreamError::HeaderLength {
        actual: record.len(),
    };
    if record.len() != HEADER_RECORD_BYTES {
        return Err(wrong_length);
    }
    let (id, header) = record.split_first_chunk::<ID_BYTES>().ok_or(wrong_length)?;
    if !bool::from(id.ct_eq(&stream_id(handshake_hash, !is_initiator))) {
        let reflected = bool::from(id.ct_eq(&stream_id(handshake_hash, is_initiator)));
        return Err(SecretStreamError::WrongStreamId { reflected });
    }
    header.try_into().map_err(|_| wrong_length)
}

/// The whole state of one direction, as libsodium keeps it in
/// `crypto_secretstream_xchacha20poly1305_state`.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    /// The current subkey.
    pub key: [u8; KEY_BYTES],
    /// The part of the nonce that each message's MAC modifies.
    pub nonce: [u8; INONCE_BYTES],
    /// The message counter; 1 after the header and after each rekey.
    pub counter: u32,
}

impl Drop for State {
    fn drop(&mut self) {
        self.key.zeroize();
        self.nonce.zeroize();
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// The parts of one message's cipher.
struct Message {
    cipher: ChaCha20,
    poly: Poly1305,
    /// The tag with the keystream applied to it.
    tag: u8,
}

impl State {
    fn new(key: &[u8; KEY_BYTES], header: &[u8; HEADER_BYTES]) -> Self {
        let (salt, nonce) = header.split_at(HEADER_BYTES - INONCE_BYTES);
        let mut salted = [0; HEADER_BYTES - INONCE_BYTES];
        salted.copy_from_slice(salt);
        let mut subkey = chacha20::hchacha::<chacha20::R20>(&(*key).into(), &salted.into());
        let mut state = Self {
            key: [0; KEY_BYTES],
            nonce: [0; INONCE_BYTES],
            counter: 1,
        };
        state.key.copy_from_slice(&subkey);
        state.nonce.copy_from_slice(nonce);
        subkey.as_mut_slice().zeroize();
        state
    }

    /// The ChaCha20 nonce of the next message.
    fn message_nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.counter.to_le_bytes());
        nonce[4..].copy_from_slice(&self.nonce);
        nonce
    }

    fn cipher(&self) -> ChaCha20 {
        ChaCha20::new(&self.key.into(), &self.message_nonce().into())
    }

    /// Encrypts a text in place; returns the encrypted tag and the MAC.
    fn seal(&self, tag: u8, text: &mut [u8]) -> (u8, [u8; MAC_BYTES]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(fused) = fused::Fused::detect() {
            return fused.seal(&self.key, &self.message_nonce(), tag, text);
        }
        self.seal_in_two_passes(tag, text)
    }

    fn seal_in_two_passes(&self, tag: u8, text: &mut [u8]) -> (u8, [u8; MAC_BYTES]) {
        let mut message = self.message(tag, false);
        message.cipher.apply_keystream(text);
        (message.tag, finish_mac(message.poly, text))
    }

    /// Decrypts a text in place and returns the tag if the MAC matches; otherwise nothing has changed.
    fn open(&self, tag: u8, text: &mut [u8], mac: &[u8; MAC_BYTES]) -> Option<u8> {
        #[cfg(target_arch = "x86_64")]
        if let Some(fused) = fused::Fused::detect() {
            let (plain_tag, right) = fused.open(&self.key, &self.message_nonce(), tag, text);
            if bool::from(right.ct_eq(mac)) {
                return Some(plain_tag);
            }
            // It was decrypted before the MAC was known: the same keystream makes it what it was.
            self.message(tag, true).cipher.apply_keystream(text);
            return None;
        }
        self.open_in_two_passes(tag, text, mac)
    }

    fn open_in_two_passes(&self, tag: u8, text: &mut [u8], mac: &[u8; MAC_BYTES]) -> Option<u8> {
        let mut message = self.message(tag, true);
        if !bool::from(finish_mac(message.poly, text).ct_eq(mac)) {
            return None;
        }
        message.cipher.apply_keystream(text);
        Some(message.tag)
    }

    /// Starts a message: block 0 keys the MAC, block 1 encrypts the tag, the text begins at block 2.
    ///
    /// With `opening`, `tag` is the encrypted byte; the MAC covers the encrypted byte either way.
    fn message(&self, tag: u8, opening: bool) -> Message {
        let mut cipher = self.cipher();
        let mut blocks = [0; 2 * BLOCK_BYTES];
        blocks[BLOCK_BYTES] = tag;
        cipher.apply_keystream(&mut blocks);
        let (poly_key, tag_block) = blocks.split_at_mut(BLOCK_BYTES);
        let mut key = poly1305::Key::default();
        key.copy_from_slice(&poly_key[..KEY_BYTES]);
        let mut poly = Poly1305::new(&key);
        key.as_mut_slice().zeroize();
        let out = tag_block[0];
        if opening {
            tag_block[0] = tag;
        }
        poly.update_padded(tag_block);
        blocks.zeroize();
        Message {
            cipher,
            poly,
            tag: out,
        }
    }

    /// Moves on after a message with this MAC and tag.
    fn advance(&mut self, mac: &[u8; MAC_BYTES], tag: Tag) {
        for (nonce, mac) in self.nonce.iter_mut().zip(mac) {
            *nonce ^= mac;
        }
        self.counter = self.counter.wrapping_add(1);
        if tag.rekeys() || self.counter == 0 {
            self.rekey();
        }
    }

    fn rekey(&mut self) {
        let mut fresh = [0; KEY_BYTES + INONCE_BYTES];
        fresh[..KEY_BYTES].copy_from_slice(&self.key);
        fresh[KEY_BYTES..].copy_from_slice(&self.nonce);
        self.cipher().apply_keystream(&mut fresh);
        self.key.copy_from_slice(&fresh[..KEY_BYTES]);
        self.nonce.copy_from_slice(&fresh[KEY_BYTES..]);
        self.counter = 1;
        fresh.zeroize();
    }
}

/// The MAC's input after the last whole block of the ciphertext: the rest, padding, and the lengths.
struct Tail {
    bytes: [u8; 15 + 15 + 16],
    len: usize,
}

impl Tail {
    /// `rest` is the part after the last whole block of a text of `text_len` bytes.
    fn new(text_len: usize, rest: &[u8]) -> Self {
        let mut bytes = [0; 15 + 15 + 16];
        // libsodium pads by (0x10 - 64 + length) & 0xf, which is length & 0xf instead of its complement, so the two
        // lengths do not end on a block boundary.
        let lengths = 2 * rest.len();
        bytes[..rest.len()].copy_from_slice(rest);
        let total = (BLOCK_BYTES + text_len) as u64;
        bytes[lengths + 8..lengths + 16].copy_from_slice(&total.to_le_bytes());
        Self {
            bytes,
            len: lengths + 16,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Completes a MAC over the ciphertext and the lengths; it has already processed the tag's block.
fn finish_mac(mut poly: Poly1305, ciphertext: &[u8]) -> [u8; MAC_BYTES] {
    let (whole, rest) = ciphertext.split_at(ciphertext.len() - ciphertext.len() % 16);
    // Whole blocks in one call, so that the vectorised backend gets all of them at once.
    poly.update_padded(whole);
    let tail = Tail::new(ciphertext.len(), rest);
    poly.compute_unpadded(tail.bytes()).into()
}

/// The sending half of one direction.
#[derive(Clone)]
pub struct Push(State);

/// The receiving half of one direction.
#[derive(Clone)]
pub struct Pull(State);

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Push").field(&self.0).finish()
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pull").field(&self.0).finish()
    }
}

impl Push {
    /// Starts from a 32-byte key and the 24-byte header that is sent to the other side.
    #[must_use]
    pub fn new(key: &[u8; KEY_BYTES], header: &[u8; HEADER_BYTES]) -> Self {
        Self(State::new(key, header))
    }

    /// Starts in the middle of a stream, so that a test reaches the counter's wrap.
    #[must_use]
    pub fn from_state_for_testing_only(state: State) -> Self {
        Self(state)
    }

    /// The state, secrets included, so that a test can compare it with libsodium's.
    #[must_use]
    pub fn state_for_testing_only(&self) -> &State {
        &self.0
    }

    /// Seals a record in place: the tag's slot, the plaintext, and 16 bytes for the MAC.
    ///
    /// # Errors
    /// [`SecretStreamError::RecordTooShort`] when the slots are missing; the record is then unchanged.
    pub fn seal(&mut self, tag: Tag, record: &mut [u8]) -> Result<(), SecretStreamError> {
        let too_short = SecretStreamError::RecordTooShort {
            actual: record.len(),
        };
        let (slot, rest) = record.split_first_mut().ok_or(too_short)?;
        let (text, mac_slot) = rest.split_last_chunk_mut::<MAC_BYTES>().ok_or(too_short)?;
        (*slot, *mac_slot) = self.0.seal(tag.0, text);
        self.0.advance(mac_slot, tag);
        Ok(())
    }
}

impl Pull {
    /// Starts from a 32-byte key and the remote's 24-byte header.
    #[must_use]
    pub fn new(key: &[u8; KEY_BYTES], header: &[u8; HEADER_BYTES]) -> Self {
        Self(State::new(key, header))
    }

    /// Starts in the middle of a stream, so that a test reaches the counter's wrap.
    #[must_use]
    pub fn from_state_for_testing_only(state: State) -> Self {
        Self(state)
    }

    /// The state, secrets included, so that a test can compare it with libsodium's.
    #[must_use]
    pub fn state_for_testing_only(&self) -> &State {
        &self.0
    }

    /// Opens a record in place; the plaintext is then at `1..len - 16`.
    ///
    /// # Errors
    /// [`SecretStreamError::RecordTooShort`] or [`SecretStreamError::BadMac`]; the record and the state are then
    /// unchanged.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Tag, SecretStreamError> {
        let too_short = SecretStreamError::RecordTooShort {
            actual: record.len(),
        };
        let (slot, rest) = record.split_first_mut().ok_or(too_short)?;
        let (text, mac) = rest.split_last_chunk_mut::<MAC_BYTES>().ok_or(too_short)?;
        let opened = self.0.open(*slot, text, mac);
        let tag = Tag(opened.ok_or(SecretStreamError::BadMac)?);
        self.0.advance(mac, tag);
        Ok(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto_secretstream::{Header, Key, PullStream, PushStream, Tag as OracleTag};
    use proptest::prelude::*;

    /// The oracle draws its header from a random number generator; this one returns ours.
    struct Fixed([u8; HEADER_BYTES]);

    impl rand_core::RngCore for Fixed {
        fn next_u32(&mut self) -> u32 {
            rand_core::impls::next_u32_via_fill(self)
        }

        fn next_u64(&mut self) -> u64 {
            rand_core::impls::next_u64_via_fill(self)
        }

        fn fill_bytes(&mut self, dest: &mut [u8]) {
            dest.copy_from_slice(&self.0);
        }

        fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
            self.fill_bytes(dest);
            Ok(())
        }
    }

    impl rand_core::CryptoRng for Fixed {}

    fn oracle_push(key: &[u8; 32], header: &[u8; 24]) -> PushStream {
        let (told, push) = PushStream::init(Fixed(*header), &Key::from(*key));
        assert_eq!(told.as_ref(), header);
        push
    }

    fn oracle_pull(key: &[u8; 32], header: &[u8; 24]) -> PullStream {
        PullStream::init(Header::try_from(&header[..]).unwrap(), &Key::from(*key))
    }

    fn oracle_tag(tag: Tag) -> OracleTag {
        OracleTag::try_from(tag.0).unwrap()
    }

    fn record(plaintext: &[u8]) -> Vec<u8> {
        [&[0], plaintext, &[0; MAC_BYTES]].concat()
    }

    fn text(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + seed * 7) as u8).collect()
    }

    /// Compares both; FINAL is left out, since the oracle does not rekey after it.
    fn same_as_oracle(key: &[u8; 32], header: &[u8; 24], messages: &[(Tag, Vec<u8>)]) {
        let (mut push, mut pull) = (Push::new(key, header), Pull::new(key, header));
        let (mut their_push, mut their_pull) = (oracle_push(key, header), oracle_pull(key, header));
        for (tag, plaintext) in messages {
            let mut ours = record(plaintext);
            push.seal(*tag, &mut ours).unwrap();
            let mut theirs = plaintext.clone();
            their_push.push(&mut theirs, &[], oracle_tag(*tag)).unwrap();
            assert_eq!(ours, theirs);

            let opened_tag = pull.open(&mut ours).unwrap();
            let their_tag = their_pull.pull(&mut theirs, &[]).unwrap();
            assert_eq!((opened_tag, their_tag), (*tag, oracle_tag(*tag)));
            assert_eq!(ours[1..ours.len() - MAC_BYTES], plaintext[..]);
            assert_eq!(theirs, *plaintext);
        }
        assert_eq!(push.0, pull.0);
    }

    #[test]
    fn every_length_is_sealed_as_the_oracle_seals_it() {
        let messages: Vec<_> = (0..=4096)
            .map(|len| (Tag::MESSAGE, text(len, len)))
            .collect();
        same_as_oracle(&[3; 32], &[5; 24], &messages);
    }

    /// Compares both paths on one record, in both directions, and with a wrong MAC.
    fn same_in_two_passes(state: &State, tag: u8, plaintext: &[u8]) {
        let (mut one, mut two) = (plaintext.to_vec(), plaintext.to_vec());
        let sealed = state.seal(tag, &mut one);
        assert_eq!(sealed, state.seal_in_two_passes(tag, &mut two));
        assert_eq!(one, two);
        let (hidden, mac) = sealed;
        let wrong = mac.map(|byte| byte ^ 0x80);
        assert_eq!(state.open(hidden, &mut one, &wrong), None);
        assert_eq!(state.open_in_two_passes(hidden, &mut two, &wrong), None);
        assert_eq!(one, two, "a failure left its traces");
        assert_eq!(state.open(hidden, &mut one, &mac), Some(tag));
        assert_eq!(state.open_in_two_passes(hidden, &mut two, &mac), Some(tag));
        assert_eq!((&one[..], &two[..]), (plaintext, plaintext));
    }

    #[test]
    fn one_pass_and_two_passes_agree_at_every_length() {
        for len in (0..=4096).chain([65_535, 65_536, 65_537, 1 << 20]) {
            let state = State {
                key: [len as u8; 32],
                nonce: [(len >> 3) as u8; 8],
                counter: len as u32,
            };
            same_in_two_passes(&state, (len % 5) as u8, &text(len, len));
        }
    }

    #[test]
    fn large_records_are_sealed_as_the_oracle_seals_them() {
        for len in [65_535, 65_536, 65_537, (1 << 24) - 1 - ABYTES] {
            same_as_oracle(&[3; 32], &[5; 24], &[(Tag::MESSAGE, text(len, 1))]);
        }
    }

    #[test]
    fn rekey_changes_the_key_and_restarts_the_counter() {
        let mut push = Push::new(&[3; 32], &[5; 24]);
        let before = push.0.clone();
        for tag in [Tag::MESSAGE, Tag::PUSH] {
            push.seal(tag, &mut record(b"x")).unwrap();
        }
        assert_eq!((push.0.key, push.0.counter), (before.key, 3));
        for tag in [Tag::REKEY, Tag::FINAL, Tag(0x82)] {
            let before = push.0.key;
            push.seal(tag, &mut record(b"x")).unwrap();
            assert_eq!(push.0.counter, 1);
            assert_ne!(push.0.key, before);
        }
    }

    #[test]
    fn the_counter_wraps_into_a_new_key() {
        let state = State {
            key: [3; 32],
            nonce: [5; 8],
            counter: u32::MAX - 1,
        };
        let mut push = Push::from_state_for_testing_only(state.clone());
        let mut pull = Pull::from_state_for_testing_only(state.clone());
        let mut records: Vec<_> = (0..4).map(|at| record(&[at; 20])).collect();
        for record in &mut records {
            push.seal(Tag::MESSAGE, record).unwrap();
        }
        assert_ne!(push.0.key, state.key);
        // Two messages up to the wrap, two after it.
        assert_eq!(push.0.counter, 3);
        for (at, record) in records.iter_mut().enumerate() {
            assert_eq!(pull.open(record), Ok(Tag::MESSAGE));
            assert_eq!(record[1..21], [at as u8; 20]);
        }
        assert_eq!(push.0, pull.0);
    }

    #[test]
    fn a_failed_open_changes_nothing() {
        let mut push = Push::new(&[3; 32], &[5; 24]);
        let mut pull = Pull::new(&[3; 32], &[5; 24]);
        let mut good = record(b"a message of some length, over one block");
        push.seal(Tag::REKEY, &mut good).unwrap();
        let before = pull.0.clone();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let copy = bad.clone();
            assert_eq!(
                pull.open(&mut bad),
                Err(SecretStreamError::BadMac),
                "byte {at}"
            );
            assert_eq!(bad, copy);
            assert_eq!(pull.0, before);
        }
        for len in 0..ABYTES {
            let short = SecretStreamError::RecordTooShort { actual: len };
            assert_eq!(pull.open(&mut good[..len].to_vec()), Err(short));
            assert_eq!(push.seal(Tag::MESSAGE, &mut vec![0; len]), Err(short));
        }
        assert_eq!(pull.0, before);
        assert_eq!(pull.open(&mut good), Ok(Tag::REKEY));
    }

    #[test]
    fn any_tag_byte_is_carried() {
        for tag in 0..=255 {
            let mut push = Push::new(&[3; 32], &[5; 24]);
            let mut pull = Pull::new(&[3; 32], &[5; 24]);
            let mut sealed = record(b"");
            push.seal(Tag(tag), &mut sealed).unwrap();
            assert_eq!(pull.open(&mut sealed), Ok(Tag(tag)));
            assert_eq!(push.0, pull.0);
        }
    }

    #[test]
    fn header_records_are_bound_to_hash_and_role() {
        let hash = [7; 64];
        let record = header_record(&hash, true, &[9; 24]);
        assert_eq!(parse_header_record(&hash, false, &record), Ok([9; 24]));
        let wrong = |reflected| Err(SecretStreamError::WrongStreamId { reflected });
        assert_eq!(parse_header_record(&hash, true, &record), wrong(true));
        assert_eq!(parse_header_record(&[8; 64], false, &record), wrong(false));
        for at in 0..ID_BYTES {
            let mut record = record;
            record[at] ^= 1;
            assert_eq!(parse_header_record(&hash, false, &record), wrong(false));
        }
        for len in (0..HEADER_RECORD_BYTES).chain([HEADER_RECORD_BYTES + 1]) {
            let mut bytes = record.to_vec();
            bytes.resize(len, 0);
            let short = SecretStreamError::HeaderLength { actual: len };
            assert_eq!(parse_header_record(&hash, false, &bytes), Err(short));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let push = Push::new(&[0xab; 32], &[0xcd; 24]);
        assert_eq!(format!("{push:?}"), "Push(State { counter: 1, .. })");
    }

    proptest! {
        #[test]
        fn one_pass_and_two_passes_agree(
            key: [u8; 32],
            nonce: [u8; 8],
            counter: u32,
            tag: u8,
            plaintext in prop::collection::vec(any::<u8>(), 0..3000),
        ) {
            same_in_two_passes(&State { key, nonce, counter }, tag, &plaintext);
        }

        #[test]
        fn sequences_are_sealed_as_the_oracle_seals_them(
            key: [u8; 32],
            header: [u8; 24],
            messages in prop::collection::vec(
                (0_u8..3, prop::collection::vec(any::<u8>(), 0..200)),
                0..20,
            ),
        ) {
            let messages: Vec<_> =
                messages.into_iter().map(|(tag, text)| (Tag(tag), text)).collect();
            same_as_oracle(&key, &header, &messages);
        }
    }
}
