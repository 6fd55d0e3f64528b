//! Datagrams beside the stream: unordered messages that a UDX socket carries.
//!
//! A datagram is an 8-byte counter and a `crypto_secretbox` (XSalsa20 and Poly1305): 16 bytes of MAC,
//! then the ciphertext. The nonce is the counter, padded with zeros to 24 bytes
//! (@hyperswarm/secret-stream 6.9.2, index.js, `_boxMessage` and `_onmessage`).
//!
//! **The keys follow from the handshake hash and the role alone** (`_setupSecretSend` there), and Noise computes that
//! hash from bytes on the wire: with the pattern XX, anybody who records the handshake can read and forge the
//! datagrams. With IK and XK this also takes the responder's public key; only a psk pattern mixes in a secret. The
//! stream is not affected, since its keys come from the key exchange. Node's peers work like this, so it cannot be
//! fixed here: encrypt sensitive data once more, or send it on the stream.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::class::ErrorClass;
use crate::keys;

/// Bytes of the counter that leads a datagram.
pub const COUNTER_BYTES: usize = 8;
/// Bytes of the MAC.
pub const MAC_BYTES: usize = 16;
/// Overhead of a datagram in bytes. Node drops shorter datagrams.
pub const OVERHEAD_BYTES: usize = COUNTER_BYTES + MAC_BYTES;

/// Why a datagram could not be opened or sealed. Node silently drops one that it cannot open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Fewer than [`OVERHEAD_BYTES`] bytes.
    #[error("the datagram has {actual} bytes, fewer than the {OVERHEAD_BYTES} of an empty one")]
    TooShort {
        /// Bytes that arrived.
        actual: usize,
    },
    /// The MAC does not match.
    #[error("the MAC of the datagram does not match")]
    BadMac,
    /// The counter has wrapped around to its start; a nonce must not be used twice.
    #[error("the datagram counter is exhausted")]
    CounterExhausted,
    /// The system has no randomness to start the counter with.
    #[error("no randomness for the datagram counter")]
    Random,
    /// The handshake is not complete, so there are no keys.
    #[error("there are no datagrams before the handshake is complete")]
    NoHandshake,
    /// The stream is not encrypted, so there are no keys: use the carrier's own datagrams.
    #[error("a stream without encryption has no datagrams")]
    Unencrypted,
}

impl DatagramError {
    /// The class of the error, shared with other implementations.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::TooShort { .. } => ErrorClass::BadLength,
            Self::BadMac => ErrorClass::BadMac,
            Self::CounterExhausted | Self::Random => ErrorClass::Limit,
            Self::NoHandshake | Self::Unencrypted => ErrorClass::BadInput,
        }
    }
}

/// Both directions of a connection's datagrams: [`Datagrams::seal`] those to the remote, [`Datagrams::open`] those from
/// it. The caller carries them: in Node, a UDX stream carries them beside its bytes.
///
/// Clones share a counter, and can be used from any task: no nonce is used twice.
#[derive(Clone)]
pub struct Datagrams {
    inner: Arc<Inner>,
}

struct Inner {
    keys: Keys,
    /// The counter before the first datagram.
    initial: u64,
    /// Number of sealed datagrams.
    sealed: Mutex<u64>,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Keys {
    send: [u8; 32],
    receive: [u8; 32],
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").finish_non_exhaustive()
    }
}

impl Datagrams {
    /// The datagrams of a connection with this 64-byte handshake hash, from a random counter.
    ///
    /// # Errors
    /// [`DatagramError::Random`] when the system has no randomness.
    pub fn new(handshake_hash: &[u8; 64], is_initiator: bool) -> Result<Self, DatagramError> {
        let mut counter = [0; COUNTER_BYTES];
        getrandom::fill(&mut counter).map_err(|_| DatagramError::Random)?;
        Ok(Self::with_counter_for_testing_only(
            handshake_hash,
            is_initiator,
            counter,
        ))
    }

    /// The same with a given counter, little-endian, which is incremented before each use.
    #[must_use]
    pub fn with_counter_for_testing_only(
        handshake_hash: &[u8; 64],
        is_initiator: bool,
        counter: [u8; COUNTER_BYTES],
    ) -> Self {
        let key = |is_initiator| {
            let parts: [&[u8]; 2] = [
                keys::stream_namespace(is_initiator),
                keys::stream_send_namespace(),
            ];
            keys::blake2b256(&parts, Some(handshake_hash))
        };
        Self {
            inner: Arc::new(Inner {
                keys: Keys {
                    send: key(is_initiator),
                    receive: key(!is_initiator),
                },
                initial: u64::from_le_bytes(counter),
                sealed: Mutex::new(0),
            }),
        }
    }

    /// The 32-byte keys, sending and receiving, so that a test compares them with Node's.
    #[must_use]
    pub fn keys_for_testing_only(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.inner.keys.send, &self.inner.keys.receive)
    }

    /// The counter of the next datagram: one more than the last's.
    fn next_counter(&self) -> Result<u64, DatagramError> {
        let sealed = self.inner.sealed.lock();
        let mut sealed = sealed.unwrap_or_else(PoisonError::into_inner);
        *sealed = sealed
            .checked_add(1)
            .ok_or(DatagramError::CounterExhausted)?;
        Ok(self.inner.initial.wrapping_add(*sealed))
    }

    /// Seals a message into a datagram, 24 bytes longer.
    ///
    /// The carrier limits the length; a datagram that is too long for it is lost.
    ///
    /// # Errors
    /// [`DatagramError::CounterExhausted`] after 2^64 - 1 datagrams, and on every call from then on.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, DatagramError> {
        let counter = self.next_counter()?.to_le_bytes();
        let mut datagram = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
        datagram.extend_from_slice(&counter);
        datagram.extend_from_slice(&[0; MAC_BYTES]);
        datagram.extend_from_slice(plaintext);
        let (mut cipher, poly) = secretbox(&self.inner.keys.send, &counter);
        let (head, text) = datagram.split_at_mut(OVERHEAD_BYTES);
        cipher.apply_keystream(text);
        head[COUNTER_BYTES..].copy_from_slice(&mac(poly, text));
        Ok(datagram)
    }

    /// Opens the remote's datagram and returns its plaintext.
    ///
    /// # Errors
    /// [`DatagramError::TooShort`] or [`DatagramError::BadMac`].
    pub fn open(&self, datagram: &[u8]) -> Result<Vec<u8>, DatagramError> {
        let too_short = DatagramError::TooShort {
            actual: datagram.len(),
        };
        let (counter, boxed) = datagram
            .split_first_chunk::<COUNTER_BYTES>()
            .ok_or(too_short)?;
        let (expected, ciphertext) = boxed.split_first_chunk::<MAC_BYTES>().ok_or(too_short)?;
        let (mut cipher, poly) = secretbox(&self.inner.keys.receive, counter);
        if !bool::from(mac(poly, ciphertext).ct_eq(expected)) {
            return Err(DatagramError::BadMac);
        }
        let mut plaintext = ciphertext.to_vec();
        cipher.apply_keystream(&mut plaintext);
        Ok(plaintext)
    }
}

/// The cipher and the MAC of one secretbox; the first 32 bytes of the keystream key the MAC.
fn secretbox(key: &[u8; 32], counter: &[u8; COUNTER_BYTES]) -> (XSalsa20, Poly1305) {
    let mut nonce = [0; 24];
    nonce[..COUNTER_BYTES].copy_from_slice(counter);
    let mut cipher = XSalsa20::new(key.into(), &nonce.into());
    let mut mac_key = poly1305::Key::default();
    cipher.apply_keystream(&mut mac_key);
    let poly = Poly1305::new(&mac_key);
    mac_key.as_mut_slice().zeroize();
    (cipher, poly)
}

fn mac(mut poly: Poly1305, ciphertext: &[u8]) -> [u8; MAC_BYTES] {
    let (whole, rest) = ciphertext.split_at(ciphertext.len() - ciphertext.len() % 16);
    poly.update_padded(whole);
    poly.compute_unpadded(rest).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Transport, TransportConfig};
    use blake2::{Blake2b512, Digest};
    use proptest::prelude::*;

    fn pair(counter: u64) -> (Datagrams, Datagrams) {
        let new = |is_initiator| {
            let counter = counter.to_le_bytes();
            Datagrams::with_counter_for_testing_only(&[4; 64], is_initiator, counter)
        };
        (new(true), new(false))
    }

    #[test]
    fn each_direction_has_its_key() {
        let (a, b) = pair(1);
        let (to_b, to_a) = (a.seal(b"ping").unwrap(), b.seal(b"pong").unwrap());
        assert_eq!(b.open(&to_b).unwrap(), b"ping");
        assert_eq!(a.open(&to_a).unwrap(), b"pong");
        assert_eq!(a.open(&to_b), Err(DatagramError::BadMac));
    }

    #[test]
    fn the_counter_is_incremented_before_use_little_endian() {
        let (a, _) = pair(0x1ff);
        assert_eq!(a.seal(b"").unwrap()[..8], [0, 2, 0, 0, 0, 0, 0, 0]);
        let (a, _) = pair(u64::MAX);
        assert_eq!(a.seal(b"").unwrap()[..8], [0; 8]);
    }

    #[test]
    fn a_nonce_is_never_used_twice() {
        let (a, _) = pair(7);
        *a.inner.sealed.lock().unwrap() = u64::MAX - 1;
        let last = a.clone().seal(b"last").unwrap();
        assert_eq!(last[..8], [6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(a.seal(b"").unwrap_err(), DatagramError::CounterExhausted);
        assert_eq!(a.seal(b"").unwrap_err(), DatagramError::CounterExhausted);
    }

    #[test]
    fn anything_changed_is_refused() {
        let (a, b) = pair(1);
        let datagram = a.seal(b"seventeen bytes..").unwrap();
        for at in 0..datagram.len() {
            let mut bad = datagram.clone();
            bad[at] ^= 0x80;
            assert_eq!(b.open(&bad), Err(DatagramError::BadMac), "byte {at}");
        }
        for len in 0..OVERHEAD_BYTES {
            let short = DatagramError::TooShort { actual: len };
            assert_eq!(b.open(&datagram[..len]), Err(short));
        }
        assert_eq!(
            b.open(&datagram[..OVERHEAD_BYTES]),
            Err(DatagramError::BadMac)
        );
    }

    #[test]
    fn random_counters_differ() {
        let first = |_| Datagrams::new(&[4; 64], true).unwrap().seal(b"").unwrap();
        assert_ne!(first(0), first(1));
    }

    /// The attack that the module's documentation warns of.
    #[test]
    fn whoever_sees_a_handshake_xx_can_open_its_datagrams() {
        let start = |is_initiator| {
            Transport::new(TransportConfig {
                is_initiator,
                ..TransportConfig::default()
            })
            .unwrap()
        };
        let (mut a, mut b) = (start(true), start(false));
        let first = a.take_transmit();
        b.receive(&first).unwrap();
        let second = b.take_transmit();
        a.receive(&second).unwrap();
        let third = a.take_transmit();

        // Each message without its length: the ephemeral key, the sealed static key, the sealed payload.
        let (first, second, third) = (&first[3..], &second[3..], &third[3..3 + 64]);
        let seen: [&[u8]; 8] = [
            b"",
            first,
            b"",
            &second[..32],
            &second[32..80],
            &second[80..],
            &third[..48],
            &third[48..],
        ];
        let mut hash = [0; 64];
        let name = crate::noise::Pattern::XX.protocol_name();
        hash[..name.len()].copy_from_slice(name.as_bytes());
        for part in seen {
            hash = Blake2b512::new()
                .chain_update(hash)
                .chain_update(part)
                .finalize()
                .into();
        }
        assert_eq!(a.handshake().unwrap().hash, hash);
        let sealed = a.datagrams().unwrap().seal(b"secret?").unwrap();
        let eavesdropper = Datagrams::new(&hash, false).unwrap();
        assert_eq!(eavesdropper.open(&sealed).unwrap(), b"secret?");
    }

    proptest! {
        #[test]
        fn every_plaintext_comes_back(plaintext: Vec<u8>, counter: u64) {
            let (a, b) = pair(counter);
            let datagram = a.seal(&plaintext).unwrap();
            prop_assert_eq!(datagram.len(), plaintext.len() + OVERHEAD_BYTES);
            prop_assert_eq!(b.open(&datagram).unwrap(), plaintext);
        }
    }
}
